"""Why a VM does not start, of hosts as data: the cause is named, and what is another's is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from host_world import BLOCK, DISK, FILE, GIB, WELL, found, guest, with_guest, with_pool, with_store, with_system
from kldload_kvm.host import sources
from kldload_kvm.host.why import last_of_log, why
from kldload_kvm.model import properties
from kldload_kvm.model.domain_wants import Graphics
from kldload_kvm.model.host_facts import HostFacts, Libvirt, Network, Node
from kldload_kvm.model.inventory import Vm
from world import volume

CD = replace(DISK, target="sda", device="cdrom", kind="file", source="/isos/a.iso", bus="sata")
DENIAL = 'apparmor="DENIED" operation="open" profile="libvirt-{}" name="/srv/a.iso" requested_mask="r"'
UUID = guest().domain.uuid
NO_MEMORY = "MemTotal: 16777216 kB\nMemAvailable: 524288 kB\n"


def vm_of(facts: HostFacts, template: bool = False) -> Vm:
    """The VM web as an inventory would have it."""
    first = volume("rpool/vms/web", target="vda")
    if template:
        first = replace(first, properties={**first.properties, properties.TEMPLATE: "yes"})
    domain = facts.guests[0].domain if facts.guests else None
    return Vm("id", "web", "rpool", (first,), domain)


def causes(facts: HostFacts, template: bool = False, **more: Any) -> list[str]:
    vm = vm_of(facts, template)
    facts = replace(facts, guests=tuple(replace(g, vm=vm if g.name == "web" else None) for g in facts.guests))
    return [each.id for each in why(vm, facts, found(facts), **more)]


CASES: dict[str, HostFacts] = {
    "denied": with_system(denials=(DENIAL.format(UUID),)),
    "guest-file-owned": with_system(nodes={DISK.source: Node("block", 0o600, 0, 0)}, qemu={"dynamic_ownership": "0"}),
    "guest-nvram-missing": with_guest(with_system(nodes={"/v": None, "/t": None}), nvram="/v", template="/t"),
    "guest-volume-missing": with_guest(disks=(replace(DISK, source="/dev/zvol/rpool/vms/gone"),)),
    "guest-node-missing": with_system(nodes={DISK.source: None}),
    "guest-file-missing": with_guest(with_system(nodes={"/isos/a.iso": None}), disks=(DISK, CD)),
    "guest-file-closed": with_guest(
        with_system(nodes={"/isos/a.iso": replace(FILE, closed="/root")}), disks=(DISK, CD)
    ),
    "guest-firmware-missing": with_guest(with_system(nodes={"/fw/x": None}), loader="/fw/x"),
    "guest-network-missing": with_guest(networks=(("bridge", "br9"),)),
    "network-inactive": replace(WELL, libvirt=Libvirt((11,), ("apparmor",), (Network("default", False),))),
    "guest-memory": with_guest(memory=32 * GIB),
    "guest-memory-short": with_system({sources.MEMINFO: NO_MEMORY, sources.ARCSTATS: "size 4 0\nc_min 4 0\n"}),
    "guest-kvm-missing": replace(WELL, kvm=False),
    "iommu-off": with_guest(with_system(names={"bridges": (), "iommu": ()}), devices=1),
    "huge-pages-missing": with_guest(huge=True),
    "guest-port-taken": replace(
        with_guest(graphics=(Graphics("vnc", ("127.0.0.1",), 5901),)),
        guests=(
            guest(graphics=(Graphics("vnc", ("127.0.0.1",), 5901),)),
            guest("other", "running", graphics=(Graphics("vnc", ("127.0.0.1",), 5901),)),
        ),
    ),
    "guest-running": with_guest(state="running"),
    "guest-paused": with_guest(state="paused"),
    "pool-suspended": with_pool(health="SUSPENDED"),
    "pool-read-only": with_pool(read_only=True),
    "pool-full": with_pool(capacity=97),
    "pool-missing": replace(WELL, pools=(), stores={}),
    "key-missing": with_store("rpool/vms", keystatus="unavailable"),
    "zfs-missing": replace(WELL, zfs_fault="not loaded", pools=(), stores={}),
    "libvirt-unreachable": replace(WELL, libvirt=None, libvirt_fault="gone"),
}


@pytest.mark.parametrize("id_", CASES)
def test_the_cause_is_named(id_: str) -> None:
    assert id_ in causes(CASES[id_])


def test_of_a_vm_with_which_nothing_is_wrong_that_is_said() -> None:
    assert causes(WELL) == ["guest-startable"]


def test_a_template_a_job_and_an_orphan() -> None:
    assert causes(WELL, template=True) == ["guest-template"]
    assert causes(WELL, job="7") == ["guest-busy"]
    orphan = replace(WELL, guests=())
    assert causes(replace(orphan, orphans=(vm_of(orphan),))) == ["guest-orphan"]


def test_what_is_another_s_or_only_slower_is_not_a_cause() -> None:
    slow = with_guest(replace(with_pool(fragmentation=90), units={}), disks=(replace(DISK, cache="writeback"),))
    assert causes(slow) == ["guest-startable"]
    other = replace(guest("db"), wants=replace(guest().wants, disks=(CD,)))
    facts = replace(with_system(nodes={"/isos/a.iso": None}), guests=(guest(), other))
    assert causes(facts) == ["guest-startable"]


def test_what_the_last_start_failed_with_is_told_unless_it_runs() -> None:
    assert causes(WELL, last="libvirt said no") == ["guest-last-error"]
    assert causes(with_guest(state="running"), last="libvirt said no") == ["guest-running"]


def test_libvirt_s_own_complaint_counts_if_it_names_the_vm() -> None:
    ours = with_system(complaints=("internal error: process exited: 'web' could not be started",))
    assert causes(ours) == ["guest-last-error"]
    assert causes(with_system(complaints=("internal error: 'web-2' could not be started",))) == ["guest-startable"]
    assert causes(with_system(complaints=(f"Cannot access storage file '{DISK.source}'",))) == ["guest-last-error"]


def test_of_qemu_s_log_only_complaints_since_the_last_start() -> None:
    text = (
        "2026-04-01 15:30:22.000+0000: starting up libvirt version: 11.3.0\n"
        "2026-04-01T15:30:23.000000Z qemu-system-x86_64: old\n"
        "2026-04-01 16:30:22.000+0000: starting up libvirt version: 11.3.0\n"
        "-blockdev '{...}' \\\n"
        "2026-04-01T16:30:23.1Z qemu-system-x86_64: -blockdev: Could not open '/dev/zd0': Permission denied\n"
        "2026-04-01 16:30:24.000+0000: shutting down, reason=failed\n"
    )
    assert last_of_log(text).endswith("Permission denied")
    assert last_of_log(text.partition("-blockdev:")[0].rpartition("\n")[0]) == ""


def test_a_volume_that_belongs_to_qemu_can_be_opened() -> None:
    owned = with_system(nodes={DISK.source: replace(BLOCK, uid=64055)}, qemu={"dynamic_ownership": "0"})
    assert causes(owned) == ["guest-startable"]
