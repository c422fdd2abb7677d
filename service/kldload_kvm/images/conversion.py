"""Having images read and converted by the helper, which runs in a unit of its own: the trusted side.

A run outlives the daemon: asked again for the same thing under the same tag, `convert` takes it up where it is.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..model.errors import Failed, KvmError, TimedOut
from ..model.image_name import Format
from ..waiting import uninterrupted
from . import run_files
from .answer import Disk, last_answer
from .run_files import DIRECTORY, Run

INTERVAL = 0.25
SECONDS_TO_START = 30.0
SECONDS_TO_INSPECT = 20 * 60.0
SECONDS_TO_CONVERT = 13 * 3600.0
"""A little more than the units' own bounds, which are to hit first."""
_OVER = frozenset({"inactive", "failed"})


@dataclass(frozen=True)
class UnitState:
    """systemd's ActiveState and Result. A unit that is not loaded is ("inactive", "success")."""

    active: str
    result: str


class Units(Protocol):
    """systemd, as much of it as is needed here. Each raises KvmError."""

    async def start(self, unit: str) -> None:
        """Start a unit, without waiting for it: these are oneshot units, `activating` as long as they run."""

    async def state(self, unit: str) -> UnitState: ...

    async def stop(self, unit: str) -> None:
        """Stop a unit, and return once nothing of it runs. One that is not loaded is stopped already."""


async def inspect(
    units: Units, source: Path, name: str, format_: Format | None = None, directory: Path = DIRECTORY
) -> Disk:
    """The disk in the image file `source`, of which all tables were read. name: what it is called in errors.

    Raises BadImage; and TimedOut or Failed, if the helper did not do its work.
    """
    tag = secrets.token_hex(16)
    request = {"operation": "inspect", "name": name, "format": format_ or "", "tag": tag}
    return await _answer(units, Run("inspect", tag, source, request, directory), lambda share: None, SECONDS_TO_INSPECT)


async def convert(
    units: Units,
    source: Path,
    name: str,
    disk: Disk,
    dataset: str,
    kernel_name: str,
    tag: str,
    report: Callable[[int, int], None],
    directory: Path = DIRECTORY,
    *,
    raw: bool = False,
    device: str = "",
) -> None:
    """Write an inspected image to a volume that was just created, and see it on disk. Its zeroes are not written.

    dataset, kernel_name: the volume and its node, such as zd16, which the helper holds against each other; tag: the
    step's, so that after a restart it finds its own run; report: bytes of the disk done, and in all; raw: whether it is
    a guest's disk from its first byte to its last, whatever is in it; device: its number, as 253:3, if it is no file. A
    cancellation stops the helper first. Raises BadImage, NoSpace, TimedOut or Failed.
    """
    size, operation = disk.virtual_size, "copy" if device else "convert"
    request = {
        "operation": operation, "name": name, "format": disk.format, "virtual_size": size, "dataset": dataset,
        "tag": tag, **({"raw": True} if raw else {}), **({"device": device} if device else {}),
    }  # fmt: skip
    run = Run(operation, kernel_name, source, request, directory)
    done = await _answer(units, run, lambda share: report(int(share * size), size), SECONDS_TO_CONVERT)
    if done != disk:
        raise Failed(f"{name} was not converted", "the image helper wrote another disk than was asked for", "")
    report(size, size)


async def abandon(units: Units, keep: frozenset[str] = frozenset(), directory: Path = DIRECTORY) -> list[str]:
    """Stop what an earlier daemon left running, and remove its files; tags in `keep` are spared. Gives the units."""
    stopped = []
    for run in await asyncio.to_thread(run_files.left_over, directory):
        if run.request.get("tag") not in keep:
            await _clear(units, run)
            stopped.append(run.unit)
    return stopped


async def _answer(units: Units, run: Run, progress: Callable[[float], None], seconds: float) -> Disk:
    """Start the run, or take up the one that is there; follow it to its end, and leave nothing of it."""
    try:
        if not await asyncio.to_thread(run_files.there, run):
            # Another run's unit of this name, if there is one, must not go on with these files.
            await units.stop(run.unit)
            await asyncio.to_thread(run_files.write, run)
        if await asyncio.to_thread(run_files.output, run) is None:
            await units.start(run.unit)
        return await _follow(units, run, progress, seconds)
    finally:
        await uninterrupted(_clear(units, run))


async def _follow(units: Units, run: Run, progress: Callable[[float], None], seconds: float) -> Disk:
    what, hint = f"{run.request['name']} was not read", f"journalctl -u {run.unit}"
    loop = asyncio.get_running_loop()
    began, told, started = loop.time(), -1.0, False
    while loop.time() - began < seconds:
        # In this order: a unit is over only if it had begun before, and what it said is whole only once it is over.
        started = started or await asyncio.to_thread(run_files.output, run) is not None
        over = (await units.state(run.unit)).active in _OVER
        said = await asyncio.to_thread(run_files.output, run)
        answer = last_answer(said or b"")
        if isinstance(answer, float) and answer > told:
            told = answer
            progress(answer)
        if over and started:
            if isinstance(answer, KvmError):
                raise answer
            if isinstance(answer, Disk):
                return answer
            raise Failed(what, "the image helper ended without an answer", hint)
        if over and loop.time() - began > SECONDS_TO_START:
            raise Failed(what, "the image helper did not start", hint)
        await asyncio.sleep(INTERVAL)
    raise TimedOut(what, f"the image helper has not ended after {seconds / 60:.0f} minutes", hint)


async def _clear(units: Units, run: Run) -> None:
    await units.stop(run.unit)
    await asyncio.to_thread(run_files.remove, run)
