"""Inventory and jobs as objects on the bus: what each property says, and the signals when it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from ..engine.engine import Engine
from ..engine.job import Job, State
from ..model import properties, space
from ..model.constants import CREATE_STORAGE, ROOT
from ..model.foreign import missing
from ..model.inventory import IO_ERROR, Inventory, Vm, device, is_trash, role
from ..model.os_index import Os
from ..model.sizes import format_size
from ..ops.request import Facts
from .tree import Tree
from .values import HOOK_PATH, HOST_PATH, ObjectPath, dictionary, job_path, storage_path, vm_path

AT_ONCE = 10  # VMs of one job that say in one go that it holds them
PROGRESS_INTERVAL, START_INTERVAL = 0.25, 0.05


class Publisher:
    """Keeps the tree like the inventory and the engine. facts: what of the host is neither ZFS nor a domain; moves:
    whether volumes are to have the name that others give their domain."""

    moves = False

    def __init__(self, tree: Tree, inventory: Inventory, engine: Engine, facts: Callable[[], Facts],
                 floor: float) -> None:  # fmt: skip
        self.floor = floor
        self.tree, self.inventory, self.engine, self.facts = tree, inventory, engine, facts
        self.manager: dict[str, Any] = {}
        self._snapshots: dict[str, set[str]] = {}
        self._late: dict[str, asyncio.TimerHandle] = {}
        self._holding: set[str] = set()
        self._around: tuple[bool, Mapping[str, Os]] = (False, {})
        self.on_vm: Callable[[Vm], None] = lambda vm: None  # called for each VM that has changed
        engine.on_change = self.job_changed
        engine.on_forget = lambda job: self.tree.remove(job_path(job.id))

    def start(self, version: str) -> None:
        """The root, the storages, the host, and what the hook calls; the VMs follow as the inventory fills."""
        self.tree.put(HOOK_PATH, "Hook", {})
        self.tree.put(HOST_PATH, "Host", {"Findings": (), "CheckedAt": 0})
        self.manager = {"Version": version, "ZfsVersion": "", "LibvirtVersion": "", "Problems": (),
                        "Storages": tuple(self.inventory.parents)}  # fmt: skip
        self.update_manager()
        self.storages()

    def update_manager(self, **changed: Any) -> None:
        self.manager.update(changed)
        self.tree.put(ROOT, "Manager", self.manager)

    def flush(self) -> None:
        """Let the bus know of all that changed in the inventory, or around it, since the last call."""
        around = (self.facts().libvirt, self.facts().os_index)
        changed = self.inventory.take_dirty() | set(self.inventory.vm_ids() if around != self._around else ())
        self._around = around
        for id_ in sorted(changed):
            vm = self.inventory.vm(id_)
            if vm is None:
                self.tree.remove(vm_path(id_))
                self._snapshots.pop(id_, None)
            else:
                self._vm(vm)
                self.on_vm(vm)
        self.storages()

    def storages(self) -> None:
        default = next(iter(self.inventory.parents), "")
        for name, parent in self.inventory.parents.items():
            self.tree.put(storage_path(name), "Storage", self._storage(name, parent, name == default))

    def job_changed(self, job: Job) -> None:
        """At once when the state changed; a moment later for one that was just started; at most four times a second
        for steps and progress."""
        told = self.tree.objects.get(job_path(job.id))
        # The first step of a new one begins before the bus hears of it; tell() is for who is to be given its path.
        new = told is None and job.state is State.RUNNING
        if not new and (told is None or told[1]["State"].value != job.state.value):
            self._put_job(job)
        elif job.id not in self._late:
            delay = START_INTERVAL if new else PROGRESS_INTERVAL
            self._late[job.id] = asyncio.get_running_loop().call_later(delay, self._put_job, job)

    def tell(self, job: Job) -> None:
        """A job is about to be named to a caller: it is on the bus from now on."""
        if job_path(job.id) not in self.tree.objects:
            self._put_job(job)

    def _put_job(self, job: Job) -> None:
        if late := self._late.pop(job.id, None):
            late.cancel()
        if job.id not in self.engine.jobs:
            return
        if job.over and (late or job.id in self._holding):
            self.flush()  # what it changed is told before it is called done
        holds = job.state in (State.RUNNING, State.UNDOING)
        if holds != (job.id in self._holding):
            (self._holding.add if holds else self._holding.discard)(job.id)
            self._held_or_free(job, job.plan.objects)
        self.tree.put(job_path(job.id), "Job", job_values(job))
        if job.over:
            self.tree.emit(job_path(job.id), "Job", "Completed", job.state is State.SUCCEEDED, str(job.error or ""))

    def _held_or_free(self, job: Job, objects: tuple[str, ...]) -> None:
        """The VMs of a job say that it holds them from its start on, and that it does not before it is called done.

        Of a job on very many the first ones say so at once, and the others while it is at work already.
        """
        now = objects if job.over else objects[:AT_ONCE]
        for id_ in now:
            vm, path = self.inventory.vm(id_), vm_path(id_)
            if vm and path in self.tree.objects:
                self.tree.set(path, {"Job": self._holder(vm)})
        if len(now) < len(objects) and job.id in self._holding:
            asyncio.get_running_loop().call_later(START_INTERVAL, self._held_or_free, job, objects[len(now) :])

    def _vm(self, vm: Vm) -> None:
        path = vm_path(vm.id)
        sets = {name for v in vm.volumes for name in self.inventory.snapshots.get(v.name, {})}
        self.tree.put(path, "Vm", self._vm_values(vm, len(sets)))
        before = self._snapshots.get(vm.id)
        self._snapshots[vm.id] = sets
        if before is not None and before != sets:
            self.tree.emit(path, "Vm", "SnapshotsChanged", sorted(sets - before), sorted(before - sets))

    def _vm_values(self, vm: Vm, snapshots: int) -> dict[str, Any]:
        domain = vm.domain
        dependents = self.inventory.dependents(vm)
        return {
            "Id": vm.id,
            "Name": vm.name,
            "Uuid": domain.uuid if domain else "",
            "State": vm.state,
            "Problem": self._problem(vm),
            "Storage": vm.storage,
            "Memory": domain.memory if domain else 0,
            "Vcpus": domain.vcpus if domain else 0,
            "Autostart": domain.autostart if domain else False,
            "Os": self._os(domain.os) if domain else "",
            "Volumes": tuple(
                dictionary({
                    "dataset": each.name, "guid": each.guid, "role": role(each), "size": each.size,
                    "target": each.properties.get(properties.TARGET, ""), "origin": each.origin,
                    "device": device(each.name),
                })
                for each in vm.volumes
            ),
            "Size": sum(each.size for each in vm.disks),
            "Used": sum(each.used for each in vm.volumes),
            "UsedAt": self.inventory.used_at_of(vm.id),
            "Origin": vm.first.origin,
            "Clones": tuple(sorted({self.inventory.vm_named_by(each) for each in dependents if not is_trash(each)})),
            "SnapshotCount": snapshots,
            "Identity": vm.first.properties.get(properties.IDENTITY, ""),
            "Template": vm.template,
            "Job": self._holder(vm),
        }  # fmt: skip

    def _holder(self, vm: Vm) -> ObjectPath:
        """The job that holds a VM, or the root where none does."""
        holder = self.engine.locks.holder(f"VM:{vm.name}")
        return job_path(holder) if holder else ObjectPath("/")

    def _problem(self, vm: Vm) -> str:
        if vm.domain is None and self.facts().libvirt:
            return (
                f"no libvirt domain uses its volumes; define it again as its snapshots keep it: kvm-adopt {vm.name}; "
                f"or delete it: kvm-delete {vm.name}"
            )
        if vm.domain and (gone := missing(self.inventory, vm.domain)):
            return f"it has disks that are not there: {', '.join(gone)}; is their pool imported? See kvm-trash list"
        if self.moves and vm.domain and vm.domain.name != vm.name and not self.engine.locks.holder(f"VM:{vm.name}"):
            return (
                f"libvirt calls it {vm.domain.name}, and its volumes do not: kvm-vm rename {vm.name} {vm.domain.name}"
            )
        return self._stopped(vm) if vm.domain and vm.domain.fault and vm.state == "paused" else ""

    def _stopped(self, vm: Vm) -> str:
        """Why QEMU itself paused it, and what becomes of it."""
        if vm.domain and vm.domain.fault == IO_ERROR:
            return f"it is paused: a disk gave an input/output error; see zpool status, then kvm-vm resume {vm.name}"
        store = self.inventory.datasets.get(vm.first.name.rpartition("/")[0])
        free = f"{format_size(space.resume_at(store, self.floor))} of {store.name}" if store else "enough"
        return f"it is paused: the pool was full when it wrote; it goes on by itself once {free} are free"

    def _os(self, url: str) -> str:
        """The short id of an osinfo id."""
        return next((short for short, each in self.facts().os_index.items() if each.id == url), "") if url else ""

    def _storage(self, name: str, parent: str, default: bool) -> dict[str, Any]:
        dataset = self.inventory.datasets.get(parent)
        isos = self.inventory.datasets.get(f"{parent}/isos")
        missing = f"there is no dataset {parent}; {CREATE_STORAGE}"
        volumes = [d for d in self.inventory.children(parent) if d.kind == "volume"]
        return {
            "Name": name,
            "Dataset": parent,
            "Default": default,
            "Capacity": space.capacity(dataset) if dataset else 0,
            "Free": dataset.available if dataset else 0,
            "Floor": space.floor(dataset, self.floor) if dataset else 0,
            "Provisioned": sum(each.size for each in volumes),
            "Overcommit": space.overcommit(dataset, volumes),
            "SampledAt": max(self.inventory.used_at, self.inventory.stores_at),
            "Problem": "" if dataset else missing,
            "ImageDirectory": isos.mountpoint if isos and isos.mountpoint.startswith("/") else "",
            "Images": tuple(
                dictionary(
                    {
                        "name": i.name,
                        "format": i.format,
                        "size": i.size,
                        "virtual-size": i.virtual_size,
                        "path": str(i.path),
                    }
                )
                for i in self.facts().images.get(name, ())
            ),
        }


def job_values(job: Job) -> dict[str, Any]:
    """A job's properties."""
    plan = job.plan
    steps = [
        dictionary({"description": step.describe(), "kind": step.label, "state": state, "part": plan.part(index)})
        for index, (step, state) in enumerate(zip(plan.steps, job.step_states, strict=True))
    ]
    return {
        "Id": job.id,
        "Operation": plan.operation,
        "Description": plan.description,
        "Objects": tuple(map(vm_path, plan.objects)),
        "State": job.state.value,
        "Steps": steps,
        "Destroys": plan.destroys,
        "Warnings": plan.warnings,
        "Progress": round(job.progress, 4),
        "Bytes": job.bytes_done,
        "BytesTotal": job.bytes_total,
        "Rate": job.rate,
        "StartTime": int(job.started * 1e6),
        "EndTime": int(job.ended * 1e6),
        "StartedByUid": job.uid,
        "StartedByLoginUid": job.login,
        "Cancelable": job.cancelable,
        "Result": result_values(job),
        "ErrorName": job.error.dbus_name if job.error else "",
        "ErrorMessage": str(job.error or ""),
    }


def result_values(job: Job) -> dict[str, Any]:
    """A job's result as an a{sv}: ids of VMs become their paths, and what begins with '_' stays inside.

    Of a job that is planned or under way it is what the plan promises, and of one that did not succeed nothing.
    """
    values: dict[str, Any] = {}
    given = {} if job.over and job.state is not State.SUCCEEDED else {**job.plan.result, **job.result}
    for key, value in given.items():
        if key == "vm":
            values[key] = vm_path(value)
        elif key == "vms":
            values[key] = [vm_path(each) for each in value]
        elif not key.startswith("_"):
            values[key] = _rows(value)
    return dictionary(values)


def _rows(value: Any) -> Any:
    """A list of dictionaries as an aa{sv}; anything else as it is."""
    is_rows = isinstance(value, list | tuple) and value and isinstance(value[0], dict)
    return [dictionary(each) for each in value] if is_rows else value
