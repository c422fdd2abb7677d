"""What every operation is made of: a request, made valid at the door, and what it may look at to plan."""

from __future__ import annotations

import random
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Self

from ..config import Config
from ..engine.plan import Guard, Plan, Step
from ..images.store import Image
from ..model import names, properties
from ..model.constants import CREATE_STORAGE
from ..model.domain_xml import digest
from ..model.errors import (
    AlreadyExists,
    KvmError,
    LibvirtUnavailable,
    NoSpace,
    NotFound,
    WrongState,
    ZfsUnavailable,
)
from ..model.finding import Finding
from ..model.firmware import FirmwarePair
from ..model.host_facts import HostFacts
from ..model.inventory import Dataset, Domain, Inventory, Snapshot, SnapshotSet, Vm
from ..model.os_index import Os
from ..model.pool_topology import Group
from ..model.sizes import format_size
from ..model.space import floor
from ..steps.domains import CheckUnsaved, ForceOff, StartDomain, StartNetwork
from ..steps.guests import LetGo, Quiesce
from ..steps.host import Host
from ..steps.snapshots import TakeSnapshot


@dataclass(frozen=True)
class Facts:
    """What of the host is neither ZFS nor a domain. networks: libvirt's, with whether each is active; os_index by
    short id; images by storage name; kvm: whether guests can use KVM; zfs: why ZFS could not be read, or None; pools:
    what of each pool is raidz or draid."""

    libvirt: bool = False
    zfs: KvmError | None = None
    networks: Mapping[str, bool] = field(default_factory=dict)
    bridges: frozenset[str] = frozenset()
    kvm: bool = False
    firmware: FirmwarePair | None = None
    os_index: Mapping[str, Os] = field(default_factory=dict)
    images: Mapping[str, tuple[Image, ...]] = field(default_factory=dict)
    pools: Mapping[str, tuple[Group, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """All that a plan is made from. now: aware, in UTC; uid: who asks; random: for new UUIDs and addresses;
    holder(lock): the job that holds what no two may hold, or the empty string; host, findings: as the last check saw
    them, None before the first one."""

    inventory: Inventory
    config: Config
    facts: Facts
    now: datetime
    uid: int = 0
    random: random.Random = field(default_factory=random.SystemRandom)
    holder: Callable[[str], str] = lambda lock: ""
    host: HostFacts | None = None
    findings: tuple[Finding, ...] = ()

    def uuid(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def mac(self) -> str:
        """A new address in QEMU's own range."""
        return "52:54:00:" + ":".join(f"{self.random.randrange(256):02x}" for _ in range(3))

    def vm(self, id_: str) -> Vm:
        """Raises NotFound."""
        if vm := self.inventory.vm(id_):
            return vm
        raise NotFound("there is no such VM", f"no volume carries the id {id_}", "kvm-list lists the VMs")

    def domain(self, vm: Vm) -> Domain:
        """The VM's domain. Raises WrongState for an orphan, LibvirtUnavailable while that cannot be told."""
        self.need_libvirt(vm.name)
        if vm.domain is None:
            why = "its volumes are there, but no libvirt domain uses them"
            raise WrongState(
                f"{vm.name} is an orphan", why, f"kvm-adopt {vm.name} defines it again; or kvm-delete {vm.name}"
            )
        return vm.domain

    def need_libvirt(self, name: str) -> None:
        if not self.facts.libvirt:
            raise LibvirtUnavailable(
                f"nothing can be done with {name} now", "libvirt cannot be reached",
                "start it: systemctl start libvirtd.socket (or virtqemud.socket)",
            )  # fmt: skip

    def vms(self, storage: str = "") -> list[Vm]:
        """All VMs, or those of one storage, by name. Raises NotFound for a storage that is none."""
        if storage and storage not in self.inventory.parents:
            known = ", ".join(self.inventory.parents)
            raise NotFound(f"there is no storage {names.shown(storage)}", "", f"the storages are: {known}")
        found = [vm for vm in map(self.inventory.vm, self.inventory.vm_ids()) if vm]
        return sorted((vm for vm in found if storage in ("", vm.storage)), key=lambda vm: vm.name)

    def need_zfs(self, what: str) -> None:
        """Raises ZfsUnavailable while datasets cannot be read. what: was not done."""
        if self.facts.zfs:
            raise ZfsUnavailable(what, self.facts.zfs.why, self.facts.zfs.hint)

    def parent(self, storage: str, what: str) -> str:
        """The parent dataset of that storage, or of the default one. what: was not done. Raises NotFound."""
        parents = self.inventory.parents
        if storage and storage not in parents:
            hint = f"there are: {', '.join(parents)}; kvm.conf(5) tells how to add one"
            raise NotFound(what, f"there is no storage {names.shown(storage)}", hint)
        return parents[storage] if storage else next(iter(parents.values()))

    def store(self, parent: str, what: str) -> Dataset:
        """The parent dataset of a storage as it is. what: was not done. Raises NotFound, ZfsUnavailable."""
        if found := self.inventory.datasets.get(parent):
            return found
        self.need_zfs(what)
        raise NotFound(what, f"there is no dataset {parent}", CREATE_STORAGE)

    def volmode(self, parent: str) -> dict[str, str]:
        """What keeps the host from looking into a volume below `parent`: nothing where it inherits that already. Set on
        the volume itself it costs a transaction more, and the device node is made a second time."""
        store = self.inventory.datasets.get(parent)
        return {} if store and store.volmode == "dev" else {"volmode": "dev"}

    def check_name_free(self, name: str, domain: str = "", volumes: Collection[str] = ()) -> None:
        """Raises AlreadyExists if a VM, a volume or a domain has the name, on any storage, but for the domain of that
        UUID and these volumes."""
        what, hint = f"the name {name} is taken", "choose another name"
        for parent in self.inventory.parents.values():
            for taken in (f"{parent}/{name}", f"{parent}/{name}.nvram", f"{parent}/{name}.seed"):
                if taken in self.inventory.datasets and taken not in volumes:
                    raise AlreadyExists(what, f"there is a dataset {taken}", hint)
        other = self.inventory.domain_named(name)
        if other and other.uuid != domain:
            raise AlreadyExists(what, "libvirt has a domain of that name", hint)

    def check_room(self, parent: str, what: str) -> None:
        """Raises NoSpace for a storage below its floor. what: was not done."""
        store = self.inventory.datasets[parent]
        least = floor(store, self.config.floor)
        if store.available < least:
            raise NoSpace(
                what, f"{parent} has {format_size(store.available)} left, and {format_size(least)} are kept free",
                "delete VMs or snapshots, and purge the trash",
            )  # fmt: skip

    def snapshot(self, vm: Vm, name: str) -> SnapshotSet:
        """Raises NotFound, naming the newest."""
        sets = self.inventory.snapshot_sets(vm)
        if found := next((each for each in sets if each.name == name), None):
            return found
        newest = ", ".join(f"@{each.name}" for each in sets[-3:])
        why = f"its newest are {newest}" if newest else "it has no snapshots at all"
        raise NotFound(f"{vm.name} has no snapshot @{name}", why, f"kvm-snap {vm.name} list")


class Request(ABC):
    """One operation. Subclasses are frozen dataclasses, one a file, and bound to their method in bus/methods.py."""

    operation: ClassVar[str]

    @classmethod
    @abstractmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        """From a call's arguments, whose types the bus has checked. target: what the object's path names. Pure.

        Raises InvalidArgument.
        """

    @abstractmethod
    def subject(self, view: View) -> dict[str, str]:
        """The details that polkit's rules see: vm, uuid, dataset, target as far as they apply. Raises NotFound."""

    async def find(self, host: Host) -> bool:
        """Read again what it is about, if that is not known: others may have made it a moment ago. Whether anything
        was read. Most are about what is known."""
        return False

    async def look(self, host: Host) -> Self:
        """With what a plan needs to know of the host and no view has, such as what is in a file. Most need nothing.
        Raises KvmError."""
        return self

    def release(self) -> None:  # noqa: B027 -- most hold nothing
        """Let go of what `parse` took hold of: when its job has ended, or when it becomes none."""

    @abstractmethod
    def plan(self, view: View) -> Plan:
        """The steps. Pure: the same request and view give the same plan. Raises KvmError for every refusal."""


@dataclass(frozen=True)
class VmRequest(Request):
    """An operation on one VM, by its id."""

    vm: str

    def subject(self, view: View) -> dict[str, str]:
        return vm_subject(view.vm(self.vm))


def vm_subject(vm: Vm) -> dict[str, str]:
    return {"vm": vm.name, "uuid": vm.domain.uuid if vm.domain else "", "dataset": vm.first.name}


def vm_locks(vm: Vm) -> frozenset[str]:
    return frozenset({f"VM:{vm.name}"})


def vm_guards(vm: Vm) -> tuple[Guard, ...]:
    """What any plan on a VM depends on: its volumes are those, and its state is that."""
    volumes = tuple(Guard("guid", each.name, each.guid) for each in vm.volumes)
    return volumes + ((Guard("state", vm.domain.uuid, vm.domain.state),) if vm.domain else ())


def definition_guard(vm: Vm) -> tuple[Guard, ...]:
    """For a plan that copies the definition or gives it up: it is that one."""
    return (Guard("definition", vm.domain.uuid, digest(vm.domain.xml)),) if vm.domain else ()


def set_guards(parts: Mapping[str, Snapshot]) -> tuple[Guard, ...]:
    return tuple(Guard("guid", f"{name}@{part.name}", part.guid) for name, part in parts.items())


def check_off(vm: Vm, doing: str, force: bool) -> tuple[Step, ...]:
    """The step that forces a VM off if that was allowed; none for one that is off. Raises WrongState."""
    if vm.domain is None or not vm.domain.active:
        return ()
    if not force:
        why = f"it is {vm.domain.state}"
        raise WrongState(
            f"{vm.name} was not {doing}", why, f"shut it down first (kvm-vm shutdown {vm.name}), or use --force"
        )
    return (ForceOff(vm.domain.uuid, vm.name, tuple(each.name for each in vm.volumes)),)


def check_unsaved(vm: Vm, doing: str) -> tuple[Step, ...]:
    """The step that sees that no memory of a VM that is off waits to go on with the disks as they are."""
    if vm.domain is None or vm.domain.active or not vm.domain.persistent:
        return ()
    return (CheckUnsaved(vm.domain.uuid, vm.name, f"{vm.name} was not {doing}"),)


def check_startable(vm: Vm, what: str) -> None:
    """Raises WrongState for a template. what: was not done."""
    if vm.template:
        hint = f"clone it: kvm-clone {vm.name} NAME; or make it a VM again: kvm-vm template {vm.name} off"
        raise WrongState(what, f"{vm.name} is a template, and does not start", hint)


def start_steps(view: View, domain: Domain, volumes: tuple[str, ...]) -> tuple[Step, ...]:
    """Starting a domain: its libvirt networks first, if they are down."""
    down = [n for n in domain.networks if view.facts.networks.get(n) is False]
    return (*map(StartNetwork, down), StartDomain(domain.uuid, domain.name, volumes))


def snapshot_steps(vm: Vm, name: str, kind: str, require: str = "") -> tuple[tuple[Step, ...], Step, tuple[Step, ...]]:
    """Before, the snapshot of all volumes, and after: a running guest is held still between the two."""
    domain = vm.domain
    take = TakeSnapshot(tuple(v.name for v in vm.volumes), name, kind, domain_uuid(vm), require)
    if domain is None or domain.state != "running":  # one that is paused is still, and stays paused
        return (), take, ()
    return (Quiesce(domain.uuid, domain.name),), take, (LetGo(domain.uuid, domain.name),)


def domain_uuid(vm: Vm) -> str:
    """The UUID of its domain, or the one that was recorded: an orphan's domain may be there after all, as long as
    libvirt could not be asked. Empty if none is known."""
    return vm.domain.uuid if vm.domain else vm.first.properties.get(properties.UUID, "")


def taken_names(view: View, vm: Vm) -> set[str]:
    return {s for v in vm.volumes for s in view.inventory.snapshots.get(v.name, {})}


def default_restore_point(view: View, vm: Vm) -> SnapshotSet:
    """The newest snapshot of a person or the timer, never one that the service or another tool made for itself."""
    found = [each for each in view.inventory.snapshot_sets(vm) if each.kind in ("manual", "auto")]
    if not found:
        why = "it has no snapshot that a person or the timer made"
        raise NotFound(f"{vm.name} has nothing to be rolled back to", why, f"name one: kvm-snap {vm.name} list")
    return found[-1]
