"""Having the host changed where the daemon's sandbox forbids it, in a unit of its own: the daemon's side."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any, Protocol

from ..model.errors import Failed
from ..waiting import uninterrupted, until
from .collecting import DIRECTORY

BOUND, INTERVAL = 15 * 60.0, 0.1
"""An initramfs takes minutes on a slow machine."""
UNIT, NETWORK_UNIT = "kldload-kvm-host@{}.service", "kldload-kvm-network@{}.service"


class Units(Protocol):
    """systemd, as much of it as is needed here."""

    async def start(self, unit: str) -> None: ...

    async def stop(self, unit: str) -> None: ...


async def apply(units: Units, tag: str, action: dict[str, Any], directory: Path = DIRECTORY, unit: str = UNIT) -> None:
    """Carry out one action of host/applier.py, or of host/bridging in NETWORK_UNIT. tag: the step's, letters and
    digits. Raises Failed."""
    what, name = f"the host was not changed: {action['do']}", unit.format(tag)
    try:
        await launch(units, tag, action, directory, unit)
        answer = _files(tag, directory)[1]
        said = await until(lambda: asyncio.to_thread(_read, answer), BOUND, INTERVAL)
        if said is None:
            raise Failed(what, f"{name} has not ended after {BOUND / 60:.0f} minutes", f"systemctl status {name}")
        if said["error"]:
            raise Failed(what, said["error"], f"journalctl -u {name}")
    finally:
        await uninterrupted(withdraw(units, tag, directory, unit))


async def launch(units: Units, tag: str, action: dict[str, Any], directory: Path = DIRECTORY, unit: str = UNIT) -> None:
    """Begin an action, and leave it to its unit, which goes on without the daemon."""
    await units.stop(unit.format(tag))  # of a daemon that was killed meanwhile: to do it again does no harm
    await asyncio.to_thread(_write, *_files(tag, directory), action)
    await units.start(unit.format(tag))


async def withdraw(units: Units, tag: str, directory: Path = DIRECTORY, unit: str = UNIT) -> None:
    """End what was begun, wherever it is, and leave nothing of it."""
    await units.stop(unit.format(tag))
    for path in _files(tag, directory):
        await asyncio.to_thread(path.unlink, missing_ok=True)


def _files(tag: str, directory: Path) -> tuple[Path, Path]:
    """The request and the answer."""
    return directory / f"{tag}.json", directory / f"{tag}.out"


def _write(request: Path, answer: Path, action: dict[str, Any]) -> None:
    request.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    answer.unlink(missing_ok=True)
    fd = os.open(request, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(action, file)


def _read(answer: Path) -> dict[str, str] | None:
    """What the applier says, {"error": …}; None until it has ended."""
    try:
        return {"error": str(json.loads(answer.read_bytes())["error"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None
