"""Every operation, with the service killed at every single change of the host and every write to the journal.

The next service has the journal and the host, and nothing else. What it makes of them is the host as before, or as
after; whoever was held still goes on.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest

from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.job import Job, State
from kldload_kvm.engine.plan import Run
from kldload_kvm.engine.sqlite_journal import SCHEMA, SqliteJournal
from kldload_kvm.model.domain_devices import sources
from kldload_kvm.model.errors import Interrupted, WrongState, ZfsFailed
from kldload_kvm.model.trash import entries
from kldload_kvm.steps import host as host_room
from kldload_kvm.steps import own
from loops import in_loop
from memory_host import MemoryHost, Troubles
from unit.test_ops_undone import (  # noqa: F401 -- fixtures
    CASES,
    REPEATED,
    Case,
    conversion,
    differences,
    files,
    firmware,
    host_for,
    no_waiting,
    picture,
    view,
)
from unit.test_recovery import Killed, Moments

T = TypeVar("T")


class KillableTroubles(Troubles):
    """A moment before and after each change."""

    moment: Callable[[str], None] = staticmethod(lambda what="": None)

    async def change(self, what: str, effect: Callable[[], T]) -> T:
        self.done.append(what)
        await asyncio.sleep(0)
        self.moment(f"before {what}")
        result = effect()
        self.moment(f"after {what}")
        return result


class MemorySqlite(SqliteJournal):
    """The journal, in a database that outlives it. moment: before and after each transaction."""

    def __init__(self, db: sqlite3.Connection, moment: Callable[[str], None] = lambda what: None) -> None:
        self._outliving = db
        self.moment: Callable[[str], None] = lambda what: None
        super().__init__(None)  # type: ignore[arg-type]
        self.moment = moment

    def _connected(self) -> sqlite3.Connection:
        self._outliving.executescript(SCHEMA)
        return self._outliving

    def _keep_room(self) -> None:
        return None

    def _transaction(self, batch: list[Any]) -> None:
        self.moment("before a write")
        super()._transaction(batch)
        self.moment("after a write")


async def killable(case: Case) -> MemoryHost:
    host = await host_for(case)
    troubles = KillableTroubles()
    host.troubles = host.memory_virt.troubles = host.devices.troubles = troubles  # type: ignore[attr-defined]
    host.memory_zfs.through = troubles.change
    return host


async def killed_at(case: Case, last: int) -> tuple[MemoryHost, sqlite3.Connection, str]:
    """A host on which the service was killed at that moment, what is left of its journal, and what the moment was;
    empty if it never came so far."""
    host = await killable(case)
    db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    moments = Moments(last)
    at = ""

    def moment(what: str) -> None:
        nonlocal at
        try:
            moments(what)
        except Killed:
            at = at or what
            raise

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # tasks that were killed say so
    engine = Engine(host, MemorySqlite(db, moment), at_once=2)
    plan = case.make(host).plan(view(host))
    host.troubles.moment = moment  # type: ignore[attr-defined]
    job = engine.start(plan, 0)
    task = engine._tasks[job.id]
    await asyncio.wait([task], timeout=20)
    assert task.done() and isinstance(task.exception(), Killed | BaseExceptionGroup | None), task
    engine.journal._thread.shutdown()  # type: ignore[attr-defined]
    host.troubles.moment = lambda what="": None  # type: ignore[attr-defined]
    return host, db, at


async def recovered(host: MemoryHost, db: sqlite3.Connection) -> Job | None:
    await host.known()
    engine = Engine(host, MemorySqlite(db))
    await engine.load()
    engine.recover()
    for job in list(engine.jobs.values()):
        await asyncio.wait_for(job.finished.wait(), 20)
    assert not engine.locks._holders
    engine.journal._thread.shutdown()  # type: ignore[attr-defined]
    return next(iter(engine.jobs.values()), None)


@pytest.fixture(params=CASES, ids=lambda case: case.name.replace(" ", "-"))
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


FILLED = ("provision of a clone and an image",)


@in_loop
async def test_killed_at_any_moment_the_host_is_as_before_or_as_after(case: Case) -> None:
    before = picture(await killable(case))
    guids = (await killable(case)).memory_zfs.guids()
    host, _, _ = await killed_at(case, 10_000)
    after = picture(host)
    for last in range(10_000):
        host, db, at = await killed_at(case, last)
        if not at:
            break
        job = await recovered(host, db)
        found = picture(host)
        if job is None or job.state is not State.SUCCEEDED:
            if case.name in REPEATED:
                continue
            different = differences(found, before)
            if case.name in FILLED:  # what the helper has written cannot be told from what a guest has
                different = [each for each in different if "rpool/vms/.trash" not in each]
            assert different == [], (last, at, job and job.error)
            assert {name: host.memory_zfs.guids()[name] for name in guids} == guids, at
        elif job.result.get("applied") != "at next boot" or not case.name.startswith("set-"):
            assert differences(found, after) == [], (last, at)
        if job and job.error:
            assert "not undone" not in job.error.hint, (last, at, job.error.hint)


async def killed_after(name: str, words: str) -> tuple[MemoryHost, sqlite3.Connection]:
    """The host on which the service was killed in that operation, after the first change with these words in it."""
    case = next(each for each in CASES if each.name == name)
    for last in range(10_000):
        host, db, at = await killed_at(case, last)
        if at.startswith("after") and words in at:
            return host, db
        assert at, f"{name} never came to {words}"
    raise AssertionError


WROTE = b"what the guest wrote"


async def used(host: MemoryHost, guest: str, dataset: str) -> None:
    """Somebody starts a guest by virsh, it writes to a disk, and is off again."""
    host.memory_virt.put(host.guest(guest), "running")
    host.memory_zfs.sets[dataset].contents = WROTE
    host.memory_virt.put(host.guest(guest), "shutoff")


def with_what_it_wrote(host: MemoryHost) -> list[str]:
    """The volumes that hold what the guest wrote."""
    return [name for name, each in host.memory_zfs.sets.items() if each.contents == WROTE]


STARTED_MEANWHILE = [
    ("rollback past a newer snapshot", "promote rpool/vms/web", "web", "rpool/vms/web"),
    ("attach-disk to a running VM", "attach config", "web", "rpool/vms/web.vdb"),
    ("clone", "define a", "a", "rpool/vms/a"),
    ("copy in full", "define a", "a", "rpool/vms/a"),
]


@pytest.mark.parametrize(("name", "words", "guest", "dataset"), STARTED_MEANWHILE)
@in_loop
async def test_what_a_guest_wrote_while_the_service_was_dead_goes_to_the_trash(
    name: str, words: str, guest: str, dataset: str
) -> None:
    before = picture(await killable(next(each for each in CASES if each.name == name)))
    host, db = await killed_after(name, words)
    await used(host, guest, dataset)
    job = await recovered(host, db)
    await host.known()
    assert job and job.error
    trash = f"{dataset.rpartition('/')[0]}/.trash/"
    assert [each.startswith(trash) for each in with_what_it_wrote(host)] == [True]
    left = {each for each in differences(picture(host), before) if not each.startswith(trash[:-1])}
    left = {each for each in left if "@clone-" not in each}  # on which what is kept hangs
    assert left == ({"domain web"} if "running" in name else set())  # which was on, and is off
    (entry,) = entries(host.inventory)
    assert (entry.id, entry.name, entry.reason) == (f"{guest}-{job.id}", guest, "rolled-back")


@in_loop
async def test_a_volume_that_its_domain_had_from_the_beginning_and_that_was_used_meanwhile_goes_to_the_trash() -> None:
    """libvirt's hook lets it start where nobody answers and the volumes are there; what is fresh is destroyed."""
    host, db = await killed_after("provision", "rpool/vms/new.vdb")
    host.memory_zfs.sets["rpool/vms/new"].contents = WROTE
    job = await recovered(host, db)
    assert job and job.error
    assert with_what_it_wrote(host) == [f"rpool/vms/.trash/new-{job.id}/new"]
    assert not {"rpool/vms/new", "rpool/vms/new.vdb"} & host.memory_zfs.sets.keys()


