"""RestoreTrash: bring back what waits in the trash: a deleted VM, the state that a rollback gave up (ops/swap.py), or a
disk that was taken from a VM (ops/reattach.py).

A deleted VM's volumes are moved back and its domain is defined again, which is the commit point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Guard, Plan, Step
from ..model import names, properties
from ..model.errors import AlreadyExists, NotFound
from ..model.inventory import Dataset, Vm, device
from ..model.trash import ROLLED_BACK, UNDEFINED, Entry, entries
from ..steps.domains import RestoreDomain, SetAutostart
from ..steps.volumes import RenameVolume, SetProperty
from .reattach import is_detached_disk, reattach
from .request import Request, View
from .swap import swap
from .trash import check_fits, entry_guards, entry_locks, find_entry, remove_steps


@dataclass(frozen=True)
class RestoreTrash(Request):
    """name: a new one for a deleted VM, or empty."""

    operation = "trash.restore"
    entry: str
    name: str = ""
    force: bool = False

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        name = names.vm_name(options["name"]) if "name" in options else ""
        return cls(names.trash_entry(args[0]), name, options.get("force", False))

    def subject(self, view: View) -> dict[str, str]:
        target = f"{self.entry} {self.name}".rstrip()
        for found in (each for each in entries(view.inventory) if each.id == self.entry):
            return {"vm": found.name, "uuid": found.uuid, "dataset": found.container.name, "target": target}
        return {"target": target}

    def plan(self, view: View) -> Plan:
        entry = find_entry(view, self.entry)
        view.need_libvirt(entry.name)
        if not entry.volumes:
            raise NotFound(f"{entry.id} was not restored", "nothing is in it", f"kvm-trash purge {entry.id} removes it")
        if entry.reason == ROLLED_BACK:
            return swap(view, entry, self.operation, self.name, self.force)
        if is_detached_disk(view, entry):
            return reattach(view, entry, self.operation, self.name)
        name = self.name or entry.name
        moved = self._targets(view, entry, name)
        taken = view.inventory.domains.get(entry.uuid)
        uuid = view.uuid() if taken else entry.uuid
        prepare: list[Step] = [RenameVolume(each.name, moved[each.name], each.guid) for each in entry.volumes]
        warnings = []
        if taken:
            warnings.append(f"it gets a new UUID and new addresses: the libvirt domain {taken.name} has its UUID")
            prepare += [
                SetProperty(moved[each.name], properties.UUID, uuid, each.properties.get(properties.UUID, ""))
                for each in entry.volumes
            ]
        commit: Step | None = None
        if uuid:
            paths = {device(_before(entry, each)): device(moved[each.name]) for each in entry.volumes}
            commit = RestoreDomain(uuid, name, entry.container.name, paths, renewed=taken is not None)
        else:
            warnings.append("no domain was kept with it: only its volumes come back")
        finish: list[Step] = [SetAutostart(uuid, name, True)] if uuid and entry.autostart else []
        return Plan(
            operation=self.operation,
            description=f"restore {name} from the trash",
            prepare=tuple(prepare),
            commit=commit,
            finish=(*finish, *remove_steps(view, entry)),
            locks=frozenset({f"VM:{name}"}) | entry_locks(entry),
            guards=entry_guards(entry) + tuple(Guard("absent", target) for target in moved.values()),
            objects=(entry.vm,),
            warnings=tuple(warnings),
            result={"vm": entry.vm, "name": name},
        )

    def _targets(self, view: View, entry: Entry, name: str) -> dict[str, str]:
        """Where each volume goes. Raises AlreadyExists, naming what is there."""
        what = f"{entry.id} was not restored"
        there = view.inventory.vm(entry.vm)
        if there and not _is_rest_of(there, entry):
            raise AlreadyExists(what, f"its VM is there, as {there.name}", f"delete it first: kvm-delete {there.name}")
        view.check_name_free(name)
        check_fits(what, entry.parent, name)
        moved = {volume.name: f"{entry.parent}/{_renamed(volume, entry.name, name)}" for volume in entry.volumes}
        for target in moved.values():
            if target in view.inventory.datasets:
                raise AlreadyExists(what, f"there is a dataset {target}", "restore it under another name: --name")
        return moved


def _is_rest_of(vm: Vm, entry: Entry) -> bool:
    """Whether it is what stayed of a VM when its domain was undefined and the rest went to the trash."""
    targets = [{each.properties.get(properties.TARGET, "") for each in group} for group in (vm.volumes, entry.volumes)]
    return entry.reason == UNDEFINED and vm.domain is None and not targets[0] & targets[1]


def _before(entry: Entry, volume: Dataset) -> str:
    """Where a volume was when its VM was deleted."""
    return f"{entry.parent}/{volume.name.rpartition('/')[2]}"


def _renamed(volume: Dataset, old: str, new: str) -> str:
    base = volume.name.rpartition("/")[2]
    return new + base.removeprefix(old) if base == old or base.startswith(f"{old}.") else base
