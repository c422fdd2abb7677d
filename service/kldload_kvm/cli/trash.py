"""kvm-trash: what was deleted or given up by a rollback: list it, bring it back, or destroy it for good."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ..client.api import Job, Vm
from ..model.errors import InvalidArgument, KvmError, NotFound
from ..model.sizes import format_size
from .common import Command, run
from .options import Parser, add_common, close, completed
from .tables import moment, table

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
  kvm-trash list
  kvm-trash restore web-1                      a VM's only entry can be named by the VM
  kvm-trash restore web-1-20260401T153022Z --name web-old
  kvm-trash purge web-1-20260401T153022Z --dry-run
  kvm-trash purge --expired                    what the timer does every hour"""

DESCRIPTION = """\
List, restore and purge what waits in the trash: deleted VMs, disks that were taken from a VM, and states that a
rollback gave up.

An entry waits for its grace period (kvm.conf), and as long as there are clones of what is in it. When a pool has less
free than its floor, deleted VMs go earlier, the oldest first; states given up by a rollback never do."""

RESTORE = """\
Bring back a deleted VM with its snapshots and its domain, or the state that a rollback gave up; the current state then
waits in the trash instead. A disk that was taken from a VM is attached to it again, at once if it runs. Passwords that
libvirt does not show were not kept."""

MOVING = ("vm.delete", "vm.retire", "vm.end", "vm.rollback", "vm.detach-disk")
"""Operations that make an entry."""


def parser() -> argparse.ArgumentParser:
    made = Parser("kvm-trash", description=DESCRIPTION, examples=EXAMPLES)
    actions = made.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "list what waits in the trash, newest first"
    listing = actions.add_parser("list", help=text, description=f"{text[0].upper()}{text[1:]}.")
    listing.add_argument("--names", action="store_true", help="print the entries' ids alone, one a line")
    add_common(listing, changes=False)
    restore = actions.add_parser("restore", help="bring a VM or a state of it back", description=RESTORE)
    completed("trash", restore.add_argument("entry", metavar="ENTRY", help="id of the entry, or name of its VM"))
    restore.add_argument("--name", help="restore a deleted VM under this name")
    restore.add_argument("--force", "-f", action="store_true", help="force a running VM off, to bring back its state")
    add_common(restore, changes=True)
    text = "destroy entries for good"
    purge = actions.add_parser("purge", help=text, description=f"{text[0].upper()}{text[1:]}.")
    text = "ids of entries, or names of VMs with one"
    completed("trash", purge.add_argument("entries", nargs="*", metavar="ENTRY", help=text))
    purge.add_argument("--expired", action="store_true", help="all that are due, and nothing if none is")
    add_common(purge, changes=True)
    return made


def main() -> int:
    return run(parser(), act)


def act(command: Command) -> int | None:
    args = command.args
    if args.action == "list":
        show(command)
        return None
    if args.action == "restore":
        entry = awaited(command, args.entry)
        start = partial(command.manager.restore_trash, entry, name=args.name, force=args.force or None)
        return command.operate(start, restored)
    return purge(command)


def show(command: Command) -> None:
    entries = command.manager.list_trash()
    if command.args.json:
        command.emit(entries)
    elif command.args.names:
        print("".join(f"{each['id']}\n" for each in entries), end="")
    elif entries:
        rows = [[e["id"], e["vm"], e["reason"], moment(e["since"]), until(e), format_size(e["used"])] for e in entries]
        print(table(["ENTRY", "VM", "REASON", "SINCE", "UNTIL", "USED"], rows, right=("USED",)))
    else:
        command.note("the trash is empty")


def until(entry: dict[str, Any]) -> str:
    """How long it stays."""
    if held := [each for each in entry["held-by"] if "@" in each]:
        return f"zfs release of {', '.join(held)}"
    if entry["held-by"]:
        return f"its clones go: {', '.join(entry['held-by'])}"
    return moment(entry["expires"]) if entry["expires"] else "-"


def found(wanted: str, entries: list[dict[str, Any]]) -> str:
    """The id of the entry that was named, by its id or by its VM. Raises NotFound or InvalidArgument."""
    if any(each["id"] == wanted for each in entries):
        return str(wanted)
    ids = [each["id"] for each in entries if each["vm"] == wanted]
    if len(ids) == 1:
        return str(ids[0])
    if ids:
        raise InvalidArgument(f"{wanted} has {len(ids)} entries in the trash", hint=f"name one: {', '.join(ids)}")
    hint = close(wanted, (each["id"] for each in entries)) or "see: kvm-trash list"
    raise NotFound(f"the trash has no entry {wanted!r}", "it is neither an entry's id nor the name of its VM", hint)


def awaited(command: Command, wanted: str) -> str:
    """As found(); what a job is just moving to the trash is waited for, unless nothing is to be waited for."""
    try:
        return found(wanted, command.manager.list_trash())
    except NotFound as error:
        objects = command.connection.objects(Job, Vm)
        paths = {vm.path for vm in objects.of(Vm) if vm.name == wanted}
        for job in objects.of(Job):
            if job.state != "running" or job.operation not in MOVING or not paths & {*job.objects}:
                continue
            if command.args.no_wait or command.args.dry_run:
                raise NotFound(
                    error.what, f"job {job.id} is about to: {job.description}", f"kvm-job wait {job.id}"
                ) from error
            command.note(f"waiting for job {job.id}: {job.description}")
            with suppress(KvmError):  # how it ended is told by the trash
                job.wait()
        return found(wanted, command.manager.list_trash())


def restored(result: dict[str, Any]) -> str:
    if "target" in result:
        return f"{result['name']} has its disk {result['target']} again, {result['applied']}"
    if "trash" in result:
        return f"{result['name']} has its state back; the other one waits in the trash as entry {result['trash']}"
    return f"{result['name']} restored, and not started\nStart it: kvm-vm start {result['name']}"


def purge(command: Command) -> int:
    args = command.args
    if args.expired == bool(args.entries):
        what = "either entries or --expired" if args.entries else "which entries?"
        raise InvalidArgument(what, hint="see: kvm-trash list")
    waiting = command.manager.list_trash()
    if args.expired and not any(each["due"] for each in waiting):
        command.done({"purged": []}, "nothing in the trash is due")
        return 0
    ids = [found(each, waiting) for each in args.entries]
    start = partial(command.manager.purge_trash, ids, expired=args.expired or None)
    return command.operate(start, purged, destroys=True)


def purged(result: dict[str, Any]) -> str:
    return f"purged for good: {', '.join(result['purged'])}"
