"""DeleteSnapshot: destroy one snapshot, by name, on all volumes of a VM.

zfs destroys one after the other, so the first is the commit point: if a later one fails, it is told what is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Plan
from ..model import names
from ..model.errors import HasClones
from ..steps.snapshots import DestroySnapshot
from .request import View, VmRequest, set_guards, vm_locks


@dataclass(frozen=True)
class DeleteVmSnapshot(VmRequest):
    operation = "vm.delete-snapshot"
    name: str = ""

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        return cls(target, names.snapshot_name(args[0]))

    def subject(self, view: View) -> dict[str, str]:
        return {**super().subject(view), "target": f"@{self.name}"}

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        found = view.snapshot(vm, self.name)
        if found.clones:
            users = ", ".join(sorted({view.inventory.vm_named_by(clone) for clone in found.clones}))
            what = f"@{self.name} of {vm.name} was not destroyed"
            raise HasClones(
                what, f"these are clones of it: {users}", "delete them first, and purge them from the trash"
            )
        first, *rest = [DestroySnapshot(dataset, self.name, part.guid) for dataset, part in sorted(found.parts.items())]
        return Plan(
            operation=self.operation,
            description=f"destroy the snapshot @{self.name} of {vm.name}",
            commit=first,
            finish=tuple(rest),
            locks=vm_locks(vm),
            guards=set_guards(found.parts),
            objects=(vm.id,),
            frees=True,
        )
