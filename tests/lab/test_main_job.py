"""The main job, as a user types it: create, list, snapshot, roll back, clone, delete, on both storages."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from host import (
    DEVICE,
    ROOT,
    call,
    daemon_pid,
    data,
    datasets,
    digest,
    domains,
    find,
    get,
    journal_cursor,
    journal_since,
    run,
    wait_until,
    write,
    zfs,
)


def test_a_created_vm_is_volumes_and_a_domain_that_starts_from_them(vm: Callable[..., str]) -> None:
    vm("web-1")
    found = {name: None for name in datasets()}
    assert {"rpool/vms/web-1", "rpool/vms/web-1.nvram"} <= found.keys()
    rows = zfs(
        "get",
        "-Hp",
        "-o",
        "property,value",
        "volsize,volmode,volblocksize,refreservation,compression",
        "rpool/vms/web-1",
    )
    assert dict(row.split("\t") for row in rows) == {
        "volsize": str(64 << 20), "volmode": "dev", "volblocksize": "65536", "refreservation": "0",
        "compression": "lz4",
    }  # fmt: skip
    xml = run("virsh", "dumpxml", "web-1").stdout
    for part in ("machine='pc-q35", DEVICE + "web-1'", DEVICE + "web-1.nvram'", "cache='none'", "discard='unmap'",
                 "org.qemu.guest_agent.0", "type='vnc'", "127.0.0.1", "<rng model='virtio'>",
                 "pcie-root-port"):  # fmt: skip
        assert part in xml, part
    run("kvm-vm", "start", "web-1")
    assert domains() == {"web-1": "running"}
    labels = run("virsh", "dumpxml", "web-1").stdout
    assert "<seclabel type='dynamic' model='apparmor'" in labels
    assert run("kvm-vm", "vnc", "web-1").stdout.startswith("127.0.0.1:59")
    run("kvm-vm", "pause", "web-1")
    assert domains() == {"web-1": "paused"}
    run("kvm-vm", "resume", "web-1")
    run("kvm-vm", "reboot", "web-1")
    run("kvm-vm", "off", "web-1")
    assert domains() == {"web-1": "shut off"}
    run("kvm-vm", "autostart", "web-1", "on")
    assert "web-1" in run("virsh", "list", "--all", "--autostart").stdout
    assert get(find("web-1"), "Vm", "Autostart") is True


def test_a_rollback_brings_the_data_back_and_keeps_what_was_given_up(vm: Callable[..., str]) -> None:
    vm("web-1")
    write("web-1", 65)
    good = digest(DEVICE + "web-1")
    run("kvm-snap", "web-1", "create", "@stable")
    write("web-1", 66)
    run("kvm-snap", "web-1", "create", "@later")
    ruined = digest(DEVICE + "web-1")
    guids = datasets()
    run("kvm-snap", "web-1", "rollback", "@stable")
    assert digest(DEVICE + "web-1") == good
    after = datasets()
    assert after["rpool/vms/web-1@stable"] == guids["rpool/vms/web-1@stable"]
    (later,) = [name for name in after if name.endswith("/web-1@later")]
    assert after[later] == guids["rpool/vms/web-1@later"]
    assert "/.trash/" in later
    assert digest("/dev/zvol/" + later.partition("@")[0]) == ruined
    properties = zfs("get", "-H", "-o", "value", "volmode,compression,org.kldload.kvm:role", "rpool/vms/web-1")
    assert properties == ["dev", "lz4", "disk"]
    (entry,) = data(call(ROOT, "Manager", "ListTrash"))[0]
    assert entry["reason"]["data"] == "rolled-back"
    run("kvm-vm", "start", "web-1")
    assert domains()["web-1"] == "running"


def test_the_newest_restore_point_is_one_of_a_person_never_a_clones(vm: Callable[..., str]) -> None:
    vm("web-1")
    write("web-1", 65)
    run("kvm-snap", "web-1")
    good = digest(DEVICE + "web-1")
    write("web-1", 66)
    run("kvm-clone", "web-1", "web-2")
    run("kvm-snap", "web-1", "rollback")
    assert digest(DEVICE + "web-1") == good
    assert digest(DEVICE + "web-2") != good


def test_ten_clones_in_one_call_share_one_snapshot_and_have_identities_of_their_own(vm: Callable[..., str]) -> None:
    vm("template")
    write("template", 67)
    names = [f"web-{number}" for number in range(1, 11)]
    run("kvm-clone", "template", *names)
    origins = {row for row in zfs("get", "-H", "-o", "value", "origin", *(f"rpool/vms/{name}" for name in names))}
    assert len(origins) == 1
    assert {digest(DEVICE + name) for name in names} == {digest(DEVICE + "template")}
    identities = [
        run("virsh", "domuuid", name).stdout + run("virsh", "domiflist", name).stdout.split()[-1] for name in names
    ]
    assert len(set(identities)) == 10
    run("kvm-vm", "start", "web-10")
    write("template", 68)
    assert domains()["web-10"] == "running"
    refused = run("kvm-delete", "template", "--now", "--yes", check=False)
    assert refused.returncode != 0
    assert "web-10" in refused.stderr


@pytest.mark.soak
def test_a_clone_of_a_running_vm_says_how_consistent_it_is(vm: Callable[..., str]) -> None:
    vm("web-1")
    run("kvm-vm", "start", "web-1")
    result = json.loads(run("kvm-clone", "web-1", "web-2", "--json").stdout)
    assert "paused" in json.dumps(result)  # no agent answers in a blank disk, so it was paused
    assert domains() == {"web-1": "running", "web-2": "shut off"}


def test_a_deleted_vm_waits_in_the_trash_and_its_name_is_free(vm: Callable[..., str]) -> None:
    vm("web-1")
    write("web-1", 65)
    good = digest(DEVICE + "web-1")
    run("kvm-snap", "web-1", "@stable")
    run("kvm-vm", "start", "web-1")
    assert run("kvm-delete", "web-1", check=False).returncode != 0
    run("kvm-delete", "web-1", "--force")
    assert domains() == {}
    (disk,) = [name for name in datasets() if name.endswith("/web-1")]
    assert digest("/dev/zvol/" + disk) == good
    assert f"{disk}@stable" in datasets()
    assert set(zfs("get", "-Hro", "value", "-t", "filesystem", "mountpoint", "rpool/vms/.trash")) == {"none"}
    vm("web-1")
    assert get(find("web-1"), "Vm", "SnapshotCount") == 0


@pytest.mark.soak
def test_a_vm_on_another_storage(vm: Callable[..., str]) -> None:
    vm("fast-1", "--storage", "vmpool")
    assert "vmpool/vms/fast-1" in datasets()
    run("kvm-clone", "fast-1", "fast-2")
    run("kvm-vm", "start", "fast-2")
    assert domains() == {"fast-1": "shut off", "fast-2": "running"}
    assert run("kvm-create", "fast-1", check=False).returncode != 0


def test_what_others_do_is_seen(vm: Callable[..., str]) -> None:
    vm("web-1")
    path = find("web-1")
    run("virsh", "start", "web-1")
    wait_until(lambda: get(path, "Vm", "State") == "running", 45, "the start by virsh is seen")
    run("virsh", "destroy", "web-1")
    run("zfs", "snapshot", "rpool/vms/web-1@by-hand")
    wait_until(lambda: get(path, "Vm", "SnapshotCount") == 1, 45, "the snapshot by zfs is seen")
    listed = json.loads(run("kvm-snap", "web-1", "list", "--json").stdout)
    assert "foreign" in json.dumps(listed)
    refused = run("kvm-snap", "web-1", "rollback", check=False)
    assert refused.returncode != 0
    run("kvm-snap", "web-1", "rollback", "@by-hand")
    run("virsh", "net-destroy", "default")
    wait_until(lambda: "network default" in planned("kvm-vm", "start", "web-1"), 45, "a start would start its network")
    assert planned("kvm-create", "web-2", "--network", "bridge=br-lab") == ""
    run("ip", "link", "add", "br-lab", "type", "bridge")
    try:
        wait_until(lambda: planned("kvm-create", "web-2", "--network", "bridge=br-lab"), 45, "the bridge is known")
    finally:
        run("ip", "link", "delete", "br-lab")
    wait_until(lambda: not planned("kvm-create", "web-2", "--network", "bridge=br-lab"), 45, "it is known to be gone")


def planned(*command: str) -> str:
    """The plan of a command; empty if it is refused."""
    return run(*command, "--dry-run", check=False).stdout


def test_everything_on_the_bus_can_be_walked_from_the_root(vm: Callable[..., str]) -> None:
    vm("web-1")
    tree = run("busctl", "tree", "org.kldload.Kvm1").stdout
    assert find("web-1") in tree
    walked = run("gdbus", "introspect", "-y", "-d", "org.kldload.Kvm1", "-o", "/", "-r").stdout
    for interface in ("Manager", "Vm", "Storage", "Job"):
        assert f"interface org.kldload.Kvm1.{interface}" in walked


def test_reads_start_no_process(vm: Callable[..., str]) -> None:
    vm("web-1")
    run("kvm-snap", "web-1")
    path = find("web-1")

    def started() -> set[str]:
        """The processes that the daemon's control group has now, by id and start."""
        text = run("systemctl", "show", "-P", "TasksCurrent", "kldload-kvmd").stdout
        return {text}

    def traced() -> str:
        """What the service does while it is read."""
        log = Path("/var/tmp/reads.strace")
        command = ("strace", "-f", "-q", "-e", "trace=execve,clone3,vfork,fork", "-o", str(log), "-p")
        tracer = subprocess.Popen([*command, str(daemon_pid())])
        try:
            time.sleep(2)
            run("kvm-list")
            call(path, "Vm", "ListSnapshots", "a{sv}", "0")
            call(ROOT, "Manager", "ListTrash")
            run("busctl", "introspect", "org.kldload.Kvm1", path)
        finally:
            tracer.terminate()
            tracer.wait()
        return log.read_text()

    time.sleep(10)  # a few seconds after its own jobs the service reads once more what others may have touched
    before = started()
    if "execve" in traced():  # once a minute it samples how full the pools are
        assert "execve" not in traced()
    assert started() == before


def test_descriptors_that_come_with_a_message_are_closed_once(vm: Callable[..., str]) -> None:
    """A newer bus sends one of the caller's process. Closed twice, the second time it may be somebody else's."""
    cursor = journal_cursor()
    vm("web-1")
    run("kvm-snap", "web-1")
    assert "closed already" not in journal_since(cursor)
