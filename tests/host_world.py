"""Hosts as data, for tests of what is found of them: a host that is well, and what is changed of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kldload_kvm.host import sources
from kldload_kvm.host.checks import judge
from kldload_kvm.model.domain_wants import Disk, Wants
from kldload_kvm.model.finding import Finding
from kldload_kvm.model.firmware import FirmwarePair
from kldload_kvm.model.host_facts import Guest, HostFacts, Libvirt, Network, Node, Pool, Settings, Store, System
from kldload_kvm.model.inventory import Domain
from kldload_kvm.model.sizes import GIB, MIB
from world import id_of

NOW = 1_775_057_422
FILE, DIRECTORY, BLOCK = Node("file", 0o755, 0, 0), Node("dir", 0o755, 0, 0), Node("block", 0o660, 0, 6)
CODE, VARS, QEMU = "/fw/code.fd", "/fw/vars.fd", "/usr/bin/qemu-system-x86_64"
PARENT = {"mountpoint": "/var/lib/libvirt/images", "primarycache": "metadata", "volmode": "dev"}
ISOS = {"mountpoint": "/var/lib/libvirt/isos", "volmode": "dev"}
VOLUME = {"volmode": "dev", "sync": "standard"}
MEMINFO = "MemTotal: {} kB\nHugePages_Total: {}\nHugePages_Free: {}\nHugepagesize: 2048 kB\n"
FILES = {
    sources.MEMINFO: MEMINFO.format(16 << 20, 0, 0),
    sources.ARCSTATS: f"c_max 4 {8 * GIB}\n",
    sources.ARC_MAX: "0\n",
    sources.TXG_TIMEOUT: "5\n",
    sources.SWAPS: "Filename Type Size Used Priority\n",
    sources.SWAPPINESS: "60\n",
    sources.IP_FORWARD: "1\n",
    sources.MOUNTS: "rpool/vms /var/lib/libvirt/images zfs rw 0 0\nrpool/vms/isos /var/lib/libvirt/isos zfs rw 0 0\n",
    "/sys/class/net/br0/flags": "0x1003\n",
}
NODES = {
    sources.HOOK: FILE, sources.UDEV_RULE: FILE, sources.KVM: Node("char", 0o660, 0, 106), sources.SCRUB_CRON: FILE,
    "/var/lib/libvirt/images": DIRECTORY, "/var/lib/libvirt/isos": DIRECTORY, CODE: FILE, VARS: FILE, QEMU: FILE,
    "/dev/zvol/rpool/vms/web": BLOCK, "/dev/zvol/rpool/vms/web.nvram": BLOCK,
}  # fmt: skip
DISK = Disk("vda", "disk", "block", "/dev/zvol/rpool/vms/web", "raw", "none", "unmap", "virtio")
WEB = Wants("kvm", QEMU, CODE, "/dev/zvol/rpool/vms/web.nvram", memory=2 * GIB, disks=(DISK,),
            networks=(("network", "default"),))  # fmt: skip
UNITS = {"kldload-kvm-snapshot.timer": True, "kldload-kvm-trash.timer": True, "chrony.service": True}


def stores() -> dict[str, Store]:
    return {
        "rpool/vms": Store("rpool/vms", "filesystem", PARENT),
        "rpool/vms/isos": Store("rpool/vms/isos", "filesystem", ISOS),
        "rpool/vms/web": Store("rpool/vms/web", "volume", VOLUME),
        "rpool/vms/web.nvram": Store("rpool/vms/web.nvram", "volume", VOLUME),
    }


def guest(name: str = "web", state: str = "shutoff", autostart: bool = False, **changed: Any) -> Guest:
    """A domain named web on the volumes of a VM, or one that differs from it."""
    domain = Domain(id_of(name), name, state, "<domain/>", autostart=autostart)
    return Guest(domain, replace(WEB, **changed))


WELL = HostFacts(
    now=NOW,
    settings=Settings({"rpool": "rpool/vms"}),
    zfs_version=(2, 3, 9),
    pools=(Pool("rpool", size=100 * GIB, free=60 * GIB, capacity=40, created=NOW - 9 * 86400),),
    stores=stores(),
    libvirt=Libvirt((11, 3, 0), ("apparmor", "dac"), (Network("default", True),)),
    system=System(files=FILES, nodes=NODES, names={"bridges": ("br0",), "iommu": ("0",)},
                  users={"libvirt-qemu": (64055, 106), "kvm": (-1, 106)}),
    units=UNITS,
    guests=(guest(),),
    volumes={"rpool/vms/web": "web", "rpool/vms/web.nvram": "web"},
    firmware=FirmwarePair(CODE, VARS),
    kvm=True,
)  # fmt: skip


def with_pool(**changed: Any) -> HostFacts:
    return replace(WELL, pools=(replace(WELL.pools[0], **changed),))


def with_system(
    files: dict[str, str] | None = None, nodes: dict[str, Node | None] | None = None, **more: Any
) -> HostFacts:
    system = replace(WELL.system, files=FILES | (files or {}), nodes=NODES | (nodes or {}), **more)
    return replace(WELL, system=system)


def with_store(name: str, **values: str) -> HostFacts:
    before = WELL.stores[name]
    return replace(WELL, stores={**WELL.stores, name: Store(name, before.kind, {**before.values, **values})})


def with_guest(facts: HostFacts = WELL, **changed: Any) -> HostFacts:
    return replace(facts, guests=(guest(**changed),))


def found(facts: HostFacts) -> list[Finding]:
    return judge(facts)


def ids(facts: HostFacts) -> list[str]:
    return [each.id for each in judge(facts)]


__all__ = ["BLOCK", "DIRECTORY", "DISK", "FILE", "GIB", "MIB", "NOW", "WELL", "found", "guest", "ids", "with_guest",
           "with_pool", "with_store", "with_system"]  # fmt: skip
