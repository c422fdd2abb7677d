"""`zfs send | zfs receive` as one piece of work: two processes and a pipe between them, which no byte leaves for us."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from ..model.errors import KvmError, TimedOut, ZfsUnavailable
from ..waiting import uninterrupted
from .errors import error_from

STALLED = 600.0  # seconds in which no byte moved: a pool may be suspended
CUT_SHORT = ("incomplete stream", "failed to read from stream")
MOST_SAID = 20  # lines of stderr that are kept

Report = Callable[[int, int], None]
Process = asyncio.subprocess.Process


async def pipe(
    program: str, environment: Mapping[str, str], what: str, send: Sequence[str], receive: Sequence[str], report: Report
) -> None:
    """Run both to their ends. report(done, total): bytes, as `send -vP` estimates and tells them each second.

    A cancelled caller ends the sender, and waits until the receiver has given up and taken back what it had. Raises
    KvmError for the failure.
    """
    sender, receiver = await _start(program, environment, what, send, receive)
    said: list[str] = []
    ended = asyncio.ensure_future(_ended(what, sender, receiver, said, report))
    try:
        answer = await asyncio.shield(ended)
    except BaseException:
        _kill(sender)
        with suppress(KvmError):
            await uninterrupted(_last(ended))
        raise
    if sender.returncode or receiver.returncode:
        cut_short = any(words in answer for words in CUT_SHORT) or not answer
        raise error_from(what, "\n".join(said) if cut_short else answer)


async def _start(
    program: str, environment: Mapping[str, str], what: str, send: Sequence[str], receive: Sequence[str]
) -> tuple[Process, Process]:
    read, write = os.pipe()
    made: list[Process] = []
    try:
        for args, stdin, stdout in ((send, asyncio.subprocess.DEVNULL, write), (receive, read, None)):
            made.append(
                await asyncio.create_subprocess_exec(
                    program, *args, env=dict(environment), stdin=stdin, stderr=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.DEVNULL if stdout is None else stdout,
                )
            )  # fmt: skip
    except OSError as fault:
        for process in made:
            _kill(process)
        raise ZfsUnavailable(what, str(fault), "install zfsutils-linux") from None
    finally:
        os.close(read)
        os.close(write)
    return made[0], made[1]


async def _ended(what: str, sender: Process, receiver: Process, said: list[str], report: Report) -> str:
    """What the receiver said, once both have ended."""
    following = asyncio.ensure_future(_follow(what, sender, said, report))
    receiving = asyncio.ensure_future(receiver.communicate())
    try:
        await following
    finally:
        if following.exception():
            _kill(sender)
            _kill(receiver)
        await asyncio.wait((receiving, asyncio.ensure_future(sender.wait())))
    return receiving.result()[1].decode("utf-8", "replace")


async def _follow(what: str, sender: Process, said: list[str], report: Report) -> None:
    """Read what the sender says: its estimate, its progress, and its complaints."""
    assert sender.stderr
    total = done = 0
    moved = time.monotonic()
    while line := (await sender.stderr.readline()).decode("utf-8", "replace"):
        fields = line.rstrip("\n").split("\t")
        if fields[0] == "size" and fields[-1].isdecimal():
            total = int(fields[-1])
        elif len(fields) == 3 and ":" in fields[0] and fields[1].isdecimal():
            if int(fields[1]) != done:
                done, moved = int(fields[1]), time.monotonic()
            report(done, max(done, total))
            if time.monotonic() - moved > STALLED:
                hint = "zpool status tells whether the pool is suspended"
                raise TimedOut(what, f"nothing was copied for {STALLED:.0f} s", hint)
        elif fields[0] not in ("full", "incremental"):
            said[MOST_SAID - 1 :] = [line.rstrip("\n")]


async def _last(ended: asyncio.Future[str]) -> str:
    return await ended


def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
