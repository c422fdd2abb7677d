"""What is counted: jobs and how they ended, how long guests were held still, what was heard, how soon it was known."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kldload_kvm import job_tally
from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.job import Job, State
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.engine.plan import Plan
from kldload_kvm.model.domain_xml import build
from kldload_kvm.model.errors import KvmError
from kldload_kvm.model.tally import OUTCOMES, Ended, Held, News, Tally
from kldload_kvm.ops.registry import REQUESTS
from kldload_kvm.ops.request import View
from loops import in_loop
from memory_host import MemoryHost
from world import CONFIG, FACTS, NOW, id_of, spec, volumes_of


class TestTally:
    def test_each_operation_and_outcome_is_there_from_the_start(self) -> None:
        """So that a monitor sees the first failure as a change."""
        made = Tally(["vm.start", "vm.delete"])
        assert dict(made.jobs) == {(op, end): Ended() for op in ("vm.delete", "vm.start") for end in OUTCOMES}
        assert set(OUTCOMES) == {
            state.value for state in State if state in (State.SUCCEEDED, State.FAILED, State.CANCELLED)
        }

    def test_jobs_are_counted_with_the_time_that_they_took(self) -> None:
        made = Tally()
        for outcome, seconds in (("failed", 1.5), ("failed", 2.0), ("succeeded", 4.0), ("succeeded", -3600.0)):
            made.job_ended("vm.start", outcome, seconds)  # the last: somebody has set the clock back
        assert dict(made.jobs) == {("vm.start", "failed"): Ended(2, 3.5), ("vm.start", "succeeded"): Ended(2, 4.0)}

    def test_guests_are_forgotten_with_their_vms(self) -> None:
        made = Tally()
        for vm, how, seconds in (
            ("1", "frozen", 0.5),
            ("1", "frozen", 0.25),
            ("1", "paused", 2.0),
            ("2", "paused", 1.0),
        ):
            made.was_held(vm, how, seconds)
        made.forget_all_but(["1"])
        assert dict(made.held) == {("1", "frozen"): Held(2, 0.75, 0.25), ("1", "paused"): Held(1, 2.0, 2.0)}

    def test_what_others_changed_is_measured_until_it_is_known(self) -> None:
        made = Tally()
        for _ in range(4):
            made.heard("zfs")
        made.known("zfs", [100.0, 101.0, 104.5], 102.0)  # the last: the clock was set back meanwhile
        assert made.news["zfs"] == News(events=4, measured=3, lag=3.0, worst=2.0, late=1)
        assert made.news["libvirt"] == News()


async def a_host(agent: bool = True) -> MemoryHost:
    """With web, which runs, and db, which does not."""
    host = MemoryHost()
    await host.prepare()
    for name in ("web", "db"):
        for each in volumes_of(name):
            await host.zfs.create_volume(each.name, each.size, each.properties)
        await host.virt.define(build(spec(name)))
    guest = host.guest("web")
    guest.agent = agent
    host.memory_virt.put(guest, "running")
    await host.known()
    return host


async def counted(host: MemoryHost, operation: str, target: str = "", **options: Any) -> tuple[Job, Tally]:
    """The job, ended in whatever way, and what was counted of it."""
    engine, tally = Engine(host, MemoryJournal()), Tally()
    engine.on_end = lambda job: job_tally.ended(tally, host.inventory, job)
    args = {"vm.clone": [["copy"]]}.get(operation, [])
    job = engine.start(
        REQUESTS[operation].parse(target, args, options).plan(View(host.inventory, CONFIG, FACTS, NOW, 0)), 0
    )
    await job.finished.wait()
    return job, tally


class TestJobs:
    @pytest.mark.parametrize("operation", ["vm.snapshot", "vm.snapshot-all", "vm.clone"])
    @pytest.mark.parametrize(("agent", "how"), [(True, "frozen"), (False, "paused")])
    @in_loop
    async def test_how_long_a_guest_was_held_still_is_counted(self, operation: str, agent: bool, how: str) -> None:
        host = await a_host(agent)
        slow = host.troubles.gates["snapshot"] = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, slow.set)
        job, tally = await counted(host, operation, id_of("web"))
        assert job.state is State.SUCCEEDED, job.error
        assert list(tally.held) == [(id_of("web"), how)]
        held = tally.held[id_of("web"), how]
        assert held.count == 1 and 0.05 < held.last == held.seconds < 10
        assert tally.jobs[operation, "succeeded"].count == 1

    @pytest.mark.parametrize("operation", ["vm.snapshot", "vm.snapshot-all"])
    @in_loop
    async def test_of_a_snapshot_that_failed_as_well(self, operation: str) -> None:
        host = await a_host()

        async def fails(*_: Any, **__: Any) -> Any:
            await asyncio.sleep(0.05)
            raise KvmError("the snapshot was not taken", "the pool is full", "make room")

        for name in ("snapshot", "program", "run"):
            if hasattr(host.zfs, name):
                setattr(host.zfs, name, fails)
        job, tally = await counted(host, operation, id_of("web"))
        assert job.state is State.FAILED
        assert not host.guest("web").frozen
        assert tally.jobs[operation, "failed"].count == 1
        assert tally.held[id_of("web"), "frozen"].seconds >= 0.05

    @in_loop
    async def test_of_a_vm_that_is_off_there_is_nothing(self) -> None:
        job, tally = await counted(await a_host(), "vm.snapshot", id_of("db"))
        assert job.state is State.SUCCEEDED
        assert not tally.held

    @in_loop
    async def test_what_is_known_of_no_vm_is_left_out(self) -> None:
        host, tally = await a_host(), Tally()
        job = Job(
            "1",
            Plan("vm.snapshot-all", "x"),
            0,
            result={"_guests": {"no-such-uuid": {"consistency": "app", "held": 1.0}}},
        )
        job.state, job.started, job.ended = State.SUCCEEDED, 1.0, 2.5
        job_tally.ended(tally, host.inventory, job)
        assert not tally.held
        assert tally.jobs["vm.snapshot-all", "succeeded"] == Ended(1, 1.5)
