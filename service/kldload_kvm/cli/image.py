"""kvm-image: the store of ISOs and disk images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..client.api import Job, Storage
from ..model.errors import InvalidArgument, NotFound
from ..model.sizes import format_size
from .common import Command, run
from .options import Parser, add_common, close, completed
from .tables import natural, table

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
  kvm-image add ~/Downloads/debian-13-generic-amd64.qcow2
  kvm-image add disk.img --format raw --name appliance
  kvm-image add debian.iso --sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  kvm-image list
  kvm-image remove debian.iso"""


def parser() -> argparse.ArgumentParser:
    made = Parser("kvm-image", description="Keep the ISOs and disk images that VMs are made from.", examples=EXAMPLES)
    actions = made.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="copy a file into the store", description=ADD)
    file = add.add_argument("file", metavar="FILE", help="an ISO, or a disk image in qcow2 or raw format")
    completed("file", file)
    add.add_argument("--name", help="its name in the store; the file's name if not given")
    add.add_argument(
        "--format", choices=("iso", "qcow2", "raw"), help="told from the contents if not given, except raw"
    )
    add.add_argument("--sha256", metavar="SUM", help="the checksum that the file must have")
    add.add_argument("--storage", help="the storage whose store it goes to")
    add_common(add, changes=True)
    listing = actions.add_parser("list", help="list the store", description="List the ISOs and disk images.")
    listing.add_argument("--storage", help="only that storage's store")
    listing.add_argument("--names", action="store_true", help="print the names alone, one a line")
    add_common(listing, changes=False)
    remove = actions.add_parser("remove", help="remove a file from the store", description=REMOVE)
    name = remove.add_argument("name", metavar="NAME", help="its name in the store")
    completed("image", name)
    remove.add_argument("--storage", help="only from that storage's store")
    add_common(remove, changes=True)
    return made


ADD = "Copy a file into the store. Its header is read without rights; images that need other files are refused."
REMOVE = "Remove a file from the store, for good. One that a VM has in its drive is refused."


def main() -> int:
    return run(parser(), act)


def act(command: Command) -> int | None:
    args = command.args
    if args.action == "list":
        show(command)
        return None
    if args.action == "add":
        name = args.name or Path(args.file).name
        store = store_for(storages(command), args.storage)
        with opened(args.file) as file:
            start = partial(store.add, file, name, format=args.format, sha256=args.sha256)
            return command.operate(start, added)
    store = holding(storages(command), args.name, args.storage)
    told = f"{args.name} removed from {store.name}"
    return command.operate(partial(store.remove, args.name), lambda _: told, destroys=True)


def show(command: Command) -> None:
    chosen = [each for each in storages(command) if command.args.storage in (None, each.name)]
    if not chosen:
        raise no_storage(storages(command), command.args.storage)
    images = [{"storage": store.name, **image} for store in chosen for image in store.images]
    images.sort(key=lambda image: natural(image["name"]))
    if command.args.json:
        command.emit(images)
    elif command.args.names:
        print("".join(f"{image['name']}\n" for image in images), end="")
    elif images:
        rows = [
            [
                image["name"],
                image["format"],
                format_size(image["size"]),
                format_size(image["virtual-size"]),
                image["storage"],
            ]
            for image in images
        ]
        print(table(["NAME", "FORMAT", "SIZE", "DISK", "STORAGE"], rows, right=("SIZE", "DISK")))
    else:
        command.note("the store is empty; add to it: kvm-image add FILE")


def added(result: dict[str, Any]) -> str:
    return f"{result['name']} added ({result['format']}, {format_size(result['size'])}, sha256 {result['sha256']})"


def storages(command: Command) -> list[Storage]:
    """The storages, the default one first."""
    return sorted(command.connection.objects(Storage).of(Storage), key=lambda each: not each.default)


def store_for(found: list[Storage], name: str | None) -> Storage:
    """Where a new image goes: to the storage named, or else to the first that has a store. Raises NotFound."""
    for each in found:
        if (name is None and each.image_directory) or each.name == name:
            return each
    raise no_storage(found, name)


def holding(found: list[Storage], image: str, storage: str | None) -> Storage:
    """The storage that has the image. Raises NotFound."""
    for each in found:
        if storage in (None, each.name) and any(known["name"] == image for known in each.images):
            return each
    if storage is not None and all(each.name != storage for each in found):
        raise no_storage(found, storage)
    names = [str(known["name"]) for each in found for known in each.images]
    raise NotFound(f"there is no image {image!r} in the store", hint=close(image, names) or "see: kvm-image list")


def no_storage(found: list[Storage], name: str | None) -> NotFound:
    names = ", ".join(each.name for each in found)
    if name is None:
        return NotFound("there is no store for images", f"none of the storages has one: {names or 'there are none'}")
    return NotFound(f"there is no storage {name!r}", f"the storages are: {names or 'none'}")


@contextmanager
def opened(path: str) -> Iterator[int]:
    """The file, open for reading. A FIFO or a device is not waited for; the service refuses it. Raises KvmError."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path!r}", hint="see: kvm-image list, for what is in the store") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidArgument(f"{path!r} cannot be read", str(why)) from error
    try:
        yield file
    finally:
        os.close(file)


def in_store(command: Command, given: str, storage: str | None) -> str:
    """The name in the store of an image given as a name or a path; a file that is not there yet is added first. One
    that was added before is found again by its name and what it holds.

    Raises KvmError.
    """
    found = sorted(storages(command), key=lambda each: each.name != storage)  # as the service will look for it
    images = [(str(image["name"]), str(image["path"])) for each in found for image in each.images]
    if "/" not in given and any(name == given for name, _ in images):
        return given
    real = os.path.realpath(given)
    for name, path in images:
        if path in (given, real) or os.path.realpath(path) == real:
            return name
    if "/" not in given and not Path(given).exists():
        hint = close(given, (name for name, _ in images)) or "see: kvm-image list; a file is given by its path"
        raise NotFound(f"there is no image {given!r} in the store", hint=hint)
    name = Path(given).name
    if stored := next((path for known, path in images if known == name), ""):
        if holds_the_same(given, stored):
            return name
        what = f"{given!r} is not in the store, but another image named {name!r} is"
        raise InvalidArgument(what, hint=f"give {name} to use that one, or: kvm-image add {given} --name NAME")
    return _add(command, given, name, store_for(found, storage))


def holds_the_same(one: str, other: str) -> bool:
    """Whether two files hold the same. Not if either is not there, or may not be read."""
    from filecmp import cmp

    try:
        return cmp(one, other, shallow=False)
    except OSError:
        return False


def _add(command: Command, path: str, name: str, store: Storage) -> str:
    """Add a file as a step on the way, saying so. A dry run cannot go on from here."""
    with opened(path) as file:
        if command.args.dry_run:
            command.operate(partial(store.add, file, name), added)
            hint = f"add it first, then ask for the plan again: kvm-image add {path}"
            raise NotFound(f"{name} is not in the store yet, so nothing can be planned with it", hint=hint)
        command.note(f"adding {path} to the store of {store.name}")
        job: Job = store.add(file, name)
    command.follow(job)
    return str(job.result["name"])
