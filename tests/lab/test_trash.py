"""The trash on real ZFS: back again with every guid and byte, or gone, and nothing but what was named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from host import DEVICE, ROOT, call, data, datasets, digest, domains, find, get, run, wait_until, write, zfs


def entries() -> list[dict]:
    """The trash, newest first."""
    return json.loads(run("kvm-trash", "list", "--json").stdout)


def guids(*prefixes: str) -> dict[str, str]:
    return {name: guid for name, guid in datasets().items() if name.startswith(prefixes)}


def test_a_rollback_is_undone_with_every_snapshot_and_its_guid(vm: Callable[..., str]) -> None:
    vm("web-1")
    write("web-1", 65)
    run("kvm-snap", "web-1", "@stable")
    write("web-1", 66)
    run("kvm-snap", "web-1", "@later")
    write("web-1", 67)
    before, given_up = guids("rpool/vms/web-1"), digest(DEVICE + "web-1")
    run("kvm-snap", "web-1", "rollback", "@stable")
    write("web-1", 68)
    current = digest(DEVICE + "web-1")
    run("kvm-snap", "web-1", "@after")
    run("kvm-vm", "start", "web-1")
    refused = run("kvm-trash", "restore", "web-1", check=False)
    assert refused.returncode != 0
    assert "running" in refused.stderr
    run("kvm-vm", "off", "web-1")
    run("kvm-trash", "restore", "web-1")
    assert guids("rpool/vms/web-1") == before
    assert digest(DEVICE + "web-1") == given_up
    (entry,) = entries()
    (disk,) = [name for name in entry["volumes"] if name.endswith("/web-1")]
    assert digest(f"/dev/zvol/{disk}") == current
    assert [name for name in datasets() if name.startswith(f"{disk}@")] == [f"{disk}@after"]
    run("kvm-vm", "start", "web-1")
    assert domains() == {"web-1": "running"}
    run("kvm-vm", "off", "web-1")
    run("kvm-trash", "restore", entry["id"])
    assert digest(DEVICE + "web-1") == current


def test_a_deleted_vm_comes_back_with_its_domain_and_starts(vm: Callable[..., str]) -> None:
    vm("web-1")
    write("web-1", 65)
    good = digest(DEVICE + "web-1")
    run("kvm-snap", "web-1", "@stable")
    run("kvm-vm", "autostart", "web-1", "on")
    before, uuid, path = guids("rpool/vms/web-1"), run("virsh", "domuuid", "web-1").stdout, find("web-1")
    run("kvm-delete", "web-1")
    vm("web-1")
    taken = run("kvm-trash", "restore", "web-1", check=False)
    assert taken.returncode != 0
    assert "taken" in taken.stderr
    run("kvm-delete", "web-1", "--now", "--yes")
    run("kvm-trash", "restore", "web-1")
    assert guids("rpool/vms/web-1") == before
    assert run("virsh", "domuuid", "web-1").stdout == uuid
    assert find("web-1") == path
    assert digest(DEVICE + "web-1") == good
    assert get(path, "Vm", "Autostart") is True
    assert entries() == []
    run("kvm-vm", "start", "web-1")
    assert domains() == {"web-1": "running"}
    run("kvm-delete", "web-1", "--force")
    run("kvm-trash", "restore", "web-1", "--name", "web-2")
    run("kvm-vm", "start", "web-2")
    assert domains() == {"web-2": "running"}
    assert DEVICE + "web-2'" in run("virsh", "dumpxml", "web-2").stdout


def test_a_purge_takes_exactly_what_its_plan_names(vm: Callable[..., str]) -> None:
    vm("web-1")
    vm("bystander")
    run("kvm-snap", "web-1", "@stable")
    run("kvm-snap", "web-1", "@later")
    run("kvm-snap", "web-1", "rollback", "@stable")
    (entry,) = entries()
    refused = run("kvm-snap", "web-1", "delete", "@stable", "--yes", check=False)
    assert f"trash entry {entry['id']}" in refused.stderr
    plan = json.loads(run("kvm-trash", "purge", entry["id"], "--dry-run", "--json").stdout)
    before = datasets()
    run("kvm-trash", "purge", entry["id"], "--yes")
    after = datasets()
    assert sorted(before.keys() - after.keys()) == sorted(plan["destroys"])
    assert {name: before[name] for name in after} == after
    assert any(name.endswith("@later") for name in plan["destroys"])
    assert "rpool/vms/web-1@stable" in after


def test_what_somebody_reads_is_not_destroyed_in_part_and_keeps_nothing_else(vm: Callable[..., str]) -> None:
    for name in ("web-1", "web-2"):
        vm(name)
        run("kvm-snap", name, "@stable")
        run("kvm-delete", name)
    for entry in entries():
        run("zfs", "set", "org.kldload.kvm:since=1700000000", entry["dataset"])
    wait_until(lambda: all(each["due"] for each in entries()), 45, "the service sees that the entries are older now")
    (read,) = (each for each in entries() if each["vm"] == "web-1")
    before = guids(read["dataset"])
    device = Path(f"/dev/zvol/{read['dataset']}/web-1.nvram")
    wait_until(device.exists, 30, "its device is there")
    with device.open("rb"):
        refused = run("kvm-trash", "purge", read["id"], "--yes", check=False)
        assert "web-1.nvram is in use" in refused.stderr
        assert "python3" in refused.stderr
        run("kvm-trash", "purge", "--expired")
        assert [each["vm"] for each in entries()] == ["web-1"]
        assert guids(read["dataset"]) == before
    run("kvm-trash", "purge", "--expired")
    assert entries() == []


@pytest.mark.soak
def test_the_timer_purges_what_has_waited_long_enough(vm: Callable[..., str]) -> None:
    vm("web-1")
    run("kvm-delete", "web-1")
    assert run("systemctl", "is-enabled", "kldload-kvm-trash.timer").stdout == "enabled\n"
    assert run("systemctl", "is-active", "kldload-kvm-trash.timer").stdout == "active\n"
    run("systemctl", "start", "kldload-kvm-trash.service")
    (entry,) = entries()
    assert not entry["due"]
    run("zfs", "set", "org.kldload.kvm:since=1700000000", entry["dataset"])
    wait_until(lambda: entries()[0]["due"], 45, "the service sees that the entry is older now")
    run("systemctl", "start", "kldload-kvm-trash.service")
    assert entries() == []
    assert not [name for name in datasets() if "web-1" in name]


def test_an_origin_waits_in_the_trash_for_its_clones(vm: Callable[..., str]) -> None:
    vm("template")
    write("template", 65)
    good = digest(DEVICE + "template")
    run("kvm-clone", "template", "web-1", "web-2")
    done = run("kvm-delete", "template")
    assert "web-1, web-2" in done.stderr
    (entry,) = entries()
    assert entry["held-by"] == ["web-1", "web-2"]
    refused = run("kvm-trash", "purge", entry["id"], "--yes", check=False)
    assert refused.returncode != 0
    assert "web-1, web-2" in refused.stderr
    run("kvm-delete", "web-1", "--now", "--yes")
    assert digest(DEVICE + "web-2") == good
    run("kvm-delete", "web-2", "--now", "--yes")
    assert not [name for name in datasets() if "@clone-" in name]
    run("kvm-trash", "purge", entry["id"], "--yes")
    assert entries() == []


@pytest.mark.soak
def test_a_clone_is_promoted_so_that_its_origin_can_go_under_a_running_guest(vm: Callable[..., str]) -> None:
    vm("template")
    write("template", 65)
    good = digest(DEVICE + "template")
    run("kvm-snap", "template", "@stable")
    run("kvm-clone", "template", "web-1", "--snap", "@stable")
    run("kvm-clone", "template", "web-2")
    run("kvm-vm", "start", "web-2")
    run("kvm-delete", "template", "--promote")
    assert zfs("get", "-H", "-o", "name,value", "origin", "rpool/vms/web-1", "rpool/vms/web-2") == [
        "rpool/vms/web-1\trpool/vms/web-2@stable", "rpool/vms/web-2\t-",
    ]  # fmt: skip
    (entry,) = entries()
    assert entry["held-by"] == []
    run("kvm-trash", "purge", entry["id"], "--yes")
    assert {digest(DEVICE + name) for name in ("web-1", "web-2")} == {good}
    assert domains() == {"web-1": "shut off", "web-2": "running"}


def test_the_calls_work_from_a_script(vm: Callable[..., str]) -> None:
    vm("web-1")
    call(find("web-1"), "Vm", "Delete", "a{sv}", "1", "wait", "b", "true")
    (entry,) = data(call(ROOT, "Manager", "ListTrash"))[0]
    call(ROOT, "Manager", "RestoreTrash", "sa{sv}", entry["id"]["data"], "1", "wait", "b", "true")
    call(find("web-1"), "Vm", "Delete", "a{sv}", "1", "wait", "b", "true")
    (entry,) = data(call(ROOT, "Manager", "ListTrash"))[0]
    call(ROOT, "Manager", "PurgeTrash", "asa{sv}", "1", entry["id"]["data"], "1", "wait", "b", "true")
    assert data(call(ROOT, "Manager", "ListTrash")) == [[]]
