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
from ..model.domain_devices import TARGETS
from ..model.errors import AlreadyExists, InvalidArgument
from ..model.inventory import Domain, Vm
from ..model.sizes import format_size
from ..model.volume_settings import compression, volblocksize
from ..steps.volumes import CreateVolume, NoteWritten
from .blocks import block_size
from .disks import attach_steps, check_multiple, check_size, free_targets, promises
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
        *before, last = attach_steps(vm, domain, dataset, target)
        # Once the definition has it, whoever starts the guest has it written to.
        prepare: list[Step] = [create, NoteWritten((dataset,)), *before]
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
        """The one asked for, or the next that is free."""
        free = free_targets(view, vm, domain, what)
        if self.target and self.target not in free:
            raise AlreadyExists(what, f"it has a {self.target} already", "leave the target out, or name another one")
        return self.target or free[0]
