"""A whole host in memory: zfs, libvirt, guests and their agents, and devices, as the steps see them.

Everything that changes it passes through `Troubles`, which lets a test have the n-th change fail, before or after its
effect, or do something at that moment.
"""

from __future__ import annotations

import asyncio
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from kldload_kvm.config import Config
from kldload_kvm.model.domain_devices import by_device, device_of
from kldload_kvm.model.domain_xml import facts
from kldload_kvm.model.errors import (
    Busy,
    GuestFailed,
    KvmError,
    LibvirtFailed,
    LibvirtUnavailable,
    NotFound,
    TimedOut,
    WrongState,
    ZfsFailed,
)
from kldload_kvm.model.inventory import Domain, Inventory, device
from kldload_kvm.model.source_disks import Kept
from kldload_kvm.model.usage import Usage, usage
from kldload_kvm.steps.host import Host
from memory_zfs import MemoryZfs
from world import CONFIG

T = TypeVar("T")
ZVOL = "/dev/zvol/"


class Troubles:
    """done: what was changed, in order. at: the number of the change that fails; when: before or after its effect;
    meanwhile(number): called as each begins; gates: changes with such words in them wait until the gate is opened."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.at, self.when = -1, "before"
        self.meanwhile: Callable[[int], None] = lambda number: None
        self.gates: dict[str, asyncio.Event] = {}

    async def change(self, what: str, effect: Callable[[], T]) -> T:
        number = len(self.done)
        self.done.append(what)
        self.meanwhile(number)
        await asyncio.sleep(0)
        for words, gate in self.gates.items():
            if words in what:
                await gate.wait()
        if number == self.at and self.when == "before":
            raise ZfsFailed(f"trouble before {what}")
        result = effect()
        if number == self.at and self.when == "after":
            raise TimedOut(f"trouble after {what}")
        return result


@dataclass
class Guest:
    """A domain, and the guest in it. agent: whether its agent answers; frozen, paused: how it is held.

    live: the XML of the running one; sizes: of its disks, in its own eyes, by target; plugs: whether it knows hot-plug.
    """

    uuid: str
    name: str
    xml: str
    state: str = "shutoff"
    autostart: bool = False
    agent: bool = False
    frozen: bool = False
    freezes: bool = True
    identities: list[str] = field(default_factory=list)
    live: str = ""
    sizes: dict[str, int] = field(default_factory=dict)
    plugs: bool = True
    kept: Kept = field(default_factory=Kept)


class MemoryVirt:
    """What virt/domains.py offers, of domains that are records. available: whether libvirt can be reached."""

    def __init__(self, zfs: MemoryZfs, troubles: Troubles) -> None:
        self.zfs, self.troubles = zfs, troubles
        self.guests: dict[str, Guest] = {}
        self._undefined: dict[str, Guest] = {}  # what is in a guest outlives its definition
        self.nets = {"default": True, "down": False}
        self.available = True
        self.figures: dict[str, dict[str, Any]] = {}  # what libvirt says that running domains use
        self.starting: set[str] = set()
        self.pools = MemoryPools(self)

    @property
    def connected(self) -> bool:
        return self.available

    async def domains(self) -> list[Domain]:
        await self._reach()
        return [self._record(each) for each in self.guests.values()]

    async def domain(self, uuid: str) -> Domain | None:
        await self._reach()
        return self._record(self.guests[uuid]) if uuid in self.guests else None

    async def domain_named(self, name: str) -> Domain | None:
        return next((each for each in await self.domains() if each.name == name), None)

    async def networks(self) -> dict[str, bool]:
        await self._reach()
        return dict(self.nets)

    async def start_network(self, name: str) -> None:
        await self._change(f"net-start {name}", lambda: self.nets.update({name: True}))

    async def define(self, xml: str) -> None:
        domain = ET.fromstring(xml)
        name, uuid = domain.findtext("name", ""), domain.findtext("uuid", "")

        def define() -> None:
            if any(each.name == name and each.uuid != uuid for each in self.guests.values()):
                raise LibvirtFailed("the domain was not defined", f"domain '{name}' already exists", "")
            before = self._undefined.get(uuid)
            self.guests[uuid] = replace(before, name=name, xml=xml) if before else Guest(uuid, name, xml)

        await self._change(f"define {name}", define)

    async def undefine(self, uuid: str) -> None:
        def undefine() -> None:
            self._undefined[uuid] = replace(self.guests.pop(uuid), autostart=False)

        await self._change(f"undefine {self._guest(uuid).name}", undefine)

    async def start(self, uuid: str) -> None:
        guest = self._guest(uuid)

        def start() -> None:
            if guest.state != "shutoff":
                return
            for path in facts(guest.xml).disks.values():
                volume = path.removeprefix(ZVOL)
                if volume not in self.zfs.sets or volume in self.zfs.unlinked:
                    raise LibvirtFailed("the VM was not started", f"cannot access storage '{path}'", "")
            self.put(guest, "running")

        await self._change(f"start {guest.name}", start)

    async def force_off(self, uuid: str) -> None:
        guest = self._guest(uuid)
        await self._change(f"destroy {guest.name}", lambda: self.put(guest, "shutoff"))

    async def reboot(self, uuid: str) -> None:
        await self._change(f"reboot {self._guest(uuid).name}", lambda: None)

    async def pause(self, uuid: str) -> None:
        guest = self._guest(uuid)
        await self._change(f"suspend {guest.name}", lambda: self.put(guest, "paused"))

    async def resume(self, uuid: str) -> None:
        guest = self._guest(uuid)

        def resume() -> None:
            if guest.state != "paused":
                raise WrongState("the VM was not resumed", "domain is already running", "")
            self.put(guest, "running")

        await self._change(f"resume {guest.name}", resume)

    async def set_autostart(self, uuid: str, on: bool) -> None:
        guest = self._guest(uuid)
        await self._change(f"autostart {guest.name} {on}", lambda: setattr(guest, "autostart", on))

    async def state(self, uuid: str) -> str:
        await self._reach()
        return self._guest(uuid).state

    async def kept_of(self, uuid: str) -> Kept:
        await self._reach()
        return self._guest(uuid).kept

    async def states(self) -> dict[str, str]:
        await self._reach()
        off = {True: "saved", False: "shutoff"}
        return {u: off[g.kept.saved] if g.state == "shutoff" else g.state for u, g in self.guests.items()}

    async def usage(self) -> dict[str, Usage]:
        await self._reach()
        return {uuid: usage(each) for uuid, each in self.figures.items() if self.guests[uuid].state != "shutoff"}

    async def shutdown(self, uuid: str, timeout: float) -> None:
        guest = self._guest(uuid)
        await self._change(f"shutdown {guest.name}", lambda: self.put(guest, "shutoff"))

    async def addresses(self, uuid: str) -> list[str]:
        await self._reach()
        return ["192.168.122.7/24"]

    async def live_xml(self, uuid: str) -> str:
        await self._reach()
        guest = self._guest(uuid)
        domain = ET.fromstring(guest.live or guest.xml)
        target = domain.find("devices/channel/target")
        if target is not None:
            target.set("state", "connected" if guest.agent else "disconnected")
        return ET.tostring(domain, encoding="unicode")

    # -- what virt/changes.py offers -----------------------------------------------------------------------------------

    async def attach(self, uuid: str, xml: str, where: str) -> None:
        guest = self._guest(uuid)
        path = facts(_with(EMPTY, xml)).disks

        def attach() -> None:
            now = facts((guest.live or EMPTY) if where == "live" else guest.xml).disks
            if taken := next((each for each in path if each in now), ""):
                raise LibvirtFailed("the device was not added", f"target {taken} already has a disk", "")
            if where == "config":
                guest.xml = _with(guest.xml, xml)
                return
            if not guest.live:
                raise WrongState("the device was not added", "domain is not running", "")
            guest.live = _with(guest.live, xml)
            if (module := ET.fromstring(xml)).tag == "memory":
                more = int(module.findtext("target/size", "0"))
                guest.live = _counted(guest.live, {"memory": more, "currentMemory": more})
            for target, each in path.items():
                self.zfs.open |= {each.removeprefix(ZVOL)}
                guest.sizes[target] = self.zfs.sets[each.removeprefix(ZVOL)].size

        await self._change(f"attach {where} {guest.name}", attach)

    async def detach(self, uuid: str, xml: str, where: str) -> None:
        guest = self._guest(uuid)
        path = facts(_with(EMPTY, xml)).disks

        def detach() -> None:
            if where == "config":
                guest.xml = _without(guest.xml, xml)
            elif guest.plugs:
                guest.live = _without(guest.live, xml)
                self.zfs.open -= {each.removeprefix(ZVOL) for each in path.values()}
                for target in path:
                    guest.sizes.pop(target, None)

        await self._change(f"detach {where} {guest.name}", detach)

    async def resize_disk(self, uuid: str, target: str, size: int) -> None:
        guest = self._guest(uuid)

        def resize() -> None:
            path = facts(guest.live).disks[target]
            if self.zfs.sets[path.removeprefix(ZVOL)].size < size:
                raise LibvirtFailed("the guest was not told", "Cannot grow device files", "")
            guest.sizes[target] = size

        await self._change(f"blockresize {guest.name} {target}", resize)

    async def disk_size(self, uuid: str, target: str) -> int:
        await self._reach()
        return self._guest(uuid).sizes[target]

    async def edit(self, uuid: str, change: Callable[[str], str]) -> None:
        guest = self._guest(uuid)
        await self._change(f"edit {guest.name}", lambda: setattr(guest, "xml", change(guest.xml)))

    async def rename(self, uuid: str, name: str) -> None:
        guest = self._guest(uuid)

        def rename() -> None:
            if any(each.name == name for each in self.guests.values()):
                raise LibvirtFailed("the domain was not renamed", f"domain with name '{name}' already exists", "")
            domain = ET.fromstring(guest.xml)
            element = domain.find("name")
            assert element is not None
            element.text = name
            guest.name, guest.xml = name, ET.tostring(domain, encoding="unicode")

        await self._change(f"rename {guest.name} {name}", rename)

    async def set_balloon(self, uuid: str, memory: int) -> None:
        guest = self._guest(uuid)

        def inflate() -> None:
            if guest.plugs:
                guest.live = with_current(guest.live, memory // 1024)

        await self._change(f"setmem {guest.name} {memory}", inflate)

    async def set_vcpus(self, uuid: str, count: int) -> None:
        guest = self._guest(uuid)

        def plug() -> None:
            domain = ET.fromstring(guest.live)
            vcpu = domain.find("vcpu")
            assert vcpu is not None
            if count < int(vcpu.get("current", "0")) and not guest.plugs:
                raise LibvirtFailed("the guest's CPUs were not changed", "vcpu unplug request timed out", "")
            vcpu.set("current", str(count))
            guest.live = ET.tostring(domain, encoding="unicode")

        await self._change(f"setvcpus {guest.name} {count}", plug)

    def put(self, guest: Guest, state: str) -> None:
        """Into another state, as if by another."""
        guest.state = state
        disks = facts(guest.live or guest.xml).disks
        if state == "shutoff":
            guest.frozen, guest.live, guest.sizes = False, "", {}
        elif not guest.live:
            guest.live = guest.xml
            found = {target: self.zfs.sets.get(path.removeprefix(ZVOL)) for target, path in disks.items()}
            guest.sizes = {target: each.size for target, each in found.items() if each}
        volumes = {path.removeprefix(ZVOL) for path in disks.values()}
        self.zfs.open = self.zfs.open - volumes if state == "shutoff" else self.zfs.open | volumes

    def _guest(self, uuid: str) -> Guest:
        if uuid not in self.guests:
            raise NotFound("the domain cannot be found", f"no domain with matching uuid '{uuid}'", "")
        return self.guests[uuid]

    def _record(self, guest: Guest) -> Domain:
        found = facts(guest.xml)
        return Domain(
            uuid=guest.uuid, name=guest.name, state=guest.state, xml=guest.xml, autostart=guest.autostart,
            memory=found.memory, vcpus=found.vcpus, os=found.os, disks=found.disks, cdroms=found.cdroms,
            networks=found.networks,
        )  # fmt: skip

    async def _reach(self) -> None:
        await asyncio.sleep(0)
        if not self.available:
            raise LibvirtUnavailable("libvirt was not asked", "it cannot be reached", "start it")

    async def _change(self, what: str, effect: Callable[[], Any]) -> None:
        await self._reach()
        await self.troubles.change(f"virsh {what}", effect)


class MemoryPools:
    """What virt/pools.py offers. known: whether each is active; paths: of those that were defined here."""

    def __init__(self, virt: MemoryVirt) -> None:
        self.virt = virt
        self.known: dict[str, bool] = {"default": True}
        self.paths: dict[str, str] = {}

    async def all(self) -> dict[str, bool]:
        await self.virt._reach()
        return dict(self.known)

    async def define(self, name: str, path: str) -> None:
        def define() -> None:
            self.known[name], self.paths[name] = False, path

        await self.virt._change(f"pool-define {name}", define)

    async def start(self, name: str) -> None:
        await self.virt._change(f"pool-start {name}", lambda: self.known.update({name: True}))

    async def undefine(self, name: str) -> None:
        await self.virt._change(f"pool-undefine {name}", lambda: self.known.pop(name))

    def by_device(self, xml: str) -> str:
        return by_device(xml, lambda name: self.paths.get(name, ""))


EMPTY = "<domain><devices/></domain>"


def _with(xml: str, element: str) -> str:
    """A domain's XML with one device more, after those of its kind."""
    domain, device = ET.fromstring(xml), ET.fromstring(element)
    devices = domain.find("devices")
    assert devices is not None
    places = [number for number, each in enumerate(devices) if each.tag == device.tag]
    devices.insert(places[-1] + 1 if places else len(devices), device)
    return ET.tostring(domain, encoding="unicode")


