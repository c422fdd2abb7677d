"""The host: from a bare pool to one on which nothing is found; and each fault that is put into it is found by a user
without rights, explained, put right where that can be, and gone again.

A table of what came of each is written to /var/tmp/host-faults.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from host import (
    ROOT,
    STARTED,
    call,
    data,
    datasets,
    get,
    libvirt_is_there,
    nothing_on_the_bus,
    remove_everything,
    run,
    wait_until,
    without_hook,
)
from host_faults import FAULTS, WAVES, Fault

HOST = f"{ROOT}/host"
TABLE = Path("/var/tmp/host-faults.md")
LEFT = """
zpool set autotrim=off rpool
zpool set autotrim=off vmpool
zfs inherit primarycache vmpool/vms
virsh net-autostart --disable default
virsh net-destroy default
systemctl stop kldload-kvm-snapshot.timer
"""


LAST = [0.0]


def check(user: str = "alice") -> list[dict[str, str]]:
    """What a user without rights is told, of no check before this call: there is one in five seconds."""
    time.sleep(max(LAST[0] + 5.5 - time.monotonic(), 0))
    rows = data(call(HOST, "Host", "Check", "a{sv}", "0", user=user))[0]
    LAST[0] = time.monotonic()
    return [{key: value["data"] for key, value in row.items()} for row in rows]


def pairs(found: list[dict[str, str]]) -> set[tuple[str, str]]:
    return {(each["id"], each["object"]) for each in found}


@pytest.fixture(scope="module", autouse=True)
def well() -> Iterator[None]:
    """The host as the profile has it; afterwards as the other tests know it."""
    TABLE.write_text("| fault | of | found | put right | gone |\n|---|---|---|---|---|\n")
    run("sh", "-c", STARTED)
    run("kvm-host", "setup", "--profile", "kvm")
    yield
    run("sh", "-c", LEFT, check=False)
    remove_everything()
    wait_until(nothing_on_the_bus, 120, "the service sees that the VMs are gone")


def bare() -> None:
    """Pools without any dataset. The daemon's own mounts would hold them."""
    remove_everything()
    run("systemctl", "stop", "kldload-kvmd")
    for parent in ("rpool/vms", "vmpool/vms"):
        run("zfs", "destroy", "-r", parent)
    for pool in ("rpool", "vmpool"):
        run("zpool", "set", "autotrim=off", pool)
    run("systemctl", "start", "kldload-kvmd")
    libvirt_is_there()


class TestSetup:
    @pytest.mark.soak
    def test_from_a_bare_pool_to_a_host_on_which_nothing_is_found(self) -> None:
        """Twice: the second time changes nothing. An image can be added at once."""
        bare()
        done = run("sh", "-c", "KLDLOAD_PROFILE=kvm kvm-host setup --json")
        lines = {each["line"]: each["state"] for each in json.loads(done.stdout)["result"]["lines"]}
        assert lines["ZFS dataset rpool/vms/isos (compression=zstd, atime=off)"] == "set"
        assert set(lines.values()) == {"set", "already", "left-out"}
        mounted = run("findmnt", "-n", "-o", "SOURCE", "/var/lib/libvirt/isos").stdout.strip()
        assert mounted == "rpool/vms/isos"
        assert check() == []
        before = datasets()
        again = json.loads(run("kvm-host", "setup", "--profile", "kvm", "--json").stdout)
        assert again["steps"] == []
        assert {each["state"] for each in again["result"]["lines"]} == {"already", "left-out"}
        assert datasets() == before
        image = Path("/var/tmp/fault.raw")
        image.write_bytes(bytes(1 << 20))
        run("kvm-image", "add", str(image), "--format", "raw")
        assert "fault.raw" in run("ls", "/var/lib/libvirt/isos").stdout
        run("kvm-image", "remove", "fault.raw", "--yes")
        image.unlink()

    @pytest.mark.soak
    def test_a_directory_with_something_in_it_stays_visible(self) -> None:
        bare()
        kept = Path("/var/lib/libvirt/images/mine.qcow2")
        kept.write_text("mine")
        try:
            plan = json.loads(run("kvm-host", "setup", "--profile", "kvm", "--dry-run", "--json").stdout)
            assert any("stays visible" in warning for warning in plan["warnings"])
            run("kvm-host", "setup", "--profile", "kvm")
            assert kept.read_text() == "mine"
        finally:
            kept.unlink()
            bare()
            run("kvm-host", "setup", "--profile", "kvm")

    @pytest.mark.soak
    def test_what_somebody_has_set_otherwise_is_kept(self) -> None:
        run("zfs", "set", "primarycache=all", "rpool/vms")
        try:
            result = json.loads(run("kvm-host", "setup", "--profile", "kvm", "--json").stdout)["result"]
            assert result["lines"][0]["state"] == "left-out"
            assert run("zfs", "get", "-H", "-o", "value", "primarycache", "rpool/vms").stdout.strip() == "all"
        finally:
            run("zfs", "set", "primarycache=metadata", "rpool/vms")


