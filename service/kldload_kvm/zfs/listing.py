"""Reading datasets and snapshots: a constant number of zfs commands, however many volumes there are."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ..model import properties
from ..model.errors import ZfsFailed
from ..model.inventory import Bookmark, Dataset, Snapshot
from ..model.names import shown
from .commands import Zfs

# One list of columns serves both, so that one command can read datasets and snapshots by name.
NATIVE = ("name", "type", "guid", "createtxg", "creation", "volsize", "used", "available", "volblocksize", "origin",
          "mountpoint", "compression", "volmode", "userrefs")  # fmt: skip
OURS = tuple(dict.fromkeys(properties.OF_DATASETS + properties.OF_SNAPSHOTS))
COLUMNS = ",".join(NATIVE + OURS)
# Without what makes ZFS open every snapshot: 'used' of 1,000 snapshots took eleven seconds, these columns one.
SNAPSHOT_ROW = ("name", "guid", "createtxg", "creation", "userrefs", *properties.OF_SNAPSHOTS)
SNAPSHOT_COLUMNS = ",".join(SNAPSHOT_ROW)
FEW = 10


async def everything(zfs: Zfs, parents: Sequence[str]) -> tuple[list[Dataset], list[Snapshot]]:
    """All datasets and snapshots below the parents. Parents that do not exist are passed over."""
    what = "the datasets cannot be listed"
    text = await zfs.run(
        what, "list", "-Hp", "-r", "-t", "filesystem,volume", "-o", COLUMNS, *parents, partial=True
    )  # fmt: skip
    datasets, _ = parse(text)
    present = [parent for parent in parents if any(d.name == parent for d in datasets)]
    if not present:
        return datasets, []
    text = await zfs.run(what, "list", "-Hp", "-r", "-t", "snapshot,bookmark", "-o", SNAPSHOT_COLUMNS, *present)
    rows = list(_rows(text, SNAPSHOT_ROW))
    bookmarks = _bookmarks(values for values in rows if "#" in values["name"])
    return _with(bookmarks, datasets), [_snapshot(values) for values in rows if "@" in values["name"]]


async def named(zfs: Zfs, names: Iterable[str]) -> tuple[list[Dataset], list[Snapshot]]:
    """Those of the named datasets and snapshots that exist. Bookmarks are not read; nor, of more than FEW snapshots,
    what each uses."""
    wanted = list(names)
    snapshots = [name for name in wanted if "@" in name]
    if len(snapshots) <= FEW:
        return parse(await _list(zfs, "all", COLUMNS, wanted))
    datasets = [name for name in wanted if "@" not in name]
    first, second = await asyncio.gather(
        _list(zfs, "filesystem,volume", COLUMNS, datasets), _list(zfs, "snapshot", SNAPSHOT_COLUMNS, snapshots)
    )
    return parse(first)[0], [_snapshot(values) for values in _rows(second, SNAPSHOT_ROW)]


async def _list(zfs: Zfs, kinds: str, columns: str, names: Sequence[str]) -> str:
    """Of those that are there. Nothing is asked for no names: zfs would list all there are."""
    what = "what was changed cannot be read again"
    return await zfs.run(what, "list", "-Hp", "-t", kinds, "-o", columns, *names, partial=True) if names else ""


async def with_snapshots(zfs: Zfs, names: Sequence[str]) -> tuple[list[Dataset], list[Snapshot]]:
    """Those of the named datasets that exist, with all their own snapshots and bookmarks, and the space each uses."""
    what = "the datasets cannot be read again"
    text = await zfs.run(
        what, "list", "-Hp", "-d", "1", "-t", "filesystem,volume,snapshot,bookmark", "-o", COLUMNS, *names, partial=True
    )  # fmt: skip
    return parse(text)


def parse(text: str) -> tuple[list[Dataset], list[Snapshot]]:
    """Lines of `zfs list -Hp -o COLUMNS`."""
    datasets: list[Dataset] = []
    snapshots: list[Snapshot] = []
    bookmarks: list[dict[str, str]] = []
    for values in _rows(text, NATIVE + OURS):
        if values["type"] == "bookmark":
            bookmarks.append(values)
        elif values["type"] == "snapshot":
            snapshots.append(_snapshot(values))
        else:
            datasets.append(_dataset(values))
    return _with(_bookmarks(bookmarks), datasets), snapshots


def _bookmarks(rows: Iterable[dict[str, str]]) -> dict[str, list[Bookmark]]:
    found: dict[str, list[Bookmark]] = defaultdict(list)
    for values in rows:
        dataset, _, name = values["name"].partition("#")
        found[dataset].append(Bookmark(name, values["guid"], int(values["createtxg"])))
    return found


def _with(bookmarks: dict[str, list[Bookmark]], datasets: list[Dataset]) -> list[Dataset]:
    return [replace(d, bookmarks=tuple(bookmarks[d.name])) if d.name in bookmarks else d for d in datasets]


def _dataset(values: dict[str, str]) -> Dataset:
    return Dataset(
        name=values["name"],
        guid=values["guid"],
        createtxg=int(values["createtxg"]),
        kind=values["type"],
        size=int(values["volsize"] or 0),
        used=int(values["used"] or 0),
        available=int(values["available"] or 0),
        volblocksize=int(values["volblocksize"] or 0),
        origin=values["origin"],
        mountpoint=values["mountpoint"],
        compression=values["compression"],
        volmode=values["volmode"],
        properties={key: values[key] for key in properties.OF_DATASETS if values[key]},
    )


def _rows(text: str, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Each line as values by column, "-" as the empty string. Raises ZfsFailed for a line that has more or fewer.

    zfs prints a property as it is: a tab or a line break in one makes lines of which nothing can be believed.
    """
    for line in text.split("\n"):
        values = line.split("\t")
        if len(values) == len(columns):
            yield {column: value if value != "-" else "" for column, value in zip(columns, values, strict=True)}
        elif line:
            why = f"zfs list printed a line with {len(values)} values, not {len(columns)}: {shown(line)}"
            hint = f"is there a tab or a line break in a property? zfs get all {shown(values[0])}"
            raise ZfsFailed("the datasets cannot be listed", why, hint)


def _snapshot(values: dict[str, str]) -> Snapshot:
    dataset, _, name = values["name"].partition("@")
    kind, consistency, _ = properties.snapshot_facts(values[properties.SNAPSHOT])
    return Snapshot(
        dataset=dataset,
        name=name,
        guid=values["guid"],
        createtxg=int(values["createtxg"]),
        creation=int(values["creation"]),
        kind=kind,
        consistency=consistency,
        used=int(values.get("used") or 0),
        excludes=values[properties.EXCLUDES],
        holds=int(values["userrefs"] or 0),
    )
