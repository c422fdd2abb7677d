"""What running domains use, asked of libvirt at most once a second, whoever wants to know, and never waited for longer
than a bound: neither a busy guest nor a libvirt that hangs keeps anybody waiting."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from ..model.errors import KvmError
from ..model.usage import Usage

log = logging.getLogger(__name__)

KEPT = 1.0
BOUND = 5.0
MOST = 2
"""Questions that may go unanswered at a time. One may hang on a guest whose QEMU hangs; the next passes that guest by.
libvirt serves five at once."""


@dataclass(frozen=True)
class Sample:
    """usage: by the UUID of the domain; problem: why there is none, in words, or empty."""

    usage: Mapping[str, Usage] = field(default_factory=dict)
    problem: str = ""


@dataclass(eq=False)
class Question:
    """One that was put to libvirt at that time, by the monotonic clock."""

    task: asyncio.Task[Sample]
    asked: float


class Sampler:
    """ask: one question to libvirt about all running domains; may raise KvmError."""

    def __init__(self, ask: Callable[[], Awaitable[Mapping[str, Usage]]]) -> None:
        self._ask = ask
        self._open: list[Question] = []
        self._last, self._at = Sample(), -KEPT

    async def latest(self) -> Sample:
        """The figures of now, or of the last second. Never raises."""
        now = time.monotonic()
        if now - self._at < KEPT:
            return self._last
        question = next((each for each in self._open if now - each.asked < BOUND), None)
        if question is None:
            if len(self._open) >= MOST:
                return Sample(problem=f"libvirt has not answered for {now - self._open[0].asked:.0f} s")
            question = self._begin(now)
        await asyncio.wait({question.task}, timeout=question.asked + BOUND - now)
        return question.task.result() if question.task.done() else Sample(problem=f"no answer within {BOUND:.0f} s")

    def _begin(self, now: float) -> Question:
        question = Question(asyncio.get_running_loop().create_task(self._answer()), now)
        self._open.append(question)
        question.task.add_done_callback(lambda _: self._ended(question))
        return question

    def _ended(self, question: Question) -> None:
        """What came too late is older than it looks."""
        self._open.remove(question)
        now = time.monotonic()
        if not question.task.cancelled() and now - question.asked < BOUND:
            self._last, self._at = question.task.result(), now

    async def _answer(self) -> Sample:
        try:
            return Sample(await self._ask())
        except KvmError as error:
            return Sample(problem=f"{error.what}: {error.why}")
        except Exception:
            log.exception("what the domains use could not be read")
            return Sample(problem="a fault in kldload-kvmd; see journalctl -u kldload-kvmd")