def with_current(xml: str, kib: int) -> str:
    """A domain's XML whose guest has so much memory now."""
    domain = ET.fromstring(xml)
    element = domain.find("currentMemory")
    element = ET.SubElement(domain, "currentMemory", unit="KiB") if element is None else element
    element.text = str(kib)
    return ET.tostring(domain, encoding="unicode")


def _counted(xml: str, more: dict[str, int]) -> str:
    domain = ET.fromstring(xml)
    for tag, kib in more.items():
        if (element := domain.find(tag)) is not None:
            element.text = str(int(element.text or 0) + kib)
    return ET.tostring(domain, encoding="unicode")


def _without(xml: str, element: str) -> str:
    """A domain's XML without a device, which is known by its target or address."""
    domain = ET.fromstring(xml)
    devices = domain.find("devices")
    assert devices is not None
    wanted = device_of(ET.fromstring(element).tag, element)
    for each in devices.findall(wanted.kind):
        if device_of(wanted.kind, ET.tostring(each, encoding="unicode")) == wanted:
            devices.remove(each)
    return ET.tostring(domain, encoding="unicode")


def _plain(xml: str) -> str:
    """Without the space between elements, and the devices in one order of their kinds, as libvirt has them."""
    if not xml:
        return ""
    domain = ET.fromstring(xml)
    domain[:] = sorted(domain, key=lambda each: each.tag)
    devices = domain.find("devices")
    if devices is not None:
        devices[:] = sorted(devices, key=lambda each: each.tag)
    return ET.canonicalize(ET.tostring(domain, encoding="unicode"), strip_text=True)


