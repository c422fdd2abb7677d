"""Recovery: jobs that an earlier daemon left open are finished if they were past their commit point, else undone.

What the journal says of a step may be one moment old, so the last ones are told from the host alone. A job keeps its
locks until then, however long libvirt or a pool stays away: what cannot be seen is not gone.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from ..model.errors import Interrupted, KvmError, LibvirtUnavailable, Stale, is_own_fault
from .job import FINAL, Job, State
from .plan import touched_by

if TYPE_CHECKING:
    from .engine import Engine
    from .records import Record

log = logging.getLogger(__name__)

PAUSE = 1.0
PATIENCE = 60.0
"""Seconds that a job which failed waits for libvirt and its pools, if something could not be undone. (One that an
earlier daemon left open waits as long as it takes.)"""
Outcome = tuple[State, KvmError | None, bool]
"""How a job ended, and whether that is settled: what is not may come out otherwise once the host can be asked."""


class Recovery:
    """The part of the engine that is at work after a start. open_jobs: those that are still to be compared with what
    the storages have seen."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.open_jobs: list[Job] = []
        self._mark = engine.journal.mark()

    async def load(self) -> None:
        """Each job of the journal, as it was left; those that are open get their locks back."""
        engine = self.engine
        self._mark = engine.journal.mark()
        for record in await engine.journal.load():
            job = engine.jobs[record.id] = self._job(record)
            if job.over:
                job.finished.set()
            else:
                engine.locks.acquire(job.plan.locks, job.id, job.plan.description)
                self.open_jobs.append(job)
        engine.forget_old_ones()
        for job in list(engine.jobs.values()):
            engine.on_change(job)

    def _job(self, record: Record) -> Job:
        state = State(record.state)
        return Job(
            record.id, record.plan, record.uid, record.login, state, list(record.step_states), record.started,
            record.ended, result=dict(record.result), error=record.error, begun=True, recovered=state not in FINAL,
            changed=self.engine.on_change,
        )  # fmt: skip

    async def back(self, job: Job) -> list[str]:
        """Undo a job that failed; what could not be undone is returned by name. libvirt may just be restarting, and
        that is why it failed: what cannot be undone is tried again once the host can be asked."""
        if not await self.engine.backward(job):
            return []
        await self._until_seen_or_late(job)
        return await self.engine.backward(job, again=True)

    async def was_done(self, job: Job, index: int) -> bool:
        """Whether a step that failed was done all the same. libvirt may just be restarting: it is asked again once it
        is back. Nothing else is waited for: a guest may be held still meanwhile. Raises KvmError."""
        step, run = job.plan.steps[index], self.engine.run_of(job, index)
        try:
            return await step.done(self.engine.host, run)
        except LibvirtUnavailable:
            await self._until_seen_or_late(job)
        return await step.done(self.engine.host, run)

    async def run(self, job: Job) -> None:
        """Bring one open job to its end, and begin again whenever libvirt or a pool goes away meanwhile."""
        log.warning("job %s (%s) was left open; it is taken up again", job.id, job.plan.description)
        touched = touched_by(job.plan.steps)
        while True:
            await self._until_seen(job, touched)
            final, job.error, settled = await self._attempt(job, touched)
            if settled or not await self.engine.host.hindrance(touched):
                break
        await self.engine.end(job, final)

    async def _attempt(self, job: Job, touched: tuple[str, ...]) -> Outcome:
        try:
            if job in self.open_jobs:
                why = await self.engine.host.knows_more(touched, self._mark)
                self.open_jobs.remove(job)  # compared once: later marks of these storages are our own
                if why:
                    what = f"{job.plan.description}: left as it is"
                    return State.FAILED, Stale(what, why, "look at it: nothing was undone"), True
            passed = await self._passed(job)
        except Exception as fault:
            log.error("job %s: the host cannot tell how far it came: %s", job.id, fault, exc_info=is_own_fault(fault))
            what = f"{job.plan.description}: left as it is"
            why = f"kldload-kvmd was stopped in the middle of it, and how far it came cannot be told: {fault}"
            return State.FAILED, Interrupted(what, why, "look at it: nothing was undone"), False
        return await (self._finish(job) if passed else self._undo(job))

    async def _until_seen_or_late(self, job: Job) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._until_seen(job, touched_by(job.plan.steps))

    async def _until_seen(self, job: Job, touched: tuple[str, ...]) -> None:
        told = ""
        while why := await self.engine.host.hindrance(touched):
            if why != told:
                log.warning("job %s waits: %s", job.id, why)
                told = why
            await asyncio.sleep(PAUSE)

    async def _undo(self, job: Job) -> Outcome:
        left = await self.engine.backward(job)
        hint = f"not undone: {', '.join(left)}" if left else "try again"
        why = "kldload-kvmd was stopped in the middle of it; what it had done was undone"
        return State.FAILED, Interrupted(f"{job.plan.description}: not done", why, hint), not left

    async def _finish(self, job: Job) -> Outcome:
        try:
            await self.engine.forward(job)
        except Exception as fault:
            log.error("job %s: what follows its commit point failed: %s", job.id, fault, exc_info=is_own_fault(fault))
            what = f"{job.plan.description}: not finished"
            return State.FAILED, fault if isinstance(fault, KvmError) else Interrupted(what, str(fault), ""), False
        job.result = {**job.plan.result, **job.result}
        return State.SUCCEEDED, None, True

    async def _passed(self, job: Job) -> bool:
        """Whether a job is past its commit point; then its steps say what is left to do. Raises KvmError."""
        point = job.plan.point_of_no_return
        if job.state is State.UNDOING or any(state in ("undone", "failed") for state in job.step_states[:point]):
            return False
        # Without a commit point of its own, a job is past it once all of its preparation is done.
        decisive = (point,) if job.plan.commit else range(point)
        for index in decisive:
            if not await self._done(job, index):
                return False
        for index in range(len(job.step_states)):
            if job.step_states[index] in ("running", "failed"):
                job.step_states[index] = "done" if index < point or await self._done(job, index) else "waiting"
        return True

    async def _done(self, job: Job, index: int) -> bool:
        match job.step_states[index]:
            case "done":
                return True
            case "waiting":
                return False
        return await job.plan.steps[index].done(self.engine.host, self.engine.run_of(job, index))
