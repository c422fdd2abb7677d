"""Changing VMs on the bench: disks and cards that come, go and grow, names, memory and CPUs, settings, and exports."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host import (
    DEVICE,
    datasets,
    digest,
    domains,
    find,
    get,
    nothing_on_the_bus,
    remove_everything,
    run,
    wait_until,
    write,
    zfs,
)

MIB = 1 << 20


@pytest.fixture(scope="class")
def running() -> Iterator[str]:
    """One VM that runs, with a second disk, for the tests that leave it so: to start one takes long under emulation."""
    run("kvm-create", "web-1", "--disk", "64M", "--ram", "256", "--cpus", "1")
    write("web-1", 65)
    run("kvm-vm", "resize", "web-1", "96M")
    run("kvm-vm", "attach-disk", "web-1", "64M")
    run("kvm-vm", "start", "web-1")
    yield "web-1"
    remove_everything()
    wait_until(nothing_on_the_bus, 120, "the service sees that the VMs are gone")


def xml(name: str, *options: str) -> ET.Element:
    return ET.fromstring(run("virsh", "dumpxml", *options, name).stdout)


def seen(name: str, target: str = "vda") -> int:
    """The size of a running VM's disk as QEMU tells it to its guest."""
    asked = json.dumps({"execute": "query-block"})
    answer = json.loads(run("virsh", "qemu-monitor-command", name, asked).stdout)["return"]
    (alias,) = [d.find("alias").get("name") for d in xml(name).iter("disk") if d.find("target").get("dev") == target]
    (found,) = [each for each in answer if f"/{alias}/" in each.get("qdev", "")]
    return found["inserted"]["image"]["virtual-size"]


def sources(name: str, *options: str) -> set[str]:
    rows = run("virsh", "domblklist", *options, name).stdout.splitlines()[2:]
    return {row.split()[1] for row in rows if row.split()}


def volsize(name: str) -> int:
    return int(zfs("get", "-Hp", "-o", "value", "volsize", f"rpool/vms/{name}")[0])


