"""What a step has made itself: found by its tag, and destroyed by undo, or kept if a guest has written to it.

The tag (org.kldload.kvm:job) is set by the command that creates; undo destroys nothing else. ZFS sets it in the
transaction after, so a power cut may leave a dataset without it: see `was_cut_off`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

from ..engine.plan import Run, Step
from ..model import properties
from ..model.errors import Busy, KvmError, NoSpace, NotFound
from ..model.inventory import SPARE, TRASH
from ..model.trash import ROLLED_BACK
from ..waiting import until
from .host import Host

log = logging.getLogger(__name__)

UDEV_LOOKS = 15.0
"""Seconds, at the most, for which udev has a volume open that was just written."""
FRESH_CLONE = 16 << 10
"""What ZFS counts as written to a clone that nobody wrote to, at the most: 8 KiB of its own (seen, with sectors of
4 KiB). The smallest write of a guest adds a block and, twice, those that point to it."""
FRESH = {"volume": 28 << 10, "filesystem": 42 << 10}
"""What of its own a new dataset references, before compression, at the most (seen, OpenZFS 2.1 and 2.3)."""

TOLD = ("creation", "origin", "written", "type", "logicalreferenced")


class Creating(Step):
    """A step that creates a dataset: told, and undone, by the tag that it was created with."""

    dataset: str
    claimed: bool = False
    """Whether a domain has it before it is there."""

    async def done(self, host: Host, run: Run) -> bool:
        return await is_ours(host, self.dataset, run)

    async def undo(self, host: Host, run: Run) -> None:
        await destroy_own(host, self.dataset, run, claimed=self.claimed)


async def ensure_trash(host: Host, trash: str) -> None:
    """Never mounted, and never replicated: what waits there is nobody's current state. Entries inherit that they have
    no mountpoint: one that a power cut left without canmount=off would be mounted at boot, and we cannot unmount."""
    try:
        unmounted = await host.zfs.get(trash, "mountpoint") == "none"
    except NotFound:
        await host.zfs.create_container(trash, {"mountpoint": "none", "syncoid:sync": "false"})
    else:
        if not unmounted:
            with suppress(KvmError):  # it is mounted itself, and works all the same
                await host.zfs.set(trash, {"mountpoint": "none"})


async def make_entry(host: Host, entry: str, noted: dict[str, str], run: Run) -> None:
    """The container of a trash entry. In a pool that is full ZFS makes none, but renames the spare one."""
    trash = entry.rpartition("/")[0]
    values = {**noted, properties.SINCE: str(int(time.time())), properties.JOB: run.tag}
    try:
        await ensure_trash(host, trash)
        await host.zfs.create_container(entry, values)
    except NoSpace as error:
        spare = f"{trash}/{SPARE}"
        if await guid_of(host, spare) is None:
            hint = "purge what waits there (kvm-trash list), or delete without the trash: kvm-delete --now"
            raise NoSpace("nothing was moved to the trash", error.why, hint) from None
        # First what it is, then its place: what a spare still says of another, that came to nothing, is cleared.
        for key in await host.zfs.local_properties(spare):
            if key.startswith(properties.PREFIX) and key not in values:
                await host.zfs.inherit(spare, key)
        await host.zfs.set(spare, values)
        await host.zfs.rename(spare, entry)


async def guid_of(host: Host, name: str) -> str | None:
    """None if it is not there."""
    try:
        return await host.zfs.get(name, "guid")
    except NotFound:
        return None


async def tag_of(host: Host, name: str) -> str:
    """Which step made a dataset or snapshot, as Run.tag; the empty string if it is not there."""
    try:
        if "@" in name:
            return properties.snapshot_facts(await host.zfs.get(name, properties.SNAPSHOT))[2]
        return await host.zfs.get(name, properties.JOB) if name else ""
    except NotFound:
        return ""


async def is_ours(host: Host, dataset: str, run: Run) -> bool:
    """Whether a dataset is there and was created by this very step."""
    return await tag_of(host, dataset) == run.tag


async def destroy_own(host: Host, dataset: str, run: Run, *, claimed: bool = False) -> None:
    """Destroy what this very step created, if it did. What a guest has written to meanwhile goes to the trash.
    claimed: a domain had it from the beginning."""
    if not await is_ours(host, dataset, run):
        if await was_cut_off(host, dataset, run):
            log.warning("job %s: %s was cut off before it got its properties, and is destroyed", run.job, dataset)
            await no_longer_busy(host.zfs.destroy, dataset)
        return
    if await was_written(host, dataset, run, claimed=claimed):
        await keep(host, dataset, run)
    else:
        await no_longer_busy(host.zfs.destroy, dataset)


async def was_cut_off(host: Host, dataset: str, run: Run) -> bool:
    """Whether a dataset of the name that this step was to create was left by a power cut between ZFS's two
    transactions: it came after the job began and before the host was started again, nothing at all is set on it, and
    nothing is in it."""
    if run.began >= booted():
        return False
    try:
        if (await host.zfs.local_properties(dataset)).keys() - {"volsize"}:
            return False
        is_ = {key: value for key, (value, _) in (await host.zfs.settings(dataset, TOLD)).items()}
    except NotFound:
        return False
    if not run.began - 1 < int(is_["creation"]) < booted():
        return False
    if is_["origin"] != "-":
        return int(is_["written"]) <= FRESH_CLONE
    return int(is_["logicalreferenced"]) <= FRESH.get(is_["type"], 0)


def booted() -> float:
    """When the host was started, in seconds since 1970."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


async def was_written(host: Host, dataset: str, run: Run, *, claimed: bool) -> bool:
    """Whether a guest wrote to a volume of the job's own, as when somebody started it by virsh while the service was
    dead: other than was noted, or more than a clone has of its own, or any new one."""
    noted = run.results.get("_written", {}).get(dataset)
    if noted is None and await host.zfs.get(dataset, "origin") == "-":
        if not (claimed and run.recovered):
            return False  # no domain had it yet, or we have let nobody start that
        return int(await host.zfs.get(dataset, "logicalreferenced")) > FRESH["volume"]
    written = await host.zfs.get(dataset, "written")
    return int(written) > FRESH_CLONE if noted is None else written != noted


async def keep(host: Host, dataset: str, run: Run) -> None:
    """Move it to the trash, into one entry for each VM and job; not as deleted, for nobody asked to delete it."""
    parent, _, base = dataset.rpartition("/")
    suffixes = [await host.zfs.get(dataset, key) for key in (properties.ROLE, properties.TARGET)]
    name = next((base.removesuffix(f".{each}") for each in suffixes if base.endswith(f".{each}")), base)
    entry = f"{parent}/{TRASH}/{name}-{run.job}"
    await no_longer_busy(host.devices.check_closed, dataset)
    if await guid_of(host, entry) is None:
        vm = await host.zfs.get(dataset, properties.VM)
        values = {properties.VM: vm, properties.NAME: name, properties.REASON: ROLLED_BACK, properties.UID: "0"}
        await make_entry(host, entry, values, run)
    await host.zfs.rename(dataset, f"{entry}/{base}")
    log.warning("job %s: a guest has written to %s, which is kept in the trash as %s", run.job, dataset, entry)


async def no_longer_busy(work: Any, *datasets: str) -> None:
    """Do it once it is not Busy any more: udev looks at each node for a moment after it was written."""
    last: list[KvmError] = []

    async def attempt() -> bool:
        try:
            call: Awaitable[None] = work(*datasets)
            await call
        except Busy as fault:
            last[:] = [fault]
            return False
        return True

    if not await until(attempt, UDEV_LOOKS, 0.3):
        raise last[0]
