"""One snapshot of many volumes, each with properties of its own: a channel program (zfs-program(8)) for each pool.

Everything is given to the program as arguments, never written into it.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..model import properties
from ..model.errors import AlreadyExists, KvmError, NoSpace, NotFound, ZfsFailed
from ..model.inventory import Snapshot
from .commands import Zfs

SCRIPT = Path(__file__).with_name("snapshot_all.lua")
MOST_INSTRUCTIONS, MOST_MEMORY = "100000000", "104857600"
MOST_ARGUMENTS = 1_400_000
"""Bytes of arguments in one command: the kernel takes two MiB, environment and pointers included (execve(2))."""

Volumes = Mapping[str, Mapping[str, str]]
"""The user properties that a volume's snapshot gets, by the volume's dataset."""


async def snapshot_each(zfs: Zfs, pool: str, name: str, tag: str, groups: Sequence[Volumes]) -> dict[str, str]:
    """Snapshot those of the volumes that are there as @name, each with its properties and the tag. What became of each
    volume: "taken", "gone", "exists" (another snapshot of that name) or "failed: ERRNO".

    groups: volumes that belong together, such as a VM's. All are of one pool, and are taken in one transaction; if
    there are so many that one command cannot name them, then each group is. Doing it again with the same tag does no
    harm.
    """
    volumes = {dataset: values for group in groups for dataset, values in group.items()}
    outcome: dict[str, str] = {}
    for words in _commands(groups, tag):
        outcome |= await _run(zfs, pool, name, tag, "each", words, volumes)
    return outcome


async def snapshot_together(zfs: Zfs, name: str, tag: str, volumes: Volumes) -> None:
    """Snapshot all volumes, which are of one pool, as @name, or none of them; in one transaction.

    Raises NotFound, AlreadyExists, NoSpace or ZfsFailed, with nothing taken.
    """
    words = [word for dataset, values in volumes.items() for word in _words(dataset, values, tag)]
    pool = next(iter(volumes)).partition("/")[0]
    outcome = await _run(zfs, pool, name, tag, "together", words, volumes)
    for dataset, what in outcome.items():
        if what not in ("taken", "left"):
            raise failure(f"{dataset}@{name}", what)


def failure(snapshot: str, outcome: str) -> KvmError:
    """The error that an outcome other than "taken" stands for."""
    what = f"the snapshot {snapshot} was not taken"
    if outcome == "gone":
        return NotFound(what, "there is no such volume any more", "it was removed or renamed meanwhile: look again")
    if outcome == "exists":
        return AlreadyExists(what, "there is one of that name by now", "choose another name")
    digits = outcome.removeprefix("failed: ")
    number = int(digits) if digits.isdecimal() else 0
    if number in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(what, "the pool is full", "make room in the pool: kvm-list shows what uses it")
    return ZfsFailed(what, os.strerror(number) if number else outcome, "zpool status -x tells whether the pool is well")


async def _run(
    zfs: Zfs, pool: str, name: str, tag: str, mode: str, words: Sequence[str], volumes: Volumes
) -> dict[str, str]:
    bounds = ("-j", "-t", MOST_INSTRUCTIONS, "-m", MOST_MEMORY)
    what = f"no snapshot @{name} was taken on {pool}"
    given = (name, properties.SNAPSHOT, tag, mode, *words)
    text = await zfs.run(what, "program", *bounds, "--", pool, str(SCRIPT), *given)
    try:
        returned = json.loads(text)["return"]
        return {dataset: _told(zfs, dataset, name, what, volumes[dataset]) for dataset, what in returned.items()}
    except (ValueError, KeyError, AttributeError, TypeError):
        what = f"what became of the snapshots @{name} on {pool} is not known"
        raise ZfsFailed(what, "the answer of zfs program makes no sense", "zfs list -t snapshot shows them") from None


def _commands(groups: Iterable[Volumes], tag: str) -> Iterator[list[str]]:
    """The words that name the volumes, for one command after the other."""
    words: list[str] = []
    length = 0
    for group in groups:
        more = [word for dataset, values in group.items() for word in _words(dataset, values, tag)]
        size = sum(len(word) + 9 for word in more)  # its end, and the pointer to it
        if words and length + size > MOST_ARGUMENTS:
            yield words
            words, length = [], 0
        words, length = words + more, length + size
    if words:
        yield words


def _told(zfs: Zfs, dataset: str, name: str, outcome: str, values: Mapping[str, str]) -> str:
    """The outcome without what it tells of a snapshot that was just taken; that is kept for whoever asks next."""
    what, *numbers = outcome.split(" ")
    if what != "taken" or not numbers:
        return outcome
    guid, createtxg, creation = map(int, numbers)
    kind, consistency, _ = properties.snapshot_facts(values.get(properties.SNAPSHOT, ""))
    zfs.learned[f"{dataset}@{name}"] = Snapshot(
        dataset, name, str(guid % 2**64), createtxg, creation,  # Lua's integers have a sign
        kind=kind, consistency=consistency, excludes=values.get(properties.EXCLUDES, ""),
    )  # fmt: skip
    return what


def _words(dataset: str, values: Mapping[str, str], tag: str) -> list[str]:
    values = {**values, properties.SNAPSHOT: f"{values.get(properties.SNAPSHOT, ':')}:{tag}"}
    return [dataset, str(len(values)), *(word for pair in values.items() for word in pair)]
