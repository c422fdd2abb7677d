"""Changing VMs on the bench: disks and cards that come, go and grow, names, memory and CPUs, settings, and exports."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

from host import datasets, domains, find, get, run, wait_until, zfs

DEVICE = "/dev/zvol/rpool/vms/"
MIB = 1 << 20


def sizes(name: str) -> dict[str, int]:
    """The sizes of a running VM's disks as QEMU tells them to its guest, by the path of each."""
    asked = json.dumps({"execute": "query-named-block-nodes", "arguments": {"flat": True}})
    answer = json.loads(run("virsh", "qemu-monitor-command", name, asked).stdout)
    return {each["file"]: each["image"]["virtual-size"] for each in answer["return"] if each["drv"] == "raw"}


def sources(name: str, *options: str) -> set[str]:
    rows = run("virsh", "domblklist", *options, name).stdout.splitlines()[2:]
    return {row.split()[1] for row in rows if row.split()}


def volsize(name: str) -> int:
    return int(zfs("get", "-Hp", "-o", "value", "volsize", f"rpool/vms/{name}")[0])


def digest(device: str, megabytes: int = 8) -> str:
    return subprocess.check_output(f"head -c {megabytes}M {device} | sha256sum", shell=True, text=True).split()[0]


def write(volume: str, byte: int, megabytes: int = 4) -> None:
    run("dd", f"of={DEVICE}{volume}", "bs=1M", "conv=fsync", "status=none", stdin=chr(byte) * (megabytes << 20))


def test_a_disk_grows_under_a_running_vm_and_never_shrinks(vm: Callable[..., str]) -> None:
    vm("web-1")
    write("web-1", 65)
    good = digest(DEVICE + "web-1")
    run("kvm-vm", "resize", "web-1", "96M")
    assert volsize("web-1") == 96 * MIB
    run("kvm-vm", "start", "web-1")
    assert sizes("web-1")[DEVICE + "web-1"] == 96 * MIB
    said = run("kvm-vm", "resize", "web-1", "+32M").stdout
    assert "its guest sees it" in said
    assert (volsize("web-1"), sizes("web-1")[DEVICE + "web-1"]) == (128 * MIB, 128 * MIB)
    assert get(find("web-1"), "Vm", "Size") == 128 * MIB
    refused = run("kvm-vm", "resize", "web-1", "64M", check=False)
    assert refused.returncode
    assert "would be lost" in refused.stderr
    assert volsize("web-1") == 128 * MIB
    # One whose guest was not told: as after a kill between the two steps.
    run("zfs", "set", "volsize=192M", "rpool/vms/web-1")
    run("busctl", "call", "org.kldload.Kvm1", "/org/kldload/Kvm1", "org.kldload.Kvm1.Manager", "Refresh")
    wait_until(lambda: get(find("web-1"), "Vm", "Size") == 192 * MIB, 30, "the size by zfs is seen")
    run("kvm-vm", "resize", "web-1", "192M")
    assert sizes("web-1")[DEVICE + "web-1"] == 192 * MIB
    assert digest(DEVICE + "web-1") == good


def test_a_disk_comes_to_a_running_vm_and_goes_from_one_that_is_off(vm: Callable[..., str]) -> None:
    vm("web-1")
    run("kvm-vm", "start", "web-1")
    made = json.loads(run("kvm-vm", "attach-disk", "web-1", "64M", "--json").stdout)["result"]
    assert (made["target"], made["dataset"], made["applied"]) == ("vdb", "rpool/vms/web-1.vdb", "now")
    for options in ([], ["--inactive"]):
        assert DEVICE + "web-1.vdb" in sources("web-1", *options)
    rows = "volmode,refreservation,org.kldload.kvm:role,org.kldload.kvm:target"
    assert zfs("get", "-Hp", "-o", "value", rows, "rpool/vms/web-1.vdb") == ["dev", "0", "disk", "vdb"]
    run("kvm-snap", "web-1", "@both")
    assert "rpool/vms/web-1.vdb@both" in datasets()
    run("kvm-vm", "off", "web-1")
    write("web-1.vdb", 66)
    good = digest(DEVICE + "web-1.vdb")
    refused = run("kvm-vm", "detach-disk", "web-1", "vda", check=False)
    assert "first disk" in refused.stderr
    run("kvm-vm", "detach-disk", "web-1", "vdb")
    assert sources("web-1", "--inactive") == {DEVICE + "web-1"}
    (gone,) = [name for name in datasets() if name.endswith("/web-1.vdb")]
    assert "/.trash/" in gone
    assert gone + "@both" in datasets()
    assert digest("/dev/zvol/" + gone) == good
    run("kvm-vm", "start", "web-1")


