"""What cannot be: each refused with what, why and what to do, and nothing changed. Images have their own file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from host import ROOT, call, datasets, domains, find, get, run, wait_until

BAD_NAMES = [
    "a/b", "a@b", "a%b", "-a", "..", "a..b", "a b", "a\tb", "a\x1bb", "", "a" * 300, "isos", "web.nvram", "web.seed",
    "web.vdb", "é", "a#b", ".hidden",
]  # fmt: skip


def refused(*command: str) -> str:
    """The words of a refusal; the host is the same before and after."""
    before = datasets(), domains()
    done = run(*command, check=False)
    assert done.returncode not in (0, 130), command
    assert "Traceback" not in done.stderr
    assert done.stderr.strip(), "a refusal says why"
    assert (datasets(), domains()) == before
    return done.stderr


def test_bad_names() -> None:
    refused("kvm-create", "--", "a/b")
    before = datasets()
    for name in BAD_NAMES:
        done = call(ROOT, "Manager", "CreateVm", "sa{sv}", name, "0", check=False)
        assert done.returncode != 0, name
        assert "cannot be the name of a VM" in done.stderr, name
    assert datasets() == before


def test_a_taken_name(vm: Callable[..., str]) -> None:
    vm("web-1")
    assert "taken" in refused("kvm-create", "web-1")
    assert "taken" in refused("kvm-create", "web-1", "--storage", "vmpool")
    assert "taken" in refused("kvm-clone", "web-1", "web-2", "web-1")
    run("zfs", "create", "-s", "-V", "1M", "rpool/vms/foreign")
    said = refused("kvm-create", "foreign")
    assert "taken" in said or "already exists" in said  # ours, or ZFS's own if the service has not seen it yet


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--disk", "0"], ""),
        (["--disk", "-5"], ""),
        (["--disk", "1000001K"], "block size"),
        (["--disk", "two"], "size"),
        (["--disk", "2000000T"], ""),
        (["--ram", "1"], "memory"),
        (["--cpus", "0"], ""),
        (["--cpus", "4000"], ""),
        (["--os", "debian99"], "osinfo"),
        (["--network", "bridge=br7"], "bridge"),
        (["--network", "network=nosuch"], "network"),
        (["--network", "eth0"], "network"),
        (["--storage", "nosuch"], "storage"),
        (["--image", "nosuch.qcow2"], ""),
        (["--iso", "/nonexistent.iso"], ""),
        (["--volblocksize", "3000"], ""),
        (["--compression", "rar"], "compression"),
        (["--user", "alice"], ""),
    ],
)
def test_what_a_vm_cannot_be_made_with(options: list[str], says: str) -> None:
    assert says in refused("kvm-create", "refused-1", *options)


def test_more_than_the_pool_holds_is_thin_and_warned_about() -> None:
    done = run("kvm-create", "huge", "--disk", "500G", "--dry-run")
    assert "thin" in done.stdout + done.stderr
    assert "500G" in done.stdout + done.stderr


def test_unknown_vms_snapshots_and_options(vm: Callable[..., str]) -> None:
    vm("web-1")
    assert "no VM" in refused("kvm-delete", "web-2")
    assert "no snapshot" in refused("kvm-snap", "web-1", "rollback", "@nosuch")
    assert "no snapshot" in refused("kvm-clone", "web-1", "web-2", "--snap", "@nosuch")
    assert "no snapshot" in refused("kvm-snap", "web-1", "delete", "@nosuch")
    assert "nothing to be rolled back to" in refused("kvm-snap", "web-1", "rollback")
    path = find("web-1")
    done = call(path, "Vm", "Snapshot", "a{sv}", "1", "nosuch", "b", "true", check=False)
    assert "no option 'nosuch'" in done.stderr
    done = call(path, "Vm", "Snapshot", "a{sv}", "1", "name", "b", "true", check=False)
    assert "has the type s" in done.stderr
    done = call(path, "Vm", "Snapshot", "as", "0", check=False)
    assert "takes (a{sv})" in done.stderr
    assert call(path, "Vm", "Nosuch", check=False).returncode != 0


def test_bad_snapshot_names(vm: Callable[..., str]) -> None:
    vm("web-1")
    path, before = find("web-1"), datasets()
    for name in ("a/b", "a@b", "-a", "a b", "", "auto-1", "clone-x", "repl-x", "x" * 200):
        done = call(path, "Vm", "Snapshot", "a{sv}", "1", "name", "s", name, check=False)
        assert done.returncode != 0, name
        assert "snapshot" in done.stderr, name
    assert datasets() == before


def test_a_running_vm_is_neither_rolled_back_nor_deleted_without_force(vm: Callable[..., str]) -> None:
    vm("web-1")
    run("kvm-snap", "web-1", "@stable")
    run("kvm-vm", "start", "web-1")
    assert "running" in refused("kvm-snap", "web-1", "rollback", "@stable")
    assert "running" in refused("kvm-delete", "web-1")
    run("kvm-snap", "web-1", "rollback", "@stable", "--force")
    assert domains() == {"web-1": "shut off"}


def test_what_others_are_clones_of_is_not_destroyed(vm: Callable[..., str]) -> None:
    vm("web-1")
    run("kvm-snap", "web-1", "@stable")
    run("kvm-clone", "web-1", "web-2", "--snap", "@stable")
    assert "web-2" in refused("kvm-snap", "web-1", "delete", "@stable")
    assert "web-2" in refused("kvm-delete", "web-1", "--now", "--yes")


def test_the_trash_is_asked_for_what_it_has_not(vm: Callable[..., str]) -> None:
    vm("web-1")
    assert "no entry" in refused("kvm-trash", "restore", "web-1")
    for entry in ("web-1", "web-1-20260401T153022Z", "a/b"):
        assert "no entry" in refused("kvm-trash", "purge", entry, "--yes")
    refused("kvm-trash", "purge")


def test_libvirt_missing_is_said_and_heals_by_itself(vm: Callable[..., str]) -> None:
    vm("web-1")
    sockets = ("libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket")
    run("systemctl", "stop", "libvirtd.service", *sockets)
    try:
        wait_until(lambda: get(ROOT, "Manager", "Problems"), 30, "the service says that libvirt is away")
        assert "libvirt" in refused_without_libvirt("kvm-create", "web-2")
        assert "libvirt" in refused_without_libvirt("kvm-vm", "start", "web-1")
        assert "web-1" in run("kvm-list").stdout
    finally:
        run("systemctl", "start", *sockets)
    wait_until(lambda: not get(ROOT, "Manager", "Problems"), 60, "the service has found libvirt again")
    run("kvm-vm", "start", "web-1")
    assert domains() == {"web-1": "running"}


def refused_without_libvirt(*command: str) -> str:
    before = datasets()
    done = run(*command, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert datasets() == before
    return done.stderr
