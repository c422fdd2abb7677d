"""kvm-delete: VMs and their volumes, into the trash."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from .common import Command, each, run
from .options import Parser, add_common, add_vm

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
  kvm-delete web-1                             it must be off
  kvm-delete web-1 --force                     force it off, then delete it
  kvm-delete web-1 web-2 web-3
  kvm-delete template --promote                a clone of it takes over what they share
  kvm-delete web-1 --now                       destroy it at once: there is no way back"""

DESCRIPTION = """\
Delete VMs. Their volumes, with all snapshots, wait in the trash for their grace period, so that a mistake can be
mended: kvm-trash restore. A VM that others are clones of waits there until the last of these is gone."""


def parser() -> argparse.ArgumentParser:
    made = Parser("kvm-delete", description=DESCRIPTION, examples=EXAMPLES)
    add_vm(made, "vms", nargs="+", text="the VMs")
    made.add_argument("--force", "-f", action="store_true", help="force a running VM off first")
    way = made.add_mutually_exclusive_group()
    way.add_argument("--now", action="store_true", help="destroy the volumes and all their snapshots at once, for good")
    way.add_argument(
        "--promote", action="store_true", help="let a clone of it take over what they share, so that it need not wait"
    )
    add_common(made, changes=True)
    return made


def main() -> int:
    return run(parser(), lambda command: each(command, command.args.vms, delete))


def delete(command: Command, name: str) -> int:
    args, vm = command.args, command.vm(name)
    start = partial(vm.delete, force=args.force or None, now=args.now or None, promote=args.promote or None)
    return command.operate(start, partial(deleted, vm.name), destroys=args.now)


def deleted(name: str, result: dict[str, Any]) -> str:
    if "trash" not in result:
        return f"{name} deleted for good"
    return f"{name} deleted; its volumes wait in the trash as entry {result['trash']}"
