"""Bringing a disk back from the trash into the VM that it was taken from.

That the guest has it is the commit point, as when it was attached: until then all is undone, and the volume waits in
the trash again, with its snapshots.
"""

from __future__ import annotations

from ..engine.plan import Guard, Plan, Step
from ..model import properties
from ..model.errors import InvalidArgument
from ..model.trash import Entry
from ..steps.volumes import RenameVolume, SetProperty
from .disks import attach_steps, free_targets
from .request import View, vm_guards, vm_locks
from .trash import check_fits, entry_guards, entry_locks, remove_steps


def is_detached_disk(view: View, entry: Entry) -> bool:
    """Whether it is a disk that was taken from a VM that is there: no domain went along, and the first disk did not."""
    if entry.uuid or len(entry.volumes) != 1 or view.inventory.vm(entry.vm) is None:
        return False
    return not entry.volumes[0].name.endswith(f"/{entry.name}")


def reattach(view: View, entry: Entry, operation: str, name: str) -> Plan:
    """name: as asked for, which cannot be."""
    vm = view.vm(entry.vm)
    domain = view.domain(vm)
    what = f"{entry.id} was not restored"
    if name:
        why = f"it is a disk of {vm.name}, and comes back as that"
        raise InvalidArgument(what, why, "leave the name out")
    (disk,) = entry.volumes
    noted, free = disk.properties.get(properties.TARGET, ""), free_targets(view, vm, domain, what)
    target = noted if noted in free else free[0]
    dataset = f"{vm.first.name.rpartition('/')[0]}/{vm.name}.{target}"
    check_fits(what, entry.parent, vm.name)
    *before, last = attach_steps(vm, domain, dataset, target)
    moved: list[Step] = [RenameVolume(disk.name, dataset, disk.guid)]
    for key, value in ((properties.TARGET, target), (properties.UUID, domain.uuid)):
        if (known := disk.properties.get(key, "")) != value:
            moved.append(SetProperty(dataset, key, value, known))
    other = f"its guest has it as {target}, for {noted} is another disk of it by now"
    return Plan(
        operation=operation,
        description=f"bring the disk {target} of {vm.name} back from the trash",
        prepare=(*moved, *before),
        commit=last,
        finish=tuple(remove_steps(view, entry)),
        locks=vm_locks(vm) | entry_locks(entry),
        guards=(*vm_guards(vm), *entry_guards(entry), Guard("absent", dataset)),
        objects=(vm.id,),
        warnings=(other,) if target != noted else (),
        result={
            "vm": vm.id, "name": vm.name, "target": target, "dataset": dataset,
            "applied": "now" if domain.active else "at next boot",
        },
    )  # fmt: skip
