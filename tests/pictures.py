"""What the host is like at one moment, by plain zfs, virsh and files; and what of that is not as it should be later.

The kill matrix and the power cuts take these. A picture is plain data: it can wait elsewhere for a host to come back.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from host import datasets, run, zfs
from scenarios import BYSTANDER, DISKS, FILLED, STORE, Scene

TRASH = frozenset({"rpool/vms/.trash", "rpool/vms/.trash/.spare"})
"""The container of all entries, and the spare entry: they come by the way, and stay."""
OURS = re.compile(r"\torg\.kldload\.kvm:(job|journal|identity)\t")
"""Tags, and the mark of the storages: they follow each job, undone or not."""
BLOCK = 1 << 20


@dataclass(frozen=True)
class Picture:
    """datasets: each with its guid, snapshots too; definitions: of the domains; autostarts: those of them that start
    with the host; properties: rows of what is set on the datasets; contents: of the first disks; images: in the store.
    """

    datasets: dict[str, str]
    definitions: dict[str, str]
    autostarts: list[str]
    properties: list[str]
    contents: dict[str, str]
    images: dict[str, str]


def taken() -> Picture:
    names = sorted(run("virsh", "list", "--all", "--name").stdout.split())
    return Picture(
        datasets(),
        {name: run("virsh", "dumpxml", "--inactive", "--security-info", name).stdout for name in names},
        sorted(run("virsh", "list", "--all", "--autostart", "--name").stdout.split()),
        sorted(zfs("get", "-Hp", "-r", "-t", "filesystem,volume", "-s", "local", "all", "rpool/vms", "vmpool/vms")),
        {path.name: contents(path) for path in sorted(DISKS.iterdir()) if path.suffix == "" and path.is_block_device()},
        {path.name: contents(path) for path in sorted(STORE.iterdir())},
    )


def contents(file: Path) -> str:
    """What a disk or an image holds, see `letter_or_hash`."""
    with file.open("rb") as blocks:
        return letter_or_hash(iter(lambda: blocks.read(BLOCK), b""))


def letter_or_hash(blocks: Iterable[bytes]) -> str:
    """The one letter that a disk of the scenes was filled with, if that is all there is on it; else a hash of what is
    not zero, so that an image and a larger disk made from it are the same."""
    digest, written, letters = hashlib.sha256(), [], set()
    for number, block in enumerate(blocks):
        if block.count(0) < len(block):
            written.append(number)
            letters |= {block[:1] if block == block[:1] * len(block) else b""}
            digest.update(b"%d:%s" % (number, block))
    (letter,) = letters if len(letters) == 1 else (b"",)
    filled = list(range(FILLED // BLOCK))
    return letter.decode("ascii") if letter.isalpha() and written == filled else f"sha256:{digest.hexdigest()}"


def not_as_before(before: Picture, now: Picture) -> list[str]:
    """What an operation that was undone, or never began, has left different."""
    return [
        *_differs("a dataset", _without_trash(before.datasets), _without_trash(now.datasets)),
        *_differs("a definition", before.definitions, now.definitions),
        *_differs("autostart of", _there(before.autostarts), _there(now.autostarts)),
        *_differs("a property", _there(_told(before.properties)), _there(_told(now.properties))),
        *_differs("the contents of", before.contents, now.contents),
        *_differs("an image", before.images, now.images),
    ]


def not_as_after(before: Picture, now: Picture, scene: Scene) -> list[str]:
    """What is different from what the scene's operation leaves when it is done."""
    was, does = normal(_without_trash(before.datasets)), normal(_without_trash(now.datasets))
    should = (was | {f"rpool/vms{name}" for name in scene.adds}) - {f"rpool/vms{name}" for name in scene.removes}
    wrong = _differs("a dataset", _there(should), _there(does))
    kept = (before.datasets.keys() & now.datasets.keys()) - {f"rpool/vms{name}" for name in scene.replaces}
    wrong += _differs("the guid of", _of(before.datasets, kept), _of(now.datasets, kept))
    if scene.states is not None:
        wrong += _differs("a domain", _there(scene.states), _there(now.definitions.keys() - {BYSTANDER}))
    wrong += _differs("autostart of", _there(scene.autostarts), _there(now.autostarts))
    sources = {**before.contents, **before.images}
    disks = {name: sources[source] for name, source in {**scene.copies, BYSTANDER: BYSTANDER}.items()}
    if scene.contents and "web-1" in now.definitions:
        disks["web-1"] = scene.contents
    wrong += _differs("the contents of", disks, _of(now.contents, disks))
    images = {name: held for name, held in before.images.items() if name not in scene.removes_images}
    return wrong + _differs("an image", images, now.images)


def normal(names: Iterable[str]) -> set[str]:
    """Those names without the moments in them."""
    return {re.sub(r"-\d{8}[T_]\d{6}Z?(-\d+)?", "-TIME", name) for name in names}


def _without_trash(guids: dict[str, str]) -> dict[str, str]:
    return {name: guid for name, guid in guids.items() if name not in TRASH}


def _told(rows: Iterable[str]) -> list[str]:
    return [row for row in rows if not OURS.search(row) and row.partition("\t")[0] not in TRASH]


def _there(names: Iterable[str]) -> dict[str, str]:
    return {name: "there" for name in names}


def _of(values: dict[str, str], names: Iterable[str]) -> dict[str, str]:
    return {name: values[name] for name in names if name in values}


def _differs(what: str, should: dict[str, str], does: dict[str, str]) -> list[str]:
    names = sorted(name for name in should.keys() | does.keys() if should.get(name) != does.get(name))
    return [f"{what} {name}: {should.get(name, 'not there')} -> {does.get(name, 'not there')}" for name in names]
