"""What becomes of volumes when others define, undefine and rename domains: the first makes what the definition asks
for, the second retires what the domain had, and the third renames it, if that is configured. And of those of a
transient domain that has ended.

An undefinition counts only as a live event, looked at again a moment later: a domain that is missing after a gap has
not been undefined in front of our eyes, and neither has one that was migrated away, or renamed, or defined anew
meanwhile. Many at once stop for a person.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..config import MOVE
from ..model.errors import Busy, KvmError
from ..model.inventory import Domain, Vm
from ..model.names import vm_name
from ..ops.end import End, fates
from ..ops.provision import Provision
from ..ops.rename import Rename
from ..ops.request import Request, View
from ..ops.retire import Retire
from ..steps.host import Host

log = logging.getLogger(__name__)

SETTLE = 2.0
"""Seconds after an undefinition until it is believed: a tool that moves a domain defines it again at once."""
CALM = 0.5
"""Seconds after news until it is looked at: most often a job of ours has defined a domain, and is to end first."""
MANY, WINDOW = 5, 10.0
"""More undefinitions than that within so many seconds are no longer somebody's wish for each of them."""
MIGRATED, AGAIN = 3600.0, 2.0
ENDS = ("shutdown", "destroyed")
"""How a domain stops that has ended. One that crashed, was saved or migrated has not."""


@dataclass(frozen=True)
class Gone:
    """A domain that was undefined. vm: id of the VM that had it; at: when, by the monotonic clock."""

    vm: str
    domain: Domain
    at: float


