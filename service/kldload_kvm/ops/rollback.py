"""Rollback: all volumes back to a snapshot. The state given up, with its newer snapshots, waits in the trash.

By rename, clone and promote (docs/architecture.md), so every step can be undone, and nothing is destroyed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Plan, Step
from ..model import names
from ..steps.volumes import CloneBack, CreateTrashEntry, PromoteVolume, RenameVolume
from .request import (
    View,
    VmRequest,
    check_off,
    check_startable,
    default_restore_point,
    set_guards,
    start_steps,
    vm_guards,
    vm_locks,
)
from .trash import entry_properties, new_entry


@dataclass(frozen=True)
class Rollback(VmRequest):
    """snapshot: a name, or empty for the newest restore point."""

    operation = "vm.rollback"
    snapshot: str = ""
    force: bool = False
    start: bool = False

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        name = names.snapshot_name(options["snapshot"]) if "snapshot" in options else ""
        return cls(target, name, options.get("force", False), options.get("start", False))

    def subject(self, view: View) -> dict[str, str]:
        return {**super().subject(view), "target": f"@{self.snapshot}" if self.snapshot else ""}

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        point = view.snapshot(vm, self.snapshot) if self.snapshot else default_restore_point(view, vm)
        view.need_libvirt(vm.name)  # without it nobody knows whether the VM runs
        steps: list[Step] = list(check_off(vm, "rolled back", self.force))
        entry, trash = new_entry(view, vm)
        volumes = [volume for volume in vm.volumes if volume.name in point.parts]
        waiting = {volume.name: f"{trash}/{volume.name.rpartition('/')[2]}" for volume in volumes}
        steps.append(CreateTrashEntry(trash, entry_properties(vm, "rolled-back", view.uid)))
        steps += [RenameVolume(volume.name, waiting[volume.name], volume.guid) for volume in volumes]
        steps += [CloneBack(waiting[volume.name], point.name, volume.name) for volume in volumes]
        steps += [PromoteVolume(volume.name, waiting[volume.name]) for volume in volumes]
        finish: tuple[Step, ...] = ()
        if self.start:
            check_startable(vm, f"{vm.name} was not rolled back")
            finish = start_steps(view, view.domain(vm), tuple(volume.name for volume in vm.volumes))
        return Plan(
            operation=self.operation,
            description=f"roll {vm.name} back to @{point.name}",
            prepare=tuple(steps),
            finish=finish,
            locks=vm_locks(vm),
            guards=vm_guards(vm) + set_guards(point.parts),
            objects=(vm.id,),
            warnings=tuple(self._warnings(view, vm.name, point.name, volumes, [v.name for v in vm.volumes])),
            result={"snapshot": point.name, "trash": entry},
        )

    def _warnings(self, view: View, vm: str, point: str, volumes: list[Any], all_names: list[str]) -> list[str]:
        newer = {
            snapshot.name
            for volume in volumes
            for snapshot in view.inventory.snapshots.get(volume.name, {}).values()
            if snapshot.createtxg > view.inventory.snapshots[volume.name][point].createtxg
        }
        found = []
        if newer:
            found.append(f"newer snapshots go to the trash with the state given up: {', '.join(sorted(newer))}")
        left = [name for name in all_names if name not in {volume.name for volume in volumes}]
        if left:
            found.append(f"these volumes have no such snapshot and stay as they are: {', '.join(left)}")
        return found
