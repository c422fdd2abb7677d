"""How full the storages are, sampled; and guests that stopped because their pool was full, which go on once there is
room.

No event tells of space. QEMU pauses a guest whose write finds none (its default, werror=enospc), and repeats the write
when the guest goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..model.errors import KvmError
from ..model.foreign_image import SECTOR
from ..model.inventory import NO_SPACE, Domain, Vm
from ..model.sizes import format_size
from ..model.space import resume_at
from ..ops.power import Resume
from ..ops.request import Request
from ..steps.host import Host

log = logging.getLogger(__name__)

PERIOD = 10.0
SAMPLE, RARELY = 60.0, 300.0  # seconds, where much was written and where not; one zfs command reads all storages
LITTLE = 8 << 20
"""Bytes written to the host's disks that can fill no pool."""
DISKS = Path("/sys/block")
FIRST, LONGEST = 10.0, 600.0  # a guest that stops again soon waits longer each time, in seconds
FORGOTTEN = 1800.0


@dataclass
class Attempt:
    """When a guest was last let go on, and how long it waits should it stop again."""

    when: float
    wait: float = FIRST


class SpaceWatch:
    """start(request): starts an operation of the service's own; written(): bytes, as the function below."""

    def __init__(
        self, host: Host, start: Callable[[Request], object], written: Callable[[], int] | None = None
    ) -> None:
        self.host, self._start, self._written = host, start, written or bytes_written
        self._attempts: dict[str, Attempt] = {}
        self._sampled = self._looked = -RARELY
        self._then = 0  # what was written when it was sampled
        self._told = ""

    async def keep(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            await self.look(time.monotonic())

    async def look(self, now: float) -> None:
        """Let those go on that can. Where nobody waits, the host is asked only when a sample is due: a process each
        minute would be most of what the service does while nothing happens."""
        inventory = self.host.inventory
        paused = [each.uuid for each in inventory.domains.values() if waits(each)]
        stopped = [vm for vm in map(inventory.vm_of_domain, paused) if vm]
        if (stopped or self._is_due(now)) and await self._sample(now):
            for vm in stopped:
                self._consider(vm, now)

    def _is_due(self, now: float) -> bool:
        if now < self._looked + SAMPLE:
            return False
        self._looked, written = now, self._written()
        if now < self._sampled + RARELY and written - self._then < LITTLE:
            return False
        self._then = written
        return True

    async def _sample(self, now: float) -> bool:
        inventory = self.host.inventory
        self._sampled = now
        try:
            await self.host.refresh_zfs([each for each in inventory.parents.values() if each in inventory.datasets], [])
        except KvmError as error:
            if str(error) != self._told:
                log.warning("%s: %s", error.what, error.why)
            self._told = str(error)
            return False
        self._told, inventory.stores_at = "", int(time.time())
        self.host.published()
        return True

    def _consider(self, vm: Vm, now: float) -> None:
        store = self.host.inventory.datasets.get(vm.first.name.rpartition("/")[0])
        last = self._attempts.get(vm.id)
        if store is None or (last and now < last.when + last.wait):
            return
        needed = resume_at(store, self.host.config.floor)
        if store.available < needed:
            return
        again = last is not None and now < last.when + FORGOTTEN
        self._attempts[vm.id] = Attempt(now, min(last.wait * 2, LONGEST) if last and again else FIRST)
        log.warning(
            "%s was paused because %s was full; %s are free again, and %s were waited for, so it goes on",
            vm.name, store.name, format_size(store.available), format_size(needed),
        )  # fmt: skip
        try:
            self._start(Resume(vm.id))
        except KvmError as error:
            log.warning("%s does not go on yet: %s: %s", vm.name, error.what, error.why)


def bytes_written() -> int:
    """To all disks of the host since it was started. Zvols are left out, for what is written to them ends on others.
    /sys counts in units of 512 bytes, whatever a disk's own are."""
    total = 0
    for name in os.listdir(DISKS):  # noqa: PTH208 - hundreds of zvols
        if not name.startswith("zd"):
            with suppress(OSError, ValueError, IndexError):  # it went meanwhile
                total += int((DISKS / name / "stat").read_text().split()[6]) * SECTOR
    return total


def waits(domain: Domain) -> bool:
    """Whether a domain is paused for want of space, and for nothing else."""
    return domain.state == "paused" and domain.fault == NO_SPACE