class MemoryAgent:
    """What virt/agent.py offers."""

    def __init__(self, virt: MemoryVirt) -> None:
        self.virt = virt

    async def answers(self, uuid: str) -> bool:
        await asyncio.sleep(0)
        return self.virt.guests[uuid].agent

    async def freeze(self, uuid: str) -> int:
        try:
            return await self.begin_freeze(uuid, 30)
        except BaseException:
            self._there(uuid).frozen = False  # "on any failure the guest is thawed before it raises"
            raise

    async def begin_freeze(self, uuid: str, timeout: int) -> int:
        guest = self._there(uuid)
        if not guest.freezes:
            raise GuestFailed("the guest was not frozen", "a file system does not answer", "")
        await self.virt.troubles.change(f"freeze {guest.name}", lambda: setattr(guest, "frozen", True))
        return 1

    async def frozen(self, uuid: str) -> bool:
        return self._there(uuid).frozen

    async def thaw(self, uuid: str) -> int:
        if self.virt.guests[uuid].state == "shutoff":
            return 0  # "is not frozen either"
        guest = self._there(uuid)
        with suppress(KvmError):  # "tries for a minute"
            await self.virt.troubles.change(f"thaw {guest.name}", lambda: setattr(guest, "frozen", False))
            return 1
        await self.virt.troubles.change(f"thaw {guest.name}", lambda: setattr(guest, "frozen", False))
        return 1

    async def thaw_quietly(self, uuid: str) -> None:
        try:
            await self.thaw(uuid)
        except KvmError:
            return

    async def renew_identity(self, uuid: str, hostname: str) -> str:
        guest = self._there(uuid)
        await self.virt.troubles.change(f"renew {guest.name}", lambda: guest.identities.append(hostname))
        return "hostname machine-id"

    async def generalize(self, uuid: str) -> str:
        guest = self._there(uuid)
        await self.virt.troubles.change(f"generalize {guest.name}", lambda: guest.identities.append("none"))
        return "cloud-init machine-id"

    def _there(self, uuid: str) -> Guest:
        guest = self.virt.guests.get(uuid)
        if guest is None or not guest.agent or guest.state == "shutoff":
            raise GuestFailed("the agent was not asked", "it does not answer", "")
        return guest


