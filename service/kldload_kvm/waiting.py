"""Waiting, so that nothing is left halfway and nothing waits for ever. Used by every room; imports none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await work to its end, even if the caller is cancelled meanwhile (then current_task().cancelling() tells)."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
        except Exception:
            break
    return task.result()


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Await work to its end, and only then give way to a cancellation that came meanwhile."""
    before = _cancellations()
    result = await uninterrupted(work)
    if _cancellations() > before:
        raise asyncio.CancelledError
    return result


def _cancellations() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task else 0


async def until(
    check: Callable[[], Awaitable[T]], timeout: float, interval: float, away: type[Exception] | tuple[()] = ()
) -> T | None:
    """What `check` gives once it is true, asked again each `interval` seconds; None after `timeout` seconds. away: what
    it raises while nobody can tell, however long that is: then the time begins anew."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while True:
        try:
            if value := await check():
                return value
        except away:
            end = loop.time() + timeout
        if loop.time() >= end:
            return None
        await asyncio.sleep(interval)
