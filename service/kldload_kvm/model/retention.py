"""Which of the timer's snapshots have been kept long enough. The timer alone makes snapshots that go by themselves."""

from __future__ import annotations

from collections.abc import Iterable

from .inventory import SnapshotSet

AUTO = "auto-"


def expired(sets: Iterable[SnapshotSet], now: int, keep: int) -> list[SnapshotSet]:
    """Those of one VM's snapshots that are to go, oldest first. now: in seconds since 1970; keep: in seconds.

    Only the timer's own, told by what each of their parts says and by the name: never a person's, a clone's, a
    replication's or another tool's. Never one that a clone hangs on or that somebody holds. And never the newest of the
    timer's: when the timer has not run for long, what it made last is all there is to return to.
    """
    automatic = sorted(filter(_is_automatic, sets), key=lambda each: (each.createtxg, each.name))
    old = [each for each in automatic[:-1] if each.creation + keep <= now]
    return [each for each in old if not each.clones and not each.held]


def _is_automatic(found: SnapshotSet) -> bool:
    return found.name.startswith(AUTO) and all(part.kind == "auto" for part in found.parts.values())
