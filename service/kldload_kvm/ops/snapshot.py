"""Snapshot: all volumes of a VM in one transaction, with its domain XML, its guest held still meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Plan
from ..model import names
from ..model.domain_xml import left_out
from ..model.errors import AlreadyExists, InvalidArgument
from .request import View, VmRequest, snapshot_steps, taken_names, vm_guards, vm_locks
from .trash import check_fits


@dataclass(frozen=True)
class TakeVmSnapshot(VmRequest):
    """name: as asked for, or empty for the time; require: app, off, paused, or empty."""

    operation = "vm.snapshot"
    name: str = ""
    require: str = ""

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        name = names.new_snapshot_name(options["name"]) if "name" in options else ""
        return cls(target, name, parse_require(options))

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        taken = taken_names(view, vm)
        if self.name in taken:
            hint = f"choose another name, or remove that one: kvm-snap {vm.name} delete @{self.name}"
            raise AlreadyExists(f"{vm.name} has a snapshot @{self.name} already", "", hint)
        name = self.name or names.unused(names.timestamp(view.now, "manual"), taken)
        check_fits(f"the snapshot @{name} was not taken", vm.first.name.rpartition("/")[0], vm.name, name)
        before, take, after = snapshot_steps(vm, name, "manual", self.require)
        return Plan(
            operation=self.operation,
            description=f"snapshot {vm.name} as @{name}",
            prepare=before,
            commit=take,
            finish=after,
            locks=vm_locks(vm),
            guards=vm_guards(vm),
            objects=(vm.id,),
            warnings=(tpm_warning(vm.name),) if vm.domain and left_out(vm.domain.xml) else (),
            result={"snapshot": name},
        )


def parse_require(options: Mapping[str, Any]) -> str:
    """The option require-consistency: app, off, paused, or empty. Raises InvalidArgument."""
    require = str(options.get("require-consistency", ""))
    if require not in ("", "app", "off", "paused"):
        why = f"{names.shown(require)} is not one of app, off or paused"
        raise InvalidArgument("require-consistency is not valid", why, "leave it out to take what can be had")
    return require


def tpm_warning(whose: str) -> str:
    return f"not in the snapshot: the state of the emulated TPM of {whose}, which libvirt keeps in files"
