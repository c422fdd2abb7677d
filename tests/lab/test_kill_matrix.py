"""The kill matrix: for every operation and every one of its steps, the daemon is ended by SIGKILL before the step,
while it is under way, and after it was done but not yet recorded. Then it starts again, and the host is as it was
before, or as it is after; a bystander has not noticed anything.

The cells come from the operations' own plans. In `make test` it is a seeded one of each of two operations, one of
those that matter most and one of all others, chosen by the seed too; KILL_MATRIX=each takes one of every operation,
KILL_MATRIX=all, for `make soak`, all of them. A table of what came of each is written to /var/tmp/kill-matrix.md.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from host import (
    ROOT,
    SERVICE,
    data,
    domains,
    get,
    jobs_on_the_bus,
    nothing_on_the_bus,
    remove_everything,
    run,
    vms,
    wait_until,
)
from killable import ARMED, UNIT, arm, killable
from pictures import not_as_after, not_as_before, taken
from scenarios import BYSTANDER, SCENES, Scene, bystander, fresh, operation_of

TABLE = Path("/var/tmp/kill-matrix.md")
MOMENTS = ("before", "during", "after")
EXTENT = os.environ.get("KILL_MATRIX", "some")
ALL = EXTENT == "all"
FIRST = ("vm.create", "vm.snapshot", "vm.rollback", "vm.clone", "vm.delete")
SEED = os.environ.get("KILL_MATRIX_SEED", "1")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200 if ALL else 900)]


@pytest.fixture(scope="module", autouse=True)
def service() -> Iterator[None]:
    """The service with the part that ends itself."""
    TABLE.write_text("| operation | step | killed | the job | the host |\n|---|---|---|---|---|\n")
    with killable():
        yield
    remove_everything()
    wait_until(nothing_on_the_bus, 60, "the service sees that the VMs are gone")


def operations() -> list[str]:
    if EXTENT != "some":
        return list(SCENES)
    dice, others = random.Random(f"{SEED} chosen"), [operation for operation in SCENES if operation not in FIRST]
    return [*dice.sample(FIRST, 1), *dice.sample(others, 1)]


def cells(steps: list[dict[str, str]], operation: str) -> list[tuple[int, str]]:
    found = [(number, moment) for number in range(len(steps)) for moment in MOMENTS]
    return found if ALL else [random.Random(f"{SEED}{operation}").choice(found)]


class Bystander:
    """The running VM that is not to notice anything."""

    def __init__(self) -> None:
        remove_everything()
        wait_until(nothing_on_the_bus, 60, "the service sees that the VMs are gone")
        bystander()
        self.before = self.now()

    def is_well(self) -> bool:
        """After a test that has failed it may be gone."""
        return BYSTANDER in domains() and self.now() == self.before

    def now(self) -> object:
        return run("virsh", "domid", BYSTANDER).stdout, run("virsh", "domstate", BYSTANDER).stdout


WATCHED: list[Bystander] = []


def bystander_now() -> Bystander:
    """That of the test before, if it is as it was: to start one takes long under emulation."""
    if not WATCHED or not WATCHED[-1].is_well():
        WATCHED.append(Bystander())
    return WATCHED[-1]


@pytest.mark.parametrize("operation", operations())
def test_killed_at_a_step_the_host_is_as_before_or_as_after(operation: str) -> None:
    scene = SCENES[operation]
    watched = bystander_now()
    fresh(scene)
    job = scene.start(("plan-only", "b", "true"))
    steps = [{key: value["data"] for key, value in step.items()} for step in get(job, "Job", "Steps")]  # type: ignore
    for number, moment in cells(steps, operation):
        try:
            job_state = one_kill(operation, scene, number, moment)
        except AssertionError:
            told(operation, steps[number], moment, "", "**wrong**")
            raise
        assert watched.now() == watched.before, f"the bystander, after {moment} {steps[number]}"
        told(operation, steps[number], moment, job_state, "as after" if job_state == "succeeded" else "as before")
        if job_state == "succeeded":  # else all is as it was: nothing has to be made again
            fresh(scene)


def one_kill(operation: str, scene: Scene, number: int, moment: str) -> str:
    """Kill once, wait until the service has come to its end with it, and look at the host; the job's state."""
    before, states = taken(), domains()
    pid = run("systemctl", "show", "-P", "MainPID", UNIT).stdout
    delay = random.Random(f"{SEED}{operation}{number}").uniform(0.0, 0.25)
    known = set(jobs_on_the_bus())
    arm(operation_of(operation), number, moment, delay)
    job = ended(started(scene, known), pid)
    state, error = str(get(job, "Job", "State")), str(get(job, "Job", "ErrorMessage"))
    assert not ARMED.exists(), "the step was never reached"
    assert data(run("busctl", "--json=short", "get-property", SERVICE, ROOT, f"{SERVICE}.Manager", "Problems")) == []
    assert run("systemctl", "list-units", "--plain", "--no-legend", "kldload-kvm-convert@*").stdout == ""
    assert list(Path("/run/kldload-kvm/image").iterdir()) == []
    assert all(each["Job"]["data"] == "/" for each in vms()), "a VM is still held by the job"
    if state == "succeeded":
        assert not_as_after(before, taken(), scene) == [], error
        if scene.states is not None:
            assert {n: s for n, s in domains().items() if n != BYSTANDER} == dict(scene.states)
    else:
        assert state == "failed", error
        assert not_as_before(before, taken()) == [], error
        assert domains() == states, error
    return state


def started(scene: Scene, known: set[str]) -> str:
    """The job's path. A daemon that ends itself at the very first step may not have answered yet: then it is the one
    job that was not there before, which the next daemon found in the journal."""
    try:
        return scene.start()
    except AssertionError as unanswered:
        if "disconnected from message bus without replying" not in str(unanswered):
            raise

    new: set[str] = set()

    def found() -> bool:
        with suppress(AssertionError):  # to start it may take longer than the bus waits for that
            new.update(set(jobs_on_the_bus()) - known)
        return bool(new)

    wait_until(found, 120, "the next daemon knows of the job")
    (job,) = new
    return job


def ended(job: str, pid: str) -> str:
    """Wait until a daemon of another process tells that the job has ended. To ask it again and again would take from it
    the processor that it needs to start."""

    def over() -> bool:
        run("busctl", "--timeout=150", "call", SERVICE, job, f"{SERVICE}.Job", "Wait", "a{sv}", "0", check=False)
        done = run("busctl", "--json=short", "get-property", SERVICE, job, f"{SERVICE}.Job", "State", check=False)
        if done.returncode or run("systemctl", "show", "-P", "MainPID", UNIT).stdout in (pid, "0\n"):
            return False
        return json.loads(done.stdout)["data"] in ("succeeded", "failed", "cancelled")

    wait_until(over, 150, f"{job} is brought to its end by the next daemon")
    return job


def told(operation: str, step: dict[str, str], moment: str, job: str, host: str) -> None:
    with TABLE.open("a") as file:
        file.write(f"| {operation} | {step['description']} | {moment} | {job} | {host} |\n")
