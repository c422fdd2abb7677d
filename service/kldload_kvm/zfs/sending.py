"""Sending a snapshot into a file, pipe or socket: zfs writes it there itself, and says how far it has come."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable, Mapping

from ..model.errors import Cancelled, KvmError, NoSpace, ZfsUnavailable
from .errors import error_from

PROGRESS = re.compile(r"(?:size|(\d\d:\d\d:\d\d))\t(\d+)")
"""What `-P -v` prints: the size that is expected, then each second the time, the bytes sent and the snapshot."""
MOST_COMPLAINTS = 50


async def send(
    program: str, environment: Mapping[str, str], snapshot: str, fd: int, report: Callable[[int, int], None]
) -> int:
    """Write the stream of one snapshot, raw as it is on disk, into `fd`; about how many bytes that were.

    A caller that is cancelled ends it at once: nothing is changed by a stream that is cut off. Raises KvmError.
    """
    what = f"{snapshot} was not sent"
    try:
        process = await asyncio.create_subprocess_exec(
            program, "send", "-w", "-P", "-v", snapshot, env=environment, stdin=asyncio.subprocess.DEVNULL,
            stdout=fd, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as fault:
        raise ZfsUnavailable(what, f"the zfs command cannot be started: {fault}", "try again") from None
    assert process.stderr is not None
    total = done = 0
    complaints: list[str] = []
    try:
        async for line in process.stderr:
            text = line.decode("utf-8", "replace").rstrip("\n")
            if match := PROGRESS.match(text):
                done, total = (int(match[2]), total) if match[1] else (done, int(match[2]))
                report(min(done, total), total)
            elif not text.startswith(("full\t", "incremental\t")) and len(complaints) < MOST_COMPLAINTS:
                complaints.append(text)
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status:
        raise _failure(what, status, " ".join(complaints))
    return max(done, total)


def _failure(what: str, status: int, said: str) -> KvmError:
    if "No space left on device" in said:
        return NoSpace(what, said, "write it to a place with more room")
    if status == -signal.SIGPIPE or "Broken pipe" in said:
        return Cancelled(what, "whoever was to read it has gone", "")
    return error_from(what, said)
