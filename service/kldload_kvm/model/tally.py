"""What the service counts since its start: how jobs ended, how long guests were held still for snapshots, what it heard
of the host, and how long after that it knew."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

OUTCOMES = ("succeeded", "failed", "cancelled")
SOURCES = ("zfs", "udev", "libvirt")
RELOADS = ("gap", "reader", "pool", "libvirt")
"""Why everything was read again: events were missed, their reader ended, a pool came or went, libvirt was connected."""
LATE = 1.0
"""Seconds within which a change of others is to be known."""


@dataclass
class Ended:
    """Jobs of one operation that ended in one way; seconds: all that they took."""

    count: int = 0
    seconds: float = 0.0


@dataclass
class Held:
    """How often a guest was held still in one way, and for how many seconds: all together, and the last time."""

    count: int = 0
    seconds: float = 0.0
    last: float = 0.0


@dataclass
class News:
    """events: heard of one source. Of the changes that others made and that are in the inventory by now, measured is
    their number, lag the seconds from each to the bus being told, summed up, worst the longest, late: more than LATE.
    """

    events: int = 0
    measured: int = 0
    lag: float = 0.0
    worst: float = 0.0
    late: int = 0


class Tally:
    """operations: those that are told of before the first job; since: when the counting began, in seconds since 1970.

    jobs: by operation and outcome; held: by the VM's id and how, frozen or paused; news: by source.
    """

    def __init__(self, operations: Iterable[str] = (), since: float = 0.0) -> None:
        self.since = since
        self.jobs = defaultdict[tuple[str, str], Ended](Ended)
        for operation in sorted(operations):
            self.jobs.update({(operation, outcome): Ended() for outcome in OUTCOMES})
        self.held = defaultdict[tuple[str, str], Held](Held)
        self.news = {source: News() for source in SOURCES}
        self.reloads = Counter(dict.fromkeys(RELOADS, 0))

    def job_ended(self, operation: str, outcome: str, seconds: float) -> None:
        ended = self.jobs[operation, outcome]
        ended.count += 1
        ended.seconds += max(seconds, 0.0)

    def was_held(self, vm: str, how: str, seconds: float) -> None:
        held = self.held[vm, how]
        held.count += 1
        held.seconds += seconds
        held.last = seconds

    def forget_all_but(self, vms: Collection[str]) -> None:
        """There are no other VMs any more."""
        for key in [key for key in self.held if key[0] not in vms]:
            del self.held[key]

    def heard(self, source: str) -> None:
        self.news[source].events += 1

    def known(self, source: str, times: Iterable[float], now: float) -> None:
        """What others changed at these times, in seconds since 1970, is on the bus now."""
        news = self.news[source]
        for lag in (max(now - at, 0.0) for at in times):
            news.measured += 1
            news.lag += lag
            news.worst = max(news.worst, lag)
            news.late += lag > LATE

    def reloaded(self, why: str) -> None:
        self.reloads[why] += 1
