"""Host.CreateBridge: given this network, that plan or refusal; and whatever happens, the host is not cut off."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from host_world import WELL
from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.job import Job, State
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.engine.plan import Plan, revive, written
from kldload_kvm.host import applying
from kldload_kvm.host.bridging import links, tool
from kldload_kvm.model.errors import InvalidArgument, TimedOut, WrongState
from kldload_kvm.model.host_facts import HostFacts, Settings
from kldload_kvm.model.wiring import NETWORKD, Link, Owner, Wiring
from kldload_kvm.ops.bridge import Bridge
from kldload_kvm.ops.request import View
from kldload_kvm.steps import bridges
from kldload_kvm.steps.bridges import (
    CONFIRMED,
    LATEST,
    AwaitConfirmation,
    DismissGuard,
    GuardBridge,
    KeepBridge,
    TryBridge,
)
from loops import in_loop
from memory_host import MemoryHost
from memory_network import CARD_FILE, MAC, MemoryIfupdown, MemoryNetwork, MemoryNetworkd, MemoryNetworkManager
from network_units import NetworkUnits
from served import until_true
from unit.test_ops_killed import MemorySqlite
from unit.test_recovery import Killed, Moments
from world import World

CARD = Link("eth7", 2, mac=MAC, owners=(Owner(NETWORKD, CARD_FILE),))
ASKED = Bridge("br7", "eth7")


def facts(wiring: Wiring, **more: Any) -> HostFacts:
    return replace(WELL, system=replace(WELL.system, wiring=wiring), **more)


def view(found: HostFacts | None) -> View:
    return replace(World().view(), host=found)


def plan(link: Link = CARD, **more: Any) -> Plan:
    return ASKED.plan(view(facts(Wiring({"eth7": link}), **more)))


class TestPlanning:
    def test_tried_confirmed_and_only_then_kept(self) -> None:
        names = ("br7", "eth7", NETWORKD, CARD_FILE)
        made = plan()
        assert made.prepare == (GuardBridge(*names, 60), TryBridge(*names), AwaitConfirmation("br7", 60))
        assert (made.commit, made.finish) == (KeepBridge(*names), (DismissGuard(),))
        assert made.locks == {"host"}
        assert made.result == {"bridge": "br7", "port": "eth7", "tool": NETWORKD, "used": False}
        assert [revive(written(step)) for step in made.steps] == list(made.steps)
        assert all(step.describe() for step in made.steps)

    def test_a_card_without_a_connection_is_only_warned_of(self) -> None:
        assert len(plan().warnings) == 1
        assert "no connection" in plan(replace(CARD, carrier=False)).warnings[1]

    @pytest.mark.parametrize(
        ("network", "bridge", "used"),
        [("auto", "br7", True), ("auto", "br0", False), ("bridge=br7", "br0", True), ("network=lan", "br7", False)],
    )
    def test_whether_new_vms_get_it_is_told(self, network: str, bridge: str, used: bool) -> None:
        settings = Settings({"rpool": "rpool/vms"}, network=network, bridge=bridge)
        assert plan(settings=settings).result["used"] is used

    def test_a_host_that_could_not_be_looked_at(self) -> None:
        for found in (None, facts(Wiring(), system_fault="no answer")):
            with pytest.raises(WrongState):
                ASKED.plan(view(found))

    def test_polkit_s_rules_see_the_names(self) -> None:
        assert ASKED.subject(view(None)) == {"target": "br7 eth7"}

    @pytest.mark.parametrize(
        ("args", "options"),
        [(["-x", "eth7"], {}), (["br7", "a/b"], {}), (["br7", "eth7"], {"confirm-within": 9}),
         (["br7", "eth7"], {"confirm-within": 601})],
    )  # fmt: skip
    def test_what_cannot_be_is_refused_at_the_door(self, args: list[str], options: dict[str, int]) -> None:
        with pytest.raises(InvalidArgument):
            Bridge.parse("", args, options)

    def test_what_can_be(self) -> None:
        assert Bridge.parse("", ["br7", "eth7"], {}) == Bridge("br7", "eth7", 60)
        assert Bridge.parse("", ["br7", "eth7"], {"confirm-within": 600}).within == 600


@dataclass
class Bench:
    network: MemoryNetwork
    units: NetworkUnits
    host: MemoryHost

    def wiring(self) -> Wiring:
        root = str(self.network.root)
        return links.read(root, links.tools(root, self.network.run))

    def engine(self, journal: Any = None) -> Engine:
        return Engine(self.host, journal or MemoryJournal())

    def start(self, engine: Engine, seconds: int = 60) -> Job:
        return engine.start(replace(ASKED, within=seconds).plan(view(facts(self.wiring()))), 0)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Bench]]:
    here = [tmp_path]
    for name in ("apply", "launch", "withdraw"):
        given = getattr(applying, name)
        monkeypatch.setattr(bridges, name, lambda *a, given=given, **k: given(*a, **k, directory=here[0] / "asked"))
    tools = links.tools
    monkeypatch.setattr(bridges.links, "tools", lambda root="", run=None: tools(root or str(here[0]), run))
    monkeypatch.setattr(bridges, "INTERVAL", 0.01)
    monkeypatch.setattr(tool, "PATIENCE", 0.0)
    made = 0

    def make(kind: type[MemoryNetwork] = MemoryNetworkd) -> Bench:
        nonlocal made
        made += 1
        here[0] = tmp_path / str(made)
        network = kind(here[0])
        host = MemoryHost()
        units = NetworkUnits(network, here[0] / "asked")
        host.units = units
        return Bench(network, units, host)

    yield make


async def awaited(job: Job) -> None:
    """Until it waits for the confirmation."""
    await until_true(lambda: job.step_states[2] == "running" or job.over)


async def confirm(engine: Engine, job: Job) -> None:
    await engine.run_of(job, 2).note(**{CONFIRMED: True})


async def ended(job: Job) -> None:
    await asyncio.wait_for(job.finished.wait(), 20)


class TestDoing:
    @in_loop
    async def test_confirmed_it_is_kept(self, bench: Callable[[], Bench]) -> None:
        made = bench()
        engine = made.engine()
        job = made.start(engine)
        await awaited(job)
        assert job.cancelable
        assert made.network.text("/addresses/br7") == "192.168.77.1/24"
        (guard,) = made.units.guards.values()
        assert guard["seconds"] == 60 + LATEST
        await confirm(engine, job)
        await ended(job)
        assert (job.state, job.error) == (State.SUCCEEDED, None)
        assert made.units.guards == {}
        made.network.boot()
        assert made.network.text("/addresses/br7") == "192.168.77.1/24"
        assert list((made.network.root / "asked").iterdir()) == []

    @in_loop
    async def test_not_confirmed_the_network_is_as_before(self, bench: Callable[[], Bench]) -> None:
        made = bench()
        before = made.network.picture()
        job = made.start(made.engine(), seconds=0)
        await ended(job)
        assert job.state is State.FAILED
        assert isinstance(job.error, TimedOut)
        assert "nobody has confirmed" in job.error.why
        assert (made.network.picture(), made.units.guards) == (before, {})
        assert made.units.did == ["guard", "try", "take-back"]

    @in_loop
    async def test_cancelled_too(self, bench: Callable[[], Bench]) -> None:
        made = bench()
        before = made.network.picture()
        engine = made.engine()
        job = made.start(engine)
        await awaited(job)
        engine.cancel(job)
        await ended(job)
        assert job.state is State.CANCELLED
        assert (made.network.picture(), made.units.guards) == (before, {})

    @pytest.mark.parametrize("fails", ["networkctl reload", "networkctl reconfigure"])
    @in_loop
    async def test_what_could_not_be_taken_back_is_left_to_the_guard(
        self, bench: Callable[[], Bench], fails: str
    ) -> None:
        made = bench()
        before = made.network.picture()
        engine = made.engine()
        job = made.start(engine)
        await awaited(job)
        made.network.fails = fails
        engine.cancel(job)
        await ended(job)
        assert job.state is State.CANCELLED
        assert job.error
        assert "not undone: " in job.error.hint
        assert len(made.units.guards) == 1
        made.network.fails = ""
        made.units.guards_wake()
        assert made.network.picture() == before

    @in_loop
    async def test_a_tool_that_fails_is_told(self, bench: Callable[[], Bench]) -> None:
        made = bench()
        before = made.network.picture()
        made.units.fails = "try"
        job = made.start(made.engine())
        await ended(job)
        assert job.error
        assert job.error.why == "it was to fail"
        assert (made.network.picture(), made.units.guards) == (before, {})

    @in_loop
    async def test_what_cannot_be_kept_is_taken_back(self, bench: Callable[[], Bench]) -> None:
        made = bench()
        before = made.network.picture()
        made.units.fails = "keep"
        engine = made.engine()
        job = made.start(engine)
        await awaited(job)
        await confirm(engine, job)
        await ended(job)
        assert job.state is State.FAILED
        assert (made.network.picture(), made.units.guards) == (before, {})

    @in_loop
    async def test_libvirt_that_is_away_keeps_nobody_cut_off(self, bench: Callable[[], Bench]) -> None:
        made = bench()
        before = made.network.picture()
        db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        engine = made.engine(MemorySqlite(db))
        job = made.start(engine)
        await awaited(job)
        await as_if_killed(engine)
        made.host.memory_virt.available = False
        assert await recovered(made, db) is State.FAILED
        assert made.network.picture() == before


async def as_if_killed(engine: Engine) -> None:
    """Nothing of its job does anything any more."""

    async def nothing(*_: Any, **__: Any) -> None:
        raise Killed

    engine._recovery.back = nothing  # type: ignore[assignment]
    tasks = list(engine._tasks.values())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def killed_at(made: Bench, last: int) -> tuple[sqlite3.Connection, bool]:
    """The service killed at that moment of a job that is confirmed; its journal, and whether it came so far."""
    db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    moments, cut = Moments(last), False

    def moment(what: str) -> None:
        nonlocal cut
        try:
            moments(what)
        except Killed:
            cut = True
            raise

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    journal = MemorySqlite(db, moment)
    engine = made.engine(journal)
    made.units.moment = moment
    job = made.start(engine)
    task = engine._tasks[job.id]
    while not task.done():
        await asyncio.sleep(0.002)
        if job.step_states[2] == "running" and CONFIRMED not in job.result and not cut:
            try:
                await confirm(engine, job)
            except BaseException:
                continue
    made.units.moment = lambda what: None
    journal._thread.shutdown()
    return db, cut


async def recovered(made: Bench, db: sqlite3.Connection) -> State | None:
    engine = made.engine(MemorySqlite(db))
    await engine.load()
    engine.recover()
    for job in list(engine.jobs.values()):
        await ended(job)
    assert not engine.locks._holders
    engine.journal._thread.shutdown()  # type: ignore[attr-defined]
    return next((job.state for job in engine.jobs.values()), None)


KEPT = f"{MAC} 192.168.77.1/24 "


@pytest.mark.parametrize(
    ("kind", "meanwhile"),
    [
        (MemoryNetworkd, "nothing"),
        (MemoryNetworkd, "the guard"),
        (MemoryNetworkd, "a reboot"),
        (MemoryIfupdown, "a reboot"),
        (MemoryNetworkManager, "nothing"),
    ],
)
@in_loop
async def test_killed_at_any_moment_it_is_as_before_or_kept(
    bench: Callable[..., Bench], kind: type[MemoryNetwork], meanwhile: str
) -> None:
    """And what the guard did, or a reboot, before the service was there again does not stand in its way."""
    outcomes = set()
    for last in range(1000):
        made = bench(kind)
        before = made.network.picture()
        db, cut = await killed_at(made, last)
        if meanwhile == "the guard":
            made.units.guards_wake()
        elif meanwhile == "a reboot":
            made.units.guards.clear()
            made.network.boot()
        state = await recovered(made, db)
        found = made.network.picture()
        outcomes.add(state)
        if state is State.SUCCEEDED:
            assert found["br7"] == KEPT, last
            made.network.boot()
            assert made.network.picture() == found, last
        else:
            assert found == before, last
        assert made.units.guards == {}, last
        if not cut:
            assert state is State.SUCCEEDED
            break
    assert outcomes >= {State.FAILED, State.SUCCEEDED}


@in_loop
async def test_killed_for_good_the_guard_takes_it_back(bench: Callable[[], Bench]) -> None:
    """No service ever comes back: before it is kept, and after, the host has its address on one of the two."""
    for last in range(1000):
        made = bench()
        before = made.network.picture()
        _, cut = await killed_at(made, last)
        made.units.guards_wake()
        found = made.network.picture()
        assert found == before or found["br7"] == KEPT, last
        if not cut:
            return
    raise AssertionError


def test_the_engine_reads_nothing_of_zfs_for_it() -> None:
    assert {name for step in plan().steps for name in step.touches()} == {"link:br7"}