USED_AND_UNDEFINED = [
    ("create", "define new", "new", "rpool/vms/new"),
    ("copy in full of a snapshot", "define a", "a", "rpool/vms/a"),
]


@pytest.mark.parametrize(("name", "words", "guest", "dataset"), USED_AND_UNDEFINED)
@in_loop
async def test_what_was_used_and_undefined_while_the_service_was_dead_goes_to_the_trash(
    name: str, words: str, guest: str, dataset: str
) -> None:
    host, db = await killed_after(name, words)
    await used(host, guest, dataset)
    await host.virt.undefine(host.guest(guest).uuid)
    job = await recovered(host, db)
    assert job and job.error
    assert with_what_it_wrote(host) == [f"rpool/vms/.trash/{guest}-{job.id}/{guest}"]


@in_loop
async def test_a_disk_that_was_used_and_taken_out_again_while_the_service_was_dead_goes_to_the_trash() -> None:
    case = next(each for each in CASES if each.name == "attach-disk")
    xml = (await killable(case)).guest("web").xml
    host, db = await killed_after("attach-disk", "attach config")
    await used(host, "web", "rpool/vms/web.vdb")
    await host.virt.define(xml)
    job = await recovered(host, db)
    assert job and job.error
    assert with_what_it_wrote(host) == [f"rpool/vms/.trash/web-{job.id}/web.vdb"]


