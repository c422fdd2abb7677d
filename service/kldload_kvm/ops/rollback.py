"""Rollback: all volumes back to a snapshot. The state given up, with its newer snapshots, waits in the trash.

By rename, clone and promote (docs/architecture.md), so every step can be undone, and nothing is destroyed. That each
volume has come back to the very snapshot that was meant is seen by its GUID.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Plan, Step
from ..model import names
from ..model.domain_xml import secrets
from ..model.errors import NotFound
from ..model.inventory import SnapshotSet, Vm
from ..steps.domains import RestoreDefinition
from ..steps.trash import CreateTrashEntry
from ..steps.volumes import CloneBack, PromoteBack, RenameVolume
from .request import (
    View,
    VmRequest,
    check_off,
    check_startable,
    check_unsaved,
    default_restore_point,
    definition_guard,
    set_guards,
    start_steps,
    vm_guards,
    vm_locks,
)
from .trash import container_lock, entry_properties, new_entry


@dataclass(frozen=True)
class Rollback(VmRequest):
    """snapshot: a name, or empty for the newest restore point; with_definition: the domain's XML of that moment, too,
    which is then the commit point. Today's stays with the trash entry."""

    operation = "vm.rollback"
    snapshot: str = ""
    force: bool = False
    start: bool = False
    with_definition: bool = False

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        name = names.snapshot_name(options["snapshot"]) if "snapshot" in options else ""
        return cls(
            target,
            name,
            options.get("force", False),
            options.get("start", False),
            options.get("with-definition", False),
        )

    def subject(self, view: View) -> dict[str, str]:
        return {**super().subject(view), "target": f"@{self.snapshot}" if self.snapshot else ""}

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        point = view.snapshot(vm, self.snapshot) if self.snapshot else default_restore_point(view, vm)
        view.need_libvirt(vm.name)  # without it nobody knows whether the VM runs
        steps: list[Step] = [*check_off(vm, "rolled back", self.force), *check_unsaved(vm, "rolled back")]
        entry, trash = new_entry(view, vm)
        volumes = [volume for volume in vm.volumes if volume.name in point.parts]
        waiting = {volume.name: f"{trash}/{volume.name.rpartition('/')[2]}" for volume in volumes}
        steps.append(CreateTrashEntry(trash, entry_properties(vm, "rolled-back", view.uid)))
        steps += [RenameVolume(volume.name, waiting[volume.name], volume.guid) for volume in volumes]
        steps += [CloneBack(waiting[volume.name], point.name, volume.name) for volume in volumes]
        steps += [
            PromoteBack(volume.name, waiting[volume.name], point.name, point.parts[volume.name].guid)
            for volume in volumes
        ]
        definition = self._definition(view, vm, point)
        finish: tuple[Step, ...] = ()
        if self.start:
            check_startable(vm, f"{vm.name} was not rolled back")
            finish = start_steps(view, view.domain(vm), tuple(volume.name for volume in vm.volumes))
        return Plan(
            operation=self.operation,
            description=f"roll {vm.name} back to @{point.name}",
            prepare=tuple(steps),
            commit=definition,
            finish=finish,
            locks=vm_locks(vm) | container_lock(trash),
            guards=vm_guards(vm) + set_guards(point.parts) + (definition_guard(vm) if definition else ()),
            objects=(vm.id,),
            warnings=tuple(_warnings(view, vm, point) + (_lost(vm) if definition else [])),
            result={"snapshot": point.name, "trash": entry},
        )

    def _definition(self, view: View, vm: Vm, point: SnapshotSet) -> Step | None:
        if not self.with_definition:
            return None
        domain = view.domain(vm)
        if vm.first.name not in point.parts:
            why = "it has no part of the first disk, with which the definition is kept"
            raise NotFound(f"@{point.name} has no definition of {vm.name}", why, "leave out with-definition")
        return RestoreDefinition(domain.uuid, vm.name, vm.first.name, point.name)


def _warnings(view: View, vm: Vm, point: SnapshotSet) -> list[str]:
    """Everything that a person would want to know beforehand: what leaves with the state given up, and who needs it."""
    inventory = view.inventory
    since = {name: part.createtxg for name, part in point.parts.items()}
    newer = [s for v in since for s in inventory.snapshots.get(v, {}).values() if s.createtxg > since[v]]
    marks = [
        f"{v.name}#{m.name}" for v in vm.volumes if v.name in since for m in v.bookmarks if m.createtxg > since[v.name]
    ]
    bases = {s.name for s in newer if s.kind == "replication" or s.name.startswith("repl-")}
    clones = {clone for s in newer for clone in inventory.clones_of(s.dataset, s.name)}
    held = {s.name for s in newer if s.holds}
    stay = [v.name for v in vm.volumes if v.name not in since]
    texts = (
        ("newer snapshots go to the trash with the state given up", {s.name for s in newer}),
        ("of these, somebody holds (zfs holds names who)", held),
        ("these are clones of newer snapshots, whose origin will be in the trash", map(inventory.vm_named_by, clones)),
        (
            "replication goes on from these, and then has to go back to an older one that both sides have",
            [*bases, *marks],
        ),
        ("these volumes have no such snapshot and stay as they are", stay),
    )
    return [f"{text}: {', '.join(sorted(set(found)))}" for text, found in ((t, list(f)) for t, f in texts) if found]


def _lost(vm: Vm) -> list[str]:
    found = secrets(vm.domain.xml) if vm.domain else ()
    known = f"; today's has {', '.join(found)}" if found else ""
    return [f"passwords and other secrets are not kept with a snapshot's definition: set them anew{known}"]
