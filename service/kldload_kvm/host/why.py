"""Why a VM does not start: of what was found of the host, what keeps this one from it, and what is so with it alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ..model.finding import Finding, by_severity
from ..model.host_facts import Guest, HostFacts
from ..model.inventory import Vm
from ..model.sizes import format_size
from .sources import ARCSTATS, MEMINFO

OF_THE_HOST = frozenset({"zfs-missing", "libvirt-unreachable", "host-unseen"})
OF_POOLS = frozenset({"pool-missing", "pool-suspended", "pool-read-only", "pool-degraded", "pool-full", "pool-errors"})
OF_NETWORKS = frozenset({"network-inactive", "bridge-down"})
OF_GUESTS = frozenset({
    "guest-orphan", "guest-volume-missing", "guest-node-missing", "guest-file-missing", "guest-file-closed",
    "guest-file-owned", "guest-firmware-missing", "guest-nvram-missing", "guest-network-missing", "guest-memory",
    "guest-kvm-missing", "iommu-off", "nested-off", "huge-pages-missing", "denied",
})  # fmt: skip
"""Of what is found of a guest, what it cannot start by; the rest makes it slower, or is open."""
LONGEST = 400


def why(vm: Vm, facts: HostFacts, found: Iterable[Finding], job: str = "", last: str = "") -> list[Finding]:
    """The causes, the worst first; one entry that says so where none is known. found: what was found of the host; job:
    the job that is at work on the VM; last: what its last start failed with, as far as the service knows."""
    guest = next((each for each in facts.guests if each.vm and each.vm.id == vm.id), None)
    causes = [each for each in found if _concerns(each, vm, guest)]
    causes += _state(vm, job)
    if guest:
        causes += _now(guest, facts)
        last = last or _complaint(guest, facts)
    if last and vm.state not in ("running", "paused"):
        causes.append(Finding("guest-last-error", "error", vm.name, _plain(last)))
    if not causes:
        causes.append(Finding("guest-startable", "notice", vm.name, "nothing was found that keeps it from starting"))
    return by_severity(causes)


def _concerns(found: Finding, vm: Vm, guest: Guest | None) -> bool:
    """Whether something that was found of the host keeps this VM from starting."""
    volumes = {each.name for each in vm.volumes}
    pools = {each.partition("/")[0] for each in volumes}
    networks = {name for _, name in guest.wants.networks} if guest else set[str]()
    return (
        found.id in OF_THE_HOST
        or (found.id in OF_POOLS and found.object in pools)
        or (found.id in OF_NETWORKS and found.object in networks)
        or (found.id in OF_GUESTS and found.object == vm.name)
        or (found.id == "key-missing" and any(f"{each}/".startswith(f"{found.object}/") for each in volumes))
    )


def _state(vm: Vm, job: str) -> Iterator[Finding]:
    if vm.state == "running":
        yield Finding("guest-running", "notice", vm.name, "it runs")
    if vm.state == "paused":
        fault = f" by QEMU: {vm.domain.fault}" if vm.domain and vm.domain.fault else ""
        yield Finding("guest-paused", "warning", vm.name, f"it is paused{fault}")
    if vm.template:
        yield Finding("guest-template", "error", vm.name, "it is marked as a template")
    if job:
        yield Finding("guest-busy", "warning", vm.name, f"job {job} is at work on it")


def _now(guest: Guest, facts: HostFacts) -> Iterator[Finding]:
    """What it could not have at this moment: memory, and its screen's port."""
    if guest.domain.active:
        return
    system = facts.system
    free = system.field(MEMINFO, "MemAvailable")
    if free is not None and not guest.wants.huge:
        free += max((system.field(ARCSTATS, "size") or 0) - (system.field(ARCSTATS, "c_min") or 0), 0)
        if guest.wants.memory > free:
            asked, had = format_size(guest.wants.memory), format_size(free)
            found = f"it asks for {asked}, and {had} can be had, ZFS's cache included"
            yield Finding("guest-memory-short", "warning", guest.name, found)
    for screen in filter(lambda each: each.port, guest.wants.graphics):
        others = (g for g in facts.guests if g.domain.active and g.domain.uuid != guest.domain.uuid)
        if holder := next((g.name for g in others if any(s.port == screen.port for s in g.wants.graphics)), ""):
            yield Finding("guest-port-taken", "error", guest.name, f"{holder} listens on port {screen.port}")


def _complaint(guest: Guest, facts: HostFacts) -> str:
    """The last that libvirt complained of that names this domain or one of its files."""
    named = [guest.name, guest.domain.uuid, *guest.wants.paths[1:]]
    pattern = re.compile("|".join(rf"(?<![\w.-]){re.escape(each)}(?![\w.-])" for each in named))
    return next((line for line in reversed(facts.system.complaints) if pattern.search(line)), "")


def last_of_log(text: str) -> str:
    """The last complaint in what QEMU has logged since its last start, from /var/log/libvirt/qemu/NAME.log."""
    started = text.rpartition("starting up libvirt version")[2]
    lines = [line for line in started.splitlines() if re.match(r"[\dT:.Z-]*\s*qemu-(?:system|kvm)[\w-]*: ", line)]
    return lines[-1] if lines else ""


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:LONGEST]
