"""kvm-clone: VMs that share their blocks with the one they are made from."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from .common import Command, run
from .options import Parser, add_common, add_vm, snapshot

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
  kvm-clone template web-1
  kvm-clone template web-1 web-2 web-3         three from one snapshot
  kvm-clone template web-1 --snap @stable
  kvm-clone template web-1 --start
  kvm-clone template web-1 --full              a copy, which does not need the template any more"""

DESCRIPTION = """\
Make clones of a VM: instantly, whatever the size of its disks, and sharing every block not yet written to. Several in
one call come from one snapshot. Each gets a UUID, MAC addresses, UEFI variables and an identity of its own.

With --full they are copies: that takes as long as the disks have data, and they share nothing with the VM."""

IDENTITY = {
    "cloud-init": "cloud-init gives each its own host name, machine id and SSH keys at its first start.",
    "pending": "The guest agent renews host name, machine id and SSH keys at the first start.",
}


def parser() -> argparse.ArgumentParser:
    made = Parser("kvm-clone", description=DESCRIPTION, examples=EXAMPLES)
    add_vm(made, "source", text="the VM to clone; it may be running")
    made.add_argument("names", nargs="+", metavar="NAME", help="name of a clone")
    made.add_argument("--snap", type=snapshot, metavar="@SNAPSHOT", help="clone this snapshot, not a new one")
    made.add_argument("--full", action="store_true", help="copy everything, and share no block with it")
    made.add_argument("--start", action="store_true", help="start the clones")
    add_common(made, changes=True)
    return made


def main() -> int:
    return run(parser(), clone)


def clone(command: Command) -> int:
    args = command.args
    source = command.vm(args.source)
    start = partial(source.clone, args.names, snapshot=args.snap, start=args.start or None, full=args.full or None)
    return command.operate(start, partial(cloned, args.source, "copied" if args.full else "cloned"))


def cloned(source: str, how: str, result: dict[str, Any]) -> str:
    lines = [f"{name} {how} from {source}@{result['snapshot']}" for name in result["names"]]
    if result.get("identity") in IDENTITY:
        lines.append(IDENTITY[result["identity"]])
    return "\n".join(lines)
