"""SetStorageOptions: how ZFS keeps a VM's disks, from now on. What is written already stays as it was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ..engine.plan import Plan, Step
from ..model.errors import InvalidArgument, NoSpace
from ..model.inventory import Vm
from ..model.sizes import format_size
from ..model.volume_settings import SETTINGS
from ..steps.settings import ReadSettings, SetSetting
from .disks import disk_of
from .request import View, VmRequest, vm_guards, vm_locks

WHAT = "no setting was changed"


@dataclass(frozen=True)
class SetStorageOptions(VmRequest):
    """settings: native properties with their values; target: one disk, or empty for all."""

    operation = "vm.set-storage-options"
    settings: dict[str, str] = field(default_factory=dict)
    target: str = ""

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        found = {key: check(options[key], WHAT) for key, check in SETTINGS.items() if key in options}
        return cls(target, found, options.get("target", ""))

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        if not self.settings:
            raise InvalidArgument(WHAT, "none was named", f"name some of {', '.join(SETTINGS)}")
        disks = (disk_of(vm, self.target),) if self.target else vm.disks
        if self.settings.get("refreservation") == "auto":
            self._check_room(view, vm)
        names = tuple(each.name for each in disks)
        steps: list[Step] = [ReadSettings(names, tuple(self.settings))]
        steps += [SetSetting(name, key, value) for name in names for key, value in self.settings.items()]
        words = ", ".join(f"{key} {value}" for key, value in self.settings.items())
        return Plan(
            operation=self.operation,
            description=f"set {words} on the disks of {vm.name}",
            prepare=tuple(steps),
            locks=vm_locks(vm),
            guards=vm_guards(vm),
            objects=(vm.id,),
            result={"datasets": names},
        )

    def _check_room(self, view: View, vm: Vm) -> None:
        """Raises NoSpace where what would be reserved is not there, without the floor."""
        store = view.inventory.datasets[vm.first.name.rpartition("/")[0]]
        disks = (disk_of(vm, self.target),) if self.target else vm.disks
        more = sum(max(each.size - each.used, 0) for each in disks)
        floor = int((store.used + store.available) * view.config.floor)
        if store.available - more < floor:
            why = (
                f"{format_size(more)} more would be reserved, and {store.name} has {format_size(store.available)} left"
            )
            hint = f"{format_size(floor)} are kept free; make room, or leave the disks thin"
            raise NoSpace(f"nothing was reserved for {vm.name}", why, hint)
