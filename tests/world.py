"""Hosts as data, for tests of what is decided from them: volumes, snapshots and domains, by a few words each.

A VM named web has the id id-of("web") and the libvirt UUID uuid_of("web"), so that tests can write them down.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from kldload_kvm.config import Config, StorageConfig
from kldload_kvm.images.store import Image
from kldload_kvm.model import domain_xml, properties
from kldload_kvm.model.firmware import FirmwarePair
from kldload_kvm.model.inventory import SPARE, TRASH, Dataset, Domain, Inventory, Snapshot, Vm, device
from kldload_kvm.model.os_index import Os
from kldload_kvm.model.sizes import GIB, KIB, MIB
from kldload_kvm.ops.request import Facts, View

NOW = datetime(2026, 4, 1, 15, 30, 22, tzinfo=UTC)
CONFIG = Config(storages=(StorageConfig("rpool", "rpool/vms", True), StorageConfig("fast", "vmpool/vms")))
DEBIAN = Image("debian.qcow2", "qcow2", 200 * MIB, 3 * GIB, "/isos/debian.qcow2")
NETINST = Image("netinst.iso", "iso", 700 * MIB, 700 * MIB, "/isos/netinst.iso")
FACTS = Facts(
    libvirt=True,
    networks={"default": True, "down": False},
    bridges=frozenset({"br0"}),
    kvm=True,
    firmware=FirmwarePair("/fw/code.fd", "/fw/vars.fd"),
    os_index={"debian13": Os("http://debian.org/debian/13", "Debian 13")},
    images={"rpool": (DEBIAN, NETINST)},
)


def id_of(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"vm.{name}"))


def uuid_of(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"domain.{name}"))


def guid_of(name: str) -> str:
    """What stands for the guid that ZFS would give: the same name has the same one, as long as nobody replaces it."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"zfs.{name}").int >> 64)


def filesystem(name: str, mountpoint: str = "none", **more: Any) -> Dataset:
    return Dataset(name, guid_of(name), 1, "filesystem", mountpoint=mountpoint, **more)


def volume(name: str, role: str = "disk", target: str = "", size: int = 20 * GIB, vm: str = "", **more: Any) -> Dataset:
    """A volume of `vm`, by default of the one whose first disk has this name."""
    vm = vm or name.rpartition("/")[2].partition(".")[0]
    ours = {properties.VM: id_of(vm), properties.UUID: uuid_of(vm), properties.ROLE: role, properties.TARGET: target}
    return Dataset(
        name, guid_of(name), 10, "volume", size=size, used=MIB, volblocksize=64 * KIB, compression="lz4",
        properties={key: value for key, value in ours.items() if value}, **more,
    )  # fmt: skip


def volumes_of(vm: str, parent: str = "rpool/vms", seed: bool = False, disks: int = 1) -> list[Dataset]:
    found = [volume(f"{parent}/{vm}", "disk", "vda", vm=vm)]
    found += [volume(f"{parent}/{vm}.vd{'bcde'[n]}", "disk", f"vd{'bcde'[n]}", vm=vm) for n in range(disks - 1)]
    found.append(volume(f"{parent}/{vm}.nvram", "nvram", size=528 * KIB, vm=vm))
    if seed:
        found.append(volume(f"{parent}/{vm}.seed", "seed", "vdz", size=MIB, vm=vm))
    return found


def spec(vm: str = "web", parent: str = "rpool/vms", **more: Any) -> domain_xml.Spec:
    given = dict(
        name=vm, uuid=uuid_of(vm), memory=2 * GIB, vcpus=2, disks={"vda": f"{parent}/{vm}"},
        nvram=f"{parent}/{vm}.nvram", mac="52:54:00:00:00:01", firmware_code="/fw/code.fd", firmware_vars="/fw/vars.fd",
        accelerator="kvm",
        network=("network", "default"),
    )  # fmt: skip
    return domain_xml.Spec(**{**given, **more})  # type: ignore[arg-type]


