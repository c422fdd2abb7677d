"""kvm-export: a disk of a VM, as of a snapshot, into a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..model.errors import AlreadyExists, InvalidArgument
from ..model.sizes import format_size
from .common import Command, run
from .options import Parser, add_common, add_vm, completed, snapshot

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
  kvm-export web-1 -o web-1.qcow2
  kvm-export web-1 @stable -o web-1.raw --format raw
  kvm-export web-1 --format zfs -o - | ssh backup zfs receive tank/web-1"""

DESCRIPTION = """\
Write a disk of a VM, as of a snapshot, into a new file: as a qcow2 image, as raw bytes, or as a stream for zfs receive.

Without a snapshot one is taken for it, and cleared away; of a running guest it is then as after a power cut, so take
one first (kvm-snap) where that matters. The VM goes on meanwhile."""


def parser() -> argparse.ArgumentParser:
    made = Parser("kvm-export", description=DESCRIPTION, examples=EXAMPLES)
    add_vm(made, text="the VM")
    completed(
        "snapshot",
        made.add_argument("snapshot", nargs="?", type=snapshot, metavar="@SNAPSHOT", help="one it has, not a new one"),
    )
    output = made.add_argument("--output", "-o", required=True, metavar="FILE", help="a new file; - is standard output")
    completed("file", output)
    made.add_argument("--format", choices=("qcow2", "raw", "zfs"), help="what it is written as (qcow2)")
    made.add_argument("--disk", metavar="DISK", help="which one, such as vdb (vda)")
    add_common(made, changes=True)
    return made


def main() -> int:
    return run(parser(), export)


def export(command: Command) -> int:
    args = command.args
    vm = command.vm(args.vm)
    if args.output == "-":
        # What is said would stand in the middle of the disk.
        args.quiet, args.json = True, False
    with target(args.output, dry_run=args.dry_run) as file:
        start = partial(vm.export, file, format=args.format, snapshot=args.snapshot, target=args.disk)
        return command.operate(start, partial(exported, args.vm, args.output))


def exported(name: str, output: str, result: dict[str, Any]) -> str:
    whole, written = format_size(result["size"]), format_size(result["bytes"])
    return f"{result['target']} of {name}@{result['snapshot']} written to {output} ({written}, of a disk of {whole})"


@contextmanager
def target(path: str, *, dry_run: bool) -> Iterator[int]:
    """Where to write, open: a new file that is gone again if it was not written to its end. Raises KvmError."""
    if dry_run or path == "-":
        if path == "-" and not dry_run and sys.stdout.isatty():
            raise InvalidArgument("a disk is not written to a terminal", hint="-o FILE, or a pipe after it")
        with Path(os.devnull).open("wb") as nothing:
            yield nothing.fileno() if dry_run else sys.stdout.fileno()
        return
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise AlreadyExists(f"{path!r} is there already", "it is not overwritten", "name a new file") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidArgument(f"{path!r} cannot be written", str(why)) from error
    try:
        yield file
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
