"""Having the collector run, in its unit, and reading what it says: the daemon's side."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

from ..model.errors import Failed
from ..model.host_facts import Node, System
from ..waiting import until
from .bridging import links

DIRECTORY = Path("/run/kldload-kvm/host")
UNIT = "kldload-kvm-facts.service"
BOUND, INTERVAL = 12.0, 0.05
LARGEST = 16 << 20
MOST_PATHS = 20_000
WHAT = "the host was not looked at"


class Starts(Protocol):
    """systemd, as much of it as is needed here."""

    async def start(self, unit: str) -> None: ...


async def look(units: Starts, paths: Collection[str], directory: Path = DIRECTORY) -> System:
    """What the collector finds; paths: what is to be looked at besides. Raises Failed."""
    token = secrets.token_hex(16)
    await asyncio.to_thread(_write, directory, {"token": token, "paths": list(paths)[:MOST_PATHS]})
    await units.start(UNIT)
    if found := await until(lambda: asyncio.to_thread(_read, directory, token), BOUND, INTERVAL):
        return found
    raise Failed(WHAT, f"{UNIT} gave no answer within {BOUND:.0f} s", f"journalctl -u {UNIT}")


def _write(directory: Path, request: dict[str, Any]) -> None:
    """The request, and nothing of an earlier answer."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / "facts.json").unlink(missing_ok=True)
    fresh = directory / "request.new"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(request, file)
    fresh.rename(directory / "request.json")


def _read(directory: Path, token: str) -> System | None:
    """The answer to that request, once it is whole."""
    try:
        with (directory / "facts.json").open("rb") as file:
            data = json.loads(file.read(LARGEST))
        return parse(data) if data["token"] == token else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):  # half written
        return None


def parse(data: dict[str, Any]) -> System:
    """What collector.collect gave."""
    return System(
        files=dict(data["files"]),
        nodes={path: Node(**node) if node else None for path, node in data["nodes"].items()},
        names={key: tuple(value) for key, value in data["names"].items()},
        qemu=dict(data["qemu"]),
        users={name: (uid, gid) for name, (uid, gid) in data["users"].items()},
        denials=tuple(data["denials"]),
        complaints=tuple(data["complaints"]),
        wiring=links.parse(data["wiring"]),
    )