def asking(xml: str, *volumes: str) -> str:
    """A domain's XML with metadata that asks for these volumes, each the attributes of its element."""
    inside = "".join(f"<k:volume {each}/>" for each in volumes)
    ours = f'<metadata><k:volumes xmlns:k="https://kldload.org/xmlns/kvm/1.0">{inside}</k:volumes></metadata>'
    return xml.replace("</name>", f"</name>{ours}", 1)


def domain(vm: str, state: str = "shutoff", xml: str = "", name: str = "", **more: Any) -> Domain:
    """The domain of a VM, with the facts of its XML, as virt/ would read it."""
    xml = xml or domain_xml.build(spec(vm))
    facts = domain_xml.facts(xml)
    found = Domain(
        uuid=uuid_of(vm), name=name or vm, state=state, xml=xml, memory=facts.memory, vcpus=facts.vcpus, os=facts.os,
        disks=facts.disks, cdroms=facts.cdroms, networks=facts.networks,
    )  # fmt: skip
    return replace(found, **more)


def snapshot(dataset: str, name: str, txg: int, kind: str = "manual", consistency: str = "off") -> Snapshot:
    return Snapshot(dataset, name, guid_of(f"{dataset}@{name}"), txg, 1_775_000_000 + txg, kind, consistency)


class World:
    """A host under construction: `inventory` is what the service knows of it."""

    def __init__(self, config: Config = CONFIG) -> None:
        self.config = config
        self.inventory = Inventory(config.parents)
        for parent in config.parents.values():
            self.inventory.put_dataset(filesystem(parent, used=20 * GIB, available=80 * GIB))
            self.inventory.put_dataset(filesystem(f"{parent}/{TRASH}"))
            self.inventory.put_dataset(filesystem(f"{parent}/{TRASH}/{SPARE}"))
        self.inventory.put_dataset(filesystem("rpool/vms/isos", "/isos", used=GIB, available=80 * GIB))
        self.facts = FACTS
        self.txg = 100

    def vm(self, name: str, state: str = "shutoff", parent: str = "rpool/vms", **shape: Any) -> Vm:
        """A VM with its volumes and, unless its state is orphan, its domain."""
        seed = shape.get("seed", False)
        volumes = volumes_of(name, parent, **shape)
        for each in volumes:
            self.inventory.put_dataset(each)
        if state != "orphan":
            disks = {
                v.properties[properties.TARGET]: v.name for v in volumes if v.properties[properties.ROLE] == "disk"
            }
            xml = domain_xml.build(spec(name, parent, disks=disks, seed=f"{parent}/{name}.seed" if seed else ""))
            self.inventory.put_domain(domain(name, state, xml))
        return self.get(name)

    def snap(
        self, vm: str, name: str, kind: str = "manual", only: tuple[str, ...] = (), consistency: str = "off"
    ) -> None:
        """A snapshot of all its volumes, or `only` of those with these endings ("" is the first disk)."""
        self.txg += 1
        for each in self.get(vm).volumes:
            if not only or each.name.rpartition("/")[2].removeprefix(vm) in only:
                self.inventory.put_snapshot(snapshot(each.name, name, self.txg, kind, consistency))

    def clone(self, vm: str, snapshot_name: str, name: str, parent: str = "rpool/vms") -> None:
        """A VM whose volumes are clones."""
        for origin, each in zip(self.get(vm).volumes, volumes_of(name, parent), strict=True):
            self.inventory.put_dataset(replace(each, origin=f"{origin.name}@{snapshot_name}"))
        self.inventory.put_domain(domain(name))

    def get(self, name: str) -> Vm:
        found = self.inventory.find(name)
        assert found is not None, name
        return found

    def view(self, **facts: Any) -> View:
        """What an operation plans from; the same each time it is asked for."""
        return View(self.inventory, self.config, replace(self.facts, **facts), NOW, 1000, random.Random(7))


def definition_of(host: World, name: str) -> str:
    """What tells a VM's definition from another."""
    found = host.get(name).domain
    assert found
    return domain_xml.digest(found.xml)


def device_of(name: str) -> str:
    return device(f"rpool/vms/{name}")
