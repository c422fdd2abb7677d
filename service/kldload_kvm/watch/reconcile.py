"""Keeps the inventory like the host: read whole at start and after any gap, then followed by events.

What our own jobs change is read again by the engine's settling; a little after their events everything is read once
more, for another may have touched the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from ..model.errors import KvmError, LibvirtUnavailable
from ..steps.host import Host
from ..zfs import listing

log = logging.getLogger(__name__)

PERIOD = 300.0  # everything is read again so often, in seconds, should an event have been missed
DEBOUNCE = 0.25
OWN_MEMORY = 3.0


class Reconciler:
    """ours(name): whether a job of ours changes that dataset or snapshot, or just has. published(): tell the bus."""

    def __init__(self, host: Host, ours: Callable[[str], bool], published: Callable[[], None]) -> None:
        self.host, self._ours, self._published = host, ours, published
        self.problem = ""
        self.fault: KvmError | None = None  # the same, as what it was
        self._whole = asyncio.Event()
        self._domains: set[str] = set()
        self._domain_event = asyncio.Event()
        self._last = 0.0
        self._later: asyncio.TimerHandle | None = None

    # -- called by the watchers ----------------------------------------------------------------------------------------

    def dataset_changed(self, dataset: str) -> None:
        name = dataset.partition("%")[0].removesuffix("/")  # receiving shows as NAME/%recv
        base = name.partition("@")[0]
        parents = self.host.inventory.parents.values()
        if not any(base == p or base.startswith(f"{p}/") for p in parents):
            return
        if not self._ours(name):
            self._whole.set()
        elif self._later is None:
            # Most likely our own doing, which the job's end reads; but another may have touched the same since.
            self._later = asyncio.get_running_loop().call_later(OWN_MEMORY + 1.0, self._look_again)

    def _look_again(self) -> None:
        self._later = None
        self._whole.set()

    def read_all_again(self) -> None:
        self._whole.set()

    def domain_changed(self, uuid: str) -> None:
        self._domains.add(uuid)
        self._domain_event.set()

    # -- tasks ---------------------------------------------------------------------------------------------------------

    async def load_zfs(self) -> None:
        """Read all datasets and snapshots, with two commands."""
        inventory = self.host.inventory
        self._last = time.monotonic()
        try:
            with inventory.noting() as newer:  # a job that ends meanwhile has read what it changed after us
                datasets, snapshots = await listing.everything(self.host.zfs, list(inventory.parents.values()))
        except KvmError as error:
            problem = f"{error.what}: {error.why}" + (f"; {error.hint}" if error.hint else "")
            if problem != self.problem:
                log.warning("%s", problem)
            self.problem, self.fault = problem, error
        else:
            self.problem, self.fault = "", None
            inventory.replace_zfs(datasets, snapshots, newer)
            inventory.usage_read(int(time.time()))
        self._published()

    async def load_domains(self) -> None:
        """Read all domains. While libvirt is away the last known ones stay: absence is never evidence."""
        inventory = self.host.inventory
        try:
            with inventory.noting() as newer:
                domains = await self.host.virt.domains()
        except LibvirtUnavailable:
            return
        inventory.replace_domains(domains, newer)
        self._published()

    async def keep_zfs(self) -> None:
        """Read again after foreign changes, at most once a second, and every few minutes anyway."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._whole.wait(), PERIOD)
            await asyncio.sleep(max(DEBOUNCE, 1.0 - (time.monotonic() - self._last)))
            self._whole.clear()
            await self.load_zfs()

    async def keep_domains(self) -> None:
        """Read again each domain that libvirt says something happened to."""
        while True:
            await self._domain_event.wait()
            self._domain_event.clear()
            uuids, self._domains = self._domains, set()
            await _each(uuids, self.host.refresh_domain)
            self._published()


async def _each(names: set[str], work: Callable[[str], Awaitable[None]]) -> None:
    for name in sorted(names):
        try:
            await work(name)
        except KvmError as error:
            log.warning("the domain %s could not be read: %s", name, error.why)
