"""SnapshotAll: one snapshot name over all VMs, with one command for each pool, so in one transaction there.

All guests are held still for it at the same moment, and let go whatever happens. A guest that cannot be held, and a
volume that vanishes meanwhile, is told in the result and keeps no other VM from its snapshot. So is a VM that another
job has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Plan, Step
from ..model import names
from ..model.domain_xml import left_out
from ..model.errors import AlreadyExists, InvalidArgument
from ..model.inventory import Vm
from ..steps.all_guests import HoldGuests, LetGuestsGo
from ..steps.snapshots import TakeSnapshots
from .request import Request, View, domain_uuid, taken_names, vm_guards, vm_locks
from .snapshot import parse_require, tpm_warning
from .trash import check_fits


@dataclass(frozen=True)
class SnapshotAll(Request):
    """name: as asked for, or empty for the time; storage: its VMs only, or empty; kind: manual, or the timer's auto.

    The job's results: snapshots, a list with vm, consistency, held (seconds) and volumes (how many) of each; missing,
    the volumes that had vanished; left-out, VMs that another job had; unanswered, VMs whose agents were not heard.
    """

    operation = "vm.snapshot-all"
    name: str = ""
    storage: str = ""
    require: str = ""
    kind: str = "manual"

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        kind = options.get("kind", "manual")
        if kind not in ("manual", "auto"):
            why = f"{names.shown(kind)} is neither manual nor auto"
            raise InvalidArgument("the kind is not valid", why, "leave it out to take snapshots that stay")
        if kind == "auto" and "name" in options:
            why = "automatic snapshots are named after the time"
            raise InvalidArgument("no snapshot was taken", why, "leave out the name, or the kind")
        name = names.new_snapshot_name(options["name"]) if "name" in options else ""
        return cls(name, options.get("storage", ""), parse_require(options), kind)

    def subject(self, view: View) -> dict[str, str]:
        dataset = view.inventory.parents.get(self.storage, "")
        return {"dataset": dataset, "target": f"@{self.name}" if self.name else ""}

    def plan(self, view: View) -> Plan:
        found = view.vms(self.storage)
        vms = [vm for vm in found if not view.holder(f"VM:{vm.name}")]
        free = {vm.id for vm in vms}
        busy = [vm.name for vm in found if vm.id not in free]
        name = self._name(view, found)
        for vm in vms:
            check_fits(f"the snapshot @{name} was not taken", vm.first.name.rpartition("/")[0], vm.name, name)
        running = {vm.domain.uuid: vm.name for vm in vms if vm.domain and vm.domain.state == "running"}
        takes = self._takes(vms, name)
        held = bool(running and takes)
        locks = frozenset(lock for vm in vms for lock in vm_locks(vm))
        return Plan(
            operation=self.operation,
            description=f"snapshot all VMs{f' on {self.storage}' if self.storage else ''} as @{name}",
            prepare=(*((HoldGuests(running),) if held else ()), *takes[:-1]),
            commit=takes[-1] if takes else None,
            finish=(LetGuestsGo(running),) if held else (),
            locks=locks,
            guards=tuple(guard for vm in vms for guard in vm_guards(vm)),
            objects=tuple(vm.id for vm in vms),
            warnings=tuple(_warnings(vms, busy)),
            result={"snapshot": name, "snapshots": [], "missing": [], "left-out": busy},
        )

    def _name(self, view: View, vms: list[Vm]) -> str:
        having = {vm.name: taken_names(view, vm) for vm in vms}
        if with_it := [vm for vm, taken in having.items() if self.name in taken]:
            what = f"no snapshot @{self.name} was taken"
            raise AlreadyExists(what, f"these have one already: {', '.join(with_it)}", "choose another name")
        return self.name or names.unused(names.timestamp(view.now, self.kind), set[str]().union(*having.values()))

    def _takes(self, vms: list[Vm], name: str) -> list[Step]:
        """One step for each pool."""
        pools = dict.fromkeys(volume.name.partition("/")[0] for vm in vms for volume in vm.volumes)
        return [self._take(pool, vms, name) for pool in pools]

    def _take(self, pool: str, vms: list[Vm], name: str) -> Step:
        volumes = {v.name: vm.id for vm in vms for v in vm.volumes if v.name.partition("/")[0] == pool}
        owners = set(volumes.values())
        here = [vm for vm in vms if vm.id in owners]
        return TakeSnapshots(
            pool, name, self.kind, volumes,
            names={vm.id: vm.name for vm in here},
            uuids={vm.id: domain_uuid(vm) for vm in here},
            require=self.require,
        )  # fmt: skip


def _warnings(vms: list[Vm], busy: list[str]) -> list[str]:
    found = []
    if busy:
        found.append(f"these are left out, as another job is at work on them: {', '.join(busy)}")
    if without := [vm.name for vm in vms if vm.domain and left_out(vm.domain.xml)]:
        found.append(tpm_warning(", ".join(without)))
    if not vms:
        found.append("there is no VM to be snapshotted")
    return found
