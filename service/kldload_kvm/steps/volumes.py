"""Steps on volumes: create, clone, promote, rename, grow."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engine.plan import LookingStep, Run, Step, step_kind
from ..model import properties
from ..model.errors import NotFound, WrongState, ZfsFailed
from ..model.inventory import is_trash
from ..model.sizes import format_size
from .host import Host
from .own import Creating, guid_of, no_longer_busy

# What a clone must be given again: it inherits everything else from its parent, not from its origin (zfs-clone(8)).
CARRIED = frozenset({
    "compression", "checksum", "primarycache", "secondarycache", "sync", "logbias", "dedup", "copies", "readonly",
    "snapdev", "volmode", "refreservation", "redundant_metadata", "snapshot_limit",
})  # fmt: skip


@step_kind
@dataclass(frozen=True)
class CreateVolume(Creating):
    """A thin volume of `size` bytes, with native and user properties. claimed: a domain has it already, which others
    may start as soon as it is there."""

    kind = "volume.create"
    early = True
    parallel = True
    dataset: str
    size: int
    properties: dict[str, str] = field(default_factory=dict)
    claimed: bool = False

    def describe(self) -> str:
        return f"create the volume {self.dataset} ({format_size(self.size)}, thin)"

    def touches(self) -> tuple[str, ...]:
        return (self.dataset,)

    async def do(self, host: Host, run: Run) -> None:
        await host.zfs.create_volume(self.dataset, self.size, {**self.properties, properties.JOB: run.tag})


@step_kind
@dataclass(frozen=True)
class NoteWritten(LookingStep):
    """Note how much is written to new volumes, before a domain has them that anybody can start: see was_written."""

    kind = "volume.note-written"
    early = True
    datasets: tuple[str, ...]

    def describe(self) -> str:
        return "note how much is written to the new volumes before a guest can"

    async def do(self, host: Host, run: Run) -> dict[str, Any]:
        return {"_written": await host.zfs.get_each(self.datasets, "written")}


@step_kind
@dataclass(frozen=True)
class CloneVolume(Creating):
    """A clone of a snapshot, with native and user properties."""

    kind = "volume.clone"
    early = True
    parallel = True
    snapshot: str
    dataset: str
    properties: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        return f"clone {self.snapshot} to {self.dataset}"

    def touches(self) -> tuple[str, ...]:
        return (self.dataset,)

    async def do(self, host: Host, run: Run) -> None:
        await host.zfs.clone(self.snapshot, self.dataset, {**self.properties, properties.JOB: run.tag})


@step_kind
@dataclass(frozen=True)
class CloneBack(Creating):
    """A rollback's clone: the given-up volume's snapshot under the old name, with the old one's own properties."""

    kind = "volume.clone-back"
    parallel = True
    given_up: str
    snapshot: str
    dataset: str

    def describe(self) -> str:
        return f"bring {self.dataset} back to @{self.snapshot}"

    async def do(self, host: Host, run: Run) -> None:
        local = await host.zfs.local_properties(self.given_up)
        kept = {key: value for key, value in local.items() if ":" in key or key in CARRIED}
        await host.zfs.clone(f"{self.given_up}@{self.snapshot}", self.dataset, {**kept, properties.JOB: run.tag})


@step_kind
@dataclass(frozen=True)
class PromoteVolume(Step):
    """Turn clone and origin around: `dataset` gets the snapshots, and `origin` becomes its clone."""

    kind = "volume.promote"
    dataset: str
    origin: str

    def describe(self) -> str:
        return f"make {self.dataset} the owner of its snapshots"

    def touches(self) -> tuple[str, ...]:
        return (f"{self.dataset}@*", f"{self.origin}@*")

    async def do(self, host: Host, run: Run) -> None:
        if not await self.done(host, run):  # a second time would go on to the origin's own origin
            await host.zfs.promote(self.dataset)

    async def done(self, host: Host, run: Run) -> bool:
        try:
            return (await host.zfs.get(self.origin, "origin")).partition("@")[0] == self.dataset
        except NotFound:
            return False

    async def undo(self, host: Host, run: Run) -> None:
        if await self.done(host, run):
            await host.zfs.promote(self.origin)


@step_kind
@dataclass(frozen=True)
class PromoteBack(PromoteVolume):
    """A rollback's promotion. guid: of the snapshot that the volume is brought back to, which must be the volume's own
    afterwards."""

    kind = "volume.promote-back"
    snapshot: str = ""
    guid: str = ""

    async def do(self, host: Host, run: Run) -> None:
        await super().do(host, run)
        found = await guid_of(host, f"{self.dataset}@{self.snapshot}")
        if found != self.guid:
            why = f"@{self.snapshot} has the guid {found or 'of nothing at all'}, and {self.guid} was meant"
            raise ZfsFailed(f"{self.dataset} is not what it was to be brought back to", why, "look at it again")


