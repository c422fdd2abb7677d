"""Retire: the domain of a VM was undefined by others, in front of our eyes. Its volumes go to the trash with its
definition, or stay, or are destroyed, as its definition asked for or as is configured.

The service starts this itself; it is no method on the bus. Nobody asked for the volumes to go, so what waits in the
trash for this reason never goes early.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from ..engine.plan import Plan, Step
from ..model import intent, properties, trash
from ..model.errors import InvalidArgument, WrongState
from ..model.inventory import Dataset, Domain, Vm, device
from ..model.trash import UNDEFINED
from ..steps.trash import CreateTrashEntry
from ..steps.volumes import RenameVolume
from .purge import check_closed, destroy_steps
from .request import View, VmRequest, vm_guards, vm_locks
from .trash import container_lock, entry_properties, new_entry


@dataclass(frozen=True)
class Retire(VmRequest):
    """domain: as it was before it was undefined."""

    operation = "vm.retire"
    because: ClassVar[str] = "was undefined"
    domain: Domain | None = None

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        return cls(target)

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        if vm.domain is not None:
            why = f"the domain {vm.domain.name} uses its volumes"
            raise WrongState(f"the volumes of {vm.name} stay where they are", why, "")
        self._check_own(view, vm)
        fates = {volume.name: self.fate(view, vm, volume) for volume in vm.volumes}
        gone = [v for v in vm.volumes if fates[v.name] == intent.DESTROY and not trash.held(view.inventory, [v])]
        if held := [each for each in view.inventory.dependents(vm) if any(each != v.name for v in gone)]:
            gone = [volume for volume in gone if not _has_clones(view, volume, held)]
        moved = [v for v in vm.volumes if v not in gone and fates[v.name] != intent.KEEP]
        if not moved and not gone:
            raise WrongState(f"the volumes of {vm.name} stay where they are", "that was asked for", "")
        steps: list[Step] = [*check_closed(gone)]
        result: dict[str, Any] = {"vm": vm.id, "name": vm.name}
        locks = vm_locks(vm)
        if moved:
            entry, container = new_entry(view, vm)
            steps.append(CreateTrashEntry(container, self._noted(vm, view.uid)))
            steps += [RenameVolume(v.name, f"{container}/{v.name.rpartition('/')[2]}", v.guid) for v in moved]
            result["trash"] = entry
            locks |= container_lock(container)
        destroyed = destroy_steps(view, gone) if gone else []
        return Plan(
            operation=self.operation,
            description=f"retire {vm.name}, whose domain {self.because}",
            prepare=tuple(steps),
            commit=destroyed[0] if destroyed else None,
            finish=tuple(destroyed[1:]),
            locks=locks,
            guards=vm_guards(vm),
            objects=(vm.id,),
            result=result,
            frees=True,
        )

    def fate(self, view: View, vm: Vm, volume: Dataset) -> str:
        """What becomes of a volume: one of intent.FATES."""
        return fate_of(vm, volume, self.domain, view.config.undefine)

    def _check_own(self, view: View, vm: Vm) -> None:
        """Raises WrongState unless it was the VM's own domain, and nobody else has a volume of it."""
        what, recorded = f"the volumes of {vm.name} stay where they are", vm.first.properties.get(properties.UUID, "")
        if self.domain is None or (recorded and recorded != self.domain.uuid):
            raise WrongState(what, f"the domain that {self.because} had only borrowed them", "")
        # As of one that was renamed aside, or of somebody's copy.
        if vm.disks and device(vm.first.name) not in self.domain.disks.values():
            raise WrongState(what, f"the domain that {self.because} did not have {vm.first.name}", "")
        paths = {device(volume.name) for volume in vm.volumes}
        others = sorted(each.name for each in view.inventory.domains.values() if paths & {*each.disks.values()})
        if others:
            raise WrongState(what, f"these domains have volumes of it, too: {', '.join(others)}", "")

    def _noted(self, vm: Vm, uid: int) -> dict[str, str]:
        return entry_properties(replace(vm, domain=self.domain), UNDEFINED, uid)


def fate_of(vm: Vm, volume: Dataset, domain: Domain | None, configured: str) -> str:
    """What becomes of a volume. UEFI variables and a seed go the way of the first disk. What the definition says and
    cannot be understood asks for nothing."""
    try:
        asked = intent.wanted(domain.xml) if domain else {}
    except InvalidArgument:
        asked = {}
    paths = domain.disks if domain else {}
    for target, each in asked.items():
        path = paths.get(target, "")  # what it is called on the volume may be of another time
        if each.fate and (path == device(volume.name) or (path == device(vm.first.name) and volume not in vm.disks)):
            return each.fate
    return configured


def _has_clones(view: View, volume: Dataset, held: list[str]) -> bool:
    origins = {view.inventory.datasets[each].origin.partition("@")[0] for each in held}
    return volume.name in origins
