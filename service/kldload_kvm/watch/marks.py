"""Marks the storages with the journal's id and number, a moment after jobs have ended.

A journal that knows less than a storage is an old copy, of a host that was rolled back or restored: nothing is undone
by it (engine/recovery.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from ..model import properties
from ..model.errors import KvmError
from ..steps.host import Host, parse_mark

log = logging.getLogger(__name__)

DELAY = 1.0
OWN_MEMORY = 5.0


class Marks:
    """mark: the journal's, now; advance: has it go on from a number that a storage knows; left_open: what is touched by
    the jobs that are still to be compared with what the storages have seen.

    The storages of these are marked only afterwards: else our own marks would make the journal look old.
    """

    def __init__(
        self,
        host: Host,
        mark: Callable[[], tuple[str, int]],
        advance: Callable[[int], None],
        left_open: Callable[[], tuple[str, ...]],
    ) -> None:
        self._host, self._mark, self._advance, self._left_open = host, mark, advance, left_open
        self._wanted = asyncio.Event()
        self._written = ("", 0)
        self._at = 0.0

    def job_ended(self) -> None:
        self._wanted.set()

    def is_ours(self, dataset: str) -> bool:
        """Whether an event of this dataset is most likely our marking of it."""
        return time.monotonic() - self._at < OWN_MEMORY and dataset in self._host.inventory.parents.values()

    async def read(self) -> None:
        """Learn what the storages that are there have seen of this journal. Raises KvmError."""
        id_, _ = self._mark()
        for parent in self._present():
            other, number = parse_mark(await self._host.zfs.get(parent, properties.JOURNAL))
            if other == id_:
                self._advance(number)
            elif other:
                log.warning("%s was last changed with another journal, and is taken over with this one", parent)

    async def keep(self) -> None:
        """Write the mark after jobs have ended, until cancelled."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(DELAY)
            self._wanted.clear()
            await self.write()

    async def write(self) -> None:
        id_, number = mark = self._mark()
        waiting = self._host.parents_of(self._left_open())
        present = [parent for parent in self._present() if parent not in waiting]
        if mark == self._written or not present:
            return
        self._at = time.monotonic()
        try:
            await self._host.zfs.set_all(present, {properties.JOURNAL: f"{id_}:{number}"})
        except KvmError as error:
            log.warning("%s: %s", error.what, error.why)
        else:
            self._written = mark
        self._at = time.monotonic()

    def _present(self) -> list[str]:
        return [p for p in self._host.inventory.parents.values() if p in self._host.inventory.datasets]
