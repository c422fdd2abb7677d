"""The host as the steps see it: the rooms they work with, and the two things the engine asks of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from ..config import Config
from ..engine.plan import Guard
from ..images.conversion import Units
from ..images.disk_files import identity
from ..images.own_thread import in_own_thread
from ..model import properties
from ..model.domain_xml import digest
from ..model.errors import KvmError, LibvirtUnavailable
from ..model.inventory import Inventory
from ..model.source_disks import BLOCK, FILE
from ..virt.agent import Agent
from ..virt.domains import Virt
from ..zfs import listing
from ..zfs.commands import Zfs
from ..zfs.devices import Devices
from ..zfs.pools import read_only

log = logging.getLogger(__name__)

LINK = "link:"
"""Before the name of a network interface that a step touches."""


class HostUnits(Units, Protocol):
    """systemd, as the steps use it. Each raises KvmError."""

    async def active(self, units: Iterable[str]) -> dict[str, bool]: ...

    async def enabled(self, unit: str) -> bool: ...

    async def enable(self, unit: str) -> None: ...

    async def disable(self, unit: str) -> None: ...


async def unchecked() -> None:
    """Nobody checks this host."""


@dataclass
class Host:
    """published() is called when something else than a job has changed the inventory, so that the bus tells of it;
    images_changed() when a job has changed what an image store holds; check_again() has the host checked anew, for a
    plan that goes by what is found."""

    config: Config
    inventory: Inventory
    zfs: Zfs
    devices: Devices
    virt: Virt
    agent: Agent
    units: HostUnits
    published: Callable[[], None] = lambda: None
    images_changed: Callable[[], Awaitable[None]] | None = None
    check_again: Callable[[], Awaitable[object]] = unchecked

    async def moved(self, guards: tuple[Guard, ...]) -> list[str]:
        """Which guards do not hold any more, in words; read from the host, not from the inventory."""
        names = [guard.name for guard in guards if guard.what in ("guid", "absent")]
        datasets, snapshots = await listing.named(self.zfs, names)
        guids = {d.name: d.guid for d in datasets} | {f"{s.dataset}@{s.name}": s.guid for s in snapshots}
        found = []
        for guard in guards:
            if guard.what == "guid" and guids.get(guard.name) != guard.value:
                found.append(f"{guard.name} {'is another one now' if guard.name in guids else 'is gone'}")
            elif guard.what == "absent" and guard.name in guids:
                found.append(f"{guard.name} is there now")
            elif guard.what == "state":
                domain = await self.virt.domain(guard.name)
                state = domain.state if domain else "gone"
                if state != guard.value:
                    found.append(f"the VM is {state}, and was {guard.value}")
            elif guard.what == "image":
                found += await asyncio.to_thread(_moved_image, guard)
            elif guard.what in (FILE, BLOCK):
                found += await moved_disk(guard.what, guard.name, guard.value)
            elif guard.what == "in-no-drive":
                users = self.inventory.with_medium(guard.name) + self.inventory.with_disk(guard.name)
                found += [f"{guard.name} is in a drive of {', '.join(users)} now"] if users else []
            elif guard.what == "definition":
                domain = await self.virt.domain(guard.name)
                if domain is None or digest(domain.xml) != guard.value:
                    found.append("the definition of the VM has changed" if domain else "the VM is defined no more")
        return found

    async def hindrance(self, touched: tuple[str, ...]) -> str:
        """Why it cannot be told yet what was done to these: libvirt is away, or a storage is not there, or cannot be
        written to."""
        if touched and all(name.startswith(LINK) for name in touched):
            return ""  # whoever is cut off the network must not wait for libvirt
        try:
            present, _ = await listing.named(self.zfs, self.parents_of(touched))
            await self.virt.networks()
        except KvmError as error:
            return error.in_one_line()
        parents = self.parents_of(touched)
        if missing := set(parents) - {each.name for each in present}:
            return f"there is no dataset {', '.join(sorted(missing))}: is its pool imported?"
        if fixed := await read_only(sorted({each.partition("/")[0] for each in parents})) if parents else []:
            return f"the pool {', '.join(fixed)} was imported to be read only"
        return ""

    async def knows_more(self, touched: tuple[str, ...], mark: tuple[str, int]) -> str:
        """Whether a storage was marked by another journal, or a later state of this one: then ours is an old copy."""
        id_, number = mark
        for parent in self.parents_of(touched):
            other, seen = parse_mark(await self.zfs.get(parent, properties.JOURNAL))
            if other and (other != id_ or seen > number):
                newer = f"it has seen {seen} jobs begin and end, and the journal {number}"
                why = newer if other == id_ else "it was last changed with another journal"
                return f"{parent} knows more than the journal: {why}. Was the host restored from an older state?"
        return ""

    def parents_of(self, touched: tuple[str, ...]) -> list[str]:
        """The storages' parents below which these are."""
        parents = self.inventory.parents.values()
        return [p for p in parents if any(name == p or name.startswith(f"{p}/") for name in touched)]

    def can_look_ahead(self, touched: str) -> bool:
        """Datasets and snapshots: to read them takes as long as what else there may be to do, such as a definition."""
        return _is_zfs(touched)

    def look_ahead(self, touched: tuple[str, ...]) -> Awaitable[frozenset[str]]:
        """Read the datasets and snapshots among these again; which were read."""
        return asyncio.ensure_future(self._look(touched))

    async def _look(self, touched: tuple[str, ...]) -> frozenset[str]:
        done = await _tried(self.refresh_touched(touched))
        return frozenset(filter(_is_zfs, touched)) if done else frozenset()

    async def settle(self, touched: tuple[str, ...], ahead: Awaitable[frozenset[str]] | None = None) -> None:
        """Read again what a job has touched, with a constant number of zfs commands. ahead: the reading, under way, of
        what it has not touched since."""
        await asyncio.gather(self._settle_zfs(touched, ahead), self._settle_others(touched))

    async def _settle_zfs(self, touched: tuple[str, ...], ahead: Awaitable[frozenset[str]] | None) -> None:
        known = await ahead if ahead else frozenset[str]()
        await _tried(self.refresh_touched(tuple(name for name in touched if name not in known)))

    async def _settle_others(self, touched: tuple[str, ...]) -> None:
        for name in touched:
            if name.startswith("domain:"):
                await _tried(self.refresh_domain(name.removeprefix("domain:")))
            elif name.startswith("images:") and self.images_changed:
                await _tried(self.images_changed())

    async def refresh_touched(self, touched: tuple[str, ...]) -> None:
        """Datasets and snapshots among what steps touch: a name that ends with '@*' is one with all its snapshots."""
        told = {name: self.zfs.learned.pop(name) for name in touched if name in self.zfs.learned}
        for snapshot in told.values():
            self.inventory.put_snapshot(snapshot)
        names = [name for name in touched if _is_zfs(name) and name not in told]
        plain = [name for name in names if not name.endswith("@*")]
        await self.refresh_zfs(plain, [name.removesuffix("@*") for name in names if name.endswith("@*")])

    async def refresh_zfs(self, plain: list[str], whole: list[str]) -> None:
        """plain: datasets and snapshots by name; whole: datasets to be read with all their snapshots.

        Their clones are read as well: a rename or a promotion changes the name of an origin.
        """
        inventory = self.inventory
        clones = {c for name in whole for s in inventory.snapshots.get(name, ()) for c in inventory.clones_of(name, s)}
        plain = [*plain, *sorted(clones - {*plain, *whole})]
        datasets, snapshots = await listing.named(self.zfs, plain)
        if whole:
            more, theirs = await listing.with_snapshots(self.zfs, whole)
            datasets, snapshots = datasets + more, snapshots + theirs
        present = {d.name for d in datasets} | {f"{s.dataset}@{s.name}" for s in snapshots}
        for name in whole:
            for old in list(self.inventory.snapshots.get(name, ())):
                if f"{name}@{old}" not in present:
                    self.inventory.remove_snapshot(name, old)
        for name in plain + whole:
            if name not in present and "@" in name:
                self.inventory.remove_snapshot(*name.split("@", 1))
            elif name not in present:
                self.inventory.remove_dataset(name)
        for dataset in datasets:
            known = inventory.datasets.get(dataset.name)
            if known and dataset.name not in whole:
                dataset = replace(dataset, bookmarks=known.bookmarks)
            inventory.put_dataset(dataset)
        for snapshot in snapshots:
            self.inventory.put_snapshot(snapshot)

    async def refresh_named(self, names: list[str]) -> None:
        """Read again datasets and snapshots that others have changed, with one command. Of what a job of ours has
        changed meanwhile its own reading is the newer one."""
        with self.inventory.noting() as newer:
            datasets, snapshots = await listing.named(self.zfs, names)
        present = {d.name: d for d in datasets}
        taken = {f"{s.dataset}@{s.name}": s for s in snapshots}
        for name in (each for each in names if each not in newer):
            if name in taken:
                self.inventory.put_snapshot(taken[name])
            elif "@" in name:
                self.inventory.remove_snapshot(*name.split("@", 1))
            elif name in present:
                known = self.inventory.datasets.get(name)
                self.inventory.put_dataset(replace(present[name], bookmarks=known.bookmarks if known else ()))
            else:
                self.inventory.remove_dataset(name)

    async def refresh_domain(self, uuid: str) -> None:
        """Read one domain again; while libvirt is away the last known state stays."""
        try:
            domain = await self.virt.domain(uuid)
        except LibvirtUnavailable:
            return
        if domain is None:
            self.inventory.remove_domain(uuid)
        else:
            self.inventory.put_domain(domain)

    async def refresh_domain_named(self, name: str) -> None:
        """Read a domain that is not known yet; nothing while libvirt is away."""
        with suppress(LibvirtUnavailable):
            if domain := await self.virt.domain_named(name):
                self.inventory.put_domain(domain)

    async def refresh_usage(self, names: list[str]) -> None:
        """Read again the space that datasets and their snapshots use."""
        with self.inventory.noting() as newer:  # a job may have destroyed or renamed some of them meanwhile
            datasets, snapshots = await listing.with_snapshots(self.zfs, names)
        for dataset in datasets:
            if dataset.name not in newer:
                self.inventory.put_dataset(dataset)
        for snapshot in snapshots:
            if snapshot.dataset in self.inventory.datasets and f"{snapshot.dataset}@{snapshot.name}" not in newer:
                self.inventory.put_snapshot(snapshot)
        self.inventory.usage_read(int(time.time()), names)


async def moved_disk(kind: str, path: str, was: str) -> list[str]:
    """Whether a file or device that a domain of others has as a disk is what it was, by its identity."""
    now = await in_own_thread("disk of a domain", partial(identity, kind, path))
    return [] if now == was else [f"{path} {'has been changed' if now else 'is gone'}"]


def _moved_image(guard: Guard) -> list[str]:
    """Whether the file of an image is the one it was, as far as its size tells."""
    try:
        size = str(Path(guard.name).lstat().st_size)
    except OSError:
        return [f"{guard.name} is gone"]
    return [] if size == guard.value else [f"{guard.name} is another one now"]


def _is_zfs(touched: str) -> bool:
    return not touched.startswith(("domain:", "images:", LINK))


async def _tried(work: Awaitable[None]) -> bool:
    """What cannot be read again must not keep the rest from being read. Whether it could."""
    try:
        await work
    except KvmError as error:
        log.warning("%s: %s", error.what, error.why)
        return False
    return True


def parse_mark(text: str) -> tuple[str, int]:
    """The journal's id and number that a storage is marked with; ("", 0) for none."""
    id_, _, number = text.partition(":")
    return (id_, int(number)) if number.isascii() and number.isdecimal() else ("", 0)
