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
  kvm-snap web-1 delete @2026-04-01_153022
  kvm-snap --all                               take one of all VMs at once
  kvm-snap --all @before-upgrade --require app"""

DESCRIPTION = """\
Snapshot all volumes of a VM at once, or of all VMs; list the snapshots, return to one, or delete one.

A running guest is frozen by its agent meanwhile, or else paused. A rollback moves the state it gives up, with the
snapshots newer than the one returned to, to the trash. A deleted snapshot is gone for good."""

ACTIONS = ("create", "list", "rollback", "delete")
PAGE = 1000
"""Snapshots read in one call."""


def parser() -> argparse.ArgumentParser:
    made = Parser("kvm-snap", description=DESCRIPTION, examples=EXAMPLES)
    add_vm(made, nargs="?", text="the VM; none with --all")
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
        "--require",
        "--consistency",
        dest="consistency",
        choices=("app", "off", "paused"),
        help="create: refuse one that is less consistent than that; off is most, then app, then paused",
    )
    made.add_argument("--all", "-a", action="store_true", help="create: of all VMs, at the same moment")
    made.add_argument("--storage", metavar="NAME", help="with --all: of the VMs on this storage only")
    made.add_argument(
        "--auto",
        action="store_true",
        help="with --all: as the timer does, and remove those that are older than is kept",
    )
    made.add_argument("--names", action="store_true", help="list: print the names alone, one a line")
    made.add_argument("--force", "-f", action="store_true", help="rollback: force a running VM off first")
    made.add_argument("--start", action="store_true", help="rollback: start the VM afterwards")
    made.add_argument(
        "--with-definition", action="store_true", help="rollback: bring the VM's definition of that moment back, too"
    )
    add_common(made, changes=True)
    return made


def main() -> int:
    return run(parser(), act)


def act(command: Command) -> int | None:
    args = command.args
    if args.all:
        check_all(args)
        return snapshot_all(command)
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
        start = partial(
            vm.rollback,
            snapshot=args.snapshot,
            force=args.force or None,
            start=args.start or None,
            with_definition=args.with_definition or None,
        )
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
    if not vm:
        raise InvalidArgument("which VM?", hint="write: kvm-snap NAME, or kvm-snap --all")
    if args.storage or args.auto:
        raise InvalidArgument("--storage and --auto go with --all only", hint="see: kvm-snap --help")
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
    if action != "rollback" and (args.force or args.start or args.with_definition):
        what = "--force, --start and --with-definition go with rollback only"
        raise InvalidArgument(what, hint="see: kvm-snap --help")
    if action != "list" and args.names:
        raise InvalidArgument("--names goes with list only", hint="see: kvm-snap --help")
    if action != "create" and args.consistency:
        raise InvalidArgument("--consistency goes with create only", hint="see: kvm-snap --help")


def check_all(args: argparse.Namespace) -> None:
    """What stands beside --all: the action, which can only be create, and a name. Refuses all else."""
    words = [each for each in (args.vm, None if args.action == "create" else args.action, args.snapshot) if each]
    if words and words[0] == "create":
        words = words[1:]
    if len(words) > 1 or (words and words[0] in ACTIONS):
        why = f"with --all there is no VM to name, and nothing but taking snapshots: {' '.join(words)!r}"
        raise InvalidArgument("this cannot be done to all VMs at once", why, "write: kvm-snap --all @NAME")
    if words and not words[0].startswith("@"):
        why = "it may be meant as a VM or as a snapshot's name"
        raise InvalidArgument(f"what is {words[0]!r}?", why, f"write: kvm-snap --all @{words[0]}, or leave out --all")
    if args.force or args.start or args.with_definition or args.names:
        what = "--force, --start, --with-definition and --names do not go with --all"
        raise InvalidArgument(what, hint="see: kvm-snap --help")
    if args.auto and words:
        raise InvalidArgument("--auto chooses the name itself", "automatic snapshots are named after the time", "")
    args.snapshot = snapshot(words[0]) if words else None


def snapshot_all(command: Command) -> int:
    args = command.args
    start = partial(
        command.manager.snapshot_all,
        name=args.snapshot,
        storage=args.storage,
        require_consistency=args.consistency,
        kind="auto" if args.auto else None,
    )
    if not args.auto:
        return command.operate(start, all_taken)
    try:
        ended = command.operate(start, all_taken)
    except KvmError as error:  # what is too old goes all the same: the pool may be full of it
        ended = command.fail(error)
    return command.operate(partial(command.manager.prune_snapshots, storage=args.storage), pruned) or ended


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
        [f"{dataset}@{each['name']}", moment(each["creation"]), format_size(each["used"]), consistency(each)]
        for each in snapshots
    ]
    if rows:
        print(table(["NAME", "CREATION", "USED", "CONSISTENCY"], rows, right=("USED",)))
    else:
        command.note(f"{vm.name} has no snapshots; take one: kvm-snap {vm.name}")


def consistency(each: dict[str, Any]) -> str:
    """How consistent a snapshot is, and what is not in it: "app, no tpm"."""
    without = f", no {each['excludes']}" if each.get("excludes") else ""
    return f"{each['consistency'] or '-'}{without}"


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


STATES = {"app": "frozen by its agent", "paused": "paused", "off": "shut off", "crash": "running, as after a crash"}


def taken(vm: Vm, result: dict[str, Any]) -> str:
    return "\n".join([f"{first_disk(vm)}@{result['snapshot']} taken ({how(result)})", *unanswered(result)])


def unanswered(result: dict[str, Any]) -> list[str]:
    return [f"{name}: its agent did not answer; it might freeze even now" for name in result.get("unanswered", ())]


def how(taken: dict[str, Any]) -> str:
    """How consistent a snapshot is, and for how long the guest was held still for it."""
    held = f" for {taken['held']:.1f} s" if taken.get("held") else ""
    return f"{STATES.get(taken['consistency'], taken['consistency'])}{held}"


def pruned(result: dict[str, Any]) -> str:
    return (
        "\n".join(f"{each} removed, it was kept long enough" for each in result["removed"]) or "nothing to remove yet"
    )


def all_taken(result: dict[str, Any]) -> str:
    lines = [f"{each['vm']}@{result['snapshot']} taken ({how(each)})" for each in result["snapshots"]]
    lines += [f"{volume}: not taken, it was gone by then" for volume in result["missing"]]
    lines += [f"{name}: left out, another job is at work on it" for name in result["left-out"]]
    lines += unanswered(result)
    return "\n".join(lines or ["there are no VMs"])


def rolled_back(vm: Vm, result: dict[str, Any]) -> str:
    undone = f"The state given up waits in the trash; to change back: kvm-trash restore {result['trash']}"
    return f"{vm.name} is back at @{result['snapshot']}\n{undone}"