@in_loop
async def test_a_clone_that_was_started_while_the_service_was_dead_and_runs_is_left_whole_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own, "UDEV_LOOKS", 0.0)
    host, db = await killed_after("clone", "define a")
    host.memory_virt.put(host.guest("a"), "running")
    job = await recovered(host, db)
    assert job and job.error
    assert "define the libvirt domain a (it was started meanwhile)" in job.error.hint
    assert host.guest("a").state == "running"
    assert {"rpool/vms/a", "rpool/vms/a.nvram"} <= host.memory_zfs.sets.keys()
    assert "rpool/vms/b" not in host.memory_zfs.sets


@in_loop
async def test_a_vm_is_not_started_again_on_volumes_of_which_only_some_could_be_brought_back() -> None:
    host, db = await killed_after("rollback of a running VM", "promote rpool/vms/web")

    def broken(what: str = "") -> None:
        if what.startswith("before zfs rename rpool/vms/.trash") and what.endswith(".nvram"):
            raise ZfsFailed("it was not renamed", "the pool is on fire", "")

    host.troubles.moment = broken  # type: ignore[attr-defined]
    job = await recovered(host, db)
    assert job and job.error
    assert "force web off (what was done after it is still there)" in job.error.hint
    assert host.guest("web").state == "shutoff"


@in_loop
async def test_a_pool_that_was_imported_to_be_read_only_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    before = picture(await killable(next(each for each in CASES if each.name == "delete")))
    host, db = await killed_after("delete", "rename")
    asked: list[Sequence[str]] = []

    async def read_only(pools: Sequence[str]) -> Sequence[str]:
        asked.append(pools)
        return pools if len(asked) == 1 else []

    monkeypatch.setattr(host_room, "read_only", read_only)
    job = await recovered(host, db)
    assert asked == [["rpool"], ["rpool"]]
    assert job and isinstance(job.error, Interrupted)
    assert differences(picture(host), before) == []


@in_loop
async def test_a_domain_is_not_pointed_back_at_a_path_that_is_another_volume_s_by_now() -> None:
    case = next(each for each in CASES if each.name == "rename")
    host = await killable(case)
    steps = case.make(host).plan(view(host)).steps
    for index, step in enumerate(steps):
        await step.do(host, run_of("5f", index))
    await host.zfs.create_volume("rpool/vms/web", 1 << 30, {"mine:note": "another"})
    with pytest.raises(WrongState, match="rpool/vms/web"):
        await steps[-1].undo(host, run_of("5f", len(steps) - 1))
    assert "/dev/zvol/rpool/vms/web" not in sources(host.guest("shop").xml)


def run_of(job: str, index: int) -> Run:
    return Run(job, index, {}, lambda done, total: None)
