"""Delete: move the volumes, with their snapshots, to the trash, and then undefine the domain.

In this order, because a domain that is defined again has lost what libvirt does not show: its passwords, a saved state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Plan, Step
from ..model.errors import HasClones
from ..model.inventory import is_trash
from ..steps.domains import UndefineDomain
from ..steps.volumes import CreateTrashEntry, RenameVolume
from .request import View, VmRequest, check_off, definition_guard, vm_guards, vm_locks
from .trash import entry_properties, new_entry


@dataclass(frozen=True)
class Delete(VmRequest):
    operation = "vm.delete"
    force: bool = False

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        return cls(target, options.get("force", False))

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        view.need_libvirt(vm.name)
        clones = [each for each in view.inventory.dependents(vm) if not is_trash(each)]
        if clones:
            users = ", ".join(sorted({view.inventory.vm_named_by(clone) for clone in clones}))
            raise HasClones(f"{vm.name} was not deleted", f"these are clones of it: {users}", "delete them first")
        steps: list[Step] = list(check_off(vm, "deleted", self.force))
        entry, trash = new_entry(view, vm)
        steps.append(CreateTrashEntry(trash, entry_properties(vm, "deleted", view.uid)))
        for volume in vm.volumes:
            steps.append(RenameVolume(volume.name, f"{trash}/{volume.name.rpartition('/')[2]}", volume.guid))
        undefine: Step | None = None
        if vm.domain and vm.domain.persistent:  # one that is not is gone when it is off
            undefine = UndefineDomain(vm.domain.uuid, vm.name, vm.domain.xml, vm.domain.autostart)
        return Plan(
            operation=self.operation,
            description=f"delete {vm.name} (into the trash)",
            prepare=tuple(steps),
            commit=undefine,
            locks=vm_locks(vm),
            guards=vm_guards(vm) + definition_guard(vm),
            objects=(vm.id,),
            result={"trash": entry},
            frees=True,
        )
