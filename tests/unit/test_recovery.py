"""After a kill: the next engine finishes or undoes what was open, from the journal and the host alone.

A kill is an exception that nothing catches, raised at the n-th moment and at every later one: before and after each
write to the journal, and before and after each effect on the host. The journal is a real one, in a file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.job import Job, State
from kldload_kvm.engine.plan import Plan, Run
from kldload_kvm.engine.sqlite_journal import SqliteJournal
from kldload_kvm.model.errors import Busy, Interrupted, KvmError, Stale
from loops import in_loop
from toy_host import Burn, Put, PutBeside, Take, ToyHost
from unit.test_engine_undo import BEFORE, plans, state_after


class Killed(BaseException):
    """SIGKILL: nothing catches it, and nothing runs after it."""


class Moments:
    """Counts moments, and kills at the one numbered `last` and at every later one."""

    def __init__(self, last: int) -> None:
        self.last, self.seen = last, 0

    def __call__(self, what: str = "") -> None:
        self.seen += 1
        if self.seen > self.last:
            raise Killed(what)


class KillableJournal(SqliteJournal):
    """A moment before and after each transaction."""

    def __init__(self, directory: Path, moment: Callable[[str], None]) -> None:
        self.moment: Callable[[str], None] = lambda what: None
        super().__init__(directory)
        self.moment = moment

    def _transaction(self, batch: list[Any]) -> None:
        self.moment("before a write")
        super()._transaction(batch)
        self.moment("after a write")

    def close(self) -> None:
        self._thread.shutdown()
        self._db.close()


@contextmanager
def journal(directory: Path, moment: Callable[[str], None] = lambda what: None) -> Iterator[KillableJournal]:
    made = KillableJournal(directory, moment)
    try:
        yield made
    finally:
        made.close()


async def killed_at(plan: Plan, host: ToyHost, directory: Path, last: int) -> bool:
    """Run a plan until the n-th moment; whether it came so far."""
    moments = Moments(last)
    host.moment = moments
    with journal(directory, moments) as made:
        engine = Engine(host, made, at_once=2)
        job = engine.start(plan, 1000)
        task = engine._tasks[job.id]
        await asyncio.wait([task], timeout=10)
        killed = task.done() and isinstance(task.exception(), Killed)
    host.moment = lambda what: None
    return killed


async def recovered(host: ToyHost, directory: Path) -> tuple[Engine, list[Job]]:
    """The next engine, when all is at its end."""
    with journal(directory) as made:
        engine = Engine(host, made)
        await engine.load()
        engine.recover()
        jobs = list(engine.jobs.values())
        for job in jobs:
            await asyncio.wait_for(job.finished.wait(), 10)
        assert not engine._tasks
        assert all(engine.locks.holder(name) == "" for job in jobs for name in job.plan.locks)
    return engine, jobs


@settings(max_examples=150, deadline=None)
@given(plans(), st.integers(0, 40), st.sampled_from(["none", "before", "after"]), st.integers(0, 8))
def test_killed_at_any_moment_it_is_the_state_before_or_the_state_after(
    plan: Plan, last: int, trouble: str, at: int
) -> None:
    """Also when a step had failed, and the kill came while it was being undone."""

    async def played() -> None:
        host = ToyHost(dict(BEFORE))
        befallen = [step.name for step in plan.prepare][at : at + 1]  # type: ignore[attr-defined]
        if trouble != "none":
            getattr(host, trouble).update(befallen)
        with TemporaryDirectory() as name:
            directory = Path(name)
            killed = await killed_at(plan, host, directory, last)
            host.before, host.after = set(), set()
            _, jobs = await recovered(host, directory)
            assert len(jobs) <= 1
            for job in jobs:
                if job.state is State.SUCCEEDED:
                    assert host.things.keys() == state_after(plan.steps)
                else:
                    assert host.things == BEFORE
            if not jobs:  # it was killed before anything was written
                assert host.things == BEFORE
            elif killed and jobs[0].state is State.FAILED and trouble == "none":
                assert isinstance(jobs[0].error, Interrupted)
            _, again = await recovered(host, directory)  # a second start finds nothing more to do
            assert [job.state for job in again] == [job.state for job in jobs]

    asyncio.run(played())


PLAN = Plan(
    "toy", "play", prepare=(Put("a"), PutBeside("b"), PutBeside("c")), commit=Burn("old-1"), finish=(Put("d"),),
    locks=frozenset({"VM:toy"}), objects=("1",), result={"vm": "1", "names": ("x", "y")},
)  # fmt: skip


@pytest.mark.parametrize("last", range(24))
@in_loop
async def test_killed_twice_and_more(last: int, tmp_path: Path) -> None:
    """The recovery itself is killed, at each of its moments in turn, until it comes to its end."""
    host = ToyHost(dict(BEFORE))
    if not await killed_at(PLAN, host, tmp_path, last):
        return
    for further in range(40):
        moments = Moments(further)
        host.moment = moments
        with journal(tmp_path, moments) as made:
            engine = Engine(host, made)
            await engine.load()
            engine.recover()
            tasks = list(engine._tasks.values())
            if tasks:
                await asyncio.wait(tasks, timeout=10)
            if not any(task.exception() for task in tasks):
                break
    host.moment = lambda what: None
    _, jobs = await recovered(host, tmp_path)
    assert [job.state in (State.SUCCEEDED, State.FAILED) for job in jobs] == [True] * len(jobs)
    done = bool(jobs) and jobs[0].state is State.SUCCEEDED
    assert host.things.keys() == (state_after(PLAN.steps) if done else BEFORE.keys())


@in_loop
async def test_a_job_past_its_commit_point_is_finished_and_gives_its_result(tmp_path: Path) -> None:
    host = ToyHost(dict(BEFORE))
    host.moment = lambda what: (_ for _ in ()).throw(Killed()) if what == "before d" else None
    with journal(tmp_path) as made:
        engine = Engine(host, made)
        job = engine.start(PLAN, 1000, login=501)
        await asyncio.gather(engine._tasks[job.id], return_exceptions=True)
    host.moment = lambda what: None
    assert "d" not in host.things
    _, (found,) = await recovered(host, tmp_path)
    assert (found.id, found.uid, found.login, found.recovered) == (job.id, 1000, 501, True)
    assert found.state is State.SUCCEEDED
    assert found.result["vm"] == "1"
    assert found.result["names"] == ("x", "y")
    assert "d" in host.things


@in_loop
async def test_a_job_keeps_its_locks_until_it_was_recovered(tmp_path: Path) -> None:
    host = ToyHost(dict(BEFORE), hindrances=["libvirt is away"])
    assert await killed_at(PLAN, host, tmp_path, 4)
    with journal(tmp_path) as made:
        engine = Engine(host, made)
        await engine.load()
        with pytest.raises(Busy, match="VM toy is in use by job"):
            engine.start(PLAN, 1000)
        engine.recover()
        (job,) = engine.jobs.values()
        assert not job.cancelable
        await asyncio.sleep(0.1)
        assert not job.finished.is_set()
        await asyncio.wait_for(job.finished.wait(), 10)
        again = engine.start(PLAN, 1000)
        await again.finished.wait()


@in_loop
async def test_with_an_older_journal_than_the_pool_s_nothing_is_undone_and_all_is_told(tmp_path: Path) -> None:
    host = ToyHost(dict(BEFORE))
    assert await killed_at(PLAN, host, tmp_path, 6)
    left = dict(host.things)
    assert left != BEFORE
    host.newer = "the pool knows more"
    _, (job,) = await recovered(host, tmp_path)
    assert job.state is State.FAILED
    assert isinstance(job.error, Stale)
    assert "the pool knows more" in job.error.why
    assert host.things == left


@in_loop
async def test_where_the_host_cannot_tell_nothing_is_undone(tmp_path: Path) -> None:
    host = ToyHost(dict(BEFORE))
    host.moment = lambda what: (_ for _ in ()).throw(Killed()) if what == "before old-1" else None
    with journal(tmp_path) as made:
        engine = Engine(host, made)
        job = engine.start(PLAN, 0)
        await asyncio.gather(engine._tasks[job.id], return_exceptions=True)
    host.moment = lambda what: None
    host.blind.add("old-1")
    left = dict(host.things)
    _, (job,) = await recovered(host, tmp_path)
    assert isinstance(job.error, Interrupted)
    assert host.things == left


@in_loop
async def test_what_could_not_be_undone_is_named(tmp_path: Path) -> None:
    host = ToyHost(dict(BEFORE), undo={"a"})
    assert await killed_at(PLAN, host, tmp_path, 7)
    _, (job,) = await recovered(host, tmp_path)
    assert job.error and "not undone: put a" in job.error.hint


@in_loop
async def test_what_was_being_undone_is_undone_although_somebody_else_did_what_its_commit_point_is(
    tmp_path: Path,
) -> None:
    host = ToyHost(dict(BEFORE), before={"old-1"})
    host.moment = lambda what: (_ for _ in ()).throw(Killed()) if what == "after undoing c" else None
    with journal(tmp_path) as made:
        engine = Engine(host, made)
        job = engine.start(PLAN, 0)
        await asyncio.gather(engine._tasks[job.id], return_exceptions=True)
    host.moment = lambda what: None
    assert host.things.keys() == {*BEFORE, "a", "b"}
    del host.things["old-1"]
    _, (job,) = await recovered(host, tmp_path)
    assert job.state is State.FAILED
    assert host.things.keys() == BEFORE.keys() - {"old-1"}


class Vanishing(ToyHost):
    """A host whose libvirt goes away as soon as a step fails, and then comes back."""

    async def hindrance(self, touched: tuple[str, ...]) -> str:
        trouble = (self.undo | self.blind | self.before) & {each.split()[-1] for each in self.log}
        self.undo, self.blind, self.before = self.undo - trouble, self.blind - trouble, self.before - trouble
        return "libvirt is away" if trouble else ""


@pytest.mark.parametrize(("trouble", "last", "ended"), [("undo", 7, "failed"), ("before", 18, "succeeded")])
@in_loop
async def test_what_could_not_be_done_because_the_host_went_away_is_done_when_it_is_back(
    trouble: str, last: int, ended: str, tmp_path: Path
) -> None:
    host = Vanishing(dict(BEFORE))
    assert await killed_at(PLAN, host, tmp_path, last)
    host.log.clear()
    getattr(host, trouble).add("a" if trouble == "undo" else "d")
    _, (job,) = await recovered(host, tmp_path)
    assert job.state.value == ended
    assert host.things.keys() == (state_after(PLAN.steps) if ended == "succeeded" else BEFORE.keys())
    assert not job.error or "not undone" not in job.error.hint


@in_loop
async def test_results_noted_before_an_effect_are_there_for_its_undo(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    class Noting(Put):
        async def do(self, host: ToyHost, run: Run) -> dict[str, Any]:
            await run.note(_held="paused")
            raise Killed

        async def undo(self, host: ToyHost, run: Run) -> None:
            seen.append(dict(run.results))

    from kldload_kvm.engine import plan as plans_room

    plans_room.KINDS["toy.put"] = Noting
    try:
        with journal(tmp_path) as made:
            engine = Engine(ToyHost(), made)
            job = engine.start(Plan("toy", "play", prepare=(Noting("a"),), commit=Burn("x")), 0)
            await asyncio.gather(engine._tasks[job.id], return_exceptions=True)
        await recovered(ToyHost(), tmp_path)
    finally:
        plans_room.KINDS["toy.put"] = Put
    assert seen == [{"_held": "paused"}]


@in_loop
async def test_history_survives_and_is_bounded(tmp_path: Path) -> None:
    host = ToyHost(dict(BEFORE), before={"bad"})
    with journal(tmp_path) as made:
        engine = Engine(host, made, kept=3)
        for name in ("one", "two", "bad", "three"):
            job = engine.start(Plan("toy", f"play {name}", prepare=(Put(name),), commit=Burn(f"b-{name}")), 1000)
            await job.finished.wait()
        await made.note("none", {})  # whatever was to be forgotten is, with the next write
    with journal(tmp_path) as made:
        engine = Engine(host, made, kept=3)
        await engine.load()
        told = [(job.plan.description, job.state.value, job.plan.destroys) for job in engine.jobs.values()]
        assert told == [
            ("play two", "succeeded", ("b-two",)), ("play bad", "failed", ("b-bad",)),
            ("play three", "succeeded", ("b-three",)),
        ]  # fmt: skip
        failed = list(engine.jobs.values())[1]
        with pytest.raises(KvmError, match="bad was not done") as caught:
            await engine.wait(failed, 1)
        assert (caught.value.why, caught.value.hint) == ("the disk is on fire", "put it out")
        assert failed.step_states == ["undone", "waiting"]
        assert [step.label for step in failed.plan.steps] == ["toy.put", "toy.burn"]
        assert Take("x").label == "toy.take"
