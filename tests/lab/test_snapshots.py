"""Snapshots of all VMs at once, the hourly timer, and rollback with all that it concerns, on the real thing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from host import domains, run, wait_until, zfs

OURS = "org.kldload.kvm:"


def kept(name: str, key: str) -> str:
    return zfs("get", "-H", "-o", "value", OURS + key, name)[0]


def snapshots(name: str) -> list[str]:
    """The names of a volume's snapshots, oldest first, as ZFS has them."""
    rows = zfs("list", "-H", "-d", "1", "-t", "snapshot", "-s", "createtxg", "-o", "name", name)
    return [row.partition("@")[2] for row in rows]


def test_all_vms_at_once_each_with_its_own_consistency(vm: Callable[..., str]) -> None:
    vm("all-run", "--start")
    vm("all-off")
    vm("all-fast", "--storage", "vmpool")
    said = run("kvm-snap", "--all", "@lab").stdout
    assert "all-off@lab taken (shut off)" in said
    assert "all-run@lab taken (paused for" in said
    assert domains() == {"all-run": "running", "all-off": "shut off", "all-fast": "shut off"}
    rows = zfs("list", "-Hp", "-r", "-t", "snapshot", "-o", "name,createtxg", "rpool/vms", "vmpool/vms")
    groups = dict(row.split("\t") for row in rows if "@lab" in row)
    wanted = {f"rpool/vms/all-{name}@lab" for name in ("run", "run.nvram", "off", "off.nvram")}
    assert groups.keys() == wanted | {"vmpool/vms/all-fast@lab", "vmpool/vms/all-fast.nvram@lab"}
    assert len({groups[name] for name in wanted}) == 1, "in one transaction"
    for name, consistency in (("run", "paused"), ("off", "off")):
        for end in ("", ".nvram"):
            full = f"rpool/vms/all-{name}{end}@lab"
            assert kept(full, "snapshot").startswith(f"manual:{consistency}:")
            assert (kept(full, "domain") != "-") == (end == ""), "the definition stands on one volume"
    refused = run("kvm-snap", "--all", "@strict", "--require", "app", check=False)
    assert refused.returncode == 6 and "all-run (paused)" in refused.stderr
    assert domains()["all-run"] == "running"
    assert not [row for row in zfs("list", "-H", "-r", "-t", "snapshot", "-o", "name", "rpool/vms") if "strict" in row]


@pytest.fixture
def clock() -> Iterator[Callable[[int], None]]:
    """Moves the clock by so many hours, for the length of a test."""
    moved = 0

    def move(hours: int) -> None:
        nonlocal moved
        run("date", "-s", f"@{int(time.time()) + hours * 3600}")
        moved += hours

    yield move
    run("date", "-s", f"@{int(time.time()) - moved * 3600}")


def test_the_timer_takes_them_and_removes_what_was_kept_long_enough(
    vm: Callable[..., str], clock: Callable[[int], None]
) -> None:
    assert run("systemctl", "is-enabled", "kldload-kvm-snapshot.timer").stdout == "enabled\n"
    assert "Hourly snapshots" in run("systemctl", "status", "kvm-snapshot.timer", check=False).stdout
    vm("all-web")
    run("kvm-snap", "all-web", "create", "@mine")
    run("zfs", "snapshot", "rpool/vms/all-web@auto-another-tool")
    run("systemctl", "start", "kldload-kvm-snapshot.service")
    time.sleep(1.1)  # one of the same second would have a number after its name
    run("systemctl", "start", "kldload-kvm-snapshot.service")
    first, second = (name for name in snapshots("rpool/vms/all-web") if name.endswith("Z"))
    assert kept(f"rpool/vms/all-web@{first}", "snapshot").startswith("auto:off:")
    run("zfs", "hold", "somebody", f"rpool/vms/all-web.nvram@{second}")
    clock(72)
    run("systemctl", "start", "kldload-kvm-snapshot.service")
    *left, third = snapshots("rpool/vms/all-web")
    assert left == ["mine", "auto-another-tool", second], "what is held stays, and another's, and a person's"
    assert third.startswith("auto-")
    assert first not in snapshots("rpool/vms/all-web.nvram")
    run("zfs", "release", "somebody", f"rpool/vms/all-web.nvram@{second}")
    wait_until(
        lambda: second in run("kvm-snap", "--all", "--auto", "--dry-run").stdout,
        30,
        "the release is seen by the service",
    )
    assert second in snapshots("rpool/vms/all-web"), "a plan removes nothing"


def test_a_rollback_says_beforehand_whom_it_concerns(vm: Callable[..., str]) -> None:
    vm("all-web")
    run("kvm-snap", "all-web", "create", "@first")
    run("kvm-snap", "all-web", "create", "@second")
    run("kvm-clone", "all-web", "all-copy", "--snap", "@second")
    run("zfs", "hold", "somebody", "rpool/vms/all-web@second")
    run("zfs", "bookmark", "rpool/vms/all-web@second", "rpool/vms/all-web#sent")

    def said() -> str:
        return run("kvm-snap", "all-web", "rollback", "@first", "--dry-run").stdout

    wait_until(lambda: "all-web#sent" in said() and "somebody holds" in said(), 30, "hold and bookmark are seen")
    assert "newer snapshots go to the trash with the state given up: second" in said()
    assert "these are clones of newer snapshots, whose origin will be in the trash: all-copy" in said()
    guid = zfs("get", "-H", "-o", "value", "guid", "rpool/vms/all-web@first")
    run("kvm-snap", "all-web", "rollback", "@first")
    assert zfs("get", "-H", "-o", "value", "guid", "rpool/vms/all-web@first") == guid
    found = zfs("list", "-H", "-r", "-t", "snapshot", "-o", "name", "rpool/vms/.trash")
    (given_up,) = [name for name in found if name.endswith("/all-web@second")]
    assert "somebody" in run("zfs", "holds", "-H", given_up).stdout
    run("zfs", "release", "somebody", given_up)


def test_a_rollback_brings_the_definition_back_when_asked_to(vm: Callable[..., str]) -> None:
    vm("all-web")
    before = run("virsh", "dumpxml", "--inactive", "all-web").stdout
    run("kvm-snap", "all-web", "create", "@first")
    run("virsh", "desc", "all-web", "--config", "--title", "changed")
    changed = run("virsh", "dumpxml", "--inactive", "all-web").stdout
    assert changed != before
    wait_until(
        lambda: "define all-web as it was" in run(
            "kvm-snap", "all-web", "rollback", "@first", "--with-definition", "--dry-run").stdout,
        30, "it is planned",
    )  # fmt: skip
    done = run("kvm-snap", "all-web", "rollback", "@first", "--with-definition", "--json").stdout
    assert run("virsh", "dumpxml", "--inactive", "all-web").stdout == before
    assert "set them anew" in json.loads(done)["warnings"][-1]


def test_a_plan_is_stale_once_the_definition_has_changed(vm: Callable[..., str]) -> None:
    vm("all-web")
    plan = json.loads(run("kvm-delete", "all-web", "--dry-run", "--json").stdout)["job"]
    run("virsh", "desc", "all-web", "--config", "--title", "changed")
    done = run("kvm-job", "apply", plan, check=False)
    assert done.returncode == 6 and "the definition of the VM has changed" in done.stderr
    assert domains() == {"all-web": "shut off"}
