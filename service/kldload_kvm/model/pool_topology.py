"""What a pool is made of, and which block size suits it. Pure.

A volume's block size can never be changed. On raidz each block is cut into sectors over all disks, with its own parity
and padding: a small one then needs more than its share (openzfs/zfs issue 3255).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .sizes import KIB, format_size

USUAL, WIDE = 64 * KIB, 128 * KIB
WIDE_FROM = 9
"""So many disks of data, without those for parity, make a group a wide one."""
_GROUP = re.compile(r"(raidz|draid)(\d)?(?::(\d+)d)?(?::\S+)?-\d+")
_OTHER_GROUP = re.compile(r"(mirror|replacing|spare|indirect)-\d+")


@dataclass(frozen=True)
class Group:
    """A raidz or draid group. disks: in all; data: those of one stripe that are not parity."""

    kind: str
    disks: int
    data: int


@dataclass(frozen=True)
class Choice:
    """A block size in bytes, and why."""

    size: int
    why: str


def parse(text: str) -> dict[str, tuple[Group, ...]]:
    """The raidz and draid groups of each pool, out of `zpool list -Hv`. Mirrors and single disks are no groups.

    >>> parse("a\\t1T\\n\\traidz2-0\\t1T\\n\\tsda\\t-\\n\\tsdb\\t-\\n\\tsdc\\t-\\nb\\t1T\\n\\tsdd\\t1T\\n")
    {'a': (Group(kind='raidz2', disks=3, data=1),), 'b': ()}
    """
    found: dict[str, list[Group]] = {}
    groups: list[Group] = []
    counting = False
    for line in text.splitlines():
        name = line.split("\t")[1] if line.startswith("\t") else ""
        if not name:
            # A line without a tab is the head of the log, cache or spare devices: no data of a guest's is there.
            counting = False
            if "\t" in line:
                groups = found.setdefault(line.split("\t")[0], [])
        elif match := _GROUP.fullmatch(name):
            parity = int(match[2] or 1)
            # As many as there are disks is found by counting them; draid says itself how many hold data.
            groups.append(Group(f"{match[1]}{parity}", 0, int(match[3]) if match[3] else -parity))
            counting = True
        elif _OTHER_GROUP.fullmatch(name):
            counting = counting and not name.startswith("mirror")
        elif counting:
            groups[-1] = _with_disk(groups[-1])
    return {pool: tuple(each) for pool, each in found.items()}


def _with_disk(group: Group) -> Group:
    more = 1 if group.kind.startswith("raidz") else 0
    return replace(group, disks=group.disks + 1, data=group.data + more)


def choose(pool: str, topologies: Mapping[str, tuple[Group, ...]]) -> Choice:
    """The block size for a new disk on a pool."""
    groups = topologies.get(pool, ())
    if not groups:
        return Choice(USUAL, f"{format_size(USUAL)} suits mirrors and single disks")
    widest = max(groups, key=lambda each: each.data)
    size = WIDE if widest.data >= WIDE_FROM else USUAL
    why = (
        f"{pool} is {widest.kind} of {widest.disks} disks, on which smaller blocks need more than their share of space"
    )
    return Choice(size, why)
