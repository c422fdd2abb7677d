"""The engine: what a plan of steps does to a host when all goes well, when a step fails, and when somebody stops it."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from kldload_kvm.engine.engine import Engine, batches
from kldload_kvm.engine.job import Job, State
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.engine.plan import Plan, Run, Step
from kldload_kvm.engine.records import Record
from kldload_kvm.model.errors import (
    Busy,
    Cancelled,
    Failed,
    KvmError,
    LibvirtUnavailable,
    LimitsExceeded,
    NotFound,
    Stale,
    TimedOut,
    WrongState,
    ZfsFailed,
)
from loops import in_loop, turns
from toy_host import Burn, Put, PutBeside, PutEarly, Take, ToyHost, gates

ALICE, BOB = 1000, 1001


def plan(*prepare: Step, commit: Step | None = None, finish: tuple[Step, ...] = (), **more: object) -> Plan:
    return Plan("toy", "play", prepare=prepare, commit=commit, finish=finish, **more)  # type: ignore[arg-type]


def engine(host: ToyHost, **limits: int) -> Engine:
    return Engine(host, MemoryJournal(), **limits)


async def ended(made: Engine, of: Plan, uid: int = ALICE) -> Job:
    """A job of that plan, once it has ended."""
    job = made.start(of, uid)
    await job.finished.wait()
    return job


async def fault_of(work: object) -> KvmError:
    with pytest.raises(KvmError) as caught:
        await work  # type: ignore[misc]
    return caught.value


class TestForward:
    @in_loop
    async def test_steps_are_done_in_order_and_the_host_is_read_again_before_the_end(self) -> None:
        host = ToyHost()
        job = await ended(engine(host), plan(Put("a"), Put("b"), commit=Put("c"), finish=(Put("d"),)))
        assert host.log == ["do a", "do b", "do c", "do d", "settle"]
        assert (job.state, job.error, job.progress) == (State.SUCCEEDED, None, 1.0)
        assert job.step_states == ["done"] * 4

    @in_loop
    async def test_what_was_touched_is_settled_once_without_doubles(self) -> None:
        host = ToyHost()
        await ended(engine(host), plan(Put("a"), commit=Burn("a"), finish=(Put("b"),)))
        assert host.settled == [("toy:a", "toy:b")]

    @in_loop
    async def test_what_no_later_step_touches_is_read_again_while_they_are_at_work(self) -> None:
        host = ToyHost(quiet={"toy:c", "toy:d"})
        await ended(engine(host), plan(Put("a"), Put("b"), commit=Put("c"), finish=(Put("d"),)))
        assert host.log[:2] == ["do a", "do b"]
        assert host.log.count("look ahead at toy:a, toy:b") == 1
        assert host.settled == [("toy:c", "toy:d")]

    @in_loop
    async def test_what_was_undone_after_it_was_read_is_read_once_more(self) -> None:
        host = ToyHost(quiet={"toy:b"}, before={"b"})
        job = await ended(engine(host), plan(Put("a"), commit=Put("b")))
        assert job.state is State.FAILED
        assert "look ahead at toy:a" in host.log
        assert host.settled == [("toy:a", "toy:b")]

    @in_loop
    async def test_results_of_the_steps_stand_beside_the_plan_s(self) -> None:
        made = engine(ToyHost())
        job = made.start(plan(Put("a"), commit=Put("b"), result={"vm": "1", "a": "planned"}), ALICE)
        assert await made.wait(job, 5) == {"vm": "1", "a": "done", "b": "done"}

    @in_loop
    async def test_a_step_sees_what_those_before_it_returned_and_has_a_tag_of_its_own(self) -> None:
        host = ToyHost()
        job = await ended(engine(host), plan(Put("a"), Put("b")))
        assert host.steps_seen["b"].results["a"] == "done"
        assert host.things == {"a": f"{job.id}/0", "b": f"{job.id}/1"}

    @in_loop
    async def test_a_plan_without_steps_ends_well(self) -> None:
        assert (await ended(engine(ToyHost()), plan())).state is State.SUCCEEDED

    @in_loop
    async def test_a_job_tells_of_every_change(self) -> None:
        made, told = engine(ToyHost()), list[tuple[State, tuple[str, ...]]]()
        made.on_change = lambda job: told.append((job.state, tuple(job.step_states)))
        await ended(made, plan(Put("a"), commit=Put("b")))
        assert told == [
            (State.RUNNING, ("waiting", "waiting")),
            (State.RUNNING, ("running", "waiting")),
            (State.RUNNING, ("done", "waiting")),
            (State.RUNNING, ("done", "running")),
            (State.RUNNING, ("done", "done")),
            (State.SUCCEEDED, ("done", "done")),
        ]

    @in_loop
    async def test_bytes_count_as_a_share_of_the_step_under_way(self) -> None:
        host = ToyHost(gates=gates("b"))
        job = engine(host).start(plan(Put("a"), Put("b")), ALICE)
        await turns()
        assert job.progress == 0.5
        host.steps_seen["b"].report(3, 4)
        assert (job.bytes_done, job.bytes_total, job.progress) == (3, 4, 0.875)
        host.gates["b"].set()
        await job.finished.wait()
        assert (job.bytes_done, job.bytes_total) == (0, 0)


class TestTogether:
    def test_neighbours_of_one_parallel_kind_are_one_batch_within_their_part(self) -> None:
        side = tuple(map(PutBeside, "abcdef"))
        made = plan(side[0], side[1], Put("x"), side[2], commit=side[3], finish=(side[4], side[5]))
        assert batches(made) == [(0, 1), (2,), (3,), (4,), (5, 6)]

    @in_loop
    async def test_they_run_at_the_same_time_and_the_others_do_not(self) -> None:
        host = ToyHost()
        await ended(engine(host), plan(*map(PutBeside, "abc")))
        assert host.most_at_once == 3
        host = ToyHost()
        await ended(engine(host), plan(*map(Put, "abc")))
        assert host.most_at_once == 1

    @in_loop
    async def test_no_more_than_allowed_at_once_over_all_jobs(self) -> None:
        host = ToyHost()
        made = engine(host, at_once=2)
        jobs = [made.start(plan(*(PutBeside(f"{i}{c}") for c in "abc")), ALICE) for i in range(3)]
        await asyncio.gather(*(job.finished.wait() for job in jobs))
        assert host.most_at_once == 2
        assert len(host.things) == 9

    @in_loop
    async def test_when_one_fails_undo_waits_for_the_others_and_takes_back_all(self) -> None:
        host = ToyHost(before={"b"}, gates=gates("c"))
        made = engine(host)
        job = made.start(plan(*map(PutBeside, "abc")), ALICE)
        await turns()
        assert not any(line.startswith("undo") for line in host.log)
        host.gates["c"].set()
        await job.finished.wait()
        assert host.log == ["do a", "do b", "do c", "undo c", "undo b", "undo a", "settle"]
        assert host.things == {}

    @in_loop
    async def test_when_all_fail_one_failure_is_the_job_s_and_none_is_left_over(self) -> None:
        left_over: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: left_over.append(context))
        job = await ended(engine(ToyHost(before=set("abc"))), plan(*map(PutBeside, "abc")))
        assert job.error and job.error.what == "a was not done"
        del job
        await turns()
        gc.collect()
        assert left_over == []


class TestIntentions:
    class Listening(MemoryJournal):
        def __init__(self) -> None:
            self.told: list[tuple[int, ...]] = []

        async def opened(self, record: Record) -> None:
            self.told.append(tuple(index for index, state in enumerate(record.step_states) if state == "running"))

        async def intend(self, job: str, indexes: tuple[int, ...]) -> None:
            self.told.append(indexes)

    @in_loop
    async def test_are_written_with_those_before_them_where_they_may_be_early_but_never_past_the_commit_point(
        self,
    ) -> None:
        journal = self.Listening()
        steps = (Put("a"), PutEarly("b"), PutEarly("c"), Put("d"), PutEarly("e"))
        job = await ended(Engine(ToyHost(), journal), plan(*steps, commit=PutEarly("f"), finish=(PutEarly("g"),)))
        assert job.state is State.SUCCEEDED
        assert journal.told == [(0, 1, 2), (3, 4), (5,), (6,)]

    @in_loop
    async def test_of_what_was_never_begun_are_not_undone(self) -> None:
        host = ToyHost(before={"a"})
        await ended(engine(host), plan(Put("a"), PutEarly("b")))
        assert host.log == ["do a", "undo a", "settle"]


class TestFailure:
    PREPARE, FINISH = (Put("a"), Put("b"), Put("c")), (Put("e"), Put("f"))

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize(
        ("name", "undone"), [("a", ["a"]), ("b", ["b", "a"]), ("c", ["c", "b", "a"])]
    )  # fmt: skip
    @in_loop
    async def test_of_a_preparation_undoes_in_reverse_only_what_was_begun(
        self, name: str, undone: list[str], when: str
    ) -> None:
        host = ToyHost(things={"z": "another's"}, **{when: {name}})
        job = await ended(engine(host), plan(*self.PREPARE, commit=Put("d"), finish=self.FINISH))
        assert [line for line in host.log if line.startswith("undo")] == [f"undo {each}" for each in undone]
        assert host.things == {"z": "another's"}
        assert job.state is State.FAILED
        assert job.step_states[len(undone) :] == ["waiting"] * (6 - len(undone))

    @in_loop
    async def test_is_the_job_s_error_as_the_step_raised_it(self) -> None:
        made = engine(ToyHost(before={"b"}))
        job = made.start(plan(Put("a"), Put("b")), ALICE)
        error = await fault_of(made.wait(job, 5))
        assert isinstance(error, ZfsFailed)
        assert (error.what, error.why, error.hint) == ("b was not done", "the disk is on fire", "put it out")

    @in_loop
    async def test_of_the_commit_that_was_not_done_undoes_the_preparation(self) -> None:
        host = ToyHost(before={"d"})
        await ended(engine(host), plan(*self.PREPARE, commit=Put("d"), finish=self.FINISH))
        assert host.things == {}
        assert "do e" not in host.log

    @in_loop
    async def test_of_the_commit_that_was_done_after_all_undoes_nothing_and_what_follows_is_done(self) -> None:
        host = ToyHost(after={"d"})
        job = await ended(engine(host), plan(*self.PREPARE, commit=Put("d"), finish=self.FINISH))
        assert sorted(host.things) == ["a", "b", "c", "d", "e", "f"]
        assert job.state is State.FAILED
        assert job.error and "this was done and stays: put a, put b, put c, put e, put f" in job.error.hint

    @in_loop
    async def test_of_the_commit_where_the_host_cannot_tell_undoes_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        host = ToyHost(things={"d": ""}, before={"d"}, blind={"d"})
        job = await ended(engine(host), plan(Put("a"), commit=Burn("d"), finish=(Put("e"),)))
        assert sorted(host.things) == ["a", "d", "e"]
        assert job.error and "stays: put a, put e" in job.error.hint
        assert "cannot tell whether" in caplog.text
        assert "Traceback" not in caplog.text  # it is the host's fault, and none of ours

    @in_loop
    async def test_of_the_commit_is_looked_at_again_once_libvirt_is_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As when it restarts under it: what was to come before is not left half done."""
        monkeypatch.setattr("kldload_kvm.engine.recovery.PAUSE", 0.01)
        host = ToyHost(things={"d": ""}, before={"d"})
        away = ["libvirt is away"]

        async def hindrance(touched: tuple[str, ...]) -> str:
            if away:
                return away.pop()
            return ""

        class BurnByLibvirt(Burn):
            async def done(self, host: ToyHost, run: Run) -> bool:
                if away:
                    raise LibvirtUnavailable("d cannot be read")
                return await super().done(host, run)

        host.hindrance = hindrance  # type: ignore[method-assign]
        await ended(engine(host), plan(Put("a"), commit=BurnByLibvirt("d"), finish=(Put("e"),)))
        assert sorted(host.things) == ["d"]

    @in_loop
    async def test_of_a_finish_leaves_what_was_done_and_goes_no_further(self) -> None:
        host = ToyHost(before={"e"})
        job = await ended(engine(host), plan(Put("a"), commit=Put("d"), finish=self.FINISH))
        assert sorted(host.things) == ["a", "d"]
        assert job.step_states == ["done", "done", "failed", "waiting"]
        assert job.error and job.error.hint == "put it out; this was done and stays: put a, put d"

    @in_loop
    async def test_of_a_finish_without_a_commit_leaves_the_preparation(self) -> None:
        host = ToyHost(before={"e"})
        await ended(engine(host), plan(Put("a"), finish=self.FINISH))
        assert sorted(host.things) == ["a"]

    @in_loop
    async def test_twice_both_the_commit_and_what_follows_it_is_told(self) -> None:
        host = ToyHost(after={"d"}, before={"e"})
        job = await ended(engine(host), plan(Put("a"), commit=Put("d"), finish=self.FINISH))
        assert job.error and job.error.what == "d was not done"
        assert job.error.hint.endswith("stays: put a; and then: e was not done")

    @in_loop
    async def test_of_an_undo_is_named_in_the_hint_and_the_rest_is_undone(self) -> None:
        host = ToyHost(before={"c"}, undo={"b"})
        job = await ended(engine(host), plan(*self.PREPARE))
        assert sorted(host.things) == ["b"]
        assert job.error and job.error.hint == "put it out; not undone: put b (the disk is on fire)"
        assert job.step_states == ["undone", "done", "undone"]

    @in_loop
    async def test_of_an_undo_is_tried_again_once_libvirt_is_back(self) -> None:
        """As when it restarts: the step that failed had done its work, and could not tell."""
        host = ToyHost(after={"c"}, undo={"c", "b"})
        host.moment = lambda what: host.undo.clear() if what == "after undoing a" else None
        job = await ended(engine(host), plan(*self.PREPARE))
        assert host.things == {}
        assert job.error and job.error.hint == "put it out"
        assert job.step_states == ["undone"] * 3
        assert host.log.count("undo a") == 1

    @in_loop
    async def test_of_an_undo_is_given_up_when_libvirt_stays_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kldload_kvm.engine.recovery.PATIENCE", 0.05)
        monkeypatch.setattr("kldload_kvm.engine.recovery.PAUSE", 0.01)
        host = ToyHost(before={"c"}, undo={"b"}, hindrances=["libvirt is away"] * 1000)
        job = await ended(engine(host), plan(*self.PREPARE))
        assert job.error and "not undone: put b" in job.error.hint
        assert 1 < len(host.hindrances) < 1000

    @in_loop
    async def test_by_a_fault_of_our_own_says_no_more_than_where_to_look(self) -> None:
        host = ToyHost()

        def crash(name: str) -> None:
            raise RuntimeError("secret")

        host.on_step = crash
        job = await ended(engine(host), plan(Put("a")))
        assert isinstance(job.error, Failed)
        assert "secret" not in str(job.error)
        assert "journalctl" in job.error.hint

    @in_loop
    async def test_to_read_the_host_again_does_not_keep_a_job_from_ending(self) -> None:
        host = ToyHost()

        async def fails(touched: tuple[str, ...], ahead: object) -> None:
            raise ZfsFailed("the pool is gone")

        host.settle = fails  # type: ignore[method-assign]
        made = engine(host)
        job = await ended(made, plan(Put("a"), locks=frozenset({"VM:a"})))
        assert job.state is State.SUCCEEDED
        assert made.locks.holder("VM:a") == ""

    @in_loop
    async def test_of_the_undo_itself_does_not_keep_a_job_from_ending(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = engine(ToyHost(before={"b"}))

        async def breaks(job: Job) -> list[str]:
            raise OSError("too many open files")

        monkeypatch.setattr(made._recovery, "back", breaks)
        job = await ended(made, plan(Put("a"), Put("b"), locks=frozenset({"VM:a"})))
        assert (job.state, made.locks.holder("VM:a")) == (State.FAILED, "")
        assert job.error
        assert "what of it was undone is not known: too many open files" in job.error.hint

    @in_loop
    async def test_of_the_journal_fails_the_job_and_gives_its_locks_back(self) -> None:
        class Full(MemoryJournal):
            async def intend(self, job: str, indexes: tuple[int, ...]) -> None:
                if indexes == (1,):
                    raise OSError("no space left on device")

            async def closed(self, job: str, state: str, error: KvmError | None, result: dict[str, object]) -> None:
                raise OSError("no space left on device")

        host = ToyHost()
        made = Engine(host, Full())
        job = await ended(made, plan(Put("a"), Put("b"), locks=frozenset({"VM:a"})))
        assert (job.state, host.things) == (State.FAILED, {})
        assert host.log == ["do a", "undo a", "settle"]
        assert made.locks.holder("VM:a") == ""


class TestCancel:
    @in_loop
    async def test_before_the_commit_undoes_everything(self) -> None:
        host = ToyHost(gates=gates("b"))
        made = engine(host)
        job = made.start(plan(Put("a"), Put("b"), commit=Put("c")), ALICE)
        await turns()
        assert job.cancelable
        made.cancel(job)
        assert isinstance(await fault_of(made.wait(job, 5)), Cancelled)
        assert (job.state, host.things) == (State.CANCELLED, {})
        assert job.step_states == ["undone", "undone", "waiting"]

    @in_loop
    async def test_at_once_after_the_start_ends_the_job_with_nothing_begun(self) -> None:
        host = ToyHost()
        made = engine(host)
        job = made.start(plan(Put("a"), locks=frozenset({"VM:a"})), ALICE)
        made.cancel(job)
        await asyncio.wait_for(job.finished.wait(), 5)
        assert (job.state, host.log, made.locks.holder("VM:a")) == (State.CANCELLED, ["settle"], "")

    @in_loop
    async def test_during_a_batch_undoes_all_of_it(self) -> None:
        host = ToyHost(gates=gates("b"))
        made = engine(host)
        job = made.start(plan(*map(PutBeside, "abc"), commit=Put("d")), ALICE)
        await turns()
        assert sorted(host.things) == ["a", "c"]
        made.cancel(job)
        await job.finished.wait()
        assert host.things == {}

    @in_loop
    async def test_twice_is_once(self) -> None:
        host = ToyHost(gates=gates("a"))
        made = engine(host)
        job = made.start(plan(Put("a")), ALICE)
        await turns()
        made.cancel(job)
        made.cancel(job)
        await job.finished.wait()
        assert host.log.count("undo a") == 1

    @in_loop
    async def test_after_the_commit_point_is_refused(self) -> None:
        host = ToyHost(gates=gates("c"))
        made = engine(host)
        job = made.start(plan(Put("a"), commit=Put("b"), finish=(Put("c"),)), ALICE)
        await turns()
        assert not job.cancelable
        with pytest.raises(WrongState, match="past its point of no return"):
            made.cancel(job)
        host.gates["c"].set()
        await job.finished.wait()
        assert job.state is State.SUCCEEDED

    @in_loop
    async def test_during_the_commit_is_refused(self) -> None:
        host = ToyHost(gates=gates("b"))
        made = engine(host)
        job = made.start(plan(Put("a"), commit=Put("b")), ALICE)
        await turns()
        with pytest.raises(WrongState):
            made.cancel(job)
        host.gates["b"].set()
        await job.finished.wait()

    @in_loop
    async def test_while_the_host_is_read_again_is_refused_as_all_is_done(self) -> None:
        host, settling = ToyHost(), asyncio.Event()

        async def slowly(touched: tuple[str, ...], ahead: object) -> None:
            await settling.wait()

        host.settle = slowly  # type: ignore[method-assign]
        made = engine(host)
        job = made.start(plan(Put("a")), ALICE)
        await turns()
        assert not job.cancelable
        with pytest.raises(WrongState):
            made.cancel(job)
        settling.set()
        await job.finished.wait()
        assert job.state is State.SUCCEEDED

    @in_loop
    async def test_of_one_that_has_ended_is_refused(self) -> None:
        made = engine(ToyHost())
        job = await ended(made, plan(Put("a")))
        with pytest.raises(WrongState, match="it has ended"):
            made.cancel(job)

    @in_loop
    async def test_while_it_is_being_undone_is_refused(self) -> None:
        host = ToyHost(before={"b"})
        made = engine(host)
        seen: list[bool] = []

        def look(job: Job) -> None:
            if job.state is State.UNDOING:
                seen.append(job.cancelable)

        made.on_change = look
        await ended(made, plan(Put("a"), Put("b")))
        assert seen and not any(seen)

    @in_loop
    async def test_of_a_plan_forgets_it_and_wakes_whoever_waits_for_it(self) -> None:
        made, forgotten = engine(ToyHost()), list[str]()
        made.on_forget = lambda job: forgotten.append(job.id)
        job = made.propose(plan(Put("a")), ALICE)
        waiting = asyncio.ensure_future(made.wait(job, 60))
        await turns()
        made.cancel(job)
        assert isinstance(await fault_of(waiting), Cancelled)
        assert forgotten == [job.id]
        with pytest.raises(NotFound):
            made.job(job.id)


class TestLocks:
    @in_loop
    async def test_are_held_until_the_host_was_read_again(self) -> None:
        host = ToyHost()
        made = engine(host)
        held: list[str] = []

        async def look(touched: tuple[str, ...], ahead: object) -> None:
            held.append(made.locks.holder("VM:web"))

        host.settle = look  # type: ignore[method-assign]
        job = await ended(made, plan(Put("a"), locks=frozenset({"VM:web"})))
        assert held == [job.id]
        assert made.locks.holder("VM:web") == ""

    @in_loop
    async def test_another_s_are_busy_naming_the_job_and_nothing_is_left_of_the_refused_one(self) -> None:
        host = ToyHost(gates=gates("a"))
        made = engine(host)
        first = made.start(plan(Put("a"), locks=frozenset({"VM:web"})), ALICE)
        with pytest.raises(Busy) as caught:
            made.start(plan(Put("b"), locks=frozenset({"VM:db", "VM:web"})), BOB)
        assert caught.value.what == f"VM web is in use by job {first.id}"
        assert f"kvm-job wait {first.id}" in caught.value.hint
        assert made.locks.holder("VM:db") == ""
        assert list(made.jobs) == [first.id]
        host.gates["a"].set()
        await first.finished.wait()
        assert (await ended(made, plan(Put("b"), locks=frozenset({"VM:db", "VM:web"})))).state is State.SUCCEEDED

    @pytest.mark.parametrize("fault", ["before", "undo"])
    @in_loop
    async def test_are_given_back_however_a_job_ends(self, fault: str) -> None:
        host = ToyHost(before={"b"}, undo={"a"} if fault == "undo" else set())
        made = engine(host)
        await ended(made, plan(Put("a"), Put("b"), locks=frozenset({"VM:web"})))
        assert made.locks.holder("VM:web") == ""


class TestPlans:
    @in_loop
    async def test_a_proposed_plan_does_nothing_until_it_is_applied(self) -> None:
        host = ToyHost(things={"b": "old"})
        made = engine(host)
        job = made.propose(plan(Put("a"), commit=Burn("b"), locks=frozenset({"VM:web"})), ALICE)
        await turns()
        assert (job.state, host.log, job.plan.destroys) == (State.PLANNED, [], ("b",))
        assert made.locks.holder("VM:web") == ""
        await made.apply(job)
        await made.wait(job, 5)
        assert sorted(host.things) == ["a"]

    @in_loop
    async def test_applied_in_a_world_that_has_moved_is_stale_and_stays_a_plan(self) -> None:
        host = ToyHost(world_moved=["rpool/vms/web is gone", "the VM is running, and was shutoff"])
        made = engine(host)
        job = made.propose(plan(Put("a"), locks=frozenset({"VM:web"})), ALICE)
        error = await fault_of(made.apply(job))
        assert isinstance(error, Stale)
        assert error.why == "rpool/vms/web is gone; the VM is running, and was shutoff"
        assert (job.state, job.started, host.log) == (State.PLANNED, 0.0, [])
        assert made.locks.holder("VM:web") == ""
        host.world_moved = []
        await made.apply(job)
        await made.wait(job, 5)

    @in_loop
    async def test_applied_twice_is_the_wrong_state(self) -> None:
        host = ToyHost(gates=gates("a"))
        made = engine(host)
        job = made.propose(plan(Put("a")), ALICE)
        await made.apply(job)
        assert isinstance(await fault_of(made.apply(job)), WrongState)
        host.gates["a"].set()
        await job.finished.wait()
        assert isinstance(await fault_of(made.apply(job)), WrongState)

    @in_loop
    async def test_applied_by_two_at_once_runs_once(self) -> None:
        host = ToyHost(asked=asyncio.Event())
        made = engine(host)
        job = made.propose(plan(Put("a")), ALICE)
        first, second = (asyncio.ensure_future(made.apply(job)) for _ in range(2))
        await turns()
        assert host.asked
        host.asked.set()
        await first
        assert isinstance(await fault_of(second), WrongState)
        await made.wait(job, 5)
        assert host.log.count("do a") == 1

    @in_loop
    async def test_applied_while_another_holds_its_lock_is_busy_and_stays_a_plan(self) -> None:
        host = ToyHost(gates=gates("b"))
        made = engine(host)
        job = made.propose(plan(Put("a"), locks=frozenset({"VM:web"})), ALICE)
        other = made.start(plan(Put("b"), locks=frozenset({"VM:web"})), BOB)
        assert isinstance(await fault_of(made.apply(job)), Busy)
        assert job.state is State.PLANNED
        assert made.locks.holder("VM:web") == other.id

    @in_loop
    async def test_cancelled_while_it_is_being_applied_ends_cancelled(self) -> None:
        host = ToyHost(asked=asyncio.Event())
        made = engine(host)
        job = made.propose(plan(Put("a")), ALICE)
        applying = asyncio.ensure_future(made.apply(job))
        await turns()
        made.cancel(job)
        assert host.asked
        host.asked.set()
        await applying
        assert isinstance(await fault_of(made.wait(job, 5)), Cancelled)
        assert host.things == {}

    @in_loop
    async def test_an_apply_whose_caller_left_while_the_host_was_asked_is_a_plan_again(self) -> None:
        host = ToyHost(asked=asyncio.Event())
        made = engine(host)
        job = made.propose(plan(Put("a"), locks=frozenset({"VM:web"})), ALICE)
        applying = asyncio.ensure_future(made.apply(job))
        await turns()
        applying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await applying
        assert (job.state, made.locks.holder("VM:web")) == (State.PLANNED, "")

    def test_what_cannot_be_undone_stands_after_the_commit_point(self) -> None:
        with pytest.raises(ValueError, match=r"toy\.burn"):
            plan(Burn("a"))

    def test_parts_and_the_point_of_no_return(self) -> None:
        made = plan(Put("a"), commit=Burn("b"), finish=(Burn("c"),))
        assert [made.part(index) for index in range(3)] == ["prepare", "commit", "finish"]
        assert made.point_of_no_return == 1
        assert made.destroys == ("b", "c")


class TestLimits:
    @in_loop
    async def test_a_user_may_have_so_many_jobs_at_once_and_root_as_many_as_wanted(self) -> None:
        host = ToyHost(gates=gates("a"))
        made = engine(host, per_user=2)
        for _ in range(2):
            made.start(plan(Put("a")), ALICE)
        with pytest.raises(LimitsExceeded, match="you have 2 jobs running"):
            made.start(plan(Put("a")), ALICE)
        made.start(plan(Put("a")), BOB)
        for _ in range(5):
            made.start(plan(Put("a")), 0)
        host.gates["a"].set()

    @in_loop
    async def test_applying_counts_as_running(self) -> None:
        host = ToyHost(asked=asyncio.Event(), gates=gates("a"))
        made = engine(host, per_user=1)
        first, second = (made.propose(plan(Put("a")), 0) for _ in range(2))
        first.uid = second.uid = ALICE
        applying = asyncio.ensure_future(made.apply(first))
        await turns()
        assert isinstance(await fault_of(made.apply(second)), LimitsExceeded)
        assert host.asked
        host.asked.set()
        await applying
        host.gates["a"].set()
        await first.finished.wait()

    @in_loop
    async def test_the_oldest_that_have_ended_are_forgotten_and_their_objects_removed(self) -> None:
        made, forgotten = engine(ToyHost(), kept=2), list[str]()
        made.on_forget = lambda job: forgotten.append(job.id)
        jobs = [await ended(made, plan(Put("a"))) for _ in range(4)]
        assert forgotten == [jobs[0].id]
        assert list(made.jobs) == [job.id for job in jobs[1:]]
        await ended(made, plan(Put("a")))
        assert forgotten == [jobs[0].id, jobs[1].id]

    @in_loop
    async def test_a_running_job_is_never_forgotten(self) -> None:
        host = ToyHost(gates=gates("slow"))
        made = engine(host, kept=1)
        slow = made.start(plan(Put("slow")), ALICE)
        for _ in range(5):
            await ended(made, plan(Put("a")))
        assert made.job(slow.id) is slow
        host.gates["slow"].set()
        await slow.finished.wait()

    @in_loop
    async def test_one_user_s_plans_push_out_only_that_user_s_plans(self) -> None:
        made = engine(ToyHost(), per_user=2, kept=10)
        history = await ended(made, plan(Put("a")))
        theirs = made.propose(plan(Put("a")), BOB)
        mine = [made.propose(plan(Put("a")), ALICE) for _ in range(50)]
        assert list(made.jobs) == [history.id, theirs.id, mine[-2].id, mine[-1].id]

    @in_loop
    async def test_an_unknown_job_is_not_found(self) -> None:
        with pytest.raises(NotFound, match="there is no job 1"):
            engine(ToyHost()).job("1")


class TestWaiting:
    @in_loop
    async def test_has_a_bound_and_the_job_goes_on(self) -> None:
        host = ToyHost(gates=gates("a"))
        made = engine(host)
        job = made.start(plan(Put("a")), ALICE)
        assert isinstance(await fault_of(made.wait(job, 0)), TimedOut)
        assert job.state is State.RUNNING
        host.gates["a"].set()
        await made.wait(job, 5)

    @in_loop
    async def test_for_one_that_has_ended_takes_no_time_at_all(self) -> None:
        made = engine(ToyHost())
        job = await ended(made, plan(Put("a")))
        assert await made.wait(job, 0) == {"a": "done"}

    @in_loop
    async def test_many_may_wait_for_one(self) -> None:
        made = engine(ToyHost(before={"a"}))
        job = made.start(plan(Put("a")), ALICE)
        errors = await asyncio.gather(*(made.wait(job, 5) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(each, ZfsFailed) for each in errors)


class TestStopping:
    @in_loop
    async def test_nothing_new_is_started(self) -> None:
        made = engine(ToyHost())
        job = made.propose(plan(Put("a")), ALICE)
        await made.stop(0)
        with pytest.raises(WrongState, match="nothing new"):
            made.start(plan(Put("a")), ALICE)
        assert isinstance(await fault_of(made.apply(job)), WrongState)

    @in_loop
    async def test_jobs_that_can_be_undone_are_after_their_grace_and_the_others_end(self) -> None:
        host = ToyHost(gates=gates("a", "b"))
        made = engine(host)
        early = made.start(plan(Put("a"), commit=Put("x")), ALICE)
        late = made.start(plan(commit=Put("y"), finish=(Put("b"),)), ALICE)
        await turns()
        stopping = asyncio.ensure_future(made.stop(0.05))
        await early.finished.wait()
        host.gates["b"].set()
        await stopping
        assert (early.state, late.state) == (State.CANCELLED, State.SUCCEEDED)
        assert sorted(host.things) == ["b", "y"]

    @in_loop
    async def test_with_nothing_running_takes_no_time(self) -> None:
        await asyncio.wait_for(engine(ToyHost()).stop(60), 1)

    @in_loop
    async def test_right_after_a_start_ends_that_job_too(self) -> None:
        host = ToyHost(gates=gates("a"))
        made = engine(host)
        job = made.start(plan(Put("a")), ALICE)
        await made.stop(0)
        await asyncio.wait_for(job.finished.wait(), 5)
        assert job.state is State.CANCELLED


class TestUninterrupted:
    """A job is not only cancelled by cancel(): whatever cancels its task, undo and end are carried through."""

    @pytest.mark.parametrize("hits", [1, 2, 3])
    @in_loop
    async def test_undo_goes_on_when_the_task_is_cancelled_again(self, hits: int) -> None:
        host = ToyHost(before={"c"})
        made, undoing = engine(host), asyncio.Event()
        made.on_change = lambda job: undoing.set() if job.state is State.UNDOING else None
        job = made.start(plan(Put("a"), Put("b"), Put("c")), ALICE)
        task = made._tasks[job.id]
        await undoing.wait()
        for _ in range(hits):
            task.cancel()
            await asyncio.sleep(0)
        await job.finished.wait()
        assert (job.state, host.things) == (State.FAILED, {})


@in_loop
async def test_a_job_s_tags_never_meet_another_s() -> None:
    made = engine(ToyHost())
    ids = {made.propose(plan(), 0).id for _ in range(200)}
    assert len(ids) == 200


@in_loop
async def test_take_puts_back_what_it_took() -> None:
    host = ToyHost(things={"a": "t"}, before={"b"})
    await ended(engine(host), plan(Take("a", "t"), Put("b")))
    assert host.things == {"a": "t"}
