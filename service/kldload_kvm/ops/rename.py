"""Rename: a VM that is off, with its volumes, their snapshots and its domain. Its guest is not touched.

The volumes first, then the domain's name, then the paths in it: each step is undone by its own opposite, and a domain
whose paths lead nowhere cannot start meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Guard, Plan, Step
from ..model import names
from ..model.domain_devices import sources
from ..model.errors import AlreadyExists, Busy, InvalidArgument, WrongState
from ..model.inventory import Domain, Vm, device
from ..steps.renaming import MoveSources, RenameDomain
from ..steps.volumes import RenameVolume
from .request import View, VmRequest, vm_guards, vm_locks
from .trash import check_fits


@dataclass(frozen=True)
class Rename(VmRequest):
    """name: the new one."""

    operation = "vm.rename"
    name: str = ""

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        return cls(target, names.vm_name(args[0]))

    def subject(self, view: View) -> dict[str, str]:
        return {**super().subject(view), "target": self.name}

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        domain = view.domain(vm)
        what = f"{vm.name} was not renamed"
        if self.name == vm.name:
            raise InvalidArgument(what, "that is its name already", "give another name")
        if domain.active:
            raise WrongState(what, f"it is {domain.state}", f"shut it down first: kvm-vm shutdown {vm.name}")
        moved = self._moved(vm)
        self._check_free(view, domain, moved)
        check_fits(what, vm.first.name.rpartition("/")[0], self.name)
        _check_alone(view, domain, moved, what)
        steps: list[Step] = [RenameVolume(v.name, moved[v.name], v.guid) for v in vm.volumes if v.name in moved]
        if domain.name != self.name:
            steps.append(RenameDomain(domain.uuid, domain.name, self.name))
        used = sources(domain.xml)
        if paths := {device(old): device(new) for old, new in moved.items() if device(old) in used}:
            steps.append(MoveSources(domain.uuid, self.name, paths))
        return Plan(
            operation=self.operation,
            description=f"rename {vm.name} to {self.name}",
            prepare=tuple(steps),
            locks=vm_locks(vm) | {f"VM:{self.name}"},
            guards=vm_guards(vm) + tuple(Guard("absent", new) for new in moved.values()),
            objects=(vm.id,),
            result={"vm": vm.id, "name": self.name},
        )

    def _moved(self, vm: Vm) -> dict[str, str]:
        """Each volume that is named after the VM, with its new name."""
        old = f"{vm.first.name.rpartition('/')[0]}/{vm.name}"
        new = f"{old.rpartition('/')[0]}/{self.name}"
        named = [v.name for v in vm.volumes if v.name == old or v.name.startswith(f"{old}.")]
        return {name: new + name.removeprefix(old) for name in named}

    def _check_free(self, view: View, domain: Domain, moved: Mapping[str, str]) -> None:
        if domain.name != self.name:  # one that was adopted may have the new name already
            view.check_name_free(self.name)
        for new in moved.values():
            if new in view.inventory.datasets:
                raise AlreadyExists(
                    f"the name {self.name} is taken", f"there is a dataset {new}", "choose another name"
                )  # fmt: skip


def _check_alone(view: View, domain: Domain, moved: Mapping[str, str], what: str) -> None:
    """Raises Busy for volumes that another domain has, too: its paths would lead nowhere."""
    paths = {device(each) for each in moved}
    others = [d.name for d in view.inventory.domains.values() if d.uuid != domain.uuid and paths & {*d.disks.values()}]
    if others:
        why = f"its volumes are also those of the domain {', '.join(sorted(others))}"
        raise Busy(what, why, "detach them there first: virsh detach-disk")
