"""DetachDisk: take a disk from a VM, and move its volume, with its snapshots, to the trash.

Every step can be undone: should the volume not be moved, the guest gets its disk again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Plan
from ..model import properties
from ..model.domain_devices import Device
from ..model.errors import InvalidArgument
from ..model.inventory import Dataset, Vm, is_trash
from ..steps.devices import DetachDevice
from ..steps.trash import CreateTrashEntry
from ..steps.volumes import RenameVolume
from .disks import disk_of, places
from .request import View, VmRequest, check_unsaved, vm_guards, vm_locks
from .trash import container_lock, new_entry


@dataclass(frozen=True)
class DetachDisk(VmRequest):
    """target: the disk, as the guest has it."""

    operation = "vm.detach-disk"
    target: str = ""

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        return cls(target, args[0])

    def subject(self, view: View) -> dict[str, str]:
        return {**super().subject(view), "target": self.target}

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        domain = view.domain(vm)
        disk = disk_of(vm, self.target)
        if disk == vm.first:
            what = f"{self.target} of {vm.name} was not removed"
            raise InvalidArgument(what, "it is its first disk, and makes the VM what it is", f"kvm-delete {vm.name}")
        steps = list(check_unsaved(vm, "changed"))
        if xml := Device("disk", self.target).in_(domain.xml):
            steps += [DetachDevice(domain.uuid, vm.name, "disk", self.target, xml, each) for each in places(domain)]
        entry, trash = new_entry(view, vm)
        steps.append(CreateTrashEntry(trash, entry_of_disk(vm, view.uid)))
        steps.append(RenameVolume(disk.name, f"{trash}/{disk.name.rpartition('/')[2]}", disk.guid))
        return Plan(
            operation=self.operation,
            description=f"remove the disk {self.target} from {vm.name} (into the trash)",
            prepare=tuple(steps),
            locks=vm_locks(vm) | container_lock(trash),
            guards=vm_guards(vm),
            objects=(vm.id,),
            warnings=_warnings(view, disk),
            result={"trash": entry, "target": self.target},
        )


def entry_of_disk(vm: Vm, uid: int) -> dict[str, str]:
    """The properties of a trash entry that holds one disk of a VM that goes on. It names no domain: none went along."""
    return {properties.VM: vm.id, properties.NAME: vm.name, properties.REASON: "deleted", properties.UID: str(uid)}


def _warnings(view: View, disk: Dataset) -> tuple[str, ...]:
    clones = [
        clone
        for snapshot in view.inventory.snapshots.get(disk.name, {})
        for clone in view.inventory.clones_of(disk.name, snapshot)
        if not is_trash(clone)
    ]
    if not clones:
        return ()
    users = ", ".join(sorted({view.inventory.vm_named_by(clone) for clone in clones}))
    return (f"these are clones of it, and keep it from being purged: {users}",)
