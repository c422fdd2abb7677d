"""The block size of a new disk: as asked for, as configured, or as suits the pool."""

from __future__ import annotations

from dataclasses import dataclass

from ..model.pool_topology import USUAL, choose
from ..model.sizes import format_size
from .request import View


@dataclass(frozen=True)
class Block:
    """size: in bytes; why: it is so; warnings: that, if it is not the usual one by nobody's wish."""

    size: int
    why: str
    warnings: tuple[str, ...] = ()


def block_size(view: View, parent: str, asked: int) -> Block:
    """asked: in bytes, or 0 for what is configured."""
    if asked:
        return Block(asked, "it was asked for")
    if view.config.volblocksize:
        return Block(view.config.volblocksize, "it is configured")
    chosen = choose(parent.partition("/")[0], view.facts.pools)
    unusual = (f"volblocksize is {format_size(chosen.size)}: {chosen.why}",) if chosen.size != USUAL else ()
    return Block(chosen.size, chosen.why, unusual)
