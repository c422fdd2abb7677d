"""Keeps the inventory like the host: read whole at start and after any gap, then followed by events.

What our own jobs change is read again by the engine's settling; a little after their events everything is read once
more, for another may have touched the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ..model.errors import KvmError, LibvirtUnavailable
from ..model.tally import Tally
from ..steps.host import Host
from ..zfs import listing

log = logging.getLogger(__name__)

ALONE = frozenset({"create", "destroy", "snapshot", "set", "inherit", "clone", "hold", "release"})
"""What is done to a dataset and changes no other. After a rename, a promotion or a receive all are read."""
FEW, MOST = 20, 2000
PERIOD = 300.0  # what running guests use is read again so often, in seconds
# Everything is read again as well, should an event have been missed; where that takes long, only every so many times as
# long, so that it is no load, and at the least every LONGEST seconds.
REST, LONGEST = 1000.0, 3600.0
DEBOUNCE = 0.25
OWN_DOMAIN = 0.75
OWN_MEMORY = 3.0


@dataclass
class Heard:
    """What is to be read again: datasets and snapshots by name, or everything; at: when what others did of it was done,
    the last MOST of these times."""

    names: set[str] = field(default_factory=set)
    everything: bool = False
    at: list[float] = field(default_factory=list)

    def add(self, other: Heard) -> None:
        self.names |= other.names
        self.everything = self.everything or other.everything
        self.at += other.at
        del self.at[:-MOST]


class Reconciler:
    """ours(name): whether a job of ours changes that dataset or snapshot, or just has. published(): tell the bus."""

    def __init__(self, host: Host, ours: Callable[[str], bool], published: Callable[[], None]) -> None:
        self.host, self._ours, self._published = host, ours, published
        self.at_work: Callable[[str], bool] = lambda touched: False  # whether a job of ours is, on "domain:UUID"
        self.tally = Tally()
        self.problem = ""
        self.fault: KvmError | None = None  # the same, as what it was
        self._news = asyncio.Event()
        self._heard = Heard()
        self._own = Heard()
        self._domains: set[str] = set()
        self._domains_at: list[float] = []
        self._domain_event = asyncio.Event()
        self._last = self._usage_at = 0.0  # when everything, and when what running guests use, was read
        self._took = 0.0
        self._later: asyncio.TimerHandle | None = None

    # -- called by the watchers ----------------------------------------------------------------------------------------

    def dataset_changed(self, dataset: str, action: str = "", at: float = 0.0) -> None:
        """at: when that was, in seconds since 1970, or 0 for something old, which is told of but not counted."""
        name = dataset.partition("%")[0].removesuffix("/")  # receiving shows as NAME/%recv
        base = name.partition("@")[0]
        parents = self.host.inventory.parents.values()
        if not any(base == p or base.startswith(f"{p}/") for p in parents):
            return
        if at:
            self.tally.heard("zfs")
        record = self.host.inventory.datasets.get(name)
        inherited = action in ("set", "inherit") and "@" not in name and (not record or record.kind == "filesystem")
        alone = action in ALONE and "%" not in dataset and not inherited
        heard = Heard({name, base}) if alone else Heard(everything=True)  # a snapshot changes what its dataset uses
        if not self._ours(name):
            heard.at = [at] if at else []
            self._hear(heard)
            return
        # Most likely our own doing, which the job's end reads; but another may have touched the same since.
        self._own.add(heard)
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(OWN_MEMORY + 1.0, self._look_again)

    def _look_again(self) -> None:
        self._later, own, self._own = None, self._own, Heard()
        self._hear(own)

    def _hear(self, heard: Heard) -> None:
        self._heard.add(heard)
        self._news.set()

    def read_all_again(self, why: str) -> None:
        """why: as in Tally.reloads."""
        self.tally.reloaded(why)
        self._hear(Heard(everything=True))

    def domain_changed(self, uuid: str, at: float = 0.0) -> None:
        """A job of ours that is at work on it reads it at its end; another may have changed the same domain besides.
        at: when libvirt told of it, in seconds since 1970."""
        self.tally.heard("libvirt")
        if self.at_work(f"domain:{uuid}"):
            asyncio.get_running_loop().call_later(OWN_DOMAIN, self._read_domain, uuid)
        else:
            self._domains_at += [at] if at else []
            self._read_domain(uuid)

    def _read_domain(self, uuid: str) -> None:
        self._domains.add(uuid)
        self._domain_event.set()

    # -- tasks ---------------------------------------------------------------------------------------------------------

    async def load_zfs(self) -> None:
        """Read all datasets and snapshots, with two commands."""
        inventory = self.host.inventory
        self._last = self._usage_at = time.monotonic()
        self._took = 0.0
        try:
            with inventory.noting() as newer:  # a job that ends meanwhile has read what it changed after us
                datasets, snapshots = await listing.everything(self.host.zfs, list(inventory.parents.values()))
        except KvmError as error:
            problem = error.in_one_line()
            if problem != self.problem:
                log.warning("%s", problem)
            self.problem, self.fault = problem, error
        else:
            self.problem, self.fault = "", None
            self._took = time.monotonic() - self._last
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
        """Read what others have changed: that alone if it is little, else all, at most once a second. What guests use
        every few minutes anyway, and now and then all."""
        while True:
            all_due = self._last + rest(self._took)
            due = min(all_due, self._usage_at + PERIOD)
            try:
                await asyncio.wait_for(self._news.wait(), max(due - time.monotonic(), 0.0))
            except TimeoutError:
                if due < all_due:
                    await self._read_usage()
                    continue
                self._heard.everything = True
            await asyncio.sleep(DEBOUNCE)
            if self._heard.everything or self.fault or not self._is_little(len(self._heard.names)):
                await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - self._last)))
                heard = self._begin_anew()
                await self.load_zfs()
                known = self.fault is None
            else:
                heard = self._begin_anew()
                known = await self._read(sorted(heard.names))
            if known:
                self.tally.known("zfs", heard.at, time.time())
            else:
                self._heard.add(Heard(at=heard.at))

    def _begin_anew(self) -> Heard:
        """What was heard of until now; what is heard from now on is for the next time."""
        heard, self._heard = self._heard, Heard()
        self._news.clear()
        return heard

    def _is_little(self, count: int) -> bool:
        """Whether so many are read faster by their names than with all the rest."""
        inventory = self.host.inventory
        every = len(inventory.datasets) + sum(map(len, inventory.snapshots.values()))
        return count <= max(FEW, min(every // 4, MOST))

    async def _read_usage(self) -> None:
        """What the volumes of running guests use: no event tells of it, and the others use what they did."""
        self._usage_at = time.monotonic()
        running = [each for each in self.host.inventory.domains.values() if each.state == "running"]
        names = sorted({v.name for domain in running for vm in self.host.inventory.vms_of(domain) for v in vm.volumes})
        if names and await self._read(names):
            self.host.inventory.usage_read(int(time.time()), names)
            self._published()

    async def _read(self, names: list[str]) -> bool:
        """Whether they could be read; else everything is to be."""
        try:
            await self.host.refresh_named(names)
        except KvmError as error:
            log.warning("%s: %s", error.what, error.why)
            self._hear(Heard(everything=True))
            return False
        finally:
            self._published()
        return True

    async def keep_domains(self) -> None:
        """Read again each domain that libvirt says something happened to."""
        while True:
            await self._domain_event.wait()
            self._domain_event.clear()
            uuids, self._domains = self._domains, set()
            times, self._domains_at = self._domains_at, []
            await _each(uuids, self.host.refresh_domain)
            self._published()
            if self.host.virt.connected:
                self.tally.known("libvirt", times, time.time())


def rest(took: float) -> float:
    """From one reading of everything to the next, if it took so long; all in seconds."""
    return min(max(PERIOD, REST * took), LONGEST)


async def _each(names: set[str], work: Callable[[str], Awaitable[None]]) -> None:
    for name in sorted(names):
        try:
            await work(name)
        except KvmError as error:
            log.warning("the domain %s could not be read: %s", name, error.why)
