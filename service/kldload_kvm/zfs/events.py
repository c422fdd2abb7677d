"""The events that `zpool events -f` prints, as data."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from .commands import ENVIRONMENT

LONGEST_LINE = 1 << 20  # an event repeats what was set, such as all snapshots of one command
FIELD = re.compile(r'^\s+(history_dsname|eid) = (?:"([^"]*)"|(0x[0-9a-f]+))')


@dataclass(frozen=True)
class Event:
    """eid: its number; dataset: what it is about, a snapshot as DATASET@NAME, or empty."""

    eid: int
    dataset: str


async def follow() -> AsyncIterator[Event]:
    """The events there are and then those to come, until the command ends. Raises OSError where zpool cannot be run."""
    process = await asyncio.create_subprocess_exec(
        "zpool", "events", "-Hfv", env=ENVIRONMENT, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, limit=LONGEST_LINE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        dataset = ""
        async for line in process.stdout:
            match = FIELD.match(line.decode("utf-8", "replace"))
            if match and match.group(1) == "history_dsname":
                dataset = match.group(2)
            elif match:
                yield Event(int(match.group(3), 16), dataset)
                dataset = ""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
