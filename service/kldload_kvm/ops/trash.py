"""What the trash remembers of what it holds, and what operations on its entries have in common."""

from __future__ import annotations

from ..engine.plan import Guard, Step
from ..model import properties
from ..model.domain_xml import pack
from ..model.errors import InvalidArgument, NotFound
from ..model.inventory import SPARE, TRASH, Vm
from ..model.names import shown, unused
from ..model.trash import Entry, entries
from ..steps.snapshots import DestroySnapshot
from ..steps.trash import KeepSpare, RemoveTrashEntry
from .request import View

LONGEST_NAME = 255
"""What ZFS takes (zfs(8), Naming Conventions), for a volume or a snapshot, with its whole path."""
OUR_SNAPSHOTS = len("clone-20260401_120000-999")


def new_entry(view: View, vm: Vm) -> tuple[str, str]:
    """The id of a new trash entry, and its dataset, on the storage of the VM."""
    trash = f"{vm.first.name.rpartition('/')[0]}/{TRASH}"
    taken = {each.name.rpartition("/")[2] for each in view.inventory.children(trash)}
    entry = unused(f"{vm.name}-{view.now:%Y%m%dT%H%M%SZ}", taken)
    return entry, f"{trash}/{entry}"


def spare_steps(view: View, parent: str) -> list[Step]:
    """The step that makes the storage's spare trash entry, if it has none."""
    trash = f"{parent}/{TRASH}"
    return [] if f"{trash}/{SPARE}" in view.inventory.datasets else [KeepSpare(trash)]


def find_entry(view: View, id_: str) -> Entry:
    """The trash entry of that id. Raises NotFound, or InvalidArgument if two storages have one."""
    found = [each for each in entries(view.inventory) if each.id == id_]
    if not found:
        raise NotFound(f"there is no trash entry {shown(id_)}", "it may be purged or restored", "see: kvm-trash list")
    if len(found) > 1:
        where = ", ".join(each.container.name for each in found)
        raise InvalidArgument(f"{id_} is not one trash entry", f"there are {where}", "zfs rename one of them")
    return found[0]


def entry_locks(entry: Entry) -> frozenset[str]:
    return container_lock(entry.container.name)


def container_lock(name: str) -> frozenset[str]:
    """For whatever fills an entry, too: while that may still be undone, nobody purges it."""
    return frozenset({f"trash:{name}"})


def entry_guards(entry: Entry) -> tuple[Guard, ...]:
    """What any plan on an entry depends on."""
    return tuple(Guard("guid", each.name, each.guid) for each in (entry.container, *entry.volumes))


def remove_steps(view: View, entry: Entry) -> list[Step]:
    """Removing an entry that has become empty. Its container may have snapshots, of a tool that makes them of all."""
    container = entry.container
    snapshots = view.inventory.snapshots.get(container.name, {})
    steps: list[Step] = [DestroySnapshot(container.name, name, each.guid) for name, each in sorted(snapshots.items())]
    return [*steps, RemoveTrashEntry(container.name, container.guid)]


def check_fits(what: str, parent: str, vm: str, snapshot: str = "") -> None:
    """Raises InvalidArgument for names so long that the VM could not be moved to the trash. what: was not done."""
    longest = len(f"{parent}/{TRASH}/{vm}-20260401T153022Z-9/{vm}.nvram@") + max(len(snapshot), OUR_SNAPSHOTS)
    if longest > LONGEST_NAME:
        why = f"with all its path a name would have {longest} characters in the trash, and ZFS takes {LONGEST_NAME}"
        less = longest - LONGEST_NAME if snapshot else -((LONGEST_NAME - longest) // 2)  # the VM's stands there twice
        raise InvalidArgument(what, why, f"choose a name that is {less} characters shorter")


def entry_properties(vm: Vm, reason: str, uid: int) -> dict[str, str]:
    """The properties of a trash entry. reason: deleted, rolled-back or undefined."""
    domain = pack(vm.domain.xml) if vm.domain else ""
    values = {
        properties.VM: vm.id,
        properties.NAME: vm.name,
        properties.UUID: vm.domain.uuid if vm.domain and domain else "",  # whose domain is kept: see Entry.uuid
        properties.AUTOSTART: "yes" if vm.domain and vm.domain.autostart else "",
        properties.REASON: reason,
        properties.UID: str(uid),
        properties.DOMAIN: domain,
    }
    return {key: value for key, value in values.items() if value}