def test_a_guest_that_does_not_let_go_keeps_its_disk(vm: Callable[..., str]) -> None:
    vm("web-1")
    run("kvm-vm", "attach-disk", "web-1", "64M")
    run("kvm-vm", "start", "web-1")
    before = datasets()
    refused = run("kvm-vm", "detach-disk", "web-1", "vdb", check=False)
    assert refused.returncode  # no system is in it that would know hot-plug
    assert "let go of it" in refused.stderr
    for options in ([], ["--inactive"]):
        assert DEVICE + "web-1.vdb" in sources("web-1", *options)
    assert datasets() == before


def test_a_disk_that_libvirt_refuses_leaves_no_volume(vm: Callable[..., str]) -> None:
    vm("web-1")
    run("kvm-vm", "start", "web-1")
    run("virsh", "attach-disk", "web-1", "/dev/zvol/rpool/vms/web-1.nvram", "vdb", "--live", "--targetbus", "virtio")
    before = datasets()
    refused = run("kvm-vm", "attach-disk", "web-1", "64M", "--disk", "vdb", check=False)
    assert refused.returncode
    assert datasets() == before
    assert DEVICE + "web-1.vdb" not in sources("web-1", "--inactive")


def test_cards_come_and_go(vm: Callable[..., str]) -> None:
    vm("web-1")
    run("kvm-vm", "start", "web-1")
    mac = json.loads(run("kvm-vm", "attach-nic", "web-1", "--network", "network=default", "--json").stdout)
    mac = mac["result"]["mac"]
    for options in ([], ["--inactive"]):
        assert mac in run("virsh", "domiflist", *options, "web-1").stdout
    run("kvm-vm", "off", "web-1")
    run("kvm-vm", "detach-nic", "web-1", mac)
    assert mac not in run("virsh", "domiflist", "--inactive", "web-1").stdout


def test_a_renamed_vm_is_the_same_with_its_snapshots_and_starts(vm: Callable[..., str]) -> None:
    vm("web-1")
    run("kvm-vm", "autostart", "web-1", "on")
    write("web-1", 67)
    run("kvm-snap", "web-1", "@stable")
    run("kvm-clone", "web-1", "copy")
    path, before = find("web-1"), datasets()
    uuid = run("virsh", "domuuid", "web-1").stdout
    good = digest(DEVICE + "web-1")
    run("kvm-vm", "rename", "web-1", "shop")
    assert datasets() == {name.replace("/web-1", "/shop"): guid for name, guid in before.items()}
    assert (find("shop"), run("virsh", "domuuid", "shop").stdout) == (path, uuid)
    assert domains() == {"shop": "shut off", "copy": "shut off"}
    xml = run("virsh", "dumpxml", "shop").stdout
    assert "web-1." not in xml
    assert sources("shop", "--inactive") == {DEVICE + "shop"}
    assert "shop" in run("virsh", "list", "--all", "--autostart").stdout
    assert get(path, "Vm", "Name") == "shop"
    assert digest(DEVICE + "shop") == good
    run("kvm-vm", "start", "shop")
    assert domains()["shop"] == "running"
    for name in ("copy", "shop"):
        assert run("kvm-vm", "rename", "shop", name, check=False).returncode
    run("kvm-vm", "off", "shop")
    refused = run("kvm-vm", "rename", "shop", "copy", check=False)
    assert "is taken" in refused.stderr
    run("kvm-snap", "shop", "rollback", "@stable")
    run("kvm-vm", "start", "shop")