@step_kind
@dataclass(frozen=True)
class RenameVolume(Step):
    """Move a volume that nobody has open, with its snapshots. guid: of the volume that is meant."""

    kind = "volume.rename"
    old: str
    new: str
    guid: str

    def describe(self) -> str:
        return f"move {self.old} {'to the trash' if is_trash(self.new) else f'to {self.new}'}"

    def touches(self) -> tuple[str, ...]:
        return (f"{self.old}@*", f"{self.new}@*")

    async def do(self, host: Host, run: Run) -> None:
        await no_longer_busy(host.devices.check_closed, self.old)
        found = await host.zfs.get(self.old, "guid")
        if found != self.guid:
            why = f"its guid is {found}, and {self.guid} was meant: it was replaced meanwhile"
            raise NotFound(f"{self.old} was not moved", why, "look at it again")
        await host.zfs.rename(self.old, self.new)

    async def done(self, host: Host, run: Run) -> bool:
        return await guid_of(host, self.new) == self.guid

    async def undo(self, host: Host, run: Run) -> None:
        if await self.done(host, run):
            await host.zfs.rename(self.new, self.old)


@step_kind
@dataclass(frozen=True)
class SetProperty(Step):
    """One user property of ours; an empty value clears it."""

    kind = "volume.set-property"
    dataset: str
    key: str
    value: str
    old: str = ""

    def describe(self) -> str:
        return f"note on {self.dataset}: {self.key.rpartition(':')[2]} {self.value or 'done'}"

    def touches(self) -> tuple[str, ...]:
        return (self.dataset,)

    async def do(self, host: Host, run: Run) -> None:
        await self._set(host, self.value)

    async def done(self, host: Host, run: Run) -> bool:
        return (await host.zfs.get(self.dataset, self.key)) == (self.value or "-")

    async def undo(self, host: Host, run: Run) -> None:
        await self._set(host, self.old)

    async def _set(self, host: Host, value: str) -> None:
        if value:
            await host.zfs.set(self.dataset, {self.key: value})
        else:
            await host.zfs.inherit(self.dataset, self.key)


@step_kind
@dataclass(frozen=True)
class GrowVolume(Step):
    """Give a volume more bytes. There is no way back: a guest may have written there, and to shrink it would lose that.

    old: its size in bytes when this was planned.
    """

    kind = "volume.grow"
    reversible = False
    dataset: str
    guid: str
    old: int
    size: int

    def describe(self) -> str:
        return f"grow {self.dataset} from {format_size(self.old)} to {format_size(self.size)}"

    def touches(self) -> tuple[str, ...]:
        return (self.dataset,)

    async def do(self, host: Host, run: Run) -> None:
        what = f"{self.dataset} was not grown"
        if await guid_of(host, self.dataset) != self.guid:
            raise NotFound(what, "it was removed or replaced meanwhile", "look at it again")
        now = int(await host.zfs.get(self.dataset, "volsize"))
        if now > self.size:
            why = f"it has {format_size(now)} by now, and would become smaller"
            raise WrongState(what, why, "nothing was lost: somebody else has grown it further")
        if now < self.size:
            await host.zfs.set(self.dataset, {"volsize": str(self.size)})
        if not await self.done(host, run):  # with volmode=dev a new size makes no event that would tell of it
            why = "zfs took the new size, and still tells the old one"
            raise ZfsFailed(what, why, f"zfs get volsize {self.dataset}")

    async def done(self, host: Host, run: Run) -> bool:
        if await guid_of(host, self.dataset) != self.guid:
            return False
        return int(await host.zfs.get(self.dataset, "volsize")) >= self.size


@step_kind
@dataclass(frozen=True)
class WriteFirmwareVariables(Step):
    """Fill a new volume from the firmware's template of UEFI variables. Undo leaves it to the volume's own."""

    kind = "volume.write-firmware-variables"
    early = True
    dataset: str
    template: str

    def describe(self) -> str:
        return f"write the firmware's variables to {self.dataset}"

    async def do(self, host: Host, run: Run) -> None:
        contents = await asyncio.to_thread(Path(self.template).read_bytes)
        await host.devices.write(self.dataset, contents)

    async def done(self, host: Host, run: Run) -> bool:
        contents = await asyncio.to_thread(Path(self.template).read_bytes)
        return await host.devices.read(self.dataset, len(contents)) == contents

    async def undo(self, host: Host, run: Run) -> None:
        return None
