"""A job: one plan, and how far it has come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..model.errors import KvmError
from .plan import Plan


class State(Enum):
    """A job's states; the last three are final."""

    PLANNED = "planned"
    RUNNING = "running"
    UNDOING = "undoing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


NO_LOGIN = 0xFFFFFFFF
"""The login uid of a process that belongs to no login, such as a service (audit_getloginuid(3))."""

FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


@dataclass
class Job:
    """step_states run beside plan.steps: waiting, running, done, undone or failed. Times are in seconds since 1970.

    uid, login: the user and the login uid of whoever started it; recovered: an earlier daemon left it open; ahead: what
    is being read again of the host before the job's end; recorded: the journal has it, or it has ended without.
    """

    id: str
    plan: Plan
    uid: int
    login: int = NO_LOGIN
    state: State = State.PLANNED
    step_states: list[str] = field(default_factory=list)
    started: float = 0.0
    ended: float = 0.0
    bytes_done: int = 0
    bytes_total: int = 0
    rate: int = 0
    result: dict[str, Any] = field(default_factory=dict)
    error: KvmError | None = None
    begun: bool = False
    recovered: bool = False
    cancel_asked: bool = False
    ahead: Awaitable[frozenset[str]] | None = None
    changed: Callable[[Job], None] = lambda job: None
    release: Callable[[], None] = lambda: None
    recorded: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    _since: float = 0.0

    def __post_init__(self) -> None:
        self.step_states = self.step_states or ["waiting"] * len(self.plan.steps)

    @property
    def over(self) -> bool:
        return self.state in FINAL

    @property
    def cancelable(self) -> bool:
        """Whether what was done can still be undone: something is left to do, and no step past the preparation has
        begun."""
        after = self.step_states[self.plan.point_of_no_return :]
        left = any(each != "done" for each in self.step_states)
        return self.state is State.RUNNING and not self.recovered and left and all(each == "waiting" for each in after)

    @property
    def progress(self) -> float:
        """From 0 to 1: steps done, and the share of the one under way where it counts bytes."""
        if self.state is State.SUCCEEDED:
            return 1.0
        done = sum(each == "done" for each in self.step_states)
        share = self.bytes_done / self.bytes_total if self.bytes_total else 0.0
        return min((done + min(share, 1.0)) / max(len(self.step_states), 1), 1.0)

    def set_steps(self, indexes: tuple[int, ...], state: str) -> None:
        for index in indexes:
            self.step_states[index] = state
        self.bytes_done = self.bytes_total = self.rate = 0
        self._since = time.monotonic()
        self.changed(self)

    def report(self, done: int, total: int) -> None:
        """Progress of the step under way, in bytes."""
        passed = time.monotonic() - self._since
        self.bytes_done, self.bytes_total = done, total
        self.rate = int(done / passed) if passed > 0.5 else 0
        self.changed(self)

    def set_state(self, state: State) -> None:
        self.state = state
        if state is State.PLANNED:
            self.started = 0.0
        if state is State.RUNNING:
            self.started = time.time()
        if state in FINAL:
            self.ended = time.time()
        self.changed(self)
