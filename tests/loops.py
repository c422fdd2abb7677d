"""Tests that are coroutines: each on an event loop of its own, with a bound."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, ParamSpec

from kldload_kvm.engine.engine import Engine

P = ParamSpec("P")
BOUND = 30.0


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that is a coroutine, as one that is a function."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), BOUND))

    return run


async def followed(watch: Coroutine[Any, Any, None], engine: Engine) -> None:
    """Let a watcher's task go on until it starts no more jobs, and these to their end."""
    task, known, quiet = asyncio.ensure_future(watch), 0, 0
    while quiet < 4:  # in a row: on a busy machine one moment is not enough for its threads
        await asyncio.sleep(0.05)
        quiet = quiet + 1 if len(engine.jobs) == known else 0
        known = len(engine.jobs)
    for job in list(engine.jobs.values()):
        await asyncio.wait_for(job.finished.wait(), 5)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def turns(count: int = 20) -> None:
    """Let everything go on that can without time passing."""
    for _ in range(count):
        await asyncio.sleep(0)
