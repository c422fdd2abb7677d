"""What the service stands on is restarted while jobs run: each job is done, or undone with a clear error; then all is
well again without a person. And libvirt at the socket of its separate daemons."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from host import ROOT, SERVICE, datasets, domains, find, get, run, vms, wait_until

CLONES = ("web-1", "web-2", "web-3")
SOCKETS = ("libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket")
DROP_IN = Path("/run/systemd/system/libvirtd.socket.d/elsewhere.conf")
CLIENT = Path("/etc/libvirt/libvirt.conf")


def connected() -> bool:
    asked = ("get-property", SERVICE, ROOT, f"{SERVICE}.Manager", "LibvirtVersion")
    done = run("busctl", *asked, check=False)
    return done.returncode == 0 and done.stdout.strip() != 's ""'


def parts(name: str) -> list[bool]:
    """Of its disk, its UEFI variables and its domain: which are there."""
    there = datasets()
    return [f"rpool/vms/{name}" in there, f"rpool/vms/{name}.nvram" in there, name in domains()]


def well_again() -> None:
    """Nothing is open, the bus tells what zfs and virsh do, and everybody is answered."""
    wait_until(connected, 120, "the service is connected to libvirt")
    wait_until(lambda: all(each["Job"]["data"] == "/" for each in vms()), 120, "no VM is held by a job")
    wait_until(lambda: {each["Name"]["data"] for each in vms()} == set(domains()), 30, "the bus tells the domains")
    assert get(ROOT, "Manager", "Problems") == []
    asked = ("--json=short", "call", SERVICE, ROOT, f"{SERVICE}.Manager", "FindVm", "s", "base")
    assert run("busctl", *asked, user="nobody").returncode == 0


@pytest.mark.parametrize("delay", [1.2, *(pytest.param(each, marks=pytest.mark.soak) for each in (0.3, 0.8, 2.0))])
@pytest.mark.parametrize(
    "unit", ["libvirtd", *(pytest.param(each, marks=pytest.mark.soak) for each in ("polkit", "systemd-udevd", "dbus"))]
)
def test_a_restart_during_a_job_costs_nothing(vm: Callable[..., str], unit: str, delay: float) -> None:
    """delay: seconds from the call until it."""
    vm("base")
    cloning = subprocess.Popen(
        ["kvm-clone", "base", *CLONES], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(delay)
    # logind does not come back to a new bus by itself, and libvirt then waits for it at each start of a domain.
    run("systemctl", "restart", unit, *(["systemd-logind"] if unit == "dbus" else []))
    _, said = cloning.communicate(timeout=180)
    assert "Traceback" not in said
    assert cloning.returncode == 0 or said.startswith("kvm-clone: "), said
    well_again()
    made = [parts(name) for name in CLONES]
    assert made in ([[True] * 3] * 3, [[False] * 3] * 3), (cloning.returncode, said)
    if not any(made[0]):
        run("kvm-clone", "base", *CLONES)
    run("kvm-vm", "start", "base")
    assert domains() == {"base": "running", **dict.fromkeys(CLONES, "shut off")}


@contextmanager
def at_another_socket() -> Iterator[None]:
    """libvirt where virtqemud listens, and nowhere else. Debian ships it as one daemon alone, so this is as near as the
    bench comes to the separate ones: the socket is what libvirt's library tells them apart by."""
    before = CLIENT.read_text()
    run("systemctl", "stop", *SOCKETS, "libvirtd.service")
    try:
        CLIENT.write_text(f'{before}\nremote_mode = "direct"\n')
        DROP_IN.parent.mkdir(parents=True, exist_ok=True)
        DROP_IN.write_text("[Socket]\nListenStream=\nListenStream=/run/libvirt/virtqemud-sock\n")
        run("systemctl", "daemon-reload")
        run("systemctl", "start", *SOCKETS)
        os.environ["LIBVIRT_DEFAULT_URI"] = "qemu:///system"  # virsh finds out by the socket that is not there now
        yield
    finally:
        os.environ.pop("LIBVIRT_DEFAULT_URI", None)
        run("systemctl", "stop", *SOCKETS, "libvirtd.service")
        CLIENT.write_text(before)
        DROP_IN.unlink()
        DROP_IN.parent.rmdir()
        run("systemctl", "daemon-reload")
        run("systemctl", "start", *SOCKETS, "libvirtd.service")


@pytest.mark.soak
def test_libvirt_is_found_where_its_own_configuration_says(vm: Callable[..., str]) -> None:
    """Started by its socket, and restarted, there."""
    vm("base", "--template")
    with at_another_socket():
        wait_until(connected, 45, "the service is connected to libvirt")
        assert not Path("/run/libvirt/libvirt-sock").exists()
        vm("web-1")
        run("kvm-clone", "base", "web-2")
        run("kvm-vm", "start", "web-1")
        refused = run("virsh", "start", "base", check=False)
        assert "base is a template" in refused.stderr
        run("systemctl", "restart", "libvirtd.service")
        well_again()
        assert domains() == {"base": "shut off", "web-1": "running", "web-2": "shut off"}
        run("kvm-snap", "web-1", "@one")
        run("virsh", "destroy", "web-1")
        wait_until(lambda: get(find("web-1"), "Vm", "State") == "shutoff", 45, "the bus says that it is off")
    well_again()
    assert set(domains()) == {"base", "web-1", "web-2"}
