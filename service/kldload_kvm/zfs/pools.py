"""What the pools are made of, and whether they can be written to, each read with one command."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from ..model.errors import ZfsFailed
from ..model.pool_topology import Group, parse
from .commands import ENVIRONMENT

log = logging.getLogger(__name__)
BOUND = 30.0


async def topologies() -> dict[str, tuple[Group, ...]]:
    """The raidz and draid groups of every pool by its name; empty where that cannot be told."""
    return parse(await zpool("what the pools are made of cannot be told", "list", "-Hv"))


async def read_only(pools: Sequence[str]) -> list[str]:
    """Those of the pools that were imported to be read only; none where that cannot be told."""
    what = "whether the pools can be written to cannot be told"
    text = await zpool(what, "get", "-Hp", "-o", "name,value", "readonly", *pools)
    rows = (line.split("\t") for line in text.splitlines())
    return [row[0] for row in rows if row[1:] == ["on"]]


async def get_pool(pool: str, key: str) -> str:
    """One property of a pool; empty where that cannot be told."""
    return (await zpool(f"{key} of {pool} cannot be told", "get", "-H", "-o", "value", key, pool)).rstrip("\n")


async def set_pool(pool: str, key: str, value: str) -> None:
    """Raises KvmError if it is not so afterwards."""
    what = f"{key} of the pool {pool} was not set"
    await zpool(what, "set", f"{key}={value}", pool)
    if (now := await get_pool(pool, key)) != value:
        raise ZfsFailed(what, f"it is {now or 'not known'}", f"zpool set {key}={value} {pool} says why")


async def zpool(what: str, *args: str) -> str:
    """What zpool prints; nothing where it cannot be told. what: cannot be told."""
    return await _run(what, "zpool", *args)


async def zdb(what: str, *args: str) -> str:
    """The same of zdb."""
    return await _run(what, "zdb", *args)


async def _run(what: str, program: str, *args: str) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            program, *args, env=ENVIRONMENT, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), BOUND)
    except (OSError, TimeoutError) as fault:
        log.warning("%s: %s", what, fault or f"{program} {args[0]} does not end")
        return ""
    return out.decode("utf-8", "replace")
