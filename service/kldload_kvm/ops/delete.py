"""Delete: move the volumes, with their snapshots, to the trash, and then undefine the domain; or, if asked for, destroy
them at once.

In this order, because a domain that is defined again has lost what libvirt does not show: its passwords, a saved state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Guard, Plan, Step
from ..model import trash
from ..model.errors import AlreadyExists, HasClones, InvalidArgument
from ..model.inventory import Dataset, Vm, is_trash
from ..model.trash import DELETED
from ..steps.domains import UndefineDomain
from ..steps.trash import CreateTrashEntry
from ..steps.volumes import PromoteVolume, RenameVolume
from .purge import check_closed, destroy_steps, is_held, unused_steps
from .request import View, VmRequest, check_off, definition_guard, vm_guards, vm_locks
from .trash import container_lock, entry_properties, new_entry


@dataclass(frozen=True)
class Delete(VmRequest):
    """now: not by way of the trash; promote: let a clone take over what it shares with the VM."""

    operation = "vm.delete"
    force: bool = False
    now: bool = False
    promote: bool = False

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        now, promote = options.get("now", False), options.get("promote", False)
        if now and promote:
            why = "now and promote were both asked for"
            raise InvalidArgument("nothing was deleted", why, "promote first, and then purge it from the trash")
        return cls(target, options.get("force", False), now, promote)

    def subject(self, view: View) -> dict[str, str]:
        return {**super().subject(view), **({"target": "now"} if self.now else {})}

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        view.need_libvirt(vm.name)
        return self._destroy(view, vm) if self.now else self._retire(view, vm)

    def _retire(self, view: View, vm: Vm) -> Plan:
        steps: list[Step] = list(check_off(vm, "deleted", self.force))
        heirs = _heirs(view, vm) if self.promote else {}
        steps += [PromoteVolume(heir.name, volume) for volume, heir in heirs.items()]
        entry, container = new_entry(view, vm)
        steps.append(CreateTrashEntry(container, entry_properties(vm, DELETED, view.uid)))
        for volume in vm.volumes:
            steps.append(RenameVolume(volume.name, f"{container}/{volume.name.rpartition('/')[2]}", volume.guid))
        promoted = sorted({view.inventory.vm_named_by(heir.name) for heir in heirs.values()})
        return Plan(
            operation=self.operation,
            description=f"delete {vm.name} (into the trash)",
            prepare=tuple(steps),
            commit=_undefine(vm),
            locks=vm_locks(vm) | container_lock(container) | {f"VM:{name}" for name in promoted},
            guards=vm_guards(vm)
            + definition_guard(vm)
            + tuple(Guard("guid", heir.name, heir.guid) for heir in heirs.values()),
            objects=(vm.id,),
            warnings=tuple(_warnings(view, vm, promoted)),
            result={"trash": entry},
            frees=True,
        )

    def _destroy(self, view: View, vm: Vm) -> Plan:
        if held := view.inventory.dependents(vm):
            users = ", ".join(sorted({view.inventory.vm_named_by(each) for each in held}))
            hint = "without --now it waits in the trash until they are gone; what is in the trash can be purged"
            raise HasClones(f"{vm.name} was not deleted", f"these hang on its snapshots: {users}", hint)
        if kept := trash.held(view.inventory, vm.volumes):
            raise HasClones(f"{vm.name} was not deleted", *is_held(kept))
        first, *rest = destroy_steps(view, vm.volumes)
        undefine = _undefine(vm)
        return Plan(
            operation=self.operation,
            description=f"delete {vm.name} for good",
            prepare=(*check_off(vm, "deleted", self.force), *check_closed(vm.volumes)),
            commit=first,
            finish=(*rest, *([undefine] if undefine else []), *unused_steps(view, vm.volumes)),
            locks=vm_locks(vm),
            guards=vm_guards(vm) + definition_guard(vm),
            objects=(vm.id,),
            frees=True,
        )


def _undefine(vm: Vm) -> Step | None:
    """None for a VM whose domain is gone when it is off, or that has none."""
    if vm.domain and vm.domain.persistent:
        return UndefineDomain(vm.domain.uuid, vm.name, vm.domain.xml, vm.domain.autostart)
    return None


def _heirs(view: View, vm: Vm) -> dict[str, Dataset]:
    """For each volume that has clones of VMs, the one to be promoted: that of the newest snapshot, so that the other
    clones become clones of it. Raises AlreadyExists if it has snapshots of the names that it would get."""
    inventory, found = view.inventory, dict[str, Dataset]()
    for volume in vm.volumes:
        snapshots = inventory.snapshots.get(volume.name, {})
        clones = [
            (-snapshot.createtxg, clone)
            for snapshot in snapshots.values()
            for clone in inventory.clones_of(volume.name, snapshot.name)
            if not is_trash(clone) and inventory.vm_named_by(clone) != clone
        ]
        if not clones:
            continue
        txg, heir = min(clones)
        taken = {each.name for each in snapshots.values() if each.createtxg <= -txg}
        if both := sorted(taken & inventory.snapshots.get(heir, {}).keys()):
            why = f"{heir} has snapshots of its own of the names that it would get: {', '.join(both)}"
            raise AlreadyExists(f"{vm.name} was not deleted", why, "delete these, or delete it without --promote")
        found[volume.name] = inventory.datasets[heir]
    return found


def _warnings(view: View, vm: Vm, promoted: list[str]) -> list[str]:
    clones = [each for each in view.inventory.dependents(vm) if not is_trash(each)]
    users = sorted({view.inventory.vm_named_by(each) for each in clones})
    if promoted:
        return [f"{', '.join(promoted)} takes over the snapshots that it shares with {vm.name}, and their space"]
    if users:
        return [f"it stays in the trash until its last clone is gone; these are clones of it: {', '.join(users)}"]
    return []
