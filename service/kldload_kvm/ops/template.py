"""SetTemplate: mark a VM as a template, which clones come from and which does not start, or make it a VM again.

What keeps it from starting, from virsh too, is ZFS: its volumes are read-only as long as it is marked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Plan, Step
from ..model import properties
from ..model.errors import InvalidArgument, WrongState
from ..model.inventory import Domain, Vm, role
from ..steps.domains import SetAutostart, ShutDown
from ..steps.templates import GeneralizeGuest, SetReadonly
from ..steps.volumes import SetProperty
from .request import View, VmRequest, check_unsaved, vm_guards, vm_locks

GUARDED = ("disk", "nvram")
"""The roles of the volumes that a guest writes to."""


@dataclass(frozen=True)
class SetTemplate(VmRequest):
    operation = "vm.template"
    on: bool = True
    generalize: bool = False

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        generalize = options.get("generalize", False)
        if generalize and not args[0]:
            why = "a guest is generalized to become a template, and this would no longer be one"
            raise InvalidArgument("nothing was changed", why, "leave generalize out")
        return cls(target, args[0], generalize)

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        domain = view.domain(vm)
        self._check(vm, domain)
        steps = template_steps([v.name for v in vm.volumes if role(v) in GUARDED], vm.first.name, self.on)
        if self.on and domain.autostart:
            steps = [SetAutostart(domain.uuid, vm.name, False), *steps]
        if self.on:
            steps = [*check_unsaved(vm, "made a template"), *steps]
        before = (GeneralizeGuest(domain.uuid, vm.name), ShutDown(domain.uuid, vm.name)) if self.generalize else ()
        return Plan(
            operation=self.operation,
            description=f"make {vm.name} a template" if self.on else f"make {vm.name} a VM again that can be started",
            prepare=() if before else tuple(steps),
            commit=before[0] if before else None,
            finish=(before[1], *steps) if before else (),
            locks=vm_locks(vm),
            guards=vm_guards(vm),
            objects=(vm.id,),
        )

    def _check(self, vm: Vm, domain: Domain) -> None:
        what = f"{vm.name} was not changed"
        if vm.template == self.on:
            raise WrongState(what, "it is a template already" if self.on else "it is no template", "")
        if self.generalize and domain.state != "running":
            hint = f"start it first (kvm-vm start {vm.name}), or while it is off: virt-sysprep -d {vm.name}"
            raise WrongState(what, f"it is {domain.state}, and a guest is generalized by its own agent", hint)
        if self.on and domain.active and not self.generalize:
            raise WrongState(what, f"it is {domain.state}", f"shut it down first: kvm-vm shutdown {vm.name}")


def template_steps(volumes: list[str], first: str, on: bool) -> list[Step]:
    """Marking, or unmarking, what a guest writes to. first: the disk that carries the mark."""
    mark = ("yes", "") if on else ("", "yes")
    return [*(SetReadonly(each, on) for each in volumes), SetProperty(first, properties.TEMPLATE, *mark)]
