"""Which disks of which domains were ever there. What was there once and is missing is somebody's data, wherever it is:
nothing is made in its place."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable

from ..engine.journal import Journal
from ..model.errors import KvmError
from ..model.inventory import Inventory, Vm, device

log = logging.getLogger(__name__)

CALM = 1.0  # seconds: what else is to be written to the journal goes first


class Seen:
    """The memory is the journal's, and outlives the service."""

    def __init__(self, inventory: Inventory, journal: Journal, holder: Callable[[str], str]) -> None:
        """holder(vm name): the job that is at work on it, or the empty string: it may yet be undone."""
        self._inventory, self._journal, self._holder = inventory, journal, holder
        self._known: dict[str, set[str]] = defaultdict(set)
        self._changed: set[str] = set()
        self._news = asyncio.Event()

    async def load(self) -> None:
        for uuid, target in await self._journal.disks_seen():
            self._known[uuid].add(target)

    def of(self, uuid: str) -> frozenset[str]:
        """Targets of the disks that this domain has had."""
        return frozenset(self._known.get(uuid, ()))

    def note(self, vm: Vm) -> None:
        """A VM has changed, and its domain may have a disk more."""
        self._changed.add(vm.id)
        self._news.set()

    def look(self) -> set[tuple[str, str]]:
        """Which disks are there that were never seen; those of a VM that a job is at work on are for later."""
        changed, self._changed, found = self._changed, set(), set[tuple[str, str]]()
        for vm in filter(None, map(self._inventory.vm, changed)):
            if self._holder(vm.name):
                self._changed.add(vm.id)
            elif vm.domain:
                for target, path in vm.domain.disks.items():
                    if path.removeprefix(device("")) in self._inventory.datasets:
                        found.add((vm.domain.uuid, target))
        return {(uuid, target) for uuid, target in found if target not in self._known[uuid]}

    async def forget(self, uuid: str, targets: Iterable[str]) -> None:
        """These have ended with their domain, as it asked for: another of its UUID gets new ones."""
        gone = set(targets)
        self._known[uuid] -= gone
        try:
            await self._journal.disks_are_forgotten([(uuid, target) for target in sorted(gone)])
        except KvmError as error:
            log.warning("that disks have ended could not be noted: %s", error.why)

    async def keep(self) -> None:
        """Write what is new, until cancelled."""
        while True:
            await self._news.wait()
            await asyncio.sleep(CALM)
            self._news.clear()
            new = self.look()
            if self._changed:
                self._news.set()
            if not new:
                continue
            for uuid, target in new:
                self._known[uuid].add(target)
            try:
                await self._journal.disks_are_seen(new)
            except KvmError as error:
                log.warning("which disks are there could not be noted: %s", error.why)