class Lifecycle:
    """start(request): starts an operation of the service's own; view(): what a plan is made from; holder(vm name): the
    job that is at work on it, or the empty string; seen(uuid): targets of its disks that were there once."""

    def __init__(
        self,
        host: Host,
        start: Callable[[Request], object],
        view: Callable[[], View],
        holder: Callable[[str], str],
        seen: Callable[[str], frozenset[str]],
    ) -> None:
        self.host, self._start, self._view, self._holder, self._seen = host, start, view, holder, seen
        self._gone: dict[str, Gone] = {}
        self._running_on: dict[str, Gone] = {}
        self._ended: dict[str, Gone] = {}
        self._defined: set[str] = set()
        self._renamed: set[str] = set()
        self._unread: dict[str, Domain | None] = {}
        self._undefined_at: list[float] = []
        self._migrated: dict[str, float] = {}
        self._news = asyncio.Event()

    # -- called as libvirt tells, before anything is read again --------------------------------------------------------

    def happened(self, uuid: str, what: str, how: str) -> None:
        now = time.monotonic()
        match what, how:
            case "undefined", "removed":
                self._undefined_at.append(now)
                self._lost(uuid, now)
            case "defined", "added" | "updated":
                self._gone.pop(uuid, None)
                self._running_on.pop(uuid, None)
                self._unread[uuid] = self.host.inventory.domains.get(uuid)
                self._look_at(uuid)
            case "defined", "renamed":
                self._look_at_name(uuid)
            case "stopped", _:
                if how == "migrated":
                    self._migrated[uuid] = now
                if how in ENDS:
                    self._has_ended(uuid, now)
                if (found := self._running_on.pop(uuid, None)) and how not in ("migrated", "saved"):
                    self._gone[uuid] = Gone(found.vm, found.domain, now)
                    self._news.set()
            case "started", _:
                self._ended.pop(uuid, None)
                if how == "migrated":
                    self._migrated.pop(uuid, None)

    def forget(self) -> None:
        """The connection was lost: what was told until then may not be true any more."""
        self._gone.clear()
        self._running_on.clear()
        self._ended.clear()
        self._unread.clear()

    def _look_at(self, uuid: str) -> None:
        """See whether a definition asks for something."""
        self._defined.add(uuid)
        self._news.set()

    def _look_at_name(self, uuid: str) -> None:
        """See whether a domain has another name than its volumes."""
        if self.host.config.rename == MOVE:
            self._renamed.add(uuid)
            self._news.set()

    def _lost(self, uuid: str, now: float) -> None:
        domain, vm = self._known(uuid)
        if domain is None or vm is None or self._holder(vm.name):
            return  # not on our volumes, on those of several VMs, or our own doing
        if self._unread.pop(uuid, None) is domain:
            log.warning("%s: it was undefined before its newest definition was read, so its volumes stay", domain.name)
            return
        if self._was_migrated(uuid, now):
            log.warning("%s was migrated away: its volumes stay", domain.name)
            return
        self._gone[uuid] = Gone(vm.id, domain, now)
        self._news.set()

    def _has_ended(self, uuid: str, now: float) -> None:
        if uuid in self._running_on or uuid in self._gone:
            return  # it was a persistent one, undefined while it ran
        domain, vm = self._known(uuid)
        if domain and vm and not domain.persistent and fates(domain):
            self._ended[uuid] = Gone(vm.id, domain, now)
            self._news.set()

    def _known(self, uuid: str) -> tuple[Domain | None, Vm | None]:
        """A domain as it was last known, there or not, and the VM whose volumes it has, if they are of one alone."""
        inventory = self.host.inventory
        domain = inventory.domains.get(uuid) or inventory.departed.get(uuid)
        vms = inventory.vms_of(domain) if domain else []
        return domain, vms[0] if len(vms) == 1 else None

    def _was_migrated(self, uuid: str, now: float) -> bool:
        return now - self._migrated.get(uuid, -MIGRATED) < MIGRATED

    # -- the task ------------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Follow, until cancelled."""
        while True:
            await self._news.wait()
            await asyncio.sleep(CALM)
            self._news.clear()
            defined, self._defined = self._defined, set()
            for uuid in sorted(defined):
                await self._provide(uuid)
            renamed, self._renamed = self._renamed, set()
            for uuid in sorted(renamed):
                await self._rename(uuid)
            while (self._gone or self._ended) and not self._news.is_set():
                await asyncio.sleep(0.1)
                await self.look(time.monotonic())

    async def look(self, now: float) -> None:
        """Retire what was undefined long enough ago."""
        self._undefined_at = [at for at in self._undefined_at if now - at < WINDOW]
        for uuid, gone in list(self._gone.items()):
            if len(self._undefined_at) > MANY:
                del self._gone[uuid]
                log.warning(
                    "%s: %d domains were undefined within %d s, so its volumes stay until a person decides: kvm-delete",
                    gone.domain.name, len(self._undefined_at), WINDOW,
                )  # fmt: skip
            elif now - gone.at >= SETTLE:
                del self._gone[uuid]
                await self._retire(uuid, gone)

        for uuid, gone in list(self._ended.items()):
            if now - gone.at >= SETTLE:
                del self._ended[uuid]
                await self._end(uuid, gone)

    async def _end(self, uuid: str, gone: Gone) -> None:
        """Do with a transient domain's volumes as it asked for, if it is still gone."""
        try:
            if await self.host.virt.domain(uuid) is not None:
                return
            await self.host.refresh_domain(uuid)
            vm = self.host.inventory.vm(gone.vm)
            if vm is None or vm.domain is not None:
                return
            if self._holder(vm.name):  # as one that takes a snapshot of all
                self._ended[uuid] = replace(gone, at=time.monotonic())
            else:
                self._start(End(vm.id, gone.domain))
        except KvmError as error:
            log.warning("%s has ended: %s: %s", gone.domain.name, error.what, error.why)

    async def _retire(self, uuid: str, gone: Gone) -> None:
        try:
            there = await self.host.virt.domain(uuid)
            if there is not None:
                if not there.persistent:  # it runs on until it is shut down, and then it is gone
                    self._running_on[uuid] = gone
                return
            await self.host.refresh_domain(uuid)
            vm = self.host.inventory.vm(gone.vm)
            if self._was_migrated(uuid, time.monotonic()):
                return
            if vm is None or vm.domain is not None or self._holder(vm.name):
                return
            self._start(Retire(vm.id, gone.domain))
        except KvmError as error:
            log.warning("%s was undefined: %s: %s", gone.domain.name, error.what, error.why)

    async def _provide(self, uuid: str) -> None:
        """Make what a new or changed definition asks for."""
        try:
            domain = await self.host.virt.domain(uuid)
            if domain is None:
                return
            request = Provision(uuid, domain.name, domain.xml, self._seen(uuid), not domain.persistent)
            if request.missing(self._view()):
                self._start(request)
        except Busy:  # as when several ask for a clone of one: when that job is over
            asyncio.get_running_loop().call_later(AGAIN, self._look_at, uuid)
        except KvmError as error:
            log.warning("%s: %s: %s", error.what, error.why, error.hint)

    async def _rename(self, uuid: str) -> None:
        """Have a VM's volumes follow the name of its domain."""
        try:
            await self.host.refresh_domain(uuid)
            vm = self.host.inventory.vm_of_domain(uuid)
            if vm is None or vm.domain is None or vm.domain.name == vm.name:
                return  # none of ours, or they have that name
            name = vm_name(vm.domain.name)
            if self._holder(vm.name) or self._holder(name):  # as that which has renamed it
                asyncio.get_running_loop().call_later(AGAIN, self._look_at_name, uuid)
            else:
                self._start(Rename(vm.id, name))
        except KvmError as error:
            log.warning("a domain was renamed: %s: %s: %s", error.what, error.why, error.hint)
