"""Full copies and templates, on real ZFS and libvirt: nothing shared, and nobody starts a template, virsh neither."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from host import DEVICE, datasets, digest, domains, find, get, run, without_hook, write, zfs


def test_a_full_copy_shares_nothing_and_outlives_what_it_was_made_from(vm: Callable[..., str]) -> None:
    vm("web-1")
    write("web-1", 65, 32)
    good = digest(DEVICE + "web-1", 64)
    plan = json.loads(run("kvm-clone", "web-1", "copy-1", "--full", "--dry-run", "--json").stdout)
    assert all("@clone-" in name for name in plan["destroys"])
    run("kvm-clone", "web-1", "copy-1", "--full")
    names = ("rpool/vms/copy-1", "rpool/vms/copy-1.nvram")
    assert zfs("get", "-H", "-o", "value", "origin", *names) == ["-", "-"]
    assert zfs("get", "-H", "-o", "value", "refreservation,volmode,readonly", names[0]) == ["none", "dev", "off"]
    assert not [name for name in datasets() if "@" in name]
    run("kvm-delete", "web-1", "--now", "--yes")
    assert digest(DEVICE + "copy-1", 64) == good
    run("kvm-vm", "start", "copy-1")
    assert domains() == {"copy-1": "running"}


def test_a_full_copy_that_is_cancelled_leaves_nothing(vm: Callable[..., str]) -> None:
    vm("web-1", "--disk", "512M")
    run("sh", "-c", f"head -c 256M /dev/urandom > {DEVICE}web-1")
    before = datasets()
    job = run("kvm-clone", "web-1", "copy-1", "--full", "--no-wait").stdout.strip()
    run("kvm-job", "cancel", job)
    ended = run("kvm-job", "wait", job, check=False)
    assert ended.returncode != 0
    assert datasets() == before
    assert domains() == {"web-1": "shut off"}


@pytest.mark.soak
def test_a_template_does_not_start_by_whatever_way(vm: Callable[..., str]) -> None:
    vm("base")
    write("base", 65)
    good = digest(DEVICE + "base")
    run("kvm-vm", "start", "base")
    running = run("kvm-vm", "template", "base", "on", check=False)
    assert running.returncode != 0
    assert "running" in running.stderr
    run("kvm-vm", "off", "base")
    run("kvm-vm", "template", "base", "on")
    assert get(find("base"), "Vm", "Template") is True
    assert "base  template" in run("kvm-list").stdout
    ours = run("kvm-vm", "start", "base", check=False)
    assert ours.returncode != 0
    assert "is a template" in ours.stderr
    theirs = run("virsh", "start", "base", check=False)
    assert theirs.returncode != 0
    assert "base is a template, and does not start; clone it: kvm-clone base NAME" in theirs.stderr
    with without_hook():
        theirs = run("virsh", "start", "base", check=False)
    assert theirs.returncode != 0
    assert "read-only" in theirs.stderr.lower(), theirs.stderr
    run("kvm-clone", "base", "web-1", "web-2")
    run("kvm-clone", "base", "copy-1", "--full")
    for name in ("web-1", "web-2", "copy-1"):
        assert get(find(name), "Vm", "Template") is False
        assert zfs("get", "-H", "-o", "value", "readonly", f"rpool/vms/{name}") == ["off"]
        assert digest(DEVICE + name) == good
    run("kvm-vm", "start", "web-1", "copy-1")
    assert domains() == {"base": "shut off", "web-1": "running", "web-2": "shut off", "copy-1": "running"}
    run("kvm-vm", "template", "base", "off")
    run("virsh", "start", "base")
    assert domains()["base"] == "running"


@pytest.mark.soak
def test_a_template_from_the_start_keeps_being_one_in_the_trash_and_back(vm: Callable[..., str]) -> None:
    vm("base", "--template")
    assert run("virsh", "start", "base", check=False).returncode != 0
    run("kvm-snap", "base", "@stable")
    run("kvm-snap", "base", "rollback", "@stable")
    assert run("virsh", "start", "base", check=False).returncode != 0
    run("kvm-trash", "restore", "base")
    run("kvm-delete", "base")
    deleted = json.loads(run("kvm-trash", "list", "--json").stdout)
    (entry,) = [each["id"] for each in deleted if each["reason"] == "deleted"]
    run("kvm-trash", "restore", entry)
    assert get(find("base"), "Vm", "Template") is True
    assert run("virsh", "start", "base", check=False).returncode != 0
    assert domains() == {"base": "shut off"}
