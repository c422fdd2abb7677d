"""The durable journal: what it keeps, and what becomes of it on a disk that is full or was damaged."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.job import State
from kldload_kvm.engine.plan import Plan
from kldload_kvm.engine.records import Record
from kldload_kvm.engine.sqlite_journal import RESERVE, SqliteJournal
from kldload_kvm.model.errors import Failed, Interrupted, NoSpace
from kldload_kvm.steps.seeds import WriteSeed
from loops import in_loop
from toy_host import Burn, Put, ToyHost

PLAN = Plan("toy", "play", prepare=(Put("a"),), commit=Put("b"))
FREEING = Plan("toy", "make room", commit=Burn("old"), frees=True)


def full() -> sqlite3.OperationalError:
    fault = sqlite3.OperationalError("database or disk is full")
    fault.sqlite_errorname = "SQLITE_FULL"
    return fault


class OnFullDisk(SqliteJournal):
    """A disk that takes nothing more while the reserve is there, if `mends`, or at all."""

    full = False
    mends = True

    def _transaction(self, batch: list[Any]) -> None:
        if self.full and not (self.mends and not self._reserve.exists()):
            raise full()
        super()._transaction(batch)


async def ended(engine: Engine, plan: Plan) -> Any:
    job = engine.start(plan, 0)
    await job.finished.wait()
    return job


def test_it_is_made_once_with_an_id_of_its_own_and_room_of_its_own(tmp_path: Path) -> None:
    first, again = SqliteJournal(tmp_path).mark(), SqliteJournal(tmp_path).mark()
    assert first == again
    assert first[1] == 0
    assert (tmp_path / "reserve").stat().st_size == RESERVE
    (tmp_path / "other").mkdir()
    assert SqliteJournal(tmp_path / "other").mark()[0] != first[0]


@in_loop
async def test_it_counts_each_job_s_begin_and_end_and_never_backwards(tmp_path: Path) -> None:
    made = SqliteJournal(tmp_path)
    await ended(Engine(ToyHost(), made), PLAN)
    assert made.mark()[1] == 2
    made.advance(40)
    made.advance(7)
    await ended(Engine(ToyHost(), made), PLAN)
    assert SqliteJournal(tmp_path).mark() == (made.mark()[0], 42)


@in_loop
async def test_on_a_full_disk_nothing_new_is_begun_but_what_makes_room(tmp_path: Path) -> None:
    made, host = OnFullDisk(tmp_path), ToyHost({"old": ""})
    engine = Engine(host, made)
    made.full = True
    job = await ended(engine, PLAN)
    assert isinstance(job.error, NoSpace)
    assert "deleting VMs and snapshots is still possible" in job.error.hint
    assert host.things == {"old": ""}
    job = await ended(engine, FREEING)
    assert job.state is State.SUCCEEDED
    assert host.things == {}
    assert [each.state for each in await made.load()] == ["succeeded"]


@in_loop
async def test_what_is_under_way_when_the_disk_becomes_full_is_brought_to_its_end(tmp_path: Path) -> None:
    made, host = OnFullDisk(tmp_path), ToyHost()
    host.on_step = lambda name: setattr(made, "full", True)
    job = await ended(Engine(host, made), PLAN)
    assert job.state is State.SUCCEEDED
    assert not (tmp_path / "reserve").exists()


@in_loop
async def test_when_not_even_the_reserve_helps_the_job_is_undone_and_its_end_is_written_later(tmp_path: Path) -> None:
    made, host = OnFullDisk(tmp_path), ToyHost()
    made.mends = False
    host.on_step = lambda name: setattr(made, "full", True)
    engine = Engine(host, made)
    job = await ended(engine, PLAN)
    assert isinstance(job.error, NoSpace)
    assert host.things == {}
    made.full = False
    await made.note("another", {})
    assert [each.state for each in await made.load()] == ["failed"]


@in_loop
async def test_the_room_is_kept_again_once_there_is_some(tmp_path: Path) -> None:
    made = SqliteJournal(tmp_path)
    (tmp_path / "reserve").unlink()
    await ended(Engine(ToyHost(), made), PLAN)
    await made.load()  # behind it in the same thread
    assert (tmp_path / "reserve").stat().st_size == RESERVE


@in_loop
async def test_a_damaged_one_is_put_aside_and_said(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 64)
    made = SqliteJournal(tmp_path)
    assert "damaged" in made.problem
    (aside,) = tmp_path.glob("journal.damaged-*.db")
    assert aside.stat().st_size > 0
    await ended(Engine(ToyHost(), made), PLAN)
    assert SqliteJournal(tmp_path).problem == ""


def test_one_that_cannot_be_opened_is_not_taken_for_damaged(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="nothing was done"):
        SqliteJournal(tmp_path / "nowhere")


@in_loop
async def test_a_job_of_another_version_is_left_out(tmp_path: Path) -> None:
    made = SqliteJournal(tmp_path)
    await ended(Engine(ToyHost(), made), PLAN)
    made._db.execute('UPDATE job SET plan = \'{"operation": "toy"}\'')
    assert await made.load() == []


@in_loop
async def test_a_job_of_another_version_that_was_left_open_is_told_to_be_left_as_it_is(tmp_path: Path) -> None:
    made = SqliteJournal(tmp_path)
    await made.opened(Record("5f", PLAN, 1000, 7, 1.0))
    await made.intend("5f", (0,))
    made._db.execute("UPDATE job SET plan = replace(plan, 'toy.put', 'toy.of-tomorrow')")
    for _ in range(2):  # it is over, and told again by each daemon
        engine = Engine(ToyHost(), made)
        await engine.load()
        (job,) = engine.jobs.values()
        assert (job.id, job.uid, job.login, job.state) == ("5f", 1000, 7, State.FAILED)
        assert job.plan.description == "play"
        assert [step.label for step in job.plan.steps] == ["toy.of-tomorrow", "toy.of-tomorrow"]
        assert isinstance(job.error, Interrupted)
        assert "another version" in job.error.why
        assert engine.left_open() == ()


@in_loop
async def test_no_secret_is_written_down(tmp_path: Path) -> None:
    step = WriteSeed("rpool/vms/a.seed", "meta", "password: $6$secret", 1)
    made = SqliteJournal(tmp_path)
    await ended(Engine(ToyHost(), made), Plan("toy", "play", prepare=(step,)))
    written = b"".join(path.read_bytes() for path in tmp_path.glob("journal.db*"))
    assert b"rpool/vms/a.seed" in written
    assert b"secret" not in written


@in_loop
async def test_its_mark_is_never_ahead_of_what_is_durable(tmp_path: Path) -> None:
    made = OnFullDisk(tmp_path)
    made.full, made.mends = True, False
    await ended(Engine(ToyHost(), made), PLAN)
    assert made.mark() == SqliteJournal(tmp_path).mark()
    made.full = False
    await ended(Engine(ToyHost(), made), PLAN)
    assert made.mark() == SqliteJournal(tmp_path).mark()
