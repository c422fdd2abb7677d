"""The oracle of tests/oracle.py, on what zfs and virsh print: it says what is so, and sees where the bus is wrong."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

import oracle
from oracle import OURS, SNAPSHOT, VOLUME, Said, differences, host_says

ID, UUID = "0" * 8, "11111111-2222-4333-8444-555555555555"
INFO = (
    "Id:             -\nName:           {name}\nUUID:           {uuid}\nOS Type:        hvm\nState:          shut off\n"
)
XML = """<domain type='qemu'><name>{name}</name><currentMemory unit='KiB'>1024</currentMemory>
<vcpu current='1'>4</vcpu><os><nvram type='block'><source dev='/dev/zvol/{disk}.nvram'/></nvram></os>
<devices><disk type='block' device='disk'><source dev='/dev/zvol/{disk}'/><target dev='vda'/></disk></devices></domain>
"""


class Host:
    """What zfs and virsh print."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.volumes: list[dict[str, str]] = []
        self.snapshots: list[dict[str, str]] = []
        self.domains: list[tuple[str, str, str]] = []
        monkeypatch.setattr(oracle, "zfs", self.zfs)
        monkeypatch.setattr(oracle, "run", self.run)

    def volume(self, dataset: str, txg: int = 10, kind: str = "volume", **ours: str) -> None:
        native = {"name": dataset, "type": kind, "guid": f"g-{dataset}", "createtxg": str(txg), "volsize": "65536"}
        self.volumes.append(native | {OURS + key: value for key, value in ours.items()})

    def vm(self) -> None:
        self.volume("rpool/vms/web", vm=ID, uuid=UUID, role="disk", target="vda")
        self.volume("rpool/vms/web.nvram", vm=ID, uuid=UUID, role="nvram")
        self.snapshots.append({"name": "rpool/vms/web@s", "createtxg": "20", "userrefs": "0"})
        self.snapshots.append(
            {"name": "rpool/vms/web.nvram@s", "createtxg": "21", "userrefs": "1", OURS + "snapshot": "manual:off:7/1"}
        )
        self.domains.append(("web", UUID, "rpool/vms/web"))

    def zfs(self, *arguments: str) -> list[str]:
        snapshots = "snapshot" in arguments
        rows, columns = (self.snapshots, SNAPSHOT) if snapshots else (self.volumes, VOLUME)
        return ["\t".join(row.get(column, "-") for column in columns) for row in rows]

    def run(self, *command: str, **_: Any) -> subprocess.CompletedProcess[str]:
        if "list" in command:
            said = "".join(f"{uuid}\n" for _, uuid, _ in self.domains)
        else:
            said = "".join(
                f"@domain{INFO.format(name=name, uuid=uuid)}Persistent:     yes\nAutostart:      enable\n"
                f"@xml{XML.format(name=name, disk=disk)}"
                for name, uuid, disk in self.domains
            )
        return subprocess.CompletedProcess(command, 0, said, "")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def test_a_vm_is_its_volumes_its_domain_and_its_snapshots(host: Host) -> None:
    host.vm()
    assert host_says() == {
        f"vm {ID}": {
            "name": "web", "uuid": UUID, "state": "shutoff", "has a problem": False, "storage": "rpool",
            "memory": 1 << 20, "vcpus": 1, "autostart": True, "size": 65536, "origin": "", "clones": [],
            "template": False, "identity": "", "held by a job": False,
            "volumes": {
                "rpool/vms/web": ("g-rpool/vms/web", "disk", "vda", 65536, ""),
                "rpool/vms/web.nvram": ("g-rpool/vms/web.nvram", "nvram", "", 65536, ""),
            },
            "snapshots": {"s": ("manual", "off", 2, True, [])},
        },
    }  # fmt: skip


def test_one_without_a_domain_is_an_orphan(host: Host) -> None:
    host.vm()
    host.domains.clear()
    said = host_says()
    assert said["orphan web"] == {
        "kind": "orphan", "state": "orphan", "volumes": ["rpool/vms/web", "rpool/vms/web.nvram"],
    }  # fmt: skip
    assert said[f"vm {ID}"]["has a problem"]


def test_a_copy_with_the_same_properties_is_nobody_s(host: Host) -> None:
    host.vm()
    before = host_says()
    host.volume("rpool/vms/copy", 99, vm=ID, uuid=UUID, role="disk", target="vda")
    assert host_says() == before


@pytest.mark.parametrize(
    ("disk", "kind"),
    [
        ("rpool/vms/web", "shared"), ("rpool/vms/gone", "missing"), ("rpool/vms/loose", "adoptable"),
        ("tank/disk", "files"),
    ],
)  # fmt: skip
def test_a_domain_of_others(host: Host, disk: str, kind: str) -> None:
    host.vm()
    for name in ("rpool/vms/loose", "rpool/vms/loose.nvram"):
        host.volume(name)
    host.domains.append(("theirs", "5" * 8, disk))
    assert host_says()["domain theirs"]["kind"] == kind


def test_what_waits_in_the_trash(host: Host) -> None:
    entry = "rpool/vms/.trash/web-1"
    host.volume(entry, kind="filesystem", vm=ID, name="web", reason="undefined")
    host.volume(f"{entry}/web", vm=ID)
    assert host_says() == {
        f"trash {entry}": {"vm": "web", "vm-id": ID, "reason": "undefined", "volumes": [f"{entry}/web"]},
    }


def test_each_difference_is_one_line() -> None:
    host: Said = {"vm 1": {"state": "running", "size": 1}, "vm 2": {}}
    bus: Said = {"vm 1": {"state": "shutoff", "size": 1}, "vm 3": {}}
    assert differences(host, host) == []
    assert differences(host, bus) == [
        "vm 2 is not on the bus",
        "vm 3 is on the bus, and not there",
        "state of vm 1 is 'running', and the bus says 'shutoff'",
    ]
