"""What becomes of volumes when others define, undefine, rename and start domains: plain virsh, beside the service."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from host import (
    DEVICE,
    at_work,
    configured,
    daemon_pid,
    datasets,
    digest,
    domains,
    managed,
    run,
    virsh_each,
    vms,
    wait_until,
    write,
    zfs,
)

NAMESPACE = "https://kldload.org/xmlns/kvm/1.0"
XML = """<domain type='qemu'>
  <name>{name}</name>
  <metadata><k:volumes xmlns:k='{namespace}'>{asked}</k:volumes></metadata>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <on_poweroff>destroy</on_poweroff>
  <devices>{disks}</devices>
</domain>
"""
DISK = "<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='{}'/><target dev='{}'/></disk>"


def xml(name: str, *asked: str, **disks: str) -> str:
    have = "".join(DISK.format(path, target) for target, path in (disks or {"vda": DEVICE + name}).items())
    volumes = "".join(f"<k:volume {each}/>" for each in asked)
    return XML.format(name=name, namespace=NAMESPACE, asked=volumes, disks=have)


def virsh(*arguments: str, text: str = "", check: bool = True) -> str:
    """What virsh says, with a definition in a file if one is given."""
    file = Path("/var/tmp/test-libvirt.xml")
    if text:
        file.write_text(text)
        arguments = (*arguments, str(file))
    done = run("virsh", *arguments, check=check)
    return done.stdout + done.stderr


def trashed(name: str) -> list[str]:
    return [each for each in datasets() if "/.trash/" in each and each.endswith(f"/{name}")]


def on_the_bus(name: str) -> dict[str, dict] | None:
    return next((each for each in vms() if each["Name"]["data"] == name), None)


def test_a_definition_gets_its_volumes_and_its_undefinition_moves_them_to_the_trash(vm: Callable[..., str]) -> None:
    virsh("define", text=xml("asked", "target='vda' size='64M'"))
    wait_until(lambda: "rpool/vms/asked" in datasets(), 45, "the volume that was asked for is there")
    wait_until(lambda: on_the_bus("asked"), 45, "the VM is on the bus")
    write("asked", 65)
    good, guid = digest(DEVICE + "asked"), datasets()["rpool/vms/asked"]
    virsh("start", "asked")
    wait_until(
        lambda: (on_the_bus("asked") or {}).get("State", {}).get("data") == "running", 60, "the bus says it runs"
    )

    virsh("undefine", "asked")  # it runs on until it is forced off
    time.sleep(4)
    assert datasets()["rpool/vms/asked"] == guid
    virsh("destroy", "asked")
    wait_until(lambda: trashed("asked") and not at_work(managed()), 45, "its volume waits in the trash")
    (place,) = trashed("asked")
    assert datasets()[place] == guid
    assert "undefined" in run("kvm-trash", "list").stdout
    run("kvm-trash", "restore", "asked")
    assert domains()["asked"] == "shut off"
    assert (datasets()["rpool/vms/asked"], digest(DEVICE + "asked")) == (guid, good)


def test_what_was_there_once_is_never_made_anew(vm: Callable[..., str]) -> None:
    """The same definition, with its UUID, after its volume is gone."""
    virsh("define", text=xml("once", "target='vda' size='64M'"))
    wait_until(lambda: "rpool/vms/once" in datasets(), 45, "the volume that was asked for is there")
    wait_until(lambda: on_the_bus("once"), 45, "the VM is on the bus")
    time.sleep(3)  # two after its last change the service notes that the volume was seen
    whole = virsh("dumpxml", "--inactive", "once")
    run("zfs", "rename", "rpool/vms/once", "rpool/hidden")
    virsh("define", text=whole)
    time.sleep(4)
    assert "rpool/vms/once" not in datasets()
    refused = virsh("start", "once", check=False)
    assert "was there once" in refused, refused
    run("zfs", "rename", "rpool/hidden", "rpool/vms/once")
    virsh("start", "once")


@pytest.mark.soak
def test_a_transient_domain_gets_its_volume_before_it_starts(vm: Callable[..., str]) -> None:
    virsh("create", text=xml("brief", "target='vda' size='64M'"))
    assert domains()["brief"] == "running"
    assert "rpool/vms/brief" in datasets()
    virsh("destroy", "brief")
    time.sleep(4)
    assert "rpool/vms/brief" in datasets()  # nobody has undefined it


@pytest.mark.soak
def test_what_was_made_to_go_with_a_transient_domain_goes_when_it_has_ended(vm: Callable[..., str]) -> None:
    text = xml(
        "brief", "target='vda' size='64M' ephemeral='destroy'", "target='vdb' size='64M'",
        vda=DEVICE + "brief", vdb=DEVICE + "brief.vdb",
    )  # fmt: skip
    text = text.replace("</name>", "</name><uuid>6f5d3a53-9a1c-4e5b-8d3e-0c7f6f1c2a11</uuid>")
    virsh("create", text=text)
    first = datasets()
    qemu = Path("/run/libvirt/qemu/brief.pid").read_text().strip()
    os.kill(int(qemu), signal.SIGKILL)
    wait_until(lambda: "brief" not in domains(), 30, "it has crashed")
    time.sleep(5)
    assert datasets() == first, "a crash is no end"

    virsh("create", text=text)  # on the same volumes
    assert datasets() == first
    virsh("destroy", "brief")
    wait_until(lambda: "rpool/vms/brief" not in datasets(), 30, "what was made for it is gone")
    assert datasets()["rpool/vms/brief.vdb"] == first["rpool/vms/brief.vdb"]
    wait_until(lambda: trashed("brief") == [], 45, "it is not in the trash either")

    time.sleep(2)
    virsh("create", text=text)  # with a fresh one
    assert datasets()["rpool/vms/brief"] != first["rpool/vms/brief"]
    run("systemctl", "stop", "kldload-kvmd")
    virsh("destroy", "brief")
    run("systemctl", "start", "kldload-kvmd")
    time.sleep(5)
    assert "rpool/vms/brief" in datasets(), "nobody has seen it end"


def test_without_our_element_nothing_is_made_and_the_start_says_what_is_missing(vm: Callable[..., str]) -> None:
    virsh("define", text=xml("bare"))
    time.sleep(3)
    assert "rpool/vms/bare" not in datasets()
    refused = virsh("start", "bare", check=False)
    assert "its volume rpool/vms/bare is not there" in refused, refused


def test_a_rename_a_definition_over_it_and_an_edit_cost_nothing(vm: Callable[..., str]) -> None:
    vm("web-1")
    before = datasets()
    virsh("domrename", "web-1", "shop")
    whole = virsh("dumpxml", "--inactive", "shop")
    virsh("define", text=whole.replace("<vcpu ", "<vcpu ", 1))
    virsh("desc", "shop", "--config", "a shop")
    moved = Path("/var/tmp/test-libvirt.xml")
    moved.write_text(whole)
    virsh(f"undefine shop --keep-nvram; define {moved}")  # moved by hand: undefined, and defined again at once
    time.sleep(5)
    assert datasets() == before
    wait_until(lambda: on_the_bus("web-1"), 45, "the VM is on the bus")
    assert (on_the_bus("web-1") or {})["State"]["data"] == "shutoff"


@pytest.mark.soak
def test_a_rename_moves_the_volumes_where_that_is_configured(vm: Callable[..., str]) -> None:
    with configured("[libvirt]\nrename = move\n"):
        vm("web-1")
        run("kvm-snap", "web-1", "@s")
        before = datasets()
        virsh("domrename", "web-1", "shop")
        moved = {name.replace("vms/web-1", "vms/shop"): guid for name, guid in before.items()}
        wait_until(lambda: datasets() == moved, 45, "the volumes follow")
        wait_until(lambda: "vms/web-1" not in virsh("dumpxml", "shop"), 45, "and the paths")
        wait_until(lambda: (on_the_bus("shop") or {}).get("Problem", {}).get("data") == "", 45, "all is well")
        virsh("start", "shop")

        vm("web-2")
        run("zfs", "create", "-s", "-V", "1M", "rpool/vms/taken.nvram")
        before = datasets()
        virsh("domrename", "web-2", "taken")
        wait_until(
            lambda: "kvm-vm rename web-2 taken" in (on_the_bus("web-2") or {}).get("Problem", {}).get("data", ""), 20,
            "it is told",
        )  # fmt: skip
        assert datasets() == before
        virsh("start", "taken")
        run("kvm-vm", "off", "web-2")
        run("zfs", "destroy", "rpool/vms/taken.nvram")
        run("kvm-vm", "rename", "web-2", "taken")
        assert domains()["taken"] == "shut off"


def test_many_undefinitions_at_once_retire_nothing(vm: Callable[..., str]) -> None:
    vm("many-0")
    names = [f"many-{number}" for number in range(8)]
    run("kvm-clone", names[0], *names[1:])
    before = {name for name in datasets() if "@" not in name}
    virsh_each("undefine --keep-nvram", names)
    assert not domains()
    time.sleep(11)  # so long, too, are undefinitions counted, those of the next test with them
    assert {name for name in datasets() if "@" not in name} >= before
    wait_until(lambda: all(each["State"]["data"] == "orphan" for each in vms()), 45, "all of them are orphans")


def test_removing_all_storage_by_virsh_leaves_the_volume_in_the_trash(vm: Callable[..., str]) -> None:
    vm("web-1")
    guid = datasets()["rpool/vms/web-1"]
    virsh("undefine", "web-1", "--nvram", "--remove-all-storage", check=False)
    if "web-1" in domains():
        virsh("undefine", "web-1", "--nvram")
    wait_until(lambda: trashed("web-1") and not at_work(managed()), 45, "its volume waits in the trash")
    assert guid in datasets().values()
    run("kvm-trash", "restore", "web-1")
    run("kvm-vm", "start", "web-1")


def test_a_template_does_not_start_and_virsh_is_told_why(vm: Callable[..., str]) -> None:
    vm("base", "--template")
    refused = virsh("start", "base", check=False)
    assert "base was not started: base is a template" in refused, refused


def test_a_daemon_that_hangs_does_not_hang_libvirt_and_one_that_is_off_is_started(vm: Callable[..., str]) -> None:
    vm("web-1")
    pid = daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        virsh("start", "web-1")
        assert time.monotonic() - began < 150, "the hook's minute, and a guest's start on a slow machine"
    finally:
        with suppress(ProcessLookupError):  # systemd's watchdog has ended it
            os.kill(pid, signal.SIGCONT)
    virsh("destroy", "web-1")
    run("systemctl", "stop", "kldload-kvmd")
    virsh("start", "web-1")
    assert run("systemctl", "is-active", "kldload-kvmd", check=False).stdout.strip() == "active"


def test_a_restart_of_libvirt_and_one_that_starts_empty_are_no_undefinitions(vm: Callable[..., str]) -> None:
    vm("web-1")
    before = datasets()
    run("systemctl", "stop", "libvirtd.service", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket")
    run("mv", "/etc/libvirt/qemu/web-1.xml", "/var/tmp/web-1.xml")
    try:
        run("systemctl", "start", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket", "libvirtd.service")
        wait_until(lambda: (on_the_bus("web-1") or {}).get("State", {}).get("data") == "orphan", 30, "it is an orphan")
        time.sleep(4)
        assert datasets() == before
    finally:
        run("mv", "/var/tmp/web-1.xml", "/etc/libvirt/qemu/web-1.xml")
        run("systemctl", "restart", "libvirtd.service")
    wait_until(lambda: (on_the_bus("web-1") or {}).get("State", {}).get("data") == "shutoff", 30, "it has its domain")
    assert not [row for row in zfs("list", "-H", "-o", "name") if "/.trash/web-1" in row]
