"""Steps on volumes: create, clone, rename, promote, and the trash's containers.

What a step created carries its tag (org.kldload.kvm:job), set by the command that creates it; undo destroys nothing
else. ZFS sets it in the transaction after: a power cut between the two leaves what is nobody's, and is not destroyed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engine.plan import Run, Step, step_kind
from ..model import properties
from ..model.errors import Busy, KvmError, NoSpace, NotFound, WrongState, ZfsFailed
from ..model.inventory import SPARE, TRASH, is_trash
from ..model.sizes import format_size
from ..model.trash import ROLLED_BACK
from ..waiting import until
from ..zfs import listing
from .host import Host

log = logging.getLogger(__name__)

UDEV_LOOKS = 15.0
"""Seconds, at the most, for which udev has a volume open that was just written."""
FRESH_CLONE = 16 << 10
"""What ZFS counts as written to a clone that nobody wrote to, at the most: 8 KiB of its own (seen, with sectors of
4 KiB). The smallest write of a guest adds a block and, twice, those that point to it."""
# What a clone must be given again: it inherits everything else from its parent, not from its origin (zfs-clone(8)).
CARRIED = frozenset({
    "compression", "checksum", "primarycache", "secondarycache", "sync", "logbias", "dedup", "copies", "readonly",
    "snapdev", "volmode", "refreservation", "redundant_metadata", "snapshot_limit",
})  # fmt: skip


class Creating(Step):
    """A step that creates a dataset: told, and undone, by the tag that it was created with."""

    dataset: str

    async def done(self, host: Host, run: Run) -> bool:
        return await is_ours(host, self.dataset, run)

    async def undo(self, host: Host, run: Run) -> None:
        await destroy_own(host, self.dataset, run)


@step_kind
@dataclass(frozen=True)
class CreateVolume(Creating):
    """A thin volume of `size` bytes, with native and user properties."""

    kind = "volume.create"
    early = True
    parallel = True
    dataset: str
    size: int
    properties: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        return f"create the volume {self.dataset} ({format_size(self.size)}, thin)"

    def touches(self) -> tuple[str, ...]:
        return (self.dataset,)

    async def do(self, host: Host, run: Run) -> None:
        await host.zfs.create_volume(self.dataset, self.size, {**self.properties, properties.JOB: run.tag})


@step_kind
@dataclass(frozen=True)
class NoteWritten(Step):
    """Note how much is written to new volumes, before a domain has them that anybody can start: see was_written."""

    kind = "volume.note-written"
    early = True
    datasets: tuple[str, ...]

    def describe(self) -> str:
        return "note how much is written to the new volumes before a guest can"

    async def do(self, host: Host, run: Run) -> dict[str, Any]:
        return {"_written": await host.zfs.get_each(self.datasets, "written")}

    async def done(self, host: Host, run: Run) -> bool:
        return False  # noting again does no harm before a guest can write, and nobody does it after

    async def undo(self, host: Host, run: Run) -> None:
        return None


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
class CreateTrashEntry(Creating):
    """The container in which volumes wait in the trash. properties: what is remembered of them.

    In a pool that is full ZFS makes none, but renames the spare one, so that deleting works there too.
    """

    kind = "trash.create-entry"
    dataset: str
    properties: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        return f"make the trash entry {self.dataset.rpartition('/')[2]}"

    def touches(self) -> tuple[str, ...]:
        return (self.dataset.rpartition("/")[0], self.dataset)

    async def do(self, host: Host, run: Run) -> None:
        trash = self.dataset.rpartition("/")[0]
        values = {**self.properties, properties.SINCE: str(int(time.time())), properties.JOB: run.tag}
        try:
            await ensure_trash(host, trash)
            await host.zfs.create_container(self.dataset, values)
        except NoSpace as error:
            spare = f"{trash}/{SPARE}"
            if await guid_of(host, spare) is None:
                hint = "purge what waits there (kvm-trash list), or delete without the trash: kvm-delete --now"
                raise NoSpace("nothing was moved to the trash", error.why, hint) from None
            # First what it is, then its place: what a spare still says of another, that came to nothing, is cleared.
            for key in await host.zfs.local_properties(spare):
                if key.startswith(properties.PREFIX) and key not in values:
                    await host.zfs.inherit(spare, key)
            await host.zfs.set(spare, values)
            await host.zfs.rename(spare, self.dataset)

    async def undo(self, host: Host, run: Run) -> None:
        """An entry that holds nothing becomes the spare, if there is none: the pool may be full."""
        spare = f"{self.dataset.rpartition('/')[0]}/{SPARE}"
        if await is_ours(host, self.dataset, run) and await guid_of(host, spare) is None:
            datasets, _ = await listing.everything(host.zfs, [self.dataset])
            if len(datasets) == 1:
                await host.zfs.rename(self.dataset, spare)
        await super().undo(host, run)


@step_kind
@dataclass(frozen=True)
class KeepSpare(Step):
    """Make the spare entry of a storage's trash. In a pool that has no room for it there will be none."""

    kind = "trash.keep-spare"
    reversible = False
    trash: str

    @property
    def spare(self) -> str:
        return f"{self.trash}/{SPARE}"

    def describe(self) -> str:
        return f"keep an empty entry in {self.trash}, so that deleting works in a full pool"

    def touches(self) -> tuple[str, ...]:
        return (self.trash, self.spare)

    async def do(self, host: Host, run: Run) -> None:
        with suppress(NoSpace):
            await ensure_trash(host, self.trash)
            await host.zfs.create_container(self.spare, {})

    async def done(self, host: Host, run: Run) -> bool:
        return await guid_of(host, self.spare) is not None


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


