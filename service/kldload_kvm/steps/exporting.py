"""Steps that write a disk into a client's file, and clear away the snapshot and clone that were made for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..engine.plan import Run, Step, step_kind
from ..images.exporting import Format, check_target, write_disk
from ..images.own_thread import in_own_thread
from .host import Host
from .own import no_longer_busy, tag_of


@dataclass(frozen=True)
class ExportStep(Step):
    """fd: our own descriptor of the client's file, which the request closes when the job has ended.

    What was written there is the client's; undo leaves it.
    """

    fd: int

    async def done(self, host: Host, run: Run) -> bool:
        return False  # nobody can tell from a stream that it was wholly sent

    async def undo(self, host: Host, run: Run) -> None:
        return None


@step_kind
@dataclass(frozen=True)
class ExportDisk(ExportStep):
    """A volume that nobody writes to, as raw bytes or a qcow2 image."""

    kind = "export.disk"
    dataset: str
    format: Format
    of: str

    def describe(self) -> str:
        return f"write {self.of} as {self.format}"

    async def do(self, host: Host, run: Run) -> dict[str, Any]:
        await in_own_thread("export", lambda: check_target(self.fd))
        source = await host.devices.open(self.dataset)
        return {"bytes": await write_disk(source, self.fd, self.format, run.report)}


@step_kind
@dataclass(frozen=True)
class ExportStream(ExportStep):
    """A snapshot as a stream for `zfs receive`."""

    kind = "export.stream"
    snapshot: str

    def describe(self) -> str:
        return f"send {self.snapshot}"

    async def do(self, host: Host, run: Run) -> dict[str, Any]:
        await in_own_thread("export", lambda: check_target(self.fd))
        return {"bytes": await host.zfs.send(self.snapshot, self.fd, run.report)}


@step_kind
@dataclass(frozen=True)
class DropTemporary(Step):
    """Destroy what this very job has made for the export. Each is known by the tag of the step that made it, and the
    snapshot by the clone, should somebody have moved the volume meanwhile. -1: for none."""

    kind = "export.drop-temporary"
    reversible = False
    clone: str
    snapshot: str
    clone_step: int = -1
    snapshot_step: int = -1

    def describe(self) -> str:
        both = self.clone_step >= 0 and self.snapshot_step >= 0
        what = "snapshot and clone" if both else "clone" if self.clone_step >= 0 else "snapshot"
        return f"clear away the {what} that was made for it"

    def touches(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.clone, self.snapshot)))

    async def do(self, host: Host, run: Run) -> None:
        snapshot = self.snapshot
        if self.clone_step >= 0 and await tag_of(host, self.clone) == f"{run.job}/{self.clone_step}":
            snapshot = await host.zfs.get(self.clone, "origin")
            await no_longer_busy(host.zfs.destroy, self.clone)
        if self.snapshot_step >= 0 and await tag_of(host, snapshot) == f"{run.job}/{self.snapshot_step}":
            dataset, _, name = snapshot.partition("@")
            await host.zfs.destroy_snapshots(dataset, [name])

    async def done(self, host: Host, run: Run) -> bool:
        made = {f"{run.job}/{step}" for step in (self.clone_step, self.snapshot_step)}
        return not {await tag_of(host, self.clone), await tag_of(host, self.snapshot)} & made
