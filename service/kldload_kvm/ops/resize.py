"""Resize: grow a disk, also under a running guest, which sees it at once.

Growing the volume is the commit point. Taking it back would be shrinking, which ZFS does without a question and which
loses whatever was written beyond; so a guest that could not be told of its new size sees it at its next start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Plan, Step
from ..model.errors import InvalidArgument
from ..model.sizes import format_size
from ..steps.devices import ShowSize
from ..steps.volumes import GrowVolume
from .disks import check_multiple, check_size, disk_of, promises
from .request import View, VmRequest, vm_guards, vm_locks


@dataclass(frozen=True)
class Resize(VmRequest):
    """target: the disk, as the guest has it; size: in bytes."""

    operation = "vm.resize"
    target: str = "vda"
    size: int = 0

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        disk, size = args
        return cls(target, disk, check_size(size, "the disk was not resized"))

    def subject(self, view: View) -> dict[str, str]:
        return {**super().subject(view), "target": self.target}

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        view.need_libvirt(vm.name)
        disk = disk_of(vm, self.target)
        what = f"{self.target} of {vm.name} was not resized"
        if self.size < disk.size:
            why = f"it has {format_size(disk.size)}, and what lies beyond {format_size(self.size)} would be lost"
            hint = f"make a smaller disk (kvm-vm attach-disk {vm.name} SIZE), and copy in the guest what is to be kept"
            raise InvalidArgument(what, why, hint)
        check_multiple(self.size, disk.volblocksize, what)
        running = vm.domain if vm.domain and vm.domain.active else None
        steps: list[Step] = []
        if self.size > disk.size:
            steps.append(GrowVolume(disk.name, disk.guid, disk.size, self.size))
        if running:
            steps.append(ShowSize(running.uuid, vm.name, self.target, self.size))
        if not steps:
            raise InvalidArgument(what, f"it has {format_size(disk.size)} already", "give a larger size")
        return Plan(
            operation=self.operation,
            description=f"resize {self.target} of {vm.name} to {format_size(self.size)}",
            commit=steps[0],
            finish=tuple(steps[1:]),
            locks=vm_locks(vm),
            guards=vm_guards(vm),
            objects=(vm.id,),
            warnings=promises(view, disk.name.rpartition("/")[0], self.size),
            result={"dataset": disk.name, "size": self.size, "applied": "now" if running else "at next boot"},
        )