class MemoryDevices:
    """What zfs/devices.py offers, of volumes whose contents are byte strings."""

    def __init__(self, zfs: MemoryZfs, troubles: Troubles) -> None:
        self.zfs, self.troubles = zfs, troubles

    async def wait(self, dataset: str, timeout: float = 60.0) -> str:
        await asyncio.sleep(0)
        if dataset not in self.zfs.sets:
            raise TimedOut(f"the device of volume {dataset} did not appear")
        self.zfs.unlinked.discard(dataset)
        return device(dataset)

    async def write(self, dataset: str, contents: bytes) -> None:
        await self.wait(dataset)
        await self.troubles.change(
            f"write {dataset}", lambda: setattr(self.zfs.sets[dataset], "contents", contents)
        )  # fmt: skip

    async def read(self, dataset: str, most: int) -> bytes:
        await self.wait(dataset)
        return self.zfs.sets[dataset].contents[:most]

    async def open(self, dataset: str) -> int:
        await self.wait(dataset)
        found = self.zfs.sets[dataset]
        fd = os.memfd_create(dataset)
        await self.troubles.change(f"open {dataset}", lambda: os.pwrite(fd, found.contents, 0))
        os.ftruncate(fd, found.size)
        return fd

    async def kernel_name(self, dataset: str) -> str:
        await self.wait(dataset)
        return "zd16"

    async def check_closed(self, *datasets: str) -> None:
        for dataset in await self.held(datasets):
            raise Busy(f"the volume {dataset} is in use", "its device is held by qemu", "end it")

    async def held(self, datasets: Iterable[str]) -> dict[str, list[str]]:
        await asyncio.sleep(0)
        return {each: ["qemu"] for each in datasets if each in self.zfs.open}

    async def writers(self, datasets: Iterable[str]) -> dict[str, list[str]]:
        await asyncio.sleep(0)
        return {each: ["qemu"] for each in datasets if each in self.zfs.open}


