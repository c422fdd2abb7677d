"""Has libvirt's storage pools made, where that is configured: each once, as soon as there is a device to be seen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from ..model.errors import KvmError
from ..ops.pool import Pool
from ..ops.request import Request, View
from ..steps.host import Host

log = logging.getLogger(__name__)

CALM = 1.0
"""Seconds after the first volume of a storage: the job that has made it may still be at work."""


class PoolWatch:
    """start(request): starts an operation of the service's own; view(): what a plan is made from."""

    def __init__(self, host: Host, start: Callable[[Request], object], view: Callable[[], View]) -> None:
        self.host, self._start, self._view = host, start, view
        self._news = asyncio.Event()
        self._missing = set(host.config.parents) if host.config.pool else set[str]()

    def look(self) -> None:
        """libvirt is there (again)."""
        self._news.set()

    def appeared(self, dataset: str) -> None:
        """A volume has its device."""
        parents = self.host.config.parents
        if any(dataset.rpartition("/")[0] == parents[each] for each in self._missing):
            self._news.set()

    async def keep(self) -> None:
        """Follow, until cancelled."""
        while self._missing:
            await self._news.wait()
            await asyncio.sleep(CALM)
            self._news.clear()
            await self.define()

    async def define(self) -> None:
        """Make those that are not there and have something in them. One that libvirt has is nobody's to be touched."""
        try:
            known = await self.host.virt.pools.all()
            for request in [Pool(each) for each in sorted(self._missing)]:
                if request.name in known:
                    self._missing.discard(request.storage)
                elif await asyncio.to_thread(Path(request.path(self._view())).is_dir):
                    self._missing.discard(request.storage)
                    self._start(request)
        except KvmError as error:
            log.warning("%s: %s", error.what, error.why)
