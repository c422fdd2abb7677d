"""Blocking work on a client's file, in a thread of its own: a hanging file system can keep that, but nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

SECONDS_BETWEEN = 0.25


async def in_own_thread(name: str, work: Callable[[], Any], meanwhile: Callable[[], None] = lambda: None) -> Any:
    """What `work` gives, from a thread that ends with the process; `meanwhile` is called four times a second.

    A caller that is cancelled leaves the thread to itself.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()

    def end(result: Any, fault: BaseException | None) -> None:
        if not ended.cancelled():
            ended.set_exception(fault) if fault else ended.set_result(result)

    def body() -> None:
        result, fault = None, None
        try:
            result = work()
        except BaseException as raised:
            fault = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
            loop.call_soon_threadsafe(end, result, fault)

    threading.Thread(target=body, name=name, daemon=True).start()
    try:
        while not ended.done():
            await asyncio.wait((ended,), timeout=SECONDS_BETWEEN)
            meanwhile()
        return ended.result()
    finally:
        ended.cancel()
