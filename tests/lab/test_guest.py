"""With a guest that really runs: frozen by its agent, rolled back and compared, cloned with an identity of its own."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from host import GUEST, ROOT, agent_is_up, call, data, domains, in_guest, run, wait_until, zfs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
BOOT_SECONDS = 900


def booted(name: str) -> None:
    wait_until(lambda: agent_is_up(name), BOOT_SECONDS, f"the guest agent of {name} answers")


@pytest.mark.soak
def test_a_guest_is_frozen_rolled_back_and_cloned(vm: Callable[..., str]) -> None:
    if GUEST.name not in run("kvm-image", "list").stdout:
        run("kvm-image", "add", str(GUEST))
    run("kvm-create", "guest-1", "--image", GUEST.name, "--ram", "384", "--cpus", "1", "--disk", "1")
    booted("guest-1")
    assert in_guest("guest-1", "hostname") == "guest-1"

    in_guest("guest-1", "head -c 1000000 /dev/urandom > /data/letter && sync")
    good = in_guest("guest-1", "sha256sum < /data/letter")
    taken = json.loads(run("kvm-snap", "guest-1", "create", "@stable", "--json").stdout)
    assert "app" in json.dumps(taken)
    assert in_guest("guest-1", "echo thawed > /data/after && cat /data/after") == "thawed"
    (known,) = zfs("get", "-H", "-o", "value", "org.kldload.kvm:snapshot", "rpool/vms/guest-1@stable")
    assert known.startswith("manual:app:")
    (tables,) = data(call(ROOT, "Manager", "GetStatistics", "a{sv}", "1", "tables", "as", "1", "held"))
    assert [each["how"]["data"] for each in tables["held"]] == ["frozen"]

    # A clone of the running guest, for a host without cloud-init's help: no seed, so the agent renews its identity.
    run("kvm-clone", "guest-1", "guest-2", "--start")

    in_guest("guest-1", "echo ruined > /data/letter && sync")
    run("kvm-snap", "guest-1", "rollback", "@stable", "--force", "--yes")
    run("kvm-vm", "start", "guest-1")
    booted("guest-1")
    assert in_guest("guest-1", "sha256sum < /data/letter") == good

    booted("guest-2")
    assert in_guest("guest-2", "hostname") == "guest-2"
    assert in_guest("guest-2", "sha256sum < /data/letter") == good
    run("kvm-vm", "shutdown", "guest-1")
    assert domains() == {"guest-1": "shut off", "guest-2": "running"}
