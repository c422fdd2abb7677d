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
  kvm-delete web-1 web-2 web-3"""

DESCRIPTION = """\
Delete VMs. Their volumes, with all snapshots, wait in the trash for their grace period, so that a mistake can be
mended. A VM that others are clones of is refused."""


def parser() -> argparse.ArgumentParser:
    made = Parser("kvm-delete", description=DESCRIPTION, examples=EXAMPLES)
    add_vm(made, "vms", nargs="+", text="the VMs")
    made.add_argument("--force", "-f", action="store_true", help="force a running VM off first")
    add_common(made, changes=True)
    return made


def main() -> int:
    return run(parser(), lambda command: each(command, command.args.vms, delete))


def delete(command: Command, name: str) -> int:
    vm = command.vm(name)
    return command.operate(partial(vm.delete, force=command.args.force or None), partial(deleted, vm.name))


def deleted(name: str, result: dict[str, Any]) -> str:
    return f"{name} deleted; its volumes wait in the trash as entry {result['trash']}"
