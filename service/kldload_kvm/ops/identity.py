"""A clone's own identity, for guests without cloud-init: done once, when the guest's agent is first heard.

The service starts this itself; it is no method on the bus.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Plan
from ..model import properties
from ..steps.guests import RenewIdentity
from ..steps.volumes import SetProperty
from .request import View, VmRequest, vm_locks


@dataclass(frozen=True)
class RenewVmIdentity(VmRequest):
    operation = "vm.renew-identity"

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        return cls(target)

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        domain = view.domain(vm)
        return Plan(
            operation=self.operation,
            description=f"give {vm.name} an identity of its own",
            commit=RenewIdentity(domain.uuid, vm.name),
            finish=(SetProperty(vm.first.name, properties.IDENTITY, "", "pending"),),
            locks=vm_locks(vm),
            objects=(vm.id,),
        )
