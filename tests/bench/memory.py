"""How much memory 1,000 VMs with 50,000 snapshots take, in an inventory and on the bus: `memory.py` prints MiB.

Generated, and read by the service's own parser as zfs would print it; no bus and no host is asked.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from kldload_kvm import contract_files
from kldload_kvm.bus.publish import Publisher
from kldload_kvm.bus.tree import Tree
from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.model import properties
from kldload_kvm.model.constants import ROOT
from kldload_kvm.model.inventory import Dataset, Domain, Inventory, Snapshot, device
from kldload_kvm.ops.request import Facts

VMS, SNAPSHOTS, PARENT, MOST = 1000, 50, "rpool/vms", 150
XML = "<domain type='kvm'>" + "<!-- as long as a domain of ours is -->" * 170 + "</domain>"


def datasets() -> Iterator[Dataset]:
    yield Dataset(PARENT, "1", 1, "filesystem", used=1 << 40, available=1 << 41, mountpoint="none")
    for number in range(VMS):
        ours = {properties.VM: str(uuid.UUID(int=number + 1)), properties.UUID: str(uuid.UUID(int=number + 9999))}
        for suffix, role, target in (("", "disk", "vda"), (".nvram", "nvram", "")):
            yield Dataset(
                f"{PARENT}/vm-{number}{suffix}", str(number * 2 + len(role)), 10, "volume", size=20 << 30,
                used=5 << 30, volblocksize=65536, compression="lz4",
                properties={**ours, properties.ROLE: role, properties.TARGET: target},
            )  # fmt: skip


def snapshots() -> Iterator[Snapshot]:
    for number in range(VMS):
        for hour in range(SNAPSHOTS):
            yield Snapshot(f"{PARENT}/vm-{number}", f"auto-2026112{hour // 24}_{hour % 24:02}0000",
                           str((number << 20) + hour), 100 + hour, 1795500000 + hour * 3600, "auto", "app")  # fmt: skip


def domains() -> Iterator[Domain]:
    for number in range(VMS):
        yield Domain(
            str(uuid.UUID(int=number + 9999)), f"vm-{number}", "running", f"{XML}{number}", memory=2 << 30, vcpus=2,
            disks={"vda": device(f"{PARENT}/vm-{number}")},
        )  # fmt: skip


def main() -> None:
    inventory = Inventory({"rpool": PARENT})
    tree = Tree(contract_files.interfaces(), lambda message: None)
    facts = Facts(libvirt=True)
    publisher = Publisher(tree, inventory, Engine(None, MemoryJournal()), lambda: facts, 0.1)  # type: ignore[arg-type]
    publisher.start("0")
    inventory.replace_zfs(datasets(), snapshots())
    inventory.replace_domains(domains())
    publisher.flush()
    vms = sum(path.startswith(f"{ROOT}/vm/") for path in tree.objects)
    assert vms == VMS, vms
    assert sum(map(len, inventory.snapshots.values())) == VMS * SNAPSHOTS
    status = Path("/proc/self/status").read_text(encoding="ascii")
    resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024
    verdict = "" if resident <= MOST else "   ABOVE"
    print(f"memory with {VMS} VMs and {VMS * SNAPSHOTS} snapshots: {resident:.1f} MiB, at most {MOST}{verdict}")


main()
