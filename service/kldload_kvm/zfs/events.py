"""The events that `zpool events -f` prints, as data."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from .commands import ENVIRONMENT

LONGEST_LINE = 1 << 20  # an event repeats what was set, such as all snapshots of one command
CHUNK = 1 << 16
FIELD = re.compile(
    rb'^[ \t]+(?:(class|history_dsname|history_internal_name) = "([^"\n]*)"'
    rb"|(eid|time) = (0x[0-9a-f]+)(?: (0x[0-9a-f]+))?)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Event:
    """eid: its number; dataset: what it is about, a snapshot as DATASET@NAME, or empty; action: what was done to it, as
    in the pool's history, such as create, snapshot, set, rename; kind: ZFS's own, such as pool_import; at: when, in
    seconds since 1970."""

    eid: int
    dataset: str
    action: str = ""
    kind: str = ""
    at: float = 0.0


async def follow() -> AsyncIterator[Event]:
    """The events there are and then those to come, until the command ends. Raises OSError where zpool cannot be run."""
    process = await asyncio.create_subprocess_exec(
        "zpool", "events", "-Hfv", env=ENVIRONMENT, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        fields, at, rest = dict[bytes, str](), 0.0, b""
        while chunk := await process.stdout.read(CHUNK):  # line by line would take a tenth of a clone's time
            lines, newline, rest = (rest + chunk).rpartition(b"\n")
            if len(rest) > LONGEST_LINE:
                raise ValueError(f"a line has more than {LONGEST_LINE} bytes")
            for match in FIELD.finditer(lines + newline):
                name, value, which, number, more = match.groups()
                if name is not None:
                    fields[name] = value.decode("utf-8", "replace")
                elif which == b"time":
                    at = int(number, 16) + int(more or b"0", 16) / 1e9
                else:
                    yield _event(int(number, 16), fields, at)
                    fields, at = {}, 0.0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _event(eid: int, fields: dict[bytes, str], at: float) -> Event:
    kind = fields.get(b"class", "").rpartition(".")[2]
    return Event(eid, fields.get(b"history_dsname", ""), fields.get(b"history_internal_name", ""), kind, at)
