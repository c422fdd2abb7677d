"""Pools: whether they work, have room, and are looked after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...model.finding import Finding
from ...model.host_facts import HostFacts, Pool
from ..sources import SCRUB_CRON, SCRUB_TIMERS

DAY = 86400
SCRUB_DAYS = 40
"""A month, and some days for a scrub that takes long."""
FULL, NEARLY_FULL, FRAGMENTED = 95, 85, 60
"""In percent."""


def check(facts: HostFacts) -> Iterator[Finding]:
    if facts.zfs_fault:
        yield Finding("zfs-missing", "error", "zfs", facts.zfs_fault)
        return
    if facts.pools_fault:
        yield Finding("host-unseen", "error", "pools", facts.pools_fault)
        return
    if facts.zfs_version and facts.zfs_version < (2, 1):
        version = ".".join(map(str, facts.zfs_version))
        yield Finding("zfs-old", "error", "zfs", f"ZFS is {version}, and 2.1 is the oldest that does")
    for storage, parent in facts.settings.parents.items():
        if facts.pool(parent) is None:
            name = parent.partition("/")[0]
            yield Finding("pool-missing", "error", name, f"the pool of storage {storage} is not imported")
    for pool in facts.pools:
        yield from _works(pool, facts)
        yield from _looked_after(pool, facts)


def _works(pool: Pool, facts: HostFacts) -> Iterator[Finding]:
    if pool.health == "SUSPENDED":
        yield Finding("pool-suspended", "error", pool.name, "its devices do not answer: all writes wait")
    elif pool.health != "ONLINE":
        yield Finding("pool-degraded", "error", pool.name, f"it is {pool.health}. {pool.status}".rstrip(". ") + ".")
    if pool.read_only:
        yield Finding("pool-read-only", "error", pool.name, "it was imported with readonly=on")
    if pool.errors:
        hit = sorted(set(_hit(pool.errors, facts)))
        whose = f"; VMs that are hit: {', '.join(hit)}" if hit else ""
        yield Finding("pool-errors", "error", pool.name, f"{len(pool.errors)} damaged: {_some(pool.errors)}{whose}")
    if pool.capacity >= NEARLY_FULL:
        severity = "error" if pool.capacity >= FULL else "warning"
        yield Finding("pool-full", severity, pool.name, f"{pool.capacity} % of it are in use")


def _looked_after(pool: Pool, facts: HostFacts) -> Iterator[Finding]:
    if pool.fragmentation >= FRAGMENTED:
        found = f"{pool.fragmentation} % of its free space are in small pieces"
        yield Finding("pool-fragmented", "notice", pool.name, found)
    if 0 < pool.ashift < 12:
        found = f"ashift={pool.ashift}: it writes sectors of {1 << pool.ashift} bytes"
        yield Finding("pool-ashift", "warning", pool.name, found)
    if pool.trims and not pool.autotrim and not pool.read_only:
        yield Finding("pool-autotrim", "notice", pool.name, "autotrim is off, and its devices can trim")
    since = max(pool.scrubbed, pool.created)
    days = (facts.now - since) // DAY
    if since and days > SCRUB_DAYS and not pool.scanning:
        found = f"its last scrub ended {days} days ago" if pool.scrubbed else f"it is {days} days old, and never was"
        yield Finding("scrub-old", "warning", pool.name, found)
    timers = (timer.format(pool.name) for timer in SCRUB_TIMERS)
    unseen = facts.system_fault or pool.read_only
    if not unseen and not facts.system.there(SCRUB_CRON) and not any(map(facts.units.get, timers)):
        yield Finding("scrub-unscheduled", "notice", pool.name, f"there is neither {SCRUB_CRON} nor an active timer")


def _hit(errors: Iterable[str], facts: HostFacts) -> Iterator[str]:
    """Names of the VMs, or domains, whose volumes these lines of `zpool status -v` name: POOL/NAME:<OBJECT>, with
    @SNAPSHOT before the colon for one that only a snapshot has."""
    damaged = {line.rpartition(":<")[0].partition("@")[0] for line in errors}
    for name in damaged:
        if facts.volumes.get(name):
            yield facts.volumes[name]
        else:
            yield from (g.name for g in facts.guests if f"/dev/zvol/{name}" in g.wants.paths)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
