"""The trash as data: its entries, what hangs on each, which are due to be purged, and what a purge takes along.

Nothing is due early but what a person asked to delete, and nothing at all on which something else still hangs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass

from . import properties
from .inventory import TRASH, Dataset, Inventory, Snapshot

DELETED, ROLLED_BACK, UNDEFINED = "deleted", "rolled-back", "undefined"


@dataclass(frozen=True)
class Entry:
    """One entry: a container, and the volumes that wait in it."""

    container: Dataset
    volumes: tuple[Dataset, ...]

    @property
    def id(self) -> str:
        return self.container.name.rpartition("/")[2]

    @property
    def parent(self) -> str:
        """The storage's parent dataset."""
        return self.container.name.rpartition(f"/{TRASH}/")[0]

    @property
    def name(self) -> str:
        """The VM's name when it was put here."""
        return self._noted(properties.NAME)

    @property
    def vm(self) -> str:
        """The VM's id."""
        return self._noted(properties.VM)

    @property
    def uuid(self) -> str:
        """The libvirt UUID of the domain that is kept here, or the empty string if none is."""
        return self._noted(properties.UUID)

    @property
    def autostart(self) -> bool:
        return self._noted(properties.AUTOSTART) == "yes"

    @property
    def reason(self) -> str:
        return self._noted(properties.REASON)

    @property
    def since(self) -> int:
        """Seconds since 1970, or 0 if that is not known: then it is never due."""
        noted = self._noted(properties.SINCE)
        return int(noted) if noted.isascii() and noted.isdecimal() else 0

    @property
    def used(self) -> int:
        """Bytes that its volumes and their snapshots use."""
        return sum(each.used for each in self.volumes)

    def _noted(self, key: str) -> str:
        return self.container.properties.get(key, "")


def entries(inventory: Inventory) -> list[Entry]:
    """All entries, newest first."""
    found = (each for each in inventory.trash_entries() if each.name.rpartition("/")[0].endswith(f"/{TRASH}"))
    return [
        Entry(each, tuple(child for child in inventory.children(each.name) if child.kind == "volume")) for each in found
    ]


def holders(inventory: Inventory, entry: Entry) -> list[str]:
    """Datasets outside an entry that are clones of what is in it, and its own snapshots that somebody holds: as long as
    these are there, it has to stay."""
    own = {volume.name for volume in entry.volumes}
    clones = {
        clone
        for name in own
        for snapshot in inventory.snapshots.get(name, {})
        for clone in inventory.clones_of(name, snapshot)
    }
    return sorted(clones - own) + held(inventory, entry.volumes)


def held(inventory: Inventory, volumes: Iterable[Dataset]) -> list[str]:
    """The snapshots of volumes that somebody holds (zfs hold), which ZFS does not destroy."""
    parts = (each for volume in volumes for each in inventory.snapshots.get(volume.name, {}).values())
    return sorted(f"{each.dataset}@{each.name}" for each in parts if each.holds)


def unheld(inventory: Inventory, wanted: Iterable[Entry]) -> tuple[list[Entry], dict[str, list[str]]]:
    """Those that can go when all of them go together; and the others by id, each with the datasets that hold it."""
    ready, held = list(wanted), dict[str, list[str]]()
    while True:
        going = {volume.name for entry in ready for volume in entry.volumes}
        stuck = {e.id: left for e in ready if (left := [h for h in holders(inventory, e) if h not in going])}
        if not stuck:
            return ready, held
        held |= stuck
        ready = [each for each in ready if each.id not in stuck]


def due(inventory: Inventory, now: int, grace: int, floor: float, in_use: Collection[str] = ()) -> list[Entry]:
    """What is to be purged by now: what has waited for the grace period (in seconds), and, in a storage with less than
    the share `floor` of it free, what a person asked to delete, oldest first, as far as it takes. in_use: volumes that
    somebody has open; their entries are passed over."""
    known = [each for each in entries(inventory) if each.since and not any(v.name in in_use for v in each.volumes)]
    found, _ = unheld(inventory, [each for each in known if each.since + grace <= now])
    for parent in inventory.parents.values():
        store = inventory.datasets.get(parent)
        if store is None:
            continue
        lacking = int((store.used + store.available) * floor) - store.available
        lacking -= sum(each.used for each in found if each.parent == parent)
        for entry in sorted(known, key=lambda each: (each.since, each.id)):
            if lacking <= 0:
                break
            if entry.parent != parent or entry.reason != DELETED or entry in found:
                continue
            if entry in unheld(inventory, [*found, entry])[0]:
                found.append(entry)
                lacking -= entry.used
    return found


def in_order(inventory: Inventory, volumes: Iterable[Dataset]) -> list[Dataset]:
    """Volumes as they can be destroyed: each after its clones."""
    left = {each.name: each for each in volumes}
    found: list[Dataset] = []

    def take(volume: Dataset) -> None:
        if left.pop(volume.name, None) is None:
            return
        for snapshot in sorted(inventory.snapshots.get(volume.name, {})):
            for clone in inventory.clones_of(volume.name, snapshot):
                if clone in left:
                    take(left[clone])
        found.append(volume)

    for name in sorted(left):
        if name in left:
            take(left[name])
    return found


def orphaned(inventory: Inventory, gone: Set[str]) -> list[Snapshot]:
    """Snapshots of ours that were taken only to be cloned, and have no clone left once these datasets are gone.

    Such a snapshot spans all volumes of its VM: it goes as a whole, or stays as a whole.
    """
    found: dict[str, Snapshot] = {}
    for origin in {record.origin for name in gone if (record := inventory.datasets.get(name)) and record.origin}:
        dataset, _, name = origin.partition("@")
        owner = inventory.datasets.get(dataset)
        if owner is None or dataset in gone:
            continue
        vm = inventory.vm_with(dataset)
        beside = (
            each
            for each in inventory.children(dataset.rpartition("/")[0])
            if each.properties.get(properties.VM) == owner.properties.get(properties.VM)
        )
        family = [
            part
            for each in (vm.volumes if vm else beside)
            if (part := inventory.snapshots.get(each.name, {}).get(name)) and part.kind == "clone"
        ]
        if all(clone in gone for part in family for clone in inventory.clones_of(part.dataset, name)):
            found |= {f"{part.dataset}@{name}": part for part in family}
    return sorted(found.values(), key=lambda each: (each.dataset, each.name))