class MemoryHost(Host):
    """The host as the service holds it: `virt`, `zfs` and the others in memory, and the inventory that is read of them.

    `known` reads everything into the inventory again.
    """

    def __init__(self, config: Config = CONFIG) -> None:
        self.troubles = Troubles()
        zfs = MemoryZfs("rpool", "vmpool")
        virt = MemoryVirt(zfs, self.troubles)
        super().__init__(
            config, Inventory(config.parents), zfs, MemoryDevices(zfs, self.troubles), virt, MemoryAgent(virt),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
        )  # fmt: skip
        zfs.through = self.troubles.change
        self.memory_zfs, self.memory_virt = zfs, virt

    async def prepare(self) -> None:
        for parent in self.config.parents.values():
            await self.zfs.create_container(parent, {})
            await self.zfs.create_container(f"{parent}/.trash/.spare", {})
        await self.zfs.create_container("rpool/vms/isos", {"mountpoint": "/isos"})
        await self.known()

    async def known(self) -> None:
        from kldload_kvm.zfs import listing

        self.inventory.replace_zfs(*await listing.everything(self.zfs, list(self.config.parents.values())))
        self.inventory.replace_domains(await self.virt.domains())

    def guest(self, name: str) -> Guest:
        return next(each for each in self.memory_virt.guests.values() if each.name == name)

    def picture(self) -> dict[str, Any]:
        """All there is: datasets with their contents, domains, networks. The empty trash does not count."""
        found: dict[str, Any] = dict(self.memory_zfs.picture())
        for spare in [name for name in found if name.endswith("/.trash/.spare")]:
            del found[spare]
        for trash in [name for name in found if name.endswith("/.trash")]:
            if not any(name.startswith(f"{trash}/") for name in found):
                del found[trash]
        for each in self.memory_virt.guests.values():
            copy = replace(each, identities=list(each.identities), sizes=dict(each.sizes))
            copy.xml, copy.live = _plain(each.xml), _plain(each.live)
            found[f"domain {each.name}"] = copy
        found["pools"] = dict(self.memory_virt.pools.known)
        return found
