"""Checks, of which there is at most one in a few seconds, however many ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from ..model.finding import Finding
from ..model.host_facts import HostFacts
from .checks import judge

INTERVAL = 5.0


class Checker:
    """gather: reads the facts; told(): called after each check. checked_at: when the last one was, 0 for never."""

    def __init__(self, gather: Callable[[], Awaitable[HostFacts]], interval: float = INTERVAL) -> None:
        self._gather, self._interval = gather, interval
        self.told: Callable[[], None] = lambda: None
        self.facts: HostFacts | None = None
        self.findings: list[Finding] = []
        self.checked_at = 0
        self._ended = -interval
        self._changes = 0
        self._running: asyncio.Task[None] | None = None

    async def check(self) -> HostFacts:
        """The facts, no older than a few seconds; `findings` are theirs."""
        if self._running is None and (self.facts is None or time.monotonic() - self._ended >= self._interval):
            self._running = asyncio.get_running_loop().create_task(self._run())
            self._running.add_done_callback(self._over)
        if self._running is not None:
            await asyncio.shield(self._running)
        assert self.facts is not None
        return self.facts

    async def again(self) -> HostFacts:
        """The same, read anew after this moment."""
        if self._running is not None:
            await asyncio.wait({self._running})
        self.stale()
        return await self.check()

    def stale(self) -> None:
        """Something has just been changed: whoever asks next is not told of before."""
        self._changes += 1
        self._ended = -self._interval

    async def _run(self) -> None:
        changes, facts = self._changes, await self._gather()
        self.findings = await asyncio.to_thread(judge, facts)
        self.facts, self.checked_at = facts, facts.now
        if changes == self._changes:  # else it may have seen what was before
            self._ended = time.monotonic()
        self.told()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._running = None
