"""Undoing a rollback: the state that was given up and the current one change places.

Promote, rename, rename: each step can be undone, every snapshot keeps its guid, and the state given up now waits in
the trash in turn, with the snapshots that are newer than what the two have in common.
"""

from __future__ import annotations

from ..engine.plan import Plan, Step
from ..model import properties
from ..model.errors import InvalidArgument, NotFound, WrongState
from ..model.inventory import Dataset, Vm, role
from ..model.trash import ROLLED_BACK, Entry, entries
from ..steps.trash import CreateTrashEntry
from ..steps.volumes import PromoteVolume, RenameVolume, SetProperty
from .request import View, check_off, check_unsaved, vm_guards, vm_locks
from .trash import container_lock, entry_guards, entry_locks, entry_properties, new_entry, remove_steps

Pairs = list[tuple[Dataset, Dataset]]
"""Each volume that waits in the trash, and the VM's current one."""


def swap(view: View, entry: Entry, operation: str, name: str, force: bool) -> Plan:
    """name: as asked for, which cannot be."""
    vm = _vm(view, entry)
    if name:
        why = "it is a state of a VM that is there, and comes back as that"
        raise InvalidArgument(f"{entry.id} was not restored", why, f"leave the name out, to change {vm.name} back")
    pairs = [(volume, _counterpart(vm, entry, volume)) for volume in entry.volumes]
    lineages = {volume.name: _lineage(view, volume, current) for volume, current in pairs}
    steps: list[Step] = [*check_off(vm, "changed", force), *check_unsaved(vm, "changed")]
    given_up, trash = new_entry(view, vm)
    steps.append(CreateTrashEntry(trash, entry_properties(vm, ROLLED_BACK, view.uid)))
    steps += [PromoteVolume(volume.name, each) for volume, _ in pairs for each in lineages[volume.name]]
    steps += [RenameVolume(each.name, f"{trash}/{each.name.rpartition('/')[2]}", each.guid) for _, each in pairs]
    steps += [RenameVolume(volume.name, current.name, volume.guid) for volume, current in pairs]
    if vm.domain:  # it may have been bound anew since
        uuids = [(current.name, volume.properties.get(properties.UUID, "")) for volume, current in pairs]
        now = vm.domain.uuid
        steps += [SetProperty(name, properties.UUID, now, noted) for name, noted in uuids if noted != now]
    # Other entries whose snapshots change hands must not be purged meanwhile.
    between = {each for volume, current in pairs for each in lineages[volume.name] if each != current.name}
    return Plan(
        operation=operation,
        description=f"bring back the state of {vm.name} that was given up as {entry.id}",
        prepare=tuple(steps),
        finish=tuple(remove_steps(view, entry)),
        locks=vm_locks(vm).union(
            entry_locks(entry), container_lock(trash), *(container_lock(each.rpartition("/")[0]) for each in between)
        ),
        guards=vm_guards(vm) + entry_guards(entry),
        objects=(vm.id,),
        warnings=tuple(_warnings(view, vm, pairs, lineages)),
        result={"vm": vm.id, "name": vm.name, "trash": given_up},
    )


def _vm(view: View, entry: Entry) -> Vm:
    """The VM that it is a state of. Raises WrongState, or NotFound if there is none any more."""
    if vm := view.inventory.vm(entry.vm):
        return vm
    what = f"{entry.id} was not restored"
    deleted = next((e for e in entries(view.inventory) if e.vm == entry.vm and e.reason != ROLLED_BACK), None)
    if deleted:
        hint = f"restore that first: kvm-trash restore {deleted.id}"
        raise WrongState(what, f"its VM {entry.name} is in the trash itself", hint)
    raise NotFound(what, f"its VM {entry.name} is gone", f"its volumes are below {entry.container.name}")


def _counterpart(vm: Vm, entry: Entry, volume: Dataset) -> Dataset:
    """The VM's volume that a given-up one was. Raises WrongState if it has none such any more."""
    target = volume.properties.get(properties.TARGET, "")
    for each in vm.volumes:
        if role(each) == role(volume) and each.properties.get(properties.TARGET, "") == target:
            return each
    which = f"{role(volume)} {target}".rstrip()
    why = f"{vm.name} has no {which} any more, and {volume.name} was that"
    raise WrongState(f"{entry.id} was not restored", why, f"attach a {which} to it first")


def _lineage(view: View, volume: Dataset, current: Dataset) -> list[str]:
    """The volumes over which a given-up one must be promoted to have all its older snapshots again: those of its own VM
    that it descends from, up to the current one. None if it does not descend from that, as when a clone of it was
    promoted: then these snapshots are that VM's."""
    found: list[str] = []
    own, origin = volume.properties.get(properties.VM), volume.origin
    while origin:
        name = origin.partition("@")[0]
        record = view.inventory.datasets.get(name)
        if record is None or record.properties.get(properties.VM) != own:
            return []
        found.append(name)
        if name == current.name:
            return found
        origin = record.origin
    return []


def _warnings(view: View, vm: Vm, pairs: Pairs, lineages: dict[str, list[str]]) -> list[str]:
    newer = set[str]()
    for volume, current in pairs:
        line = [volume.name, *lineages[volume.name]]  # the last but one is a clone of the current volume
        origin = view.inventory.datasets[line[-2]].origin if len(line) > 1 else ""
        snapshots = view.inventory.snapshots.get(current.name, {})
        shared = snapshots.get(origin.partition("@")[2])
        newer |= {each.name for each in snapshots.values() if shared is None or each.createtxg > shared.createtxg}
    found = []
    if newer:
        found.append(f"these snapshots go to the trash with the current state: {', '.join(sorted(newer))}")
    left = sorted({each.name for each in vm.volumes} - {current.name for _, current in pairs})
    if left:
        found.append(f"these volumes were not part of it and stay as they are: {', '.join(left)}")
    return found
