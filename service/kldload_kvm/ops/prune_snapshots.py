"""PruneSnapshots: destroy what the timer made and has been kept long enough, of all VMs; the plan names each.

zfs destroys those of one volume after those of another, so the first is the commit point; what is left by a failure
goes the next time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Guard, Plan, Step
from ..model.inventory import SnapshotSet, Vm
from ..model.retention import expired
from ..steps.snapshots import CheckMadeHere, PruneVolume
from .request import Request, View, set_guards, vm_locks


@dataclass(frozen=True)
class PruneSnapshots(Request):
    """storage: its VMs only, or empty. How long they are kept is the configuration's alone."""

    operation = "vm.prune-snapshots"
    storage: str = ""

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        return cls(options.get("storage", ""))

    def subject(self, view: View) -> dict[str, str]:
        return {"dataset": view.inventory.parents.get(self.storage, "")}

    def plan(self, view: View) -> Plan:
        now = int(view.now.timestamp())
        vms = [vm for vm in view.vms(self.storage) if not view.holder(f"VM:{vm.name}")]
        found = [(vm, expired(view.inventory.snapshot_sets(vm), now, view.config.keep)) for vm in vms]
        found = [(vm, sets) for vm, sets in found if sets]
        steps = tuple(step for vm, sets in found for step in _steps(vm, sets))
        return Plan(
            operation=self.operation,
            description=f"remove automatic snapshots older than {view.config.keep // 3600} hours",
            prepare=(CheckMadeHere(_parts(found)),) if steps else (),
            commit=steps[0] if steps else None,
            finish=steps[1:],
            locks=frozenset(lock for vm, _ in found for lock in vm_locks(vm)),
            guards=tuple(guard for _, sets in found for guard in _guards(sets)),
            objects=tuple(vm.id for vm, _ in found),
            result={"removed": [f"{vm.name}@{each.name}" for vm, sets in found for each in sets]},
            frees=True,
        )


def _parts(found: list[tuple[Vm, list[SnapshotSet]]]) -> dict[str, str]:
    return {
        f"{part}@{each.name}": f"{vm.name}@{each.name}" for vm, sets in found for each in sets for part in each.parts
    }


def _steps(vm: Vm, sets: list[SnapshotSet]) -> list[Step]:
    """One step for each volume: ZFS destroys several snapshots of one volume with one command."""
    guids = {v.name: {each.name: each.parts[v.name].guid for each in sets if v.name in each.parts} for v in vm.volumes}
    volumes = tuple(guids)
    return [PruneVolume(dataset, of_it, volumes) for dataset, of_it in guids.items() if of_it]


def _guards(sets: list[SnapshotSet]) -> tuple[Guard, ...]:
    return tuple(guard for each in sets for guard in set_guards(each.parts))
