"""The events that `zpool events -f` prints, as data."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from .commands import ENVIRONMENT

LONGEST_LINE = 1 << 20  # an event repeats what was set, such as all snapshots of one command
CHUNK = 1 << 16
FIELD = re.compile(rb'^[ \t]+(?:history_dsname = "([^"\n]*)"|eid = (0x[0-9a-f]+))', re.MULTILINE)


@dataclass(frozen=True)
class Event:
    """eid: its number; dataset: what it is about, a snapshot as DATASET@NAME, or empty."""

    eid: int
    dataset: str


async def follow() -> AsyncIterator[Event]:
    """The events there are and then those to come, until the command ends. Raises OSError where zpool cannot be run."""
    process = await asyncio.create_subprocess_exec(
        "zpool", "events", "-Hfv", env=ENVIRONMENT, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        dataset, rest = "", b""
        while chunk := await process.stdout.read(CHUNK):  # line by line would take a tenth of a clone's time
            lines, newline, rest = (rest + chunk).rpartition(b"\n")
            if len(rest) > LONGEST_LINE:
                raise ValueError(f"a line has more than {LONGEST_LINE} bytes")
            for match in FIELD.finditer(lines + newline):
                if match.group(1) is not None:
                    dataset = match.group(1).decode("utf-8", "replace")
                else:
                    yield Event(int(match.group(2), 16), dataset)
                    dataset = ""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