class TestOneThatRuns:
    def test_a_disk_grows_under_a_running_vm_and_never_shrinks(self, running: str) -> None:
        good = digest(DEVICE + "web-1")
        assert (volsize("web-1"), seen("web-1")) == (96 * MIB, 96 * MIB)
        said = run("kvm-vm", "resize", "web-1", "+32M").stdout
        assert "its guest sees it" in said
        assert (volsize("web-1"), seen("web-1")) == (128 * MIB, 128 * MIB)
        assert get(find("web-1"), "Vm", "Size") == (128 + 64) * MIB  # of all its disks
        refused = run("kvm-vm", "resize", "web-1", "64M", check=False)
        assert refused.returncode
        assert "would be lost" in refused.stderr
        assert volsize("web-1") == 128 * MIB
        # One whose guest was not told: as after a kill between the two steps.
        run("zfs", "set", "volsize=192M", "rpool/vms/web-1")
        run("busctl", "call", "org.kldload.Kvm1", "/org/kldload/Kvm1", "org.kldload.Kvm1.Manager", "Refresh")
        wait_until(lambda: get(find("web-1"), "Vm", "Size") == (192 + 64) * MIB, 30, "the size by zfs is seen")
        run("kvm-vm", "resize", "web-1", "192M")
        assert seen("web-1") == 192 * MIB
        assert digest(DEVICE + "web-1") == good

    @pytest.mark.soak
    def test_a_guest_that_does_not_let_go_keeps_its_disk(self, running: str) -> None:
        before = datasets()
        refused = run("kvm-vm", "detach-disk", "web-1", "vdb", check=False)
        assert refused.returncode  # no system is in it that would know hot-plug
        assert "let go of it" in refused.stderr
        for options in ([], ["--inactive"]):
            assert DEVICE + "web-1.vdb" in sources("web-1", *options)
        assert datasets() == before

    def test_a_disk_that_libvirt_refuses_leaves_no_volume(self, running: str) -> None:
        run("zfs", "create", "-s", "-V", "64M", "rpool/vms/spare")
        wait_until(Path(DEVICE + "spare").exists, 30, "its device is there")
        run("virsh", "attach-disk", "web-1", DEVICE + "spare", "vdc", "--live", "--targetbus", "virtio")
        before = datasets()
        refused = run("kvm-vm", "attach-disk", "web-1", "64M", "--disk", "vdc", check=False)
        assert refused.returncode
        assert datasets() == before
        assert DEVICE + "web-1.vdc" not in sources("web-1", "--inactive")

    def test_cards_come_and_go(self, running: str) -> None:
        mac = json.loads(run("kvm-vm", "attach-nic", "web-1", "--network", "network=default", "--json").stdout)
        mac = mac["result"]["mac"]
        for options in ([], ["--inactive"]):
            assert mac in run("virsh", "domiflist", *options, "web-1").stdout
        run("kvm-vm", "off", "web-1")
        run("kvm-vm", "detach-nic", "web-1", mac)
        assert mac not in run("virsh", "domiflist", "--inactive", "web-1").stdout


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
    said = run("kvm-trash", "restore", gone.split("/")[-2]).stdout
    assert said == "web-1 has its disk vdb again, now\n"
    for options in ([], ["--inactive"]):
        assert DEVICE + "web-1.vdb" in sources("web-1", *options)
    assert "rpool/vms/web-1.vdb@both" in datasets()
    assert not [name for name in datasets() if name.startswith(gone.rpartition("/")[0])]
    run("kvm-vm", "off", "web-1")
    assert digest(DEVICE + "web-1.vdb") == good


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
    assert "web-1." not in run("virsh", "dumpxml", "shop").stdout
    assert sources("shop", "--inactive") == {DEVICE + "shop"}
    assert "shop" in run("virsh", "list", "--all", "--autostart").stdout
    assert get(path, "Vm", "Name") == "shop"
    assert digest(DEVICE + "shop") == good
    refused = run("kvm-vm", "rename", "shop", "copy", check=False)
    assert "is taken" in refused.stderr
    run("kvm-snap", "shop", "rollback", "@stable")
    run("kvm-vm", "start", "shop")
    assert run("kvm-vm", "rename", "shop", "web-2", check=False).returncode


def memory(name: str, *options: str) -> int:
    """What its guest has now, or at its next boot, in KiB."""
    return int(xml(name, *options).findtext("currentMemory"))


def cpus(name: str, *options: str) -> int:
    vcpu = xml(name, *options).find("vcpu")
    return int(vcpu.get("current") or vcpu.text)


def test_memory_and_cpus_now_and_at_the_next_boot(vm: Callable[..., str]) -> None:
    vm("web-1")
    said = run("kvm-vm", "set", "web-1", "--ram", "320", "--cpus", "2").stdout
    assert said.count("at next boot (it is off)") == 2
    assert (memory("web-1", "--inactive"), cpus("web-1", "--inactive")) == (320 << 10, 2)
    run("kvm-vm", "start", "web-1")
    assert (memory("web-1"), cpus("web-1")) == (320 << 10, 2)
    more = run("kvm-vm", "set", "web-1", "--ram", "448", "--cpus", "3").stdout
    assert "448M of memory now" in more
    assert "3 CPUs now" in more
    assert (memory("web-1"), cpus("web-1")) == (448 << 10, 3)
    assert xml("web-1").findtext("devices/memory/target/size") == str(128 << 10)
    later = run("kvm-vm", "set", "web-1", "--ram", "4G", "--cpus", "9").stdout
    assert later.count("at next boot (it") == 2
    assert "at most while it runs" in later
    fewer = run("kvm-vm", "set", "web-1", "--cpus", "1").stdout  # no system is in it that would let one go
    assert "1 CPU at next boot (" in fewer
    path = find("web-1")
    assert (get(path, "Vm", "Memory"), get(path, "Vm", "Vcpus")) == (4 << 30, 1)
    run("kvm-vm", "set", "web-1", "--ram", "256", "--cpus", "1")
    run("kvm-vm", "off", "web-1")
    run("kvm-vm", "start", "web-1")
    assert (memory("web-1"), cpus("web-1")) == (256 << 10, 1)


