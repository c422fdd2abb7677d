"""Jobs and plans as plain data: what the journal writes down, and what it makes of it again.

A job that is over needs only to be told of: its plan is kept as a summary, without what its steps were made of.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..model import errors
from ..model.errors import Failed, KvmError
from .plan import Guard, Plan, Run, Step, revive, written


@dataclass(frozen=True)
class Record:
    """A job as the journal knows it. state: one of State's values; times in seconds since 1970, ended 0 for an open
    one; login: the login uid of whoever started it."""

    id: str
    plan: Plan
    uid: int
    login: int
    started: float
    ended: float = 0.0
    state: str = "running"
    step_states: tuple[str, ...] = ()
    error: KvmError | None = None
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PastStep(Step):
    """A step of a job that is over: it can be told of, and nothing else."""

    kind = "past"
    was: str
    description: str
    gone: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return self.was

    def describe(self) -> str:
        return self.description

    def destroys(self) -> tuple[str, ...]:
        return self.gone

    async def do(self, host: Any, run: Run) -> None:
        raise NotImplementedError("this is over")

    async def done(self, host: Any, run: Run) -> bool:
        return True


def plan_written(plan: Plan) -> dict[str, Any]:
    """All that it takes to go on with a plan, or to undo it."""
    return {
        **_head(plan),
        "prepare": [written(step) for step in plan.prepare],
        "commit": written(plan.commit) if plan.commit else None,
        "finish": [written(step) for step in plan.finish],
        "locks": sorted(plan.locks),
        "guards": [asdict(guard) for guard in plan.guards],
    }


def plan_summary(plan: Plan) -> dict[str, Any]:
    """All that it takes to tell of a plan."""
    return {
        **_head(plan),
        "prepare": [_past(step) for step in plan.prepare],
        "commit": _past(plan.commit) if plan.commit else None,
        "finish": [_past(step) for step in plan.finish],
    }


def plan_revived(data: dict[str, Any]) -> Plan:
    """The plan, or the summary, that was written. Raises KeyError, TypeError or ValueError for what is none."""
    return Plan(
        operation=data["operation"],
        description=data["description"],
        prepare=tuple(map(_step, data["prepare"])),
        commit=_step(data["commit"]) if data["commit"] else None,
        finish=tuple(map(_step, data["finish"])),
        locks=frozenset(data.get("locks", ())),
        guards=tuple(Guard(**each) for each in data.get("guards", ())),
        objects=tuple(data["objects"]),
        warnings=tuple(data["warnings"]),
        result=result_revived(data["result"]),
        frees=data["frees"],
    )


def plan_told(data: dict[str, Any]) -> Plan:
    """What can be told of a plan with steps that this version does not know."""
    commit = data.get("commit")
    return Plan(
        operation=str(data.get("operation", "unknown")),
        description=str(data.get("description", "a job of another version")),
        prepare=tuple(map(_unknown, data.get("prepare", ()))),
        commit=_unknown(commit) if commit else None,
        finish=tuple(map(_unknown, data.get("finish", ()))),
        objects=tuple(data.get("objects", ())),
    )


def result_revived(data: dict[str, Any]) -> dict[str, Any]:
    """A job's result: what were tuples are so again."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}


def error_written(error: KvmError | None) -> list[str] | None:
    return [type(error).__name__, error.what, error.why, error.hint] if error else None


def error_revived(data: list[str] | None) -> KvmError | None:
    if not data:
        return None
    kind, *texts = data
    found = getattr(errors, kind, Failed)
    return (found if isinstance(found, type) and issubclass(found, KvmError) else Failed)(*texts)


def _head(plan: Plan) -> dict[str, Any]:
    return {
        "operation": plan.operation,
        "description": plan.description,
        "objects": plan.objects,
        "warnings": plan.warnings,
        "result": plan.result,
        "frees": plan.frees,
    }


def _past(step: Step) -> dict[str, Any]:
    return {"was": step.label, "description": step.describe(), "gone": step.destroys()}


def _step(data: dict[str, Any]) -> Step:
    if "was" in data:
        return PastStep(data["was"], data["description"], tuple(data["gone"]))
    return revive(data)


def _unknown(data: dict[str, Any]) -> Step:
    kind = str(data.get("kind", "unknown"))
    return PastStep(kind, kind)
