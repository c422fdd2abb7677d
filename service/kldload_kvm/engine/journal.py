"""The journal: each step is written before it is done.

This one keeps what it is told in memory, so a job ends with the daemon. The durable one takes its place behind the same
five calls.
"""

from __future__ import annotations

import secrets
import time
from typing import Any, Protocol

from .plan import Plan


class Journal(Protocol):
    """What the engine tells it, in this order: opened, then for each step intend and did (or undid), then closed."""

    def new_id(self) -> str: ...

    async def opened(self, job: str, plan: Plan, uid: int) -> None: ...

    async def intend(self, job: str, indexes: tuple[int, ...]) -> None: ...

    async def did(self, job: str, indexes: tuple[int, ...], results: dict[str, Any]) -> None: ...

    async def undid(self, job: str, index: int) -> None: ...

    async def closed(self, job: str, state: str, error: str) -> None: ...


class MemoryJournal:
    """A journal that forgets. Ids begin with the time, so that those of two runs of the daemon never meet."""

    def new_id(self) -> str:
        return f"{int(time.time()):x}{secrets.token_hex(3)}"

    async def opened(self, job: str, plan: Plan, uid: int) -> None:
        return None

    async def intend(self, job: str, indexes: tuple[int, ...]) -> None:
        return None

    async def did(self, job: str, indexes: tuple[int, ...], results: dict[str, Any]) -> None:
        return None

    async def undid(self, job: str, index: int) -> None:
        return None

    async def closed(self, job: str, state: str, error: str) -> None:
        return None
