"""One guest that really runs, asked by its agent: held still for a snapshot and let go again whatever befalls us, shown
its new disks, rolled back and compared, and made a template whose clones are not the same machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from host import (
    GUEST,
    agent,
    agent_is_up,
    datasets,
    domains,
    in_guest,
    managed,
    nothing_on_the_bus,
    remove_everything,
    run,
    wait_until,
)
from killable import ARMED, arm, killable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
BOOT_SECONDS = 900
DOWN = 40.0
"""Seconds in which no service runs: the agent is asked meanwhile, who may be slow to answer."""
JOB = "org.kldload.Kvm1.Job"


@pytest.fixture(scope="module", autouse=True)
def guest() -> Iterator[None]:
    run("systemctl", "stop", "kldload-kvm-snapshot.timer")
    if GUEST.name not in run("kvm-image", "list").stdout:
        run("kvm-image", "add", str(GUEST))
    run("kvm-create", "guest-1", "--image", GUEST.name, "--ram", "384", "--cpus", "1", "--disk", "1")
    booted("guest-1")
    yield
    remove_everything()
    wait_until(nothing_on_the_bus, 120, "the service sees that the VMs are gone")


def booted(name: str) -> None:
    wait_until(lambda: agent_is_up(name), BOOT_SECONDS, f"the guest agent of {name} answers")


def frozen(name: str) -> str:
    status = agent(name, "guest-fsfreeze-status")
    return str(status["return"]) if status else "no answer"


def test_killed_while_its_guest_is_frozen_and_libvirt_restarted_meanwhile_it_is_thawed() -> None:
    """The next daemon finds in its journal whom it held, and lets go of it, by the same agent."""
    steps = json.loads(run("kvm-snap", "guest-1", "@cut", "--dry-run", "--json").stdout)["steps"]
    at = next(n for n, step in enumerate(steps) if step["kind"] == "snapshot.take")
    with killable(DOWN):
        arm("vm.snapshot", at, "before")
        run("kvm-snap", "guest-1", "@cut", "--no-wait")  # who waits would have D-Bus start the service at once
        wait_until(lambda: not ARMED.exists(), 60, "the step is reached")
        wait_until(lambda: frozen("guest-1") == "frozen", 25, "its guest is frozen")
        run("systemctl", "restart", "libvirtd")
        wait_until(lambda: frozen("guest-1") == "thawed", 150, "the guest is thawed by the next daemon")
    assert "rpool/vms/guest-1@cut" not in datasets()
    assert in_guest("guest-1", "echo on > /data/on && sync && cat /data/on") == "on"
    jobs = [each[JOB] for each in managed().values() if JOB in each]
    (job,) = [job for job in jobs if job["Description"]["data"].endswith("@cut")]
    assert (job["State"]["data"], job["ErrorName"]["data"].rpartition(".")[2]) == ("failed", "Interrupted")


def test_a_snapshot_of_all_freezes_it_by_its_agent() -> None:
    booted("guest-1")
    told = every("@every")
    if told["consistency"] == "paused":  # beside another guest that boots the agent may not answer in time
        told = every("@again")
    assert (told["vm"], told["consistency"]) == ("guest-1", "app")
    assert 0 < told["held"] < 30
    wait_until(lambda: frozen("guest-1") != "no answer", 30, "its agent answers")
    assert frozen("guest-1") == "thawed"
    assert "rpool/vms/guest-1@every" in datasets()


def every(name: str) -> dict[str, Any]:
    (told,) = json.loads(run("kvm-snap", "--all", name, "--json").stdout)["result"]["snapshots"]
    return dict(told)


def test_it_sees_a_disk_that_grows_that_is_added_and_that_is_taken_away() -> None:
    size = "cat /sys/block/{}/size 2> /dev/null || echo 0"
    before = int(in_guest("guest-1", size.format("vda")))
    run("kvm-vm", "resize", "guest-1", "+256M")
    grown = str(before + (256 << 11))
    wait_until(lambda: in_guest("guest-1", size.format("vda")) == grown, 120, "the guest sees its larger disk")
    added = json.loads(run("kvm-vm", "attach-disk", "guest-1", "64M", "--json").stdout)["result"]
    name = added["target"]
    wait_until(lambda: in_guest("guest-1", size.format(name)) == str(64 << 11), 60, "the guest sees its new disk")
    in_guest("guest-1", f"echo kept | dd of=/dev/{name} bs=512 conv=sync,fsync 2> /dev/null")
    entry = json.loads(run("kvm-vm", "detach-disk", "guest-1", name, "--json").stdout)["result"]["trash"]
    wait_until(lambda: in_guest("guest-1", f"ls /sys/block | grep -c {name} || :") == "0", 120, "the disk is gone")
    run("kvm-trash", "restore", entry)
    wait_until(lambda: in_guest("guest-1", f"head -c 4 /dev/{name} || :") == "kept", 60, "the disk is back as it was")


@pytest.mark.soak
def test_rolled_back_it_has_its_file_again() -> None:
    in_guest("guest-1", "head -c 1000000 /dev/urandom > /data/letter && sync")
    good = in_guest("guest-1", "sha256sum < /data/letter")
    taken = json.loads(run("kvm-snap", "guest-1", "@stable", "--json").stdout)["result"]
    assert taken["consistency"] == "app"
    in_guest("guest-1", "echo ruined > /data/letter && sync")
    run("kvm-snap", "guest-1", "rollback", "@stable", "--force", "--yes")
    run("kvm-vm", "start", "guest-1")
    booted("guest-1")
    assert in_guest("guest-1", "sha256sum < /data/letter") == good


@pytest.mark.soak
def test_generalized_it_is_a_template_and_its_clone_another_machine() -> None:
    """Last: the guest is off afterwards."""
    in_guest("guest-1", "echo on > /data/on && sync")
    identity = "cat /etc/machine-id; hostname"
    before = in_guest("guest-1", identity).split()
    run("kvm-vm", "template", "guest-1", "on", "--generalize")
    assert domains()["guest-1"] == "shut off"
    assert run("virsh", "start", "guest-1", check=False).returncode
    run("kvm-clone", "guest-1", "guest-9", "--start")
    booted("guest-9")
    wait_until(lambda: in_guest("guest-9", "hostname") == "guest-9", 120, "the clone has its own name")
    wait_until(lambda: len(in_guest("guest-9", identity).split()) == 2, 120, "the clone has a machine-id")
    after = in_guest("guest-9", identity).split()
    assert after[0] != before[0]
    assert in_guest("guest-9", "cat /data/on") == "on"
