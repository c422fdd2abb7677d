"""A plan: the steps of one operation, and everything that a person must know before it runs.

`prepare` can be undone; the end of `commit` is the point of no return; `finish` only goes forward. A step is data: its
fields are plain JSON values, so the journal can write it down and `revive` it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar

Report = Callable[[int, int], None]


async def _unwritten(results: dict[str, Any]) -> None:
    return None


@dataclass(frozen=True)
class Guard:
    """Something the plan depends on: `what` ("guid", "absent", "state" …) of `name` must be `value`."""

    what: str
    name: str
    value: str = ""


@dataclass
class Run:
    """What a step may know of the job that it runs in.

    tag: written on whatever the step creates, so that undo can tell its own; results: what the steps before returned;
    report(done, total): progress in bytes; write: makes results durable; began: when the job did, in seconds since
    1970, or inf if that is not known; recovered: an earlier daemon had begun it, and others may have used since then
    what it made.
    """

    job: str
    index: int
    results: dict[str, Any]
    report: Report
    write: Callable[[dict[str, Any]], Awaitable[None]] = _unwritten
    began: float = math.inf
    recovered: bool = False

    @property
    def tag(self) -> str:
        return f"{self.job}/{self.index}"

    async def note(self, **results: Any) -> None:
        """Remember what undo must know, before it is done: it is durable when this returns."""
        self.results.update(results)
        await self.write(results)


@dataclass(frozen=True)
class Step(ABC):
    """One change of the host.

    Steps of one kind that are `parallel` and stand side by side run at the same time. `do` may return entries for the
    job's result. `undo` must be harmless when the step was not done or is undone already, and never destroys data.
    """

    kind: ClassVar[str]
    parallel: ClassVar[bool] = False
    reversible: ClassVar[bool] = True
    early: ClassVar[bool] = False
    """Whether the journal may be told of it together with the steps before it: its undo, even if these were not done
    either, finds by itself whether there is anything to take back."""
    undone_last: ClassVar[bool] = False
    """Whether its undo makes use of what the steps after it have changed: then all of these must be undone before."""
    secrets: ClassVar[frozenset[str]] = frozenset()
    """Fields that are not written down. Only a step before the commit point can have some: undo does without them."""

    @property
    def label(self) -> str:
        """What kind of step this is, for whoever looks at the job."""
        return self.kind

    @abstractmethod
    def describe(self) -> str:
        """What it does, in one line."""

    def destroys(self) -> tuple[str, ...]:
        """What is gone for good afterwards, by name."""
        return ()

    def touches(self) -> tuple[str, ...]:
        """Datasets, snapshots ("POOL/NAME@SNAP") and domains ("domain:UUID") to be read again afterwards."""
        return ()

    @abstractmethod
    async def do(self, host: Any, run: Run) -> dict[str, Any] | None:
        """Do it. Raises KvmError."""

    @abstractmethod
    async def done(self, host: Any, run: Run) -> bool:
        """Tell from the host alone whether it was done. Raises KvmError."""

    async def undo(self, host: Any, run: Run) -> None:
        """Take it back. Raises KvmError."""
        raise NotImplementedError(f"{self.kind} is not reversible")


class LookingStep(Step):
    """One that changes nothing: it refuses, or notes what the steps after it must know. Nothing tells that it was done,
    done again before them it does no harm, and there is nothing to take back."""

    async def done(self, host: Any, run: Run) -> bool:
        return False

    async def undo(self, host: Any, run: Run) -> None:
        return None


def touched_by(steps: Iterable[Step]) -> tuple[str, ...]:
    """What these steps touch, each once."""
    return tuple(dict.fromkeys(name for step in steps for name in step.touches()))


KINDS: dict[str, type[Step]] = {}


def step_kind(cls: type[Step]) -> type[Step]:
    """Registers a kind of step under its name, for the journal."""
    if KINDS.setdefault(cls.kind, cls) is not cls:
        raise ValueError(f"two kinds of step are named {cls.kind}")
    return cls


def written(step: Step) -> dict[str, Any]:
    """A step as plain data, but for its secrets."""
    return {"kind": step.kind, **asdict(step), **dict.fromkeys(step.secrets, "")}


def revive(data: dict[str, Any]) -> Step:
    """The step that `written` wrote. Raises KeyError or TypeError for what is none."""
    fields = {
        name: tuple(value) if isinstance(value, list) else value for name, value in data.items() if name != "kind"
    }
    return KINDS[data["kind"]](**fields)


@dataclass(frozen=True)
class Plan:
    """What an operation would do. objects: ids of the VMs or names of the storages concerned; locks: what no other
    job may hold meanwhile; result: what the job gives besides what its steps return; frees: whether it makes room, and
    so must be possible on a disk that is full."""

    operation: str
    description: str
    prepare: tuple[Step, ...] = ()
    commit: Step | None = None
    finish: tuple[Step, ...] = ()
    locks: frozenset[str] = frozenset()
    guards: tuple[Guard, ...] = ()
    objects: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    result: dict[str, Any] = field(default_factory=dict)
    frees: bool = False

    def __post_init__(self) -> None:
        fixed = [step.kind for step in self.prepare if not step.reversible]
        if fixed:
            raise ValueError(f"{self.operation}: not reversible before the commit point: {', '.join(fixed)}")
        secret = [step.kind for step in self.steps[self.point_of_no_return :] if step.secrets]
        if secret:
            raise ValueError(f"{self.operation}: could not be finished without its secrets: {', '.join(secret)}")

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.prepare + ((self.commit,) if self.commit else ()) + self.finish

    @property
    def point_of_no_return(self) -> int:
        """How many steps can still be undone once done."""
        return len(self.prepare)

    @cached_property
    def touched(self) -> frozenset[str]:
        """What any of its steps touches."""
        return frozenset(touched_by(self.steps))

    @property
    def destroys(self) -> tuple[str, ...]:
        return tuple(name for step in self.steps for name in step.destroys())

    def part(self, index: int) -> str:
        if index < len(self.prepare):
            return "prepare"
        return "commit" if self.commit and index == len(self.prepare) else "finish"
