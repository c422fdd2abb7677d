"""ZFS's news of what anybody does to the pools: a hint to read again, never a fact by itself.

`zpool events -f` prints the backlog first, and after a gap (the kernel keeps 512 events) there may be nothing at all,
so the inventory is also read again now and then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from ..zfs.events import Event, follow

log = logging.getLogger(__name__)

PAUSE, LONGEST_PAUSE = 5.0, 60.0


class ZfsWatch:
    """changed(dataset, action, at) is called for each event of a dataset; at: when that was, in seconds since 1970, or
    0 for one of the backlog. lost(why) when events may have been missed: gap, reader or pool."""

    def __init__(self, changed: Callable[[str, str, float], None], lost: Callable[[str], None]) -> None:
        self._changed, self._lost = changed, lost
        self._last, self._began = 0, 0.0

    async def keep(self) -> None:
        """Follow the events, and follow them again, until cancelled."""
        told, pause = "", PAUSE
        while True:
            self._began = time.time()
            self._last = 0  # a module that was loaded anew counts from one again
            try:
                async for event in follow():
                    self._seen(event)
                    told, pause = "", PAUSE
            except (OSError, ValueError) as fault:  # the second: a line that is longer than any
                if str(fault) != told:
                    told = str(fault)
                    log.warning("ZFS's events cannot be followed: %s", fault)
                pause = min(pause * 2, LONGEST_PAUSE)
            self._lost("reader")
            await asyncio.sleep(pause)

    def _seen(self, event: Event) -> None:
        if event.eid <= self._last:
            return
        if self._last and event.eid != self._last + 1:
            self._lost("gap")
        self._last = event.eid
        if event.kind.startswith("pool_"):  # one has come or gone, with all that is in it
            self._lost("pool")
        if event.dataset:
            self._changed(event.dataset, event.action, event.at if event.at >= self._began else 0.0)
