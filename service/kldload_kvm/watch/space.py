"""Guests that stopped because their pool was full: they go on once there is room again, and only those do.

QEMU pauses a guest whose write finds no space (its default, werror=enospc), and repeats the write when it goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..model.errors import KvmError
from ..model.inventory import NO_SPACE, Vm
from ..model.sizes import format_size
from ..model.space import resume_at
from ..ops.power import Resume
from ..ops.request import Request
from ..steps.host import Host

log = logging.getLogger(__name__)

PERIOD = 10.0
FIRST, LONGEST = 10.0, 600.0  # a guest that stops again soon waits longer each time, in seconds
FORGOTTEN = 1800.0


@dataclass
class Attempt:
    """When a guest was last let go on, and how long it waits should it stop again."""

    when: float
    wait: float = FIRST


class SpaceWatch:
    """start(request): starts an operation of the service's own."""

    def __init__(self, host: Host, start: Callable[[Request], object]) -> None:
        self.host, self._start = host, start
        self._attempts: dict[str, Attempt] = {}

    async def keep(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            await self.look(time.monotonic())

    async def look(self, now: float) -> None:
        """Let those go on that can. Where nobody waits, nothing is asked of the host."""
        stopped = [vm for vm in map(self.host.inventory.vm, self.host.inventory.vm_ids()) if vm and waits(vm)]
        if not stopped:
            return
        parents = sorted({vm.first.name.rpartition("/")[0] for vm in stopped})
        try:
            await self.host.refresh_zfs(parents, [])
        except KvmError as error:
            log.warning("%s: %s", error.what, error.why)
            return
        self.host.published()
        for vm in stopped:
            self._consider(vm, now)

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


def waits(vm: Vm) -> bool:
    """Whether a VM is paused for want of space, and for nothing else."""
    return vm.domain is not None and vm.domain.state == "paused" and vm.domain.fault == NO_SPACE
