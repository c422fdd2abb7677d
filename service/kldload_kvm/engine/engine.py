"""The engine: runs plans as jobs. Forward while all goes well; backward, up to the commit point, when it does not.

It knows nothing of ZFS or libvirt: the host is what the steps make of it. Of the host it asks two things itself:
whether a plan's guards still hold, and to read again what a job has touched before the job is called done.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol

from ..model.errors import (
    Cancelled,
    Failed,
    KvmError,
    LimitsExceeded,
    NotFound,
    Stale,
    TimedOut,
    WrongState,
    is_own_fault,
)
from ..waiting import uninterrupted
from .job import NO_LOGIN, Job, State
from .journal import Journal
from .locks import LockTable
from .plan import Guard, Plan, Run, touched_by
from .records import Record
from .recovery import Recovery

log = logging.getLogger(__name__)


class Host(Protocol):
    """What the engine asks of the host that the steps work on."""

    async def moved(self, guards: tuple[Guard, ...]) -> list[str]: ...

    def can_look_ahead(self, touched: str) -> bool:
        """Whether what a step touches is read again by `look_ahead`."""

    def look_ahead(self, touched: tuple[str, ...]) -> Awaitable[frozenset[str]]:
        """Begin to read again what a job has touched, while it goes on with what is not of that kind. What was read is
        returned."""

    async def settle(self, touched: tuple[str, ...], ahead: Awaitable[frozenset[str]] | None = None) -> None:
        """Read again what a job has touched, but for what `ahead`, a look ahead, will have read."""

    async def hindrance(self, touched: tuple[str, ...]) -> str:
        """Why the host cannot be asked yet what was done to these, in words; empty if it can."""

    async def knows_more(self, touched: tuple[str, ...], mark: tuple[str, int]) -> str:
        """Why a journal of that mark must not be believed about these, in words; empty if it may."""


class Engine:
    """All jobs, from plan to history. `kept` finished ones and plans are remembered, `per_user` may run at once."""

    def __init__(self, host: Host, journal: Journal, *, kept: int = 500, per_user: int = 64, at_once: int = 4) -> None:
        self.host, self.journal, self.locks = host, journal, LockTable()
        self.jobs: OrderedDict[str, Job] = OrderedDict()
        self.kept, self.per_user = kept, per_user
        self._slots = asyncio.Semaphore(at_once)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.on_change: Callable[[Job], None] = lambda job: None
        self.on_forget: Callable[[Job], None] = lambda job: None
        self.on_end: Callable[[Job], None] = lambda job: None
        self.stopping = False
        self._recovery = Recovery(self)

    def job(self, id_: str) -> Job:
        """Raises NotFound."""
        if id_ not in self.jobs:
            raise NotFound(f"there is no job {id_}", "it never was, or is forgotten", "kvm-job lists the jobs")
        return self.jobs[id_]

    async def load(self) -> None:
        """The jobs of earlier daemons: those that ended, to be told of, and those left open, which get their locks."""
        await self._recovery.load()

    def recover(self) -> None:
        """Finish or undo each job that an earlier daemon left open, in the background."""
        for job in self._recovery.open_jobs:
            self._begin(job, self._recovery.run(job))

    def running(self) -> list[Job]:
        """The jobs that are at work."""
        return [self.jobs[id_] for id_ in self._tasks if id_ in self.jobs]

    def left_open(self) -> tuple[str, ...]:
        """What is touched by the jobs that an earlier daemon left open and that are still to be compared with what the
        storages have seen."""
        return touched_by(step for job in self._recovery.open_jobs for step in job.plan.steps)

    def propose(self, plan: Plan, uid: int, login: int = NO_LOGIN) -> Job:
        """A job that is only planned."""
        job = self._new_job(plan, uid, login)
        job.changed(job)
        return job

    def start(self, plan: Plan, uid: int, release: Callable[[], None] = lambda: None, login: int = NO_LOGIN) -> Job:
        """Start a plan that was made just now, from the inventory as it is. Raises Busy or LimitsExceeded.

        release: called once the job has ended, however it ended: lets go of what the plan holds, such as a file.
        """
        self._check_limits(uid)
        job = self._new_job(plan, uid, login, lock=True)
        job.release = release
        self._spawn(job)
        return job

    async def apply(self, job: Job) -> None:
        """Start a job that was only planned. Raises WrongState, Busy, or Stale naming what has moved since."""
        if job.state is not State.PLANNED:
            raise WrongState(f"job {job.id} cannot be applied", f"it is {job.state.value}", "make a new plan")
        self._check_limits(job.uid)
        self.locks.acquire(job.plan.locks, job.id, job.plan.description)
        job.set_state(State.RUNNING)
        try:
            moved = await self.host.moved(job.plan.guards)
            if moved:
                raise Stale(f"the plan {job.id} no longer fits this host", "; ".join(moved), "make a new plan")
            self._check_stopping()
        except BaseException:
            self.locks.release(job.id)
            job.set_state(State.PLANNED)
            if job.cancel_asked:
                self._forget(job)
            raise
        self._spawn(job)

    def cancel(self, job: Job) -> None:
        """Ask a job to stop and undo. Raises WrongState after its commit point."""
        if job.state is State.PLANNED:
            self._forget(job)
            return
        if job.over or not job.cancelable:
            why = "it has ended" if job.over else "it is past its point of no return, and is being finished"
            raise WrongState(f"job {job.id} cannot be cancelled", why, f"see what it did: kvm-job show {job.id}")
        if not job.cancel_asked:
            job.cancel_asked = True
            # A task that is cancelled before its first step never runs at all, and so would never end its job. One that
            # has not begun sees by itself that it was asked to stop.
            if job.begun:
                self._tasks[job.id].cancel()

    async def wait(self, job: Job, timeout: float) -> dict[str, Any]:
        """The job's result once it has ended. Raises its error, or TimedOut while it goes on."""
        if not job.finished.is_set():
            try:
                await asyncio.wait_for(job.finished.wait(), timeout)
            except TimeoutError:
                raise TimedOut(f"job {job.id} has not ended yet", "it goes on", f"kvm-job wait {job.id}") from None
        if job.error:
            raise job.error
        return job.result

    async def stop(self, grace: float) -> None:
        """End for a shutdown of the service: jobs get `grace` seconds, then those that can be undone are cancelled."""
        self.stopping = True
        tasks = list(self._tasks.values())
        if not tasks:
            return
        await asyncio.wait(tasks, timeout=grace)
        for job in list(self.jobs.values()):
            if job.id in self._tasks and job.cancelable:
                self.cancel(job)
        await asyncio.wait(tasks, timeout=grace)

    def _check_stopping(self) -> None:
        if self.stopping:
            raise WrongState("nothing new is started", "the service is shutting down", "try again in a moment")

    def _check_limits(self, uid: int) -> None:
        self._check_stopping()
        running = sum(job.uid == uid and job.state in (State.RUNNING, State.UNDOING) for job in self.jobs.values())
        if uid and running >= self.per_user:
            raise LimitsExceeded(
                "nothing new is started", f"you have {running} jobs running", "wait for one of them to end"
            )

    def _new_job(self, plan: Plan, uid: int, login: int, lock: bool = False) -> Job:
        id_ = self.journal.new_id()
        if lock:
            self.locks.acquire(plan.locks, id_, plan.description)
        job = self.jobs[id_] = Job(id=id_, plan=plan, uid=uid, login=login, changed=self.on_change)
        self.forget_old_ones()
        # Plans need no rights, so each user has a few of their own: nobody's push out another's, or the history.
        plans = [each for each in self.jobs.values() if each.state is State.PLANNED and each.uid == uid]
        self._forget_oldest(plans, self.per_user if uid else self.kept)
        return job

    def forget_old_ones(self) -> None:
        """Keep no more of the history than was asked for."""
        self._forget_oldest([each for each in self.jobs.values() if each.over], self.kept)

    def _forget_oldest(self, jobs: list[Job], most: int) -> None:
        for each in jobs[: max(len(jobs) - most, 0)]:
            self._forget(each)

    def _forget(self, job: Job) -> None:
        self.jobs.pop(job.id, None)
        if job.over:
            self.journal.forgot(job.id)
        else:
            job.error = Cancelled(f"the plan {job.id} was given up", "nothing was done", "make a new plan")
            job.finished.set()
        self.on_forget(job)

    def _spawn(self, job: Job) -> None:
        if job.state is not State.RUNNING:
            job.set_state(State.RUNNING)
        self._begin(job, self._run(job))

    def _begin(self, job: Job, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[job.id] = asyncio.get_running_loop().create_task(work, name=f"job {job.id}")

    async def _run(self, job: Job) -> None:
        job.begun = True
        final, error = State.FAILED, None
        try:
            first = intention(job.plan, batches(job.plan))  # one write for the two
            states = tuple("running" if index in first else "waiting" for index in range(len(job.step_states)))
            await self.journal.opened(Record(job.id, job.plan, job.uid, job.login, job.started, step_states=states))
            job.recorded.set()
            await self.forward(job, intended=first)
            final = State.SUCCEEDED
            job.result = {**job.plan.result, **job.result}
        except (Exception, asyncio.CancelledError) as fault:
            error = self._error(job, fault)
            final = State.CANCELLED if isinstance(error, Cancelled) else State.FAILED
            try:
                left = await uninterrupted(self._given_up(job))
            except Exception as failed:  # whatever it is, the job ends, and lets go of what it held
                log.exception("job %s: what became of it is not known", job.id)
                left = f"what of it was undone is not known: {failed}"
            if left:
                error = type(error)(error.what, error.why, "; ".join(filter(None, (error.hint, left))))
        job.error = error
        await uninterrupted(self.end(job, final))

    async def _given_up(self, job: Job) -> str:
        """Undo a job that failed, or go on with what must follow its commit. What is left of it, for the hint."""
        if await self._uncommitted(job):
            left = await self._recovery.back(job)
            return f"not undone: {', '.join(left)}" if left else ""
        after = await self._onward(job)
        return "; ".join(filter(None, (_kept(job), after)))

    async def _uncommitted(self, job: Job) -> bool:
        """Whether a job that failed is still before its commit point. When the host cannot tell, it is not."""
        first = job.plan.point_of_no_return
        later = job.step_states[first:]
        if all(state == "waiting" for state in later):
            return True
        if not job.plan.commit or later[0] == "done":
            return False
        try:
            return not await self._recovery.was_done(job, first)
        except Exception as fault:
            what = job.plan.commit.kind
            log.error("job %s: cannot tell whether %s was done: %s", job.id, what, fault, exc_info=is_own_fault(fault))
            return False

    async def _onward(self, job: Job) -> str:
        """After a commit that failed and yet was done, or may have been: what is to follow it, such as letting a guest
        go on that was held still for it. What failed of that is returned, for the hint."""
        if not job.plan.commit or job.step_states[job.plan.point_of_no_return] == "done":
            return ""
        try:
            await self.forward(job)
        except Exception as fault:
            log.error(
                "job %s: what follows its commit point failed, too: %s", job.id, fault, exc_info=is_own_fault(fault)
            )
            return f"and then: {self._error(job, fault).what}"
        return ""

    async def end(self, job: Job, final: State) -> None:
        """Publish what changed before the job is called done, and give back its locks between the two."""
        await asyncio.gather(self._settle(job, final), self._close(job, final))
        try:
            job.release()
        except Exception:
            log.exception("job %s: what it held was not let go", job.id)
        self.locks.release(job.id)
        self._tasks.pop(job.id, None)
        job.set_state(final)
        job.recorded.set()
        job.finished.set()
        self.on_end(job)

    async def _settle(self, job: Job, final: State) -> None:
        ahead = job.ahead
        try:
            if ahead and final is not State.SUCCEEDED:  # what was undone has changed again
                await ahead
                ahead = None
            await self.host.settle(touched_by(job.plan.steps), ahead)
        except Exception as fault:
            log.error(
                "job %s: what it touched could not be read again: %s", job.id, fault, exc_info=is_own_fault(fault)
            )

    async def _close(self, job: Job, final: State) -> None:
        try:
            await self.journal.closed(job.id, final.value, job.error, job.result)
        except Exception:
            log.exception("job %s: its end could not be written to the journal", job.id)

    async def forward(self, job: Job, intended: tuple[int, ...] = ()) -> None:
        """Do what has not been begun yet. intended: what the journal was told of already."""
        job.ahead = None
        steps = job.plan.steps
        looks = [index for index, step in enumerate(steps) if any(map(self.host.can_look_ahead, step.touches()))]
        order = batches(job.plan)
        for number, batch in enumerate(order):
            indexes = tuple(index for index in batch if job.step_states[index] == "waiting")
            if not indexes:
                continue
            if job.cancel_asked and job.cancelable:
                raise asyncio.CancelledError
            if not set(indexes) <= set(intended):
                coming = intention(job.plan, order[number:])
                intended = tuple(index for index in coming if job.step_states[index] == "waiting")
                await self.journal.intend(job.id, intended)
            job.set_steps(indexes, "running")
            if looks and looks[-1] < batch[0] and job.ahead is None:
                job.ahead = self.host.look_ahead(touched_by(steps[: batch[0]]))
            results = await self._together(self._do(job, index) for index in indexes)
            merged = {key: value for result in results for key, value in (result or {}).items()}
            job.result.update(merged)
            await self.journal.did(job.id, indexes, merged)
            job.set_steps(indexes, "done")

    async def _do(self, job: Job, index: int) -> dict[str, Any] | None:
        step = job.plan.steps[index]
        try:
            async with self._slots if step.parallel else asyncio.Semaphore():
                return await step.do(self.host, self.run_of(job, index))
        except BaseException:
            job.step_states[index] = "failed"
            raise

    async def _together(self, calls: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
        """All at once; the first failure is raised only after the others have ended, so that undo meets no one."""
        tasks = [asyncio.ensure_future(call) for call in calls]
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            raise
        finally:
            await asyncio.gather(*tasks, return_exceptions=True)  # takes every failure, for only one can be raised
        return [task.result() for task in tasks]

    async def backward(self, job: Job, *, again: bool = False) -> list[str]:
        """Undo in reverse everything that was begun; what could not be undone is returned by name. again: only what
        could not be undone a moment ago."""
        job.set_state(State.UNDOING)
        try:
            await self.journal.turned(job.id)
        except KvmError as error:  # what was begun must be undone all the same
            log.warning("job %s: %s", job.id, error.why)
        left: list[str] = []
        for index in reversed(range(job.plan.point_of_no_return)):
            if job.step_states[index] == "waiting" or (again and job.step_states[index] == "undone"):
                continue
            step = job.plan.steps[index]
            if left and step.undone_last:
                left.append(f"{step.describe()} (what was done after it is still there)")
                continue
            try:
                await step.undo(self.host, self.run_of(job, index))
                job.set_steps((index,), "undone")
            except Exception as fault:
                own = is_own_fault(fault)
                log.error("job %s: step %d (%s) was not undone: %s", job.id, index, step.kind, fault, exc_info=own)
                left.append(f"{step.describe()} ({getattr(fault, 'why', '') or fault})")
            else:
                await self.journal.undid(job.id, index)
        return left

    def run_of(self, job: Job, index: int) -> Run:
        """What a step may know of its job."""

        async def write(results: dict[str, Any]) -> None:
            await self.journal.note(job.id, results)

        return Run(job.id, index, job.result, job.report, write, job.started, job.recovered)

    def _error(self, job: Job, fault: BaseException) -> KvmError:
        if isinstance(fault, KvmError):
            return fault
        if isinstance(fault, asyncio.CancelledError):
            return Cancelled(f"{job.plan.description}: cancelled", "what it had done was undone", "")
        log.error("job %s (%s) failed by a fault of our own", job.id, job.plan.operation, exc_info=fault)
        return Failed(
            f"{job.plan.description}: not done",
            "a fault in kldload-kvmd",
            "see journalctl -u kldload-kvmd, and report it",
        )


def batches(plan: Plan) -> list[tuple[int, ...]]:
    """Indexes of the steps that run together: neighbours of one kind that allow it, in the same part of the plan."""
    found: list[tuple[int, ...]] = []
    for index, step in enumerate(plan.steps):
        last = index - 1
        if found and step.parallel and step.kind == plan.steps[last].kind and plan.part(last) == plan.part(index):
            found[-1] += (index,)
        else:
            found.append((index,))
    return found


def intention(plan: Plan, order: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The steps that the journal is told of in one write: the first batch of these, and what may be told early."""
    told: tuple[int, ...] = ()
    for batch in order:
        if told and not all(index < plan.point_of_no_return and plan.steps[index].early for index in batch):
            break
        told += batch
    return told


def _kept(job: Job) -> str:
    done = [step.describe() for step, state in zip(job.plan.steps, job.step_states, strict=True) if state == "done"]
    return f"this was done and stays: {', '.join(done)}" if done else ""
