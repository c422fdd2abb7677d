"""kvm-snap: take, list, return to and delete a VM's snapshots."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from ..model.errors import InvalidArgument, KvmError, NotFound
from ..model.sizes import format_size
from .common import Command, run
from .options import Parser, add_common, add_vm, close, completed, snapshot
from .tables import moment, table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from ..client.api import Vm

EXAMPLES = """\
  kvm-snap web-1                               take a snapshot, named after the time in UTC
  kvm-snap web-1 create @stable                take one of that name
  kvm-snap web-1 list
  kvm-snap web-1 rollback                      return to the newest one
  kvm-snap web-1 rollback @2026-04-01_153022
  kvm-snap web-1 delete @2026-04-01_153022"""

DESCRIPTION = """\
Snapshot all volumes of a VM at once, list the snapshots, return to one, or delete one.

A running guest is frozen by its agent meanwhile, or else paused. A rollback moves the state it gives up, with the
snapshots newer than the one returned to, to the trash. A deleted snapshot is gone for good."""

ACTIONS = ("create", "list", "rollback", "delete")
PAGE = 1000
"""Snapshots read in one call."""


def parser() -> argparse.ArgumentParser:
    made = Parser("kvm-snap", description=DESCRIPTION, examples=EXAMPLES)
    add_vm(made, text="the VM")
    completed(
        " ".join(ACTIONS),
        made.add_argument("action", nargs="?", default="create", metavar="ACTION", help=", ".join(ACTIONS)),
    )
    completed(
        "snapshot",
        made.add_argument(
            "snapshot", nargs="?", type=snapshot, metavar="@SNAPSHOT", help="a snapshot's name; '@' may be left out"
        ),
    )
    made.add_argument(
        "--consistency", choices=("app", "off", "paused"), help="create: refuse one that is less than that"
    )
    made.add_argument("--names", action="store_true", help="list: print the names alone, one a line")
    made.add_argument("--force", "-f", action="store_true", help="rollback: force a running VM off first")
    made.add_argument("--start", action="store_true", help="rollback: start the VM afterwards")
    add_common(made, changes=True)
    return made


def main() -> int:
    return run(parser(), act)


def act(command: Command) -> int | None:
    args = command.args
    complete(args)
    check(args)
    vm = command.vm(args.vm)
    if args.action == "create":
        start = partial(vm.snapshot, name=args.snapshot, require_consistency=args.consistency)
        return command.operate(start, lambda result: taken(vm, result))
    if args.action == "list":
        show(command, vm)
        return None
    if args.action == "rollback":
        start = partial(vm.rollback, snapshot=args.snapshot, force=args.force or None, start=args.start or None)
        return hinted(command, vm, lambda: command.operate(start, lambda result: rolled_back(vm, result)))
    start = partial(vm.delete_snapshot, args.snapshot)
    told = f"{first_disk(vm)}@{args.snapshot} deleted"
    return hinted(command, vm, lambda: command.operate(start, lambda _: told, destroys=True))


def complete(args: argparse.Namespace) -> None:
    """`kvm-snap web-1 @stable` takes a snapshot of that name: create may be left out."""
    if args.action.startswith("@") and args.snapshot is None:
        args.action, args.snapshot = "create", snapshot(args.action)


def check(args: argparse.Namespace) -> None:
    """Refuse combinations that mean nothing, with what was probably meant."""
    vm, action = args.vm, args.action
    name, at, after = vm.partition("@")
    if at:
        raise InvalidArgument(f"{vm!r} is not the name of a VM", hint=f"write: kvm-snap {name} create @{after}")
    if action not in ACTIONS:
        if vm in ACTIONS:
            hint = f"write the VM first: kvm-snap {action} {vm}"
        else:
            hint = close(action, ACTIONS) or "see: kvm-snap --help"
        raise InvalidArgument(
            f"{action!r} is not something that kvm-snap does", f"it is one of {', '.join(ACTIONS)}", hint
        )
    if action == "delete" and not args.snapshot:
        raise InvalidArgument("which snapshot?", hint=f"see: kvm-snap {vm} list")
    if action == "list" and args.snapshot:
        raise InvalidArgument("a snapshot cannot be listed alone", hint=f"write: kvm-snap {vm} list")
    if action != "rollback" and (args.force or args.start):
        raise InvalidArgument("--force and --start go with rollback only", hint="see: kvm-snap --help")
    if action != "list" and args.names:
        raise InvalidArgument("--names goes with list only", hint="see: kvm-snap --help")
    if action != "create" and args.consistency:
        raise InvalidArgument("--consistency goes with create only", hint="see: kvm-snap --help")


def show(command: Command, vm: Vm) -> None:
    """List the snapshots, with the space they use read anew."""
    if command.args.names:
        print("".join(f"{each['name']}\n" for each in all_snapshots(vm)), end="")
        return
    try:
        vm.refresh_usage()
    except KvmError as error:
        command.note(f"USED is as of {time.strftime('%H:%M', time.localtime(vm.used_at))}: {error.what}")
    snapshots = all_snapshots(vm)
    dataset = first_disk(vm)
    if command.args.json:
        command.emit([{"snapshot": f"{dataset}@{each['name']}", **each} for each in snapshots])
        return
    rows = [
        [f"{dataset}@{each['name']}", moment(each["creation"]), format_size(each["used"]), each["consistency"] or "-"]
        for each in snapshots
    ]
    if rows:
        print(table(["NAME", "CREATION", "USED", "CONSISTENCY"], rows, right=("USED",)))
    else:
        command.note(f"{vm.name} has no snapshots; take one: kvm-snap {vm.name}")


def all_snapshots(vm: Vm) -> list[dict[str, Any]]:
    """Every snapshot, oldest first, read in pages."""
    found: list[dict[str, Any]] = []
    while True:
        page = vm.list_snapshots(offset=len(found), limit=PAGE)
        found += page
        if len(page) < PAGE:
            return found


def first_disk(vm: Vm) -> str:
    """The dataset that stands for the VM."""
    return next((str(volume["dataset"]) for volume in vm.volumes if volume["role"] == "disk"), vm.name)


def hinted(command: Command, vm: Vm, work: Callable[[], int]) -> int:
    """Carry on; a snapshot that is not there gets a hint with names like it."""
    try:
        return work()
    except NotFound as error:
        names = [str(each["name"]) for each in all_snapshots(vm)]
        hint = close(command.args.snapshot or "", names) or error.hint or f"see: kvm-snap {vm.name} list"
        raise NotFound(error.what, error.why, hint) from error


def taken(vm: Vm, result: dict[str, Any]) -> str:
    states = {"app": "frozen by its agent", "paused": "paused", "off": "shut off", "crash": "running, as after a crash"}
    state = states.get(result["consistency"], result["consistency"])
    held = f" for {result['held']:.1f} s" if result.get("held") else ""
    return f"{first_disk(vm)}@{result['snapshot']} taken ({state}{held})"


def rolled_back(vm: Vm, result: dict[str, Any]) -> str:
    undone = f"The state given up waits in the trash; to change back: kvm-trash restore {result['trash']}"
    return f"{vm.name} is back at @{result['snapshot']}\n{undone}"
