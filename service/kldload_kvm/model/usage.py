"""What a running domain uses, from libvirt's figures of it (virDomainListGetStats), under the names that they have on
our bus. Times are in nanoseconds, everything else in bytes or plain numbers; what libvirt does not tell is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KIB = 1024
MOST = 1 << 64

GUEST = {
    "cpu-time": ("cpu.time", 1),
    "cpu-user": ("cpu.user", 1),
    "cpu-system": ("cpu.system", 1),
    "memory-current": ("balloon.current", KIB),
    "memory-resident": ("balloon.rss", KIB),
    "memory-unused": ("balloon.unused", KIB),
    "memory-usable": ("balloon.usable", KIB),
}
DISK = {
    "reads": "rd.reqs",
    "read-bytes": "rd.bytes",
    "read-time": "rd.times",
    "writes": "wr.reqs",
    "write-bytes": "wr.bytes",
    "write-time": "wr.times",
    "flushes": "fl.reqs",
    "flush-time": "fl.times",
}
INTERFACE = {
    "received-bytes": "rx.bytes",
    "received-packets": "rx.pkts",
    "received-errors": "rx.errs",
    "received-dropped": "rx.drop",
    "sent-bytes": "tx.bytes",
    "sent-packets": "tx.pkts",
    "sent-errors": "tx.errs",
    "sent-dropped": "tx.drop",
}


@dataclass(frozen=True)
class Usage:
    """Of one domain: of the guest as a whole, of each disk by its target, of each network card by its device on the
    host. All count from the start of its QEMU, but for memory, which is that of now."""

    guest: dict[str, int] = field(default_factory=dict)
    disks: dict[str, dict[str, int]] = field(default_factory=dict)
    interfaces: dict[str, dict[str, int]] = field(default_factory=dict)


def usage(figures: Mapping[str, Any]) -> Usage:
    """The figures of one domain, as libvirt-python gives them."""
    guest = {name: figures[key] * unit for name, (key, unit) in GUEST.items() if _is_number(figures.get(key))}
    return Usage(guest, _each(figures, "block", DISK), _each(figures, "net", INTERFACE))


def _each(figures: Mapping[str, Any], group: str, names: Mapping[str, str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for number in range(figures.get(f"{group}.count", 0)):
        begin = f"{group}.{number}."
        known = {name: figures[begin + key] for name, key in names.items() if _is_number(figures.get(begin + key))}
        if known and (device := figures.get(f"{begin}name")):
            found[device] = known
    return found


def _is_number(value: Any) -> bool:
    """Whether it can be on the bus, as a 't': libvirt may give -1 for what it does not know."""
    return isinstance(value, int) and 0 <= value < MOST
