"""libvirt's hook, day in, day out: many starts and stops, and starts while the service is busy with something else."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from host import DEVICE, daemon_pid, digest, domains, run, vms, wait_until, write
from oracle import wait_until_the_bus_is_right


def start_and_stop(count: int) -> None:
    """By virsh, one after the other; each is on the bus, and nothing piles up."""
    before = held()
    for number in range(count):
        run("virsh", "start", "web-1", timeout=90)
        wait_until(lambda: state("web-1") == "running", 45, f"start {number} is on the bus")
        run("virsh", "destroy", "web-1", timeout=90)
        wait_until(lambda: state("web-1") == "shutoff", 45, f"stop {number} is on the bus")
    wait_until(lambda: held() <= before, 30, f"the service has no more open than {before}")
    assert run("pgrep", "-c", "busctl", check=False).stdout.strip() == "0"
    wait_until_the_bus_is_right(10, f"it was started {count} times")


def held() -> int:
    """How many files the service has open, and children."""
    pid = daemon_pid()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return len(list(Path(f"/proc/{pid}/fd").iterdir())) + len(children)


def state(name: str) -> str:
    return next(each["State"]["data"] for each in vms() if each["Name"]["data"] == name)


@pytest.mark.soak
@pytest.mark.slow
def test_a_vm_is_started_and_stopped_by_virsh(vm: Callable[..., str]) -> None:
    vm("web-1")
    start_and_stop(3)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_vm_is_started_and_stopped_by_virsh_200_times(vm: Callable[..., str]) -> None:
    lightened(vm("web-1"))
    start_and_stop(200)


def lightened(name: str) -> None:
    """Define it without what takes most of a start under emulation, and nothing of the hook's: libvirt's questions on
    each feature of the CPU, and an AppArmor profile that is made five times."""
    domain = ET.fromstring(run("virsh", "dumpxml", "--inactive", name).stdout)
    cpu = domain.find("cpu")
    assert cpu is not None
    domain.remove(cpu)
    ET.SubElement(domain, "seclabel", type="none", model="apparmor")
    file = Path("/var/tmp/lightened.xml")
    file.write_bytes(ET.tostring(domain))
    run("virsh", "define", str(file))


@pytest.mark.soak
@pytest.mark.slow
def test_two_vms_start_while_a_third_is_cloned_and_the_third_is_told_why_it_does_not(vm: Callable[..., str]) -> None:
    for name in ("web-1", "web-2", "web-3"):
        vm(name)
    write("web-3", 65, megabytes=48)
    clones = [f"copy-{number}" for number in range(4)]
    cloning = subprocess.Popen(["kvm-clone", "web-3", "--full", *clones], stdout=subprocess.DEVNULL)
    wait_until(lambda: any(each["Job"]["data"] != "/" for each in vms()), 30, "the clones are being made")
    starts = [subprocess.Popen(["virsh", "start", name]) for name in ("web-1", "web-2")]
    refused = run("virsh", "start", "web-3", check=False)
    assert "is at work on web-3" in refused.stderr, refused
    assert cloning.poll() is None, "the starts were to fall into the cloning"
    assert [each.wait(120) for each in starts] == [0, 0]
    assert cloning.wait(300) == 0
    assert {name: domains()[name] for name in ("web-1", "web-2")} == {"web-1": "running", "web-2": "running"}
    for each in clones:
        assert digest(f"{DEVICE}{each}", 64) == digest(f"{DEVICE}web-3", 64)
    wait_until_the_bus_is_right(15, "two VMs were started while a third was cloned")
