"""Confirming a bridge that is being tried: whoever can say so still reaches the host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..engine.engine import Engine
from ..engine.job import Job
from ..model.errors import NotFound, WrongState
from ..model.names import shown
from ..ops.bridge import Bridge
from ..steps.bridges import CONFIRMED, AwaitConfirmation
from .callers import Callers
from .dispatch import Answer, Call

KEEPING = 120.0
Check = Callable[[Call, str, dict[str, str]], Awaitable[None]]


class Bridges:
    """check: raises one of the NotAuthorized errors if the caller may not do what the action names."""

    def __init__(self, engine: Engine, callers: Callers, check: Check) -> None:
        self.engine, self.callers, self.check = engine, callers, check

    def table(self) -> dict[tuple[str, str], Callable[[Call], Awaitable[Answer]]]:
        return {("Host", "ConfirmBridge"): self.confirm}

    async def confirm(self, call: Call) -> Answer:
        """Whoever started the job was asked then, and is not asked again while the time runs out. The answer comes when
        the bridge is kept: before that, nothing is promised."""
        (name,) = call.args
        uid = await self.callers.uid(call.sender)
        job = self._job(name)
        if job is None or uid != job.uid:
            await self.check(call, call.method.action, {"operation": Bridge.operation, "target": name[:80]})
            job = self._job(name)
        if job is None:
            raise NotFound(f"no bridge {shown(name)} is being tried", "it was kept or taken back", "kvm-job list")
        index = next(i for i, step in enumerate(job.plan.steps) if isinstance(step, AwaitConfirmation))
        if job.step_states[index] == "waiting":
            raise WrongState(f"{name} was not confirmed", "it is not made yet", "see first whether the host is reached")
        await self.engine.run_of(job, index).note(**{CONFIRMED: True})
        await self.engine.wait(job, KEEPING)
        return Answer()

    def _job(self, bridge: str) -> Job | None:
        jobs = (job for job in self.engine.running() if job.plan.operation == Bridge.operation)
        return next((job for job in jobs if job.plan.result["bridge"] == bridge), None)
