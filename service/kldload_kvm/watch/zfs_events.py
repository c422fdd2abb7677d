"""ZFS's news of what anybody does to the pools: a hint to read again, never a fact by itself.

`zpool events -f` prints the backlog first, and after a gap (the kernel keeps 512 events) there may be nothing at all,
so the inventory is also read again now and then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..zfs.events import Event, follow

log = logging.getLogger(__name__)

PAUSE, LONGEST_PAUSE = 5.0, 60.0


class ZfsWatch:
    """changed(dataset) is called for each event of a dataset; lost() when events may have been missed."""

    def __init__(self, changed: Callable[[str], None], lost: Callable[[], None]) -> None:
        self._changed, self._lost = changed, lost
        self._last = 0

    async def keep(self) -> None:
        """Follow the events, and follow them again, until cancelled."""
        told, pause = "", PAUSE
        while True:
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
            self._lost()
            await asyncio.sleep(pause)

    def _seen(self, event: Event) -> None:
        if event.eid <= self._last:
            return
        if self._last and event.eid != self._last + 1:
            self._lost()
        self._last = event.eid
        if event.dataset:
            self._changed(event.dataset)
