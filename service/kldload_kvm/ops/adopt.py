"""Adopt: take in a domain that others made on volumes of ours, with its snapshots; or one whose disks are elsewhere, by
copying these into volumes (convert.py); or define a VM again that has lost its domain, from what its snapshots keep.

Nothing of a disk is touched: a domain on volumes of ours is taken in by a note on each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from ..engine.plan import Guard, Plan, Step
from ..images import disk_files
from ..images.own_thread import in_own_thread
from ..model import foreign, names, properties
from ..model.errors import AlreadyExists, InvalidArgument, NotFound, Stale, WrongState
from ..model.inventory import Dataset, Domain, Inventory, Vm
from ..model.source_disks import NVRAM, CannotBeCopied, SourceDisk, order
from ..steps.adopting import NoteOwner, RegisterDomain
from ..steps.host import Host
from . import convert
from .request import Request, View
from .trash import check_fits

MOST_LOOKED_AT = 200
"""Snapshots that are looked at for a definition, the newest first."""


@dataclass(frozen=True)
class Adopt(Request):
    """name: of a domain, or its UUID; or of a VM without one; storage: where disks are copied to, or empty for the
    default one; looked: what was seen of disks to be copied."""

    operation = "vm.adopt"
    name: str
    storage: str = ""
    looked: convert.Looked | None = None

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        return cls(names.domain_name(args[0]), options.get("storage", ""))

    @property
    def what(self) -> str:
        return f"{self.name} was not adopted"

    def subject(self, view: View) -> dict[str, str]:
        domain, vm = self._domain(view), view.inventory.find(self.name)
        if domain:
            first = next(iter(foreign.volumes_of(view.inventory, domain)), None)
            place = first.name if first else f"{view.parent(self.storage, self.what)}/{domain.name}"
            return {"vm": domain.name, "uuid": domain.uuid, "dataset": place}
        return {"vm": self.name, "dataset": vm.first.name if vm else ""}

    async def find(self, host: Host) -> bool:
        """As for a script that makes a volume and defines a domain on it just before."""
        inventory = host.inventory
        known = self._in(inventory)
        if known is None and inventory.find(self.name) is None:
            await host.refresh_domain_named(self.name)
        if (domain := self._in(inventory)) is None:
            return False
        if absent := foreign.missing(inventory, domain):
            await host.refresh_named(absent)
        return known is None or bool(absent)

    async def look(self, host: Host) -> Self:
        domain = self._in(host.inventory)
        disks = _to_copy(host.inventory, domain) if domain else []
        if domain is None or domain.active or not disks:
            return self
        convert.others(host.inventory, domain, disks, self.what)  # by its name, before it is found by its locks
        kept, found = await host.virt.kept_of(domain.uuid), {}
        for disk in disks:
            if seen := await in_own_thread("disk of a domain", partial(_look, disk, domain.name, self.what)):
                found[disk.path] = seen
        return replace(self, looked=convert.Looked(kept, found))

    def plan(self, view: View) -> Plan:
        view.need_libvirt(self.name)
        if domain := self._domain(view):
            disks = _to_copy(view.inventory, domain)
            return self._copied(view, domain, disks) if disks else self._take_in(view, domain)
        if self.storage:
            raise self._no_copy()
        vm = view.inventory.find(self.name)
        if vm is None:
            hint = "kvm-adopt list shows what can be adopted"
            raise NotFound(self.what, "there is no libvirt domain of that name, and no VM without one", hint)
        return self._define(view, vm)

    def _domain(self, view: View) -> Domain | None:
        return self._in(view.inventory)

    def _in(self, inventory: Inventory) -> Domain | None:
        return inventory.domain_named(self.name) or inventory.domains.get(self.name)

    # -- a domain of others whose disks are elsewhere ------------------------------------------------------------------

    def _copied(self, view: View, domain: Domain, disks: list[SourceDisk]) -> Plan:
        convert.check_off(domain, self.what)
        if self.looked is None or not {d.path for d in disks if d.target != NVRAM} <= self.looked.disks.keys():
            raise Stale(self.what, "its definition has been changed meanwhile", "try again")
        return convert.plan(view, self.operation, domain, disks, self.looked, self.storage)

    def _no_copy(self) -> InvalidArgument:
        why = "a storage was named, and none of its disks is to be copied: they are volumes already"
        return InvalidArgument(self.what, why, "leave the storage out")

    # -- a domain of others --------------------------------------------------------------------------------------------

    def _take_in(self, view: View, domain: Domain) -> Plan:
        found = foreign.of_domain(view.inventory, domain)
        if found is None:
            raise AlreadyExists(self.what, "it is a VM already", f"see: kvm-list; kvm-snap {domain.name} list")
        if found.kind != foreign.ADOPTABLE:
            raise WrongState(self.what, found.why, found.hint)
        if self.storage:
            raise self._no_copy()
        volumes = convert.noted(view, domain)
        first = volumes[min(volumes, key=order)]
        parent, base = first.name.rpartition("/")[::2]
        name = names.vm_name(base)
        if len({each.name.rpartition("/")[0] for each in volumes.values()}) > 1:
            why = f"its volumes are on several storages: {', '.join(each.name for each in volumes.values())}"
            raise InvalidArgument(self.what, why, "a VM is on one: zfs send and receive them to where the others are")
        if other := view.inventory.find(name):
            why = f"it would be called {name}, and {other.first.name} is the VM of that name"
            raise AlreadyExists(self.what, why, f"zfs rename {first.name}, in its domain too, and adopt it then")
        check_fits(self.what, parent, name)
        vm_id = view.uuid()
        steps: list[Step] = []
        for target, volume in volumes.items():
            steps.append(NoteOwner(volume.name, convert.owner(vm_id, domain, target)))
        return Plan(
            operation=self.operation,
            description=f"adopt the domain {domain.name}",
            prepare=tuple(steps),
            locks=frozenset({f"VM:{name}"}),
            guards=tuple(Guard("guid", each.name, each.guid) for each in volumes.values()),
            objects=(vm_id,),
            warnings=tuple(_warnings(domain, volumes)),
            result={"vm": vm_id, "name": name, "volumes": tuple(each.name for each in volumes.values())},
        )

    # -- a VM that has lost its domain ---------------------------------------------------------------------------------

    def _define(self, view: View, vm: Vm) -> Plan:
        if vm.domain is not None:
            raise AlreadyExists(self.what, "it is a VM already", f"see: kvm-list; kvm-snap {vm.name} list")
        newest = sorted(
            (
                snapshot
                for volume in vm.volumes
                for snapshot in view.inventory.snapshots.get(volume.name, {}).values()
                if snapshot.kind != "foreign"
            ),
            key=lambda each: -each.createtxg,
        )[:MOST_LOOKED_AT]
        if not newest:
            hint = "define a domain on them yourself (virsh define), and then: kvm-adopt " + vm.name
            raise NotFound(self.what, "it has no snapshot of ours that could keep its definition", hint)
        if view.inventory.domain_named(vm.name):
            raise AlreadyExists(self.what, f"libvirt has another domain named {vm.name}", "rename that one first")
        recorded = vm.first.properties.get(properties.UUID, "")
        uuid = recorded or view.uuid()
        steps: list[Step] = [NoteOwner(v.name, {properties.UUID: uuid}) for v in vm.volumes if uuid != recorded]
        return Plan(
            operation=self.operation,
            description=f"define {vm.name} again",
            prepare=tuple(steps),
            commit=RegisterDomain(uuid, vm.name, tuple(f"{each.dataset}@{each.name}" for each in newest)),
            locks=frozenset({f"VM:{vm.name}"}),
            guards=tuple(Guard("guid", each.name, each.guid) for each in vm.volumes),
            objects=(vm.id,),
            result={"vm": vm.id, "name": vm.name, "volumes": tuple(each.name for each in vm.volumes)},
        )


def _warnings(domain: Domain, volumes: Mapping[str, Dataset]) -> list[str]:
    found = []
    variables = domain.disks.get("nvram", "")
    if variables and "nvram" not in volumes:
        found.append(f"its UEFI variables are the file {variables}, and are in no snapshot")
    seen = sorted(each.name for each in volumes.values() if each.volmode != "dev")
    if seen:
        found.append(f"the host looks into {', '.join(seen)}: zfs set volmode=dev, while the VM is off, keeps it out")
    return found


def _to_copy(inventory: Inventory, domain: Domain) -> list[SourceDisk]:
    """The disks of a domain of others that are to be copied; none of one that is not of that kind."""
    found = foreign.of_domain(inventory, domain)
    if found is None or found.kind != foreign.FILES:
        return []
    try:
        return convert.to_copy(inventory, domain)
    except CannotBeCopied:
        return []  # which is what the refusal says


def _look(disk: SourceDisk, domain: str, what: str) -> disk_files.Look | None:
    """What a disk is; None for UEFI variables whose file libvirt makes at the first start."""
    if disk.target == NVRAM and not Path(disk.path).exists():
        return None
    return disk_files.look(disk, domain, what)
