"""kvm-adopt: what is on the host and is no whole VM: list it, and take it in."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from .common import Command, run
from .options import Parser, add_common, completed
from .tables import table

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
  kvm-adopt                                    what can be adopted, and what cannot and why
  kvm-adopt web-old                            a domain that virsh or virt-manager made, on a volume of ours or on files
  kvm-adopt web-old --storage vmpool --dry-run what would be copied where, and what would be left
  kvm-adopt web-1                              a VM that has lost its domain: defined again from its newest snapshot"""

DESCRIPTION = """\
List what is on this host and is no whole VM: libvirt domains that others made, and volumes and domains that have lost
each other; or take one of them in.

A domain whose disks are volumes right below a storage becomes a VM, with the snapshots that these have: nothing is
copied, and it may be running. One whose disks are qcow2 or raw files, or devices elsewhere, must be off: each disk is
copied into a new volume, and so is the file of its UEFI variables; then its definition is pointed at the volumes. The
old files are left as they are, and named. A VM that has lost its domain is defined again as its newest snapshot keeps
it."""


TAKEN = ("adoptable", "files", "orphan")
"""The kinds of what NAME can be."""


def parser() -> argparse.ArgumentParser:
    made = Parser("kvm-adopt", description=DESCRIPTION, examples=EXAMPLES)
    completed(
        "foreign",
        made.add_argument(
            "name", nargs="?", metavar="NAME", help="name or UUID of a domain, or name of a VM without one; list: all"
        ),
    )
    made.add_argument("--storage", metavar="NAME", help="the storage that disks are copied to")
    made.add_argument("--names", action="store_true", help="list: print the names alone, one a line")
    add_common(made, changes=True)
    return made


def main() -> int:
    return run(parser(), act)


def act(command: Command) -> int | None:
    name = command.args.name
    if name is None or name == "list":
        show(command)
        return None
    return command.operate(partial(command.manager.adopt, name, storage=command.args.storage), adopted)


def show(command: Command) -> None:
    entries = command.manager.list_foreign()
    if command.args.json:
        command.emit(entries)
    elif command.args.names:
        print("".join(f"{each['name']}\n" for each in entries if each["kind"] in TAKEN), end="")
    elif entries:
        print(table(["NAME", "STATE", "KIND", "WHY"], [[e["name"], e["state"], e["kind"], e["why"]] for e in entries]))
        for each in entries:
            if each["hint"]:
                command.note(f"{each['name']}: {each['hint']}")
    else:
        command.note("every domain and every volume is a VM's")


def adopted(result: dict[str, Any]) -> str:
    volumes = ", ".join(result["volumes"])
    lines = [f"{result['name']} is a VM now, on {volumes}", f"Take a snapshot of it: kvm-snap {result['name']}"]
    if result.get("left"):
        lines.append("Once it runs well, what is left of its old disks can be removed.")
    return "\n".join(lines)
