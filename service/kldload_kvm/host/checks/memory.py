"""Memory: what ZFS's cache may take, what guests were promised, swap and huge pages."""

from __future__ import annotations

from collections.abc import Iterator

from ...model.finding import Finding
from ...model.host_facts import HostFacts
from ...model.modprobe import option
from ...model.sizes import GIB, MIB, format_size
from ..sources import ARC_MAX, ARCSTATS, MEMINFO, SWAPPINESS, SWAPS

HIGHEST_SWAPPINESS = 10
SLACK = 64 * MIB


def check(facts: HostFacts) -> Iterator[Finding]:
    if facts.system_fault:
        yield Finding("host-unseen", "error", "kldload-kvm-facts.service", facts.system_fault)
        return
    yield from _arc(facts)
    yield from _swap(facts)
    yield from _huge_pages(facts)


def promised(facts: HostFacts) -> int:
    """What guests may come to use at once: those that run, and those that start by themselves."""
    return sum(g.wants.memory for g in facts.guests if g.domain.active or g.domain.autostart)


def own(memory: int) -> int:
    """What the host itself is left with: a tenth of its memory, from half a GiB to four."""
    return min(max(memory // 10, GIB // 2), 4 * GIB)


def _arc(facts: HostFacts) -> Iterator[Finding]:
    limit, memory = facts.system.field(ARCSTATS, "c_max"), facts.memory
    if not limit or not memory:
        return
    shown = f"it may take {format_size(limit)} of {format_size(memory)}"
    if limit > memory // 2 + SLACK and not facts.system.number(ARC_MAX):
        yield Finding("arc-unlimited", "warning", "zfs_arc_max", shown)
    guests = promised(facts)
    if guests and limit + guests + own(memory) > memory:
        wanted = f"guests that run or start by themselves {format_size(guests)}, the host {format_size(own(memory))}"
        found = f"{shown}; {wanted}"
        yield Finding("memory-promised", "warning", "zfs_arc_max", found)
    said = option(facts.system.files, "zfs", "zfs_arc_max")
    now = facts.system.number(ARC_MAX)
    if said.isdecimal() and now is not None and int(said) != now:
        found = f"modprobe.d says {said}, and the module has {now}"
        yield Finding("arc-forgotten", "warning", "zfs_arc_max", found)


def _swap(facts: HostFacts) -> Iterator[Finding]:
    swaps = [line.split()[0] for line in facts.system.files.get(SWAPS, "").splitlines()[1:] if line.strip()]
    value = facts.system.number(SWAPPINESS)
    if swaps and value is not None and value > HIGHEST_SWAPPINESS:
        yield Finding("swappiness", "notice", "vm.swappiness", f"it is {value}, and there is swap: {', '.join(swaps)}")
    for each in swaps:
        if each.startswith(("/dev/zd", "/dev/zvol/")):
            yield Finding("swap-on-zvol", "warning", each, "it is a ZFS volume")


def _huge_pages(facts: HostFacts) -> Iterator[Finding]:
    size = facts.system.field(MEMINFO, "Hugepagesize") or 0
    total, free = (facts.system.field(MEMINFO, f"HugePages_{key}") or 0 for key in ("Total", "Free"))
    askers = [guest for guest in facts.guests if guest.wants.huge]
    for guest in askers:
        if not guest.domain.active and guest.wants.memory > free * size:
            found = (
                f"it asks for {format_size(guest.wants.memory)} in huge pages, and {format_size(free * size)} are free"
            )
            yield Finding("huge-pages-missing", "warning", guest.name, found)
    if total and free == total and not askers:
        yield Finding("huge-pages-unused", "notice", "vm.nr_hugepages", f"{format_size(total * size)} are reserved")
