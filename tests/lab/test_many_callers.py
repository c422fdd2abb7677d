"""Fifty callers at once on ten VMs: every answer is that it was done, or a clear refusal; and the service then knows
exactly what plain zfs and virsh tell."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from host import SERVICE, call, domains, managed, run, wait_until, zfs

pytestmark = [pytest.mark.soak, pytest.mark.slow, pytest.mark.timeout(1200)]
NAMES = [f"many-{number}" for number in range(10)]
CLEAR = ("is in use by job", "it runs already", "it is running", "there is no", "is taken", "clones of it")
"""Words of the refusals that there may be: the VM is held by another job, runs, or is gone meanwhile."""
WAIT = ("wait", "b", "true")


def calls(paths: dict[str, str]) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Fifty calls, the same each time: object, method, signature, arguments."""
    dice = random.Random(3)
    kinds: list[Callable[[int], tuple[str, str, tuple[str, ...]]]] = [
        lambda n: ("Snapshot", "a{sv}", ("2", "name", "s", f"at-{n}", *WAIT)),
        lambda n: ("Clone", "asa{sv}", ("1", f"copy-{n}", "1", *WAIT)),
        lambda n: ("SetAutostart", "ba{sv}", ("true", "1", *WAIT)),
        lambda n: ("Start", "a{sv}", ("1", *WAIT)),
        lambda n: ("Rollback", "a{sv}", ("2", "snapshot", "s", "first", *WAIT)),
        lambda n: ("Delete", "a{sv}", ("1", *WAIT)),
    ]
    found = []
    for number in range(50):
        (kind,) = dice.choices(kinds, weights=(5, 3, 3, 2, 2, 1))
        found.append((paths[dice.choice(NAMES)], *kind(number)))
    return found


def test_fifty_callers_on_ten_vms(vm: Callable[..., str]) -> None:
    vm(NAMES[0])
    run("kvm-snap", NAMES[0], "@first")
    run("kvm-clone", NAMES[0], *NAMES[1:])
    for name in NAMES[1:]:
        run("kvm-snap", name, "@first")
    paths = {each["Name"]["data"]: path for path, each in vms().items()}
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda c: call(c[0], "Vm", c[1], c[2], *c[3], check=False), calls(paths)))
    assert sum(answer.returncode == 0 for answer in answers) >= 10
    for answer in answers:
        if answer.returncode:
            said = answer.stderr.strip().splitlines()
            assert said and "Traceback" not in answer.stderr
            assert any(words in answer.stderr for words in CLEAR), answer.stderr
    wait_until(lambda: known() == true_state(), 60, "the service knows what zfs and virsh tell")
    assert all(each["Job"]["data"] == "/" for each in vms().values())
    assert not [line for line in zfs("list", "-H", "-o", "name", "-r", "rpool/vms") if "%" in line]


def vms() -> dict[str, dict[str, dict]]:
    return {path: each[f"{SERVICE}.Vm"] for path, each in managed().items() if f"{SERVICE}.Vm" in each}


def known() -> dict[str, tuple[str, int]]:
    """What the service tells: state and number of snapshots, by name."""
    return {v["Name"]["data"]: (v["State"]["data"], v["SnapshotCount"]["data"]) for v in vms().values()}


def true_state() -> dict[str, tuple[str, int]]:
    """The same by zfs and virsh alone."""
    states = {name: state.replace("shut off", "shutoff") for name, state in domains().items()}
    snapshots: dict[str, set[str]] = {name: set() for name in states}
    for row in zfs("list", "-H", "-t", "snapshot", "-o", "name", "-r", "-d", "2", "rpool/vms"):
        volume, _, snapshot = row.removeprefix("rpool/vms/").partition("@")
        if volume.removesuffix(".nvram") in snapshots:
            snapshots[volume.removesuffix(".nvram")].add(snapshot)
    return {name: (state, len(snapshots[name])) for name, state in states.items()}
