"""Steps of a full copy: a volume that shares no block with the one it is made from."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..engine.plan import Run, Step, step_kind
from ..model import properties
from ..zfs import listing
from .host import Host
from .own import Creating, destroy_own, is_ours, tag_of


@step_kind
@dataclass(frozen=True)
class CopyVolume(Creating):
    """A snapshot sent and received under another name, thin.

    properties: native ones, with which it is received; owner: what makes it a VM's, noted in one command once it is
    whole, so that half a copy is nobody's.
    """

    kind = "volume.copy"
    snapshot: str
    dataset: str
    properties: dict[str, str] = field(default_factory=dict)
    owner: dict[str, str] = field(default_factory=dict)

    @property
    def received(self) -> str:
        return self.snapshot.partition("@")[2]

    def describe(self) -> str:
        return f"copy {self.snapshot} to {self.dataset} in full"

    def touches(self) -> tuple[str, ...]:
        return (f"{self.dataset}@*",)

    async def do(self, host: Host, run: Run) -> None:
        values = {**self.properties, properties.JOB: run.tag}
        await host.zfs.copy(self.snapshot, self.dataset, values, run.report)
        await host.zfs.destroy_snapshots(self.dataset, [self.received])
        await host.zfs.set(self.dataset, self.owner)

    async def done(self, host: Host, run: Run) -> bool:
        if not await is_ours(host, self.dataset, run):
            return False
        return await host.zfs.get(self.dataset, properties.VM) == self.owner[properties.VM]

    async def undo(self, host: Host, run: Run) -> None:
        if await is_ours(host, self.dataset, run):
            _, snapshots = await listing.with_snapshots(host.zfs, [self.dataset])
            if any(each.name == self.received for each in snapshots):
                await host.zfs.destroy_snapshots(self.dataset, [self.received])
            await destroy_own(host, self.dataset, run)


@step_kind
@dataclass(frozen=True)
class DropTaken(Step):
    """The snapshot that this very job took only to copy it."""

    kind = "snapshot.drop-taken"
    reversible = False
    datasets: tuple[str, ...]
    name: str

    def describe(self) -> str:
        return f"destroy the snapshot @{self.name}, which was taken only to be copied"

    def destroys(self) -> tuple[str, ...]:
        return tuple(f"{dataset}@{self.name}" for dataset in self.datasets)

    def touches(self) -> tuple[str, ...]:
        return self.destroys()

    async def do(self, host: Host, run: Run) -> None:
        for dataset in await self._left(host, run):
            await host.zfs.destroy_snapshots(dataset, [self.name])

    async def done(self, host: Host, run: Run) -> bool:
        return not await self._left(host, run)

    async def _left(self, host: Host, run: Run) -> list[str]:
        tags = {dataset: await tag_of(host, f"{dataset}@{self.name}") for dataset in self.datasets}
        return [dataset for dataset, tag in tags.items() if tag.startswith(f"{run.job}/")]
