"""What the pools are made of, read with one command."""

from __future__ import annotations

import asyncio
import logging

from ..model.pool_topology import Group, parse
from .commands import ENVIRONMENT

log = logging.getLogger(__name__)
BOUND = 30.0


async def topologies() -> dict[str, tuple[Group, ...]]:
    """The raidz and draid groups of every pool by its name; empty where that cannot be told."""
    try:
        process = await asyncio.create_subprocess_exec(
            "zpool", "list", "-Hv", env=ENVIRONMENT, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), BOUND)
    except (OSError, TimeoutError) as fault:
        log.warning("what the pools are made of cannot be told: %s", fault or "zpool list does not end")
        return {}
    return parse(out.decode("utf-8", "replace"))