async def ensure_trash(host: Host, trash: str) -> None:
    """Never mounted, and never replicated: what waits there is nobody's current state."""
    if await guid_of(host, trash) is None:
        await host.zfs.create_container(trash, {"syncoid:sync": "false"})


async def guid_of(host: Host, name: str) -> str | None:
    """None if it is not there."""
    try:
        return await host.zfs.get(name, "guid")
    except NotFound:
        return None


async def tag_of(host: Host, name: str) -> str:
    """Which step made a dataset or snapshot, as Run.tag; the empty string if it is not there."""
    try:
        if "@" in name:
            return properties.snapshot_facts(await host.zfs.get(name, properties.SNAPSHOT))[2]
        return await host.zfs.get(name, properties.JOB) if name else ""
    except NotFound:
        return ""


async def is_ours(host: Host, dataset: str, run: Run) -> bool:
    """Whether a dataset is there and was created by this very step."""
    return await tag_of(host, dataset) == run.tag


async def destroy_own(host: Host, dataset: str, run: Run) -> None:
    """Destroy what this very step created, if it did. What a guest has written to meanwhile goes to the trash."""
    if not await is_ours(host, dataset, run):
        return
    if await was_written(host, dataset, run):
        await keep(host, dataset, run)
    else:
        await no_longer_busy(host.zfs.destroy, dataset)


async def was_written(host: Host, dataset: str, run: Run) -> bool:
    """Whether a guest wrote to a volume of the job's own, as when somebody started it by virsh while the service was
    dead: other than was noted, or more than a clone has of its own."""
    noted = run.results.get("_written", {}).get(dataset)
    if noted is None and await host.zfs.get(dataset, "origin") == "-":
        return False  # no domain had it yet
    written = await host.zfs.get(dataset, "written")
    return int(written) > FRESH_CLONE if noted is None else written != noted


async def keep(host: Host, dataset: str, run: Run) -> None:
    """Move it to the trash, into one entry for each VM and job; not as deleted, for nobody asked to delete it."""
    parent, _, base = dataset.rpartition("/")
    suffixes = [await host.zfs.get(dataset, key) for key in (properties.ROLE, properties.TARGET)]
    name = next((base.removesuffix(f".{each}") for each in suffixes if base.endswith(f".{each}")), base)
    entry = f"{parent}/{TRASH}/{name}-{run.job}"
    await no_longer_busy(host.devices.check_closed, dataset)
    if await guid_of(host, entry) is None:
        vm = await host.zfs.get(dataset, properties.VM)
        values = {properties.VM: vm, properties.NAME: name, properties.REASON: ROLLED_BACK, properties.UID: "0"}
        await CreateTrashEntry(entry, values).do(host, run)
    await host.zfs.rename(dataset, f"{entry}/{base}")
    log.warning("job %s: a guest has written to %s, which is kept in the trash as %s", run.job, dataset, entry)


async def no_longer_busy(work: Any, *datasets: str) -> None:
    """Do it once it is not Busy any more: udev looks at each node for a moment after it was written."""
    last: list[KvmError] = []

    async def attempt() -> bool:
        try:
            call: Awaitable[None] = work(*datasets)
            await call
        except Busy as fault:
            last[:] = [fault]
            return False
        return True

    if not await until(attempt, UDEV_LOOKS, 0.3):
        raise last[0]


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
