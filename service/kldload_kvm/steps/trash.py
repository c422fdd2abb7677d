"""Steps of the trash: its entries, and those that give up for good, snapshots and volumes that were named.

Each of the latter is one zfs command, looks at the guids just before, and takes nothing else: no recursion, and never
`destroy -R`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from ..engine.plan import LookingStep, Run, Step, step_kind
from ..model.errors import NoSpace, NotFound
from ..model.inventory import SPARE, TRASH
from ..zfs import listing
from .host import Host
from .own import Creating, ensure_trash, guid_of, is_ours, make_entry, no_longer_busy


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
        await make_entry(host, self.dataset, self.properties, run)

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
class CheckClosed(LookingStep):
    """That nobody has any of these volumes open, before the first of them, or a snapshot of it, is destroyed."""

    kind = "volume.check-closed"
    datasets: tuple[str, ...]

    def describe(self) -> str:
        volumes = self.datasets[0] if len(self.datasets) == 1 else f"any of {len(self.datasets)} volumes"
        return f"see that nobody has {volumes} open"

    async def do(self, host: Host, run: Run) -> None:
        await no_longer_busy(host.devices.check_closed, *self.datasets)


@dataclass(frozen=True)
class DestroyDataset(Step):
    """A dataset that has no snapshots and no children left. guid: of the one that is meant."""

    reversible = False
    dataset: str
    guid: str

    def destroys(self) -> tuple[str, ...]:
        return (self.dataset,)

    def touches(self) -> tuple[str, ...]:
        return (f"{self.dataset}@*",)

    async def done(self, host: Host, run: Run) -> bool:
        return await guid_of(host, self.dataset) != self.guid


@step_kind
@dataclass(frozen=True)
class DestroyVolume(DestroyDataset):
    """A volume that nobody has open."""

    kind = "volume.destroy"

    def describe(self) -> str:
        return f"destroy the volume {self.dataset}"

    async def do(self, host: Host, run: Run) -> None:
        if not await self.done(host, run):
            await no_longer_busy(host.devices.check_closed, self.dataset)
            await no_longer_busy(host.zfs.destroy, self.dataset)


@step_kind
@dataclass(frozen=True)
class RemoveTrashEntry(DestroyDataset):
    """The container of a trash entry in which nothing is left."""

    kind = "trash.remove-entry"

    def describe(self) -> str:
        return f"remove the empty trash entry {self.dataset.rpartition('/')[2]}"

    def touches(self) -> tuple[str, ...]:
        # The storage has more room now: what is due at the pool's floor is told by that.
        return (*super().touches(), self.dataset.rpartition(f"/{TRASH}/")[0])

    async def do(self, host: Host, run: Run) -> None:
        if not await self.done(host, run):
            await host.zfs.destroy(self.dataset)


@step_kind
@dataclass(frozen=True)
class DestroySnapshots(Step):
    """Several snapshots of one dataset, all or none of them. snapshots: name -> guid of the one that is meant."""

    kind = "snapshot.destroy-several"
    reversible = False
    dataset: str
    snapshots: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        if len(self.snapshots) == 1:
            return f"destroy the snapshot {self.destroys()[0]}"
        return f"destroy {len(self.snapshots)} snapshots of {self.dataset}"

    def destroys(self) -> tuple[str, ...]:
        return tuple(f"{self.dataset}@{name}" for name in self.snapshots)

    def touches(self) -> tuple[str, ...]:
        return (f"{self.dataset}@*",)

    async def do(self, host: Host, run: Run) -> None:
        _, found = await listing.named(host.zfs, self.destroys())
        other = [each.name for each in found if each.guid != self.snapshots[each.name]]
        if other:
            what = f"no snapshot of {self.dataset} was destroyed"
            why = f"these are others of the same name now: {', '.join(f'@{each}' for each in other)}"
            raise NotFound(what, why, "look at the snapshots again")
        if found:
            await host.zfs.destroy_snapshots(self.dataset, [each.name for each in found])

    async def done(self, host: Host, run: Run) -> bool:
        return not (await listing.named(host.zfs, self.destroys()))[1]