def test_exports_are_the_disk_and_leave_nothing_behind(vm: Callable[..., str], tmp_path: Path) -> None:
    vm("web-1")
    write("web-1", 65)
    run("kvm-snap", "web-1", "@stable")
    good = digest(DEVICE + "web-1", 64)
    write("web-1", 66)
    before, changed = datasets(), digest(DEVICE + "web-1", 64)
    for format_ in ("qcow2", "raw"):
        run("kvm-export", "web-1", "-o", f"{tmp_path}/new.{format_}", "--format", format_)
        run("kvm-export", "web-1", "@stable", "-o", f"{tmp_path}/old.{format_}", "--format", format_)
    run("qemu-img", "check", f"{tmp_path}/new.qcow2")
    for name, wanted in (("new", changed), ("old", good)):
        run("qemu-img", "compare", "-F", "raw", "-f", "qcow2", f"{tmp_path}/{name}.qcow2", f"{tmp_path}/{name}.raw")
        assert digest(f"{tmp_path}/{name}.raw", 64) == wanted
    assert datasets() == before
    shell = "kvm-export web-1 @stable --format zfs -o - | zfs receive vmpool/vms/copy"
    run("bash", "-o", "pipefail", "-c", shell)
    wait_until(Path("/dev/zvol/vmpool/vms/copy").exists, 30, "the received volume is there")
    assert digest("/dev/zvol/vmpool/vms/copy", 64) == good
    run("zfs", "destroy", "-r", "vmpool/vms/copy")
    assert datasets() == before
    # Nobody reads it to its end.
    cut = run("bash", "-o", "pipefail", "-c", "kvm-export web-1 --format raw -o - | head -c 1M | wc -c", check=False)
    assert (cut.returncode != 0, cut.stdout.strip()) == (True, str(MIB))
    wait_until(lambda: datasets() == before, 30, "what was made for the export is gone")
    assert run("kvm-export", "web-1", "-o", f"{tmp_path}/new.raw", check=False).returncode


def test_settings_of_the_disks_and_back(vm: Callable[..., str]) -> None:
    vm("web-1")
    keys = "compression,primarycache,refreservation"

    def values() -> list[str]:
        """With where each comes from; no reservation is none, whether it was set or not."""
        rows = zfs("get", "-Hp", "-o", "value,source", keys, "rpool/vms/web-1")
        return ["0" if row.startswith("0\t") else row for row in rows]

    before = values()
    run("kvm-vm", "set", "web-1", "--compression", "gzip-6", "--primarycache", "none", "--refreservation", "on")
    compression, cache, reserved = values()
    assert (compression, cache) == ("gzip\tlocal", "none\tlocal")
    assert int(reserved.split()[0]) >= 64 * MIB
    run("kvm-vm", "set", "web-1", "--compression", "zstd-fast-1", "--refreservation", "off")
    assert values()[0].startswith("zstd-fast")
    assert values()[2].split()[0] == "0"
    # One that fails on its way: what was inherited is inherited again.
    run("kvm-vm", "set", "web-1", "--compression", "lz4")
    run("zfs", "inherit", "primarycache", "rpool/vms/web-1")
    assert values() == before
    run("kvm-vm", "attach-disk", "web-1", "64M")
    run("zfs", "set", "volsize=16T", "rpool/vms/web-1.vdb")
    refused = run("kvm-vm", "set", "web-1", "--primarycache", "none", "--refreservation", "on", check=False)
    assert refused.returncode
    assert values() == before
