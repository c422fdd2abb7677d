"""How full a storage is: its floor, what is promised of it, and when a guest that had no room may go on."""

from __future__ import annotations

from collections.abc import Iterable

from .inventory import Dataset

MARGIN = 1.5  # of the floor must be free before guests go on: at the floor itself they would stop and go by turns
LEAST = 0.01  # of the capacity, where no floor is configured


def capacity(store: Dataset) -> int:
    """Bytes in use and free together."""
    return store.used + store.available


def floor(store: Dataset, share: float) -> int:
    """Bytes below which nothing new is created. share: of the capacity, from 0 to 1."""
    return int(capacity(store) * share)


def resume_at(store: Dataset, share: float) -> int:
    """Bytes that must be free before a guest that had no room to write goes on."""
    return int(capacity(store) * max(share * MARGIN, LEAST))


def overcommit(store: Dataset | None, volumes: Iterable[Dataset]) -> float:
    """How many times the capacity is promised to volumes; 0.0 for a storage that is not there."""
    whole = capacity(store) if store else 0
    return round(sum(each.size for each in volumes) / whole, 3) if whole else 0.0
