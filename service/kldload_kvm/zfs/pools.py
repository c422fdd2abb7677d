"""What the pools are made of, and whether they can be written to, each read with one command."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from ..model.pool_topology import Group, parse
from .commands import ENVIRONMENT

log = logging.getLogger(__name__)
BOUND = 30.0


async def topologies() -> dict[str, tuple[Group, ...]]:
    """The raidz and draid groups of every pool by its name; empty where that cannot be told."""
    return parse(await _zpool("what the pools are made of cannot be told", "list", "-Hv"))


async def read_only(pools: Sequence[str]) -> list[str]:
    """Those of the pools that were imported to be read only; none where that cannot be told."""
    what = "whether the pools can be written to cannot be told"
    text = await _zpool(what, "get", "-Hp", "-o", "name,value", "readonly", *pools)
    rows = (line.split("\t") for line in text.splitlines())
    return [row[0] for row in rows if row[1:] == ["on"]]


async def _zpool(what: str, *args: str) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            "zpool", *args, env=ENVIRONMENT, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), BOUND)
    except (OSError, TimeoutError) as fault:
        log.warning("%s: %s", what, fault or f"zpool {args[0]} does not end")
        return ""
    return out.decode("utf-8", "replace")