def has_ended(job: str) -> bool:
    return get(job, "Job", "State") in ("succeeded", "failed")


class TestRights:
    def test_without_rights_nothing_is_changed(self) -> None:
        run("zpool", "set", "autotrim=off", "vmpool")
        try:
            done = run("kvm-host", "fix", "--no-ask-password", user="alice", check=False)
            assert done.returncode == 3
            assert "set autotrim of the pool vmpool to on" in run("kvm-host", "fix", "--dry-run", user="alice").stdout
            assert run("zpool", "get", "-H", "-o", "value", "autotrim", "vmpool").stdout.strip() == "off"
        finally:
            run("zpool", "set", "autotrim=on", "vmpool")

    @pytest.mark.soak
    def test_killed_halfway_it_is_taken_back_or_whole(self) -> None:
        """The daemon is killed while the fix is at work; at its next start the host is as before, or as after."""
        for moment in (0.1, 0.5):
            run("zpool", "set", "autotrim=off", "vmpool")
            run("systemctl", "-q", "disable", "--now", "kldload-kvm-trash.timer")
            job = data(call(HOST, "Host", "Fix", "asa{sv}", "2", "pool-autotrim", "trash-off", "0"))[0]
            time.sleep(moment)
            run("systemctl", "kill", "-s", "KILL", "kldload-kvmd")
            libvirt_is_there()
            ended = partial(has_ended, job)
            wait_until(ended, 60, "the job has ended")
            trims = run("zpool", "get", "-H", "-o", "value", "autotrim", "vmpool").stdout.strip() == "on"
            enabled = run("systemctl", "is-enabled", "kldload-kvm-trash.timer", check=False).stdout.strip() == "enabled"
            assert trims == enabled == (get(job, "Job", "State") == "succeeded")
        run("zpool", "set", "autotrim=on", "vmpool")
        run("systemctl", "-q", "enable", "--now", "kldload-kvm-trash.timer")

    @pytest.mark.soak
    def test_its_unit_sees_what_it_must_and_may_write_nothing(self) -> None:
        unit = "kldload-kvm-facts.service"
        assert run("systemctl", "show", "-P", "ProtectSystem", unit).stdout.strip() == "strict"
        assert run("systemctl", "is-failed", unit, check=False).stdout.strip() != "failed"
        assert not {"host-unseen", "zfs-missing"} & {each["id"] for each in check()}


@dataclass
class Wave:
    """What came of one wave: what could not be put there, and what was found before, with the fix, and after."""

    faults: list[Fault]
    broken: dict[str, str] = field(default_factory=dict)
    found: list[dict[str, str]] = field(default_factory=list)
    fixed: list[dict[str, str]] = field(default_factory=list)
    refused: str = ""
    after: list[dict[str, str]] = field(default_factory=list)


RUN: dict[str, Wave] = {}


def wave(name: str) -> Wave:
    """Everything that is asked of a wave, once."""
    if name in RUN:
        return RUN[name]
    made = RUN[name] = Wave([each for each in FAULTS if each.wave == name])
    try:
        for each in made.faults:
            done = run("sh", "-c", f"set -e; mkdir -p /dev/shm/faults; {each.put}", check=False)
            if done.returncode:
                made.broken[str(each)] = done.stdout + done.stderr
        made.found = check()
        ids = list(dict.fromkeys(each.id for each in made.faults if each.fixed))
        if ids:
            done = run("kvm-host", "fix", *ids, check=False)
            made.refused = done.stderr if done.returncode else ""
            made.fixed = check()
    finally:
        for each in reversed(made.faults):
            run("sh", "-c", each.remove, check=False)
    libvirt_is_there()
    made.after = check()
    return made


def long(name: str) -> tuple[pytest.MarkDecorator, ...]:
    """Each wave takes minutes on an emulated bench: `make test` has the first, and the soak all of them."""
    return () if name == WAVES[0] else (pytest.mark.soak,)


