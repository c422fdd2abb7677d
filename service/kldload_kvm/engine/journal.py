"""The journal: what the engine is about to do, written down before it is done.

After the daemon was killed, the next one learns from it which jobs were open and how far each may have come; whether
the last step was really done, the step tells from the host alone. This file says what a journal is; the durable one is
in sqlite_journal.py.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from typing import Any, Protocol

from ..model.errors import KvmError
from .records import Record


class Journal(Protocol):
    """Of each job it is told in this order: opened, then for each step intend, note and did, then closed; of one
    that is undone, before that, turned, and undid for each step. The record that it is opened with says what is
    intended first. A step may be intended with those before it, if it is `early`.

    What `opened`, `intend`, `note` and `turned` were told is durable when they return. What the others were told
    becomes so with the next of these, or a job's end. Each raises KvmError if it cannot be written.
    """

    def new_id(self) -> str: ...

    def mark(self) -> tuple[str, int]:
        """The journal's id, and how many jobs it has seen begin and end: a pool that knows of more knows better."""

    async def load(self) -> list[Record]:
        """The jobs that are not forgotten, oldest first."""

    async def opened(self, record: Record) -> None: ...

    async def intend(self, job: str, indexes: tuple[int, ...]) -> None: ...

    async def note(self, job: str, results: dict[str, Any]) -> None: ...

    async def did(self, job: str, indexes: tuple[int, ...], results: dict[str, Any]) -> None: ...

    async def turned(self, job: str) -> None:
        """It is going to be undone, and not to be finished any more, whatever the host says of its commit point."""

    async def undid(self, job: str, index: int) -> None: ...

    async def closed(self, job: str, state: str, error: KvmError | None, result: dict[str, Any]) -> None: ...

    def forgot(self, job: str) -> None: ...

    async def disks_seen(self) -> list[tuple[str, str]]:
        """The disks that were ever noted: domain's UUID and target."""

    async def disks_are_seen(self, disks: Iterable[tuple[str, str]]) -> None:
        """Note that these are or were there; durable when it returns."""

    async def disks_are_forgotten(self, disks: Iterable[tuple[str, str]]) -> None:
        """These may be made anew."""


class MemoryJournal:
    """A journal that forgets."""

    def new_id(self) -> str:
        return new_id()

    def mark(self) -> tuple[str, int]:
        return "", 0

    async def load(self) -> list[Record]:
        return []

    async def opened(self, record: Record) -> None:
        return None

    async def intend(self, job: str, indexes: tuple[int, ...]) -> None:
        return None

    async def note(self, job: str, results: dict[str, Any]) -> None:
        return None

    async def did(self, job: str, indexes: tuple[int, ...], results: dict[str, Any]) -> None:
        return None

    async def turned(self, job: str) -> None:
        return None

    async def undid(self, job: str, index: int) -> None:
        return None

    async def closed(self, job: str, state: str, error: KvmError | None, result: dict[str, Any]) -> None:
        return None

    def forgot(self, job: str) -> None:
        return None

    async def disks_seen(self) -> list[tuple[str, str]]:
        return []

    async def disks_are_seen(self, disks: Iterable[tuple[str, str]]) -> None:
        return None

    async def disks_are_forgotten(self, disks: Iterable[tuple[str, str]]) -> None:
        return None


def new_id() -> str:
    """An id that no other journal has ever given: tags on volumes are made of it. It begins with the time."""
    return f"{int(time.time()):x}{secrets.token_hex(3)}"
