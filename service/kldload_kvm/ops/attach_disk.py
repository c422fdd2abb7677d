"""AttachDisk: a new volume beside the VM's own, as a further disk of its guest, at once if it runs.

That the guest has it is the commit point: from then on it may have written to it. Until then all is undone, and no
volume is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Guard, Plan, Step
from ..model import names, properties
from ..model.domain_devices import TARGETS, disk_xml, targets
from ..model.errors import AlreadyExists, InvalidArgument, LimitsExceeded
from ..model.inventory import Domain, Vm, device
from ..model.sizes import format_size
from ..model.volume_settings import compression, volblocksize
from ..steps.devices import AttachDevice
from ..steps.volumes import CreateVolume, NoteWritten
from .blocks import block_size
from .disks import check_multiple, check_size, places, promises
from .request import View, VmRequest, vm_guards, vm_locks

WHAT = "no disk was added"


@dataclass(frozen=True)
class AttachDisk(VmRequest):
    """size, volblocksize: in bytes; zero and empty strings stand for what was not given."""

    operation = "vm.attach-disk"
    size: int = 0
    target: str = ""
    volblocksize: int = 0
    compression: str = ""

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        wanted = options.get("target", "")
        if wanted and wanted not in TARGETS[1:]:
            raise InvalidArgument(WHAT, f"{names.shown(wanted)} is no further disk's target", "vdb to vdz are")
        return cls(
            target,
            check_size(args[0], WHAT),
            wanted,
            volblocksize(options["volblocksize"], WHAT) if "volblocksize" in options else 0,
            compression(options["compression"], WHAT) if "compression" in options else "",
        )

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        domain = view.domain(vm)
        what = f"{vm.name} got no further disk"
        parent = vm.first.name.rpartition("/")[0]
        target = self._target(view, vm, domain, what)
        dataset = f"{parent}/{vm.name}.{target}"
        block = block_size(view, parent, self.volblocksize)
        check_multiple(self.size, block.size, what)
        view.check_room(parent, what)
        create = CreateVolume(dataset, self.size, {
            **view.volmode(parent), properties.VM: vm.id, properties.UUID: domain.uuid, "volblocksize": str(block.size),
            "compression": self.compression or view.config.compression,
            properties.ROLE: "disk", properties.TARGET: target,
        })  # fmt: skip
        xml = disk_xml(device(dataset), target, f"{vm.name[:16]}-{target}")
        *before, last = [AttachDevice(domain.uuid, vm.name, "disk", target, xml, each) for each in places(domain)]
        # Once the definition has it, whoever restarts the guest has it written to.
        prepare: list[Step] = [create, *([NoteWritten((dataset,))] if before else []), *before]
        return Plan(
            operation=self.operation,
            description=f"add a disk of {format_size(self.size)} to {vm.name}, as {target}",
            prepare=tuple(prepare),
            commit=last,
            locks=vm_locks(vm),
            guards=(*vm_guards(vm), Guard("absent", dataset)),
            objects=(vm.id,),
            warnings=promises(view, parent, self.size) + block.warnings,
            result={"target": target, "dataset": dataset, "applied": "now" if domain.active else "at next boot"},
        )

    def _target(self, view: View, vm: Vm, domain: Domain, what: str) -> str:
        """The one asked for, or the next that neither the domain nor a volume has."""
        parent = vm.first.name.rpartition("/")[0]
        taken = targets(domain.xml) | {v.properties.get(properties.TARGET, "") for v in vm.disks}
        taken |= {each for each in TARGETS if f"{parent}/{vm.name}.{each}" in view.inventory.datasets}
        if self.target in taken:
            raise AlreadyExists(what, f"it has a {self.target} already", "leave the target out, or name another one")
        free = [self.target] if self.target else [each for each in TARGETS[1:] if each not in taken]
        if not free:
            raise LimitsExceeded(what, f"it has {len(vm.disks)} disks, up to vdz", "grow one: kvm-vm resize")
        return free[0]