def matches(found: list[dict[str, str]], fault: Fault) -> list[dict[str, str]]:
    name = fault.object.rstrip("*")
    same = [each for each in found if each["id"] == fault.id]
    return [e for e in same if e["object"] == name or (name != fault.object and e["object"].startswith(name))]


@pytest.mark.parametrize("fault", [pytest.param(each, marks=long(each.wave)) for each in FAULTS], ids=str)
def test_a_fault_is_found_explained_put_right_and_gone(fault: Fault) -> None:
    made = wave(fault.wave)
    assert str(fault) not in made.broken, made.broken[str(fault)]
    (told, *_) = matches(made.found, fault) or pytest.fail(f"it is not among {sorted(pairs(made.found))}")
    assert all(told[key] for key in ("found", "why", "todo", "source")), told
    explained = run("kvm-host", "explain", fault.id, user="alice").stdout
    assert told["why"].split()[0] in explained
    right = "-"
    if fault.fixed:
        assert told["fix"], told
        assert not made.refused, made.refused
        assert not matches(made.fixed, fault), made.fixed
        right = "yes"
    assert not matches(made.after, fault), made.after
    with TABLE.open("a") as table:
        table.write(f"| {fault.id} | {fault.object} | {told['found']} | {right} | yes |\n")


@pytest.mark.soak
@pytest.mark.parametrize("name", WAVES)
def test_nothing_is_left_of_a_wave(name: str) -> None:
    assert wave(name).after == []


def why() -> dict[str, str]:
    time.sleep(max(LAST[0] + 5.5 - time.monotonic(), 0))
    rows = json.loads(run("kvm-vm", "why", "web", "--json", user="alice").stdout)
    LAST[0] = time.monotonic()
    return {each["id"]: each["found"] for each in rows}


@pytest.mark.soak
def test_why_a_vm_does_not_start(vm: Callable[..., str]) -> None:
    """Nothing; a template; an image and variables that are gone; no right to its disk; no domain."""
    vm("web")
    assert list(why()) == ["guest-startable"]
    run("kvm-vm", "template", "web", "on")
    assert "guest-template" in why()
    run("kvm-vm", "template", "web", "off")
    iso = Path("/var/lib/libvirt/isos/why.iso")
    iso.write_bytes(bytes(1 << 20))
    run("virsh", "attach-disk", "web", str(iso), "sdb", "--type", "cdrom", "--config")
    iso.unlink()
    run("zfs", "rename", "rpool/vms/web.nvram", "rpool/vms/web.elsewhere")
    assert run("virsh", "start", "web", check=False).returncode != 0
    found = why()
    assert str(iso) in found["guest-file-missing"]
    assert "web.nvram" in found["guest-volume-missing"]
    run("zfs", "rename", "rpool/vms/web.elsewhere", "rpool/vms/web.nvram")
    run("virsh", "detach-disk", "web", "sdb", "--config")
    run("systemctl", "stop", "kldload-kvmd")
    run("virsh", "undefine", "--keep-nvram", "web")
    run("systemctl", "start", "kldload-kvmd")
    libvirt_is_there()
    assert "guest-orphan" in why()


@pytest.mark.soak
def test_why_a_start_has_failed_with_permission_denied(vm: Callable[..., str]) -> None:
    """libvirt is told not to give disks to QEMU's user."""
    vm("web")
    conf = Path("/etc/libvirt/qemu.conf")
    before = conf.read_text()
    conf.write_text(f"{before}\ndynamic_ownership = 0\n")
    try:
        run("systemctl", "restart", "libvirtd")
        libvirt_is_there()
        assert run("kvm-vm", "start", "web", check=False).returncode != 0
        found = why()
        assert "/dev/zvol/rpool/vms/web" in found["guest-file-owned"]
        assert "ermission denied" in found["guest-last-error"]
    finally:
        conf.write_text(before)
        run("systemctl", "restart", "libvirtd")
        libvirt_is_there()


@pytest.mark.soak
def test_a_hook_that_libvirt_has_not_seen(vm: Callable[..., str]) -> None:
    vm("web")
    with without_hook():
        run("systemctl", "restart", "libvirtd")
        libvirt_is_there()
    run("virsh", "start", "web")
    try:
        assert "hook-unheard" in {each["id"] for each in check()}
    finally:
        run("virsh", "destroy", "web")
        run("systemctl", "restart", "libvirtd")
        libvirt_is_there()
    run("virsh", "start", "web")
    run("virsh", "destroy", "web")
    assert "hook-unheard" not in {each["id"] for each in check()}
