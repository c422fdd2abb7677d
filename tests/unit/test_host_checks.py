"""What is found of a host: nothing of one that is well, and each fault by its id, whose it is, and with its figures."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from host_world import (
    BLOCK,
    DIRECTORY,
    DISK,
    FILE,
    GIB,
    NOW,
    WELL,
    found,
    guest,
    ids,
    with_guest,
    with_pool,
    with_store,
    with_system,
)
from kldload_kvm.host import sources
from kldload_kvm.model import errors
from kldload_kvm.model.catalogue import everything, findings
from kldload_kvm.model.domain_wants import Graphics
from kldload_kvm.model.finding import by_severity
from kldload_kvm.model.host_facts import HostFacts, Libvirt, Network, Node, Store
from kldload_kvm.model.inventory import Vm
from world import volume

CHECKS = sorted((Path(__file__).resolve().parents[2] / "service" / "kldload_kvm" / "host").rglob("*.py"))
DAY = 86400
CACHED = (replace(DISK, cache="writeback"),)
CD = replace(DISK, target="sda", device="cdrom", kind="file", source="/isos/a.iso", bus="sata")
CLOSED = Node("file", 0o644, 0, 0, closed="/root")
SANOID = "[rpool/vms]\n use_template = x\n recursive = yes\n"
SWAP = {sources.SWAPS: "Filename Type Size Used Priority\n/dev/{} partition 1 0 -2\n"}
HUGE = "MemTotal: 16777216 kB\nHugePages_Total: {0}\nHugePages_Free: {0}\nHugepagesize: 2048 kB\n"
NO_LIBVIRT = replace(WELL, libvirt=None, libvirt_fault="gone")
DENIAL = 'apparmor="DENIED" operation="open" profile="libvirt-{}" name="/srv/a.iso" requested_mask="r"'
EXTRA = Store("rpool/vms/extra", "volume", {"volmode": "dev", "sync": "standard"})

FAULTS: list[tuple[str, str, HostFacts]] = [
    ("zfs-missing", "zfs", replace(WELL, zfs_fault="not loaded", pools=(), stores={})),
    ("zfs-old", "zfs", replace(WELL, zfs_version=(0, 8, 6))),
    ("pool-suspended", "rpool", with_pool(health="SUSPENDED")),
    ("pool-degraded", "rpool", with_pool(health="DEGRADED", status="One device is gone.")),
    ("pool-read-only", "rpool", with_pool(read_only=True)),
    ("pool-errors", "rpool", with_pool(errors=("rpool/vms/web@x:<0x1>",))),
    ("pool-full", "rpool", with_pool(capacity=86)),
    ("pool-fragmented", "rpool", with_pool(fragmentation=80)),
    ("pool-ashift", "rpool", with_pool(ashift=9)),
    ("pool-autotrim", "rpool", with_pool(autotrim=False, trims=True)),
    ("scrub-old", "rpool", with_pool(scrubbed=NOW - 50 * DAY, created=0)),
    ("scrub-old", "rpool", with_pool(created=NOW - 50 * DAY)),
    ("scrub-unscheduled", "rpool", with_system(nodes={sources.SCRUB_CRON: None})),
    ("dataset-setting", "rpool/vms", with_store("rpool/vms", primarycache="all")),
    ("dataset-setting", "rpool/vms", with_store("rpool/vms", volmode="default")),
    ("isos-missing", "rpool/vms/isos", replace(WELL, stores={k: v for k, v in WELL.stores.items() if "isos" not in k})),
    ("isos-unmounted", "rpool/vms/isos",
     with_system({sources.MOUNTS: "rpool/vms /var/lib/libvirt/images zfs rw 0 0\n"})),
    ("images-closed", "/var/lib/libvirt/isos",
     with_system(nodes={"/var/lib/libvirt/isos": replace(DIRECTORY, mode=0o700)})),
    ("sync-disabled", "rpool/vms/web", with_store("rpool/vms/web", sync="disabled")),
    ("volume-exposed", "rpool/vms/web", with_store("rpool/vms/web", volmode="full")),
    ("key-missing", "rpool/vms/web", with_store("rpool/vms/web", keystatus="unavailable")),
    ("foreign-volume", "rpool/vms/extra", replace(WELL, stores={**WELL.stores, EXTRA.name: EXTRA})),
    ("host-unseen", "kldload-kvm-facts.service", replace(WELL, system_fault="no answer")),
    ("host-unseen", "datasets", replace(WELL, stores_fault="no answer", stores={})),
    ("host-unseen", "pools", replace(WELL, pools_fault="no answer")),
    ("arc-unlimited", "zfs_arc_max", with_system({sources.ARCSTATS: f"c_max 4 {15 * GIB}\n"})),
    ("arc-forgotten", "zfs_arc_max", with_system({"/etc/modprobe.d/a.conf": "options zfs zfs_arc_max=4294967296\n"})),
    ("memory-promised", "zfs_arc_max", with_guest(memory=12 * GIB, autostart=True)),
    ("swappiness", "vm.swappiness", with_system({sources.SWAPS: SWAP[sources.SWAPS].format("vda2")})),
    ("swap-on-zvol", "/dev/zd16",
     with_system({sources.SWAPS: SWAP[sources.SWAPS].format("zd16"), sources.SWAPPINESS: "1\n"})),
    ("zfs-option-useless", "/etc/modprobe.d/z.conf",
     with_system({"/etc/modprobe.d/z.conf": "options zfs zfs_vdev_scheduler=none"})),
    ("txg-timeout", "zfs_txg_timeout", with_system({sources.TXG_TIMEOUT: "10\n"})),
    ("kvm-missing", "/dev/kvm", with_guest(replace(WELL, kvm=False), accelerator="qemu")),
    ("huge-pages-missing", "web", with_guest(huge=True)),
    ("huge-pages-unused", "vm.nr_hugepages", with_system({sources.MEMINFO: HUGE.format(8)})),
    ("iommu-off", "web", with_guest(with_system(names={"bridges": (), "iommu": ()}), devices=1)),
    ("nested-off", "web", with_guest(with_system({sources.NESTED[0]: "N\n"}), nested=True)),
    ("libvirt-unreachable", "libvirt", NO_LIBVIRT),
    ("libvirt-old", "libvirt", replace(WELL, libvirt=replace(WELL.libvirt or Libvirt(), version=(8, 0, 0)))),
    ("firmware-missing", "OVMF", replace(WELL, firmware=None)),
    ("network-none", "br7", replace(WELL, settings=replace(WELL.settings, network="bridge=br7"))),
    ("network-inactive", "default", replace(WELL, libvirt=Libvirt((11,), ("apparmor",), (Network("default", False),)))),
    ("network-manual", "default",
     replace(WELL, libvirt=Libvirt((11,), ("apparmor",), (Network("default", True, False),)))),
    ("bridge-down", "br0",
     with_guest(with_system({"/sys/class/net/br0/flags": "0x1002\n"}), networks=(("bridge", "br0"),))),
    ("forwarding-off", "net.ipv4.ip_forward", with_system({sources.IP_FORWARD: "0\n"})),
    ("bridge-filtered", "net.bridge.bridge-nf-call-iptables",
     with_guest(with_system({sources.BRIDGE_FILTER: "1\n"}), networks=(("bridge", "br0"),))),
    ("guests-unconfined", sources.QEMU_CONF,
     replace(WELL, libvirt=replace(WELL.libvirt or Libvirt(), security=("dac",)))),
    ("guests-as-root", sources.QEMU_CONF, with_system(qemu={"user": "root"})),
    ("denied", "web", with_system(denials=(DENIAL.format(guest().domain.uuid),))),
    ("guests-probed", sources.UDEV_OVERRIDE, with_system(nodes={sources.UDEV_OVERRIDE: FILE})),
    ("multipath-probes", sources.MULTIPATH, replace(WELL, units={**WELL.units, "multipathd.service": True})),
    ("sanoid-beside", "rpool/vms",
     replace(with_system({sources.SANOID: SANOID}), units={**WELL.units, "sanoid.timer": True})),
    ("auto-snapshot-beside", "rpool/vms", with_system(nodes={sources.AUTO_SNAPSHOTS[0]: FILE})),
    ("snapshots-off", "kldload-kvm-snapshot.timer",
     replace(WELL, units={**WELL.units, "kldload-kvm-snapshot.timer": False})),
    ("trash-off", "kldload-kvm-trash.timer", replace(WELL, units={**WELL.units, "kldload-kvm-trash.timer": False})),
    ("time-unset", "clock", replace(WELL, units={**WELL.units, "chrony.service": False})),
    ("hook-missing", sources.HOOK, with_system(nodes={sources.HOOK: None})),
    ("hook-unheard", sources.HOOK, replace(WELL, unheard=("web",))),
    ("libvirt-tcp", "libvirtd-tcp.socket", replace(WELL, units={**WELL.units, "libvirtd-tcp.socket": True})),
    ("screens-open", "/etc/kldload-kvm/kvm.conf", replace(WELL, settings=replace(WELL.settings, vnc_listen="0.0.0.0"))),
    ("guest-cache", "web", with_guest(disks=CACHED)),
    ("guest-discard", "web", with_guest(disks=(replace(DISK, discard=""),))),
    ("guest-bus", "web", with_guest(disks=(replace(DISK, bus="sata"),))),
    ("guest-qcow2", "web", with_guest(with_system(nodes={"/var/lib/libvirt/images/a": FILE}),
                                      disks=(replace(DISK, source="/var/lib/libvirt/images/a", format="qcow2"),))),
    ("guest-screen-open", "web", with_guest(graphics=(Graphics("vnc", ("127.0.0.1", "0.0.0.0")),))),
    ("guest-volume-missing", "web", with_guest(disks=(replace(DISK, source="/dev/zvol/rpool/vms/gone"),))),
    ("guest-node-missing", "web", with_system(nodes={"/dev/zvol/rpool/vms/web": None})),
    ("guest-file-missing", "web", with_guest(with_system(nodes={"/isos/a.iso": None}), disks=(DISK, CD))),
    ("guest-file-closed", "web", with_guest(with_system(nodes={"/isos/a.iso": CLOSED}), disks=(DISK, CD))),
    ("guest-firmware-missing", "web", with_guest(with_system(nodes={"/fw/other": None}), loader="/fw/other")),
    ("guest-nvram-missing", "web", with_guest(with_system(nodes={"/v": None, "/t": None}), nvram="/v", template="/t")),
    ("guest-network-missing", "web", with_guest(networks=(("bridge", "br9"),))),
    ("guest-network-missing", "web", with_guest(networks=(("network", "gone"),))),
    ("guest-memory", "web", with_guest(memory=32 * GIB)),
    ("guest-kvm-missing", "web", replace(WELL, kvm=False, settings=replace(WELL.settings, accelerator="qemu"))),
]  # fmt: skip


def test_of_a_host_that_is_well_nothing_is_found() -> None:
    assert found(WELL) == []


@pytest.mark.parametrize(("id_", "object_", "facts"), FAULTS, ids=[f"{n}-{row[0]}" for n, row in enumerate(FAULTS)])
def test_each_fault_is_found_alone(id_: str, object_: str, facts: HostFacts) -> None:
    assert [(each.id, each.object) for each in found(facts)] == [(id_, object_)]
    assert found(facts)[0].found


def test_that_the_bridge_for_new_vms_is_not_there_is_told_without_libvirt() -> None:
    facts = replace(WELL, libvirt=None, settings=replace(WELL.settings, network="bridge=br7"))
    assert {each.id for each in found(facts)} == {"libvirt-unreachable", "network-none"}


def test_that_qemu_may_not_look_whether_a_disk_is_zoned_is_no_finding() -> None:
    line = DENIAL.format(guest().domain.uuid).replace("/srv/a.iso", "/sys/devices/virtual/block/zd80/queue/zoned")
    assert found(with_system(denials=(line,))) == []


def test_lvm_is_only_found_where_it_could_see_a_volume() -> None:
    there = with_system(nodes={sources.LVM_PROGRAM: FILE})
    assert ids(there) == []
    exposed = replace(there, stores=with_store("rpool/vms/web", volmode="full").stores)
    assert ids(exposed) == ["lvm-probes", "volume-exposed"]
    for file in (sources.LVM, sources.LVM_LOCAL):
        filtered = {**there.system.files, file: 'global_filter = [ "r|^/dev/zd|" ]'}
        assert ids(replace(exposed, system=replace(there.system, files=filtered))) == ["volume-exposed"]
        commented = {**there.system.files, file: '# global_filter = [ "r|^/dev/zd|" ]'}
        assert "lvm-probes" in ids(replace(exposed, system=replace(there.system, files=commented)))


def test_a_pool_that_is_gone_is_no_dataset_that_is_missing() -> None:
    gone = replace(WELL, pools=(), stores={}, guests=(), volumes={})
    assert ids(gone) == ["pool-missing"]
    empty = replace(WELL, stores={}, guests=(), volumes={})
    assert [(each.id, each.object) for each in found(empty)] == [("storage-missing", "rpool/vms")]


def test_an_orphan_is_told_and_not_called_foreign() -> None:
    vm = Vm("id", "web", "rpool", (volume("rpool/vms/web"),), None)
    assert ids(replace(WELL, orphans=(vm,), guests=())) == ["guest-orphan"]


def test_damage_is_told_with_the_vms_that_it_hits() -> None:
    (told,) = found(with_pool(errors=("rpool/vms/web:<0x1>", "<metadata>:<0x3d>", "/rpool/file")))
    assert "3 damaged" in told.found
    assert told.found.endswith("VMs that are hit: web")


def test_static_owners_hurt_only_a_guest_whose_disk_is_not_qemu_s() -> None:
    static = {"dynamic_ownership": "0"}
    assert ids(with_system(qemu=static)) == ["guest-file-owned", "ownership-static"]
    owned = {path: replace(BLOCK, uid=64055) for path in ("/dev/zvol/rpool/vms/web",)}
    assert ids(with_system(nodes=owned, qemu=static)) == ["ownership-static"]


def test_unsafe_caching_is_an_error_and_writeback_a_notice() -> None:
    assert [e.severity for e in found(with_guest(disks=CACHED))] == ["notice"]
    assert [e.severity for e in found(with_guest(disks=(replace(DISK, cache="unsafe"),)))] == ["error"]


def test_a_limit_that_was_chosen_is_not_unlimited() -> None:
    chosen = {sources.ARCSTATS: f"c_max 4 {15 * GIB}\n", sources.ARC_MAX: f"{15 * GIB}\n"}
    assert ids(with_system(chosen)) == []


def test_the_worst_comes_first() -> None:
    both = replace(with_pool(capacity=97, fragmentation=80, ashift=9), firmware=WELL.firmware)
    assert [each.severity for each in by_severity(found(both))] == ["error", "warning", "notice"]


def test_every_finding_has_its_text_and_every_text_its_finding() -> None:
    text = "".join(path.read_text("utf-8") for path in CHECKS)
    yielded = set(re.findall(r'Finding\(\s*"([a-z0-9-]+)"', text)) | {"snapshots-off", "trash-off"}
    assert yielded <= findings().keys()
    assert findings().keys() == yielded


def test_every_error_has_its_text() -> None:
    kinds = {each.__name__ for each in errors.KvmError.__subclasses__() if each.__module__ == errors.__name__}
    assert kinds <= everything().keys()
