"""kvm-list: the VMs, with what their disks use. It is made to start fast."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

from ..client.api import Manager, Storage, Vm
from ..model.sizes import format_size
from .common import Command, perform, run
from .tables import natural, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

EXAMPLES = """\
  kvm-list
  kvm-list --wide
  kvm-list --json | jq -r '.[] | select(.state == "running").name'"""


def parser() -> argparse.ArgumentParser:
    from .options import Parser, add_common

    made = Parser("kvm-list", description="List all VMs with their state and the space they use.", examples=EXAMPLES)
    made.add_argument("--wide", "-w", action="store_true", help="also show storage, origin and operating system")
    made.add_argument("--names", action="store_true", help="print the names alone, one a line")
    add_common(made, changes=False)
    return made


MOST_NOTES = 10
"""Problems that are told one by one: after an accident hundreds of VMs may have the same."""

PLAIN = SimpleNamespace(wide=False, names=False, json=False, quiet=False)
"""What the parser gives for no arguments."""


def main() -> int:
    """A plain kvm-list goes past argparse and ends without clearing up: each would be a tenth of its time."""
    if len(sys.argv) > 1:
        return run(parser(), show)
    ended = perform("kvm-list", PLAIN, show)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended)


def show(command: Command) -> None:
    objects = command.connection.objects(Vm, Storage, Manager)
    vms = sorted(objects.of(Vm), key=lambda vm: natural(vm.name))
    if command.args.json:
        command.emit([described(vm) for vm in vms])
    elif command.args.names:
        print("".join(f"{vm.name}\n" for vm in vms), end="")
    elif vms:
        print(overview(vms, wide=command.args.wide))
    else:
        command.note("there are no VMs yet; make one: kvm-create NAME")
    if not (command.args.json or command.args.names):
        wrong = [(vm.name, vm.problem) for vm in vms] + [(each.name, each.problem) for each in objects.of(Storage)]
        notes = [f"{name}: {problem}" for name, problem in wrong if problem]
        for note in notes[:MOST_NOTES]:
            command.note(note)
        if len(notes) > MOST_NOTES:
            command.note(f"and {len(notes) - MOST_NOTES} more have a problem: kvm-list --json tells all")
        for problem in (problem for manager in objects.of(Manager) for problem in manager.problems):
            command.note(problem)


def overview(vms: list[Vm], *, wide: bool) -> str:
    """The table."""
    headers = ["NAME", "STATE", "MEMORY", "CPUS", "DISK", "USED", "SNAPS"]
    rows = [
        [
            vm.name,
            shown_state(vm),
            format_size(vm.memory),
            str(vm.vcpus),
            format_size(vm.size),
            format_size(vm.used),
            str(vm.snapshot_count),
        ]
        for vm in vms
    ]
    if wide:
        headers += ["STORAGE", "OS", "ORIGIN"]
        for vm, row in zip(vms, rows, strict=True):
            row += [vm.storage, vm.os or "-", vm.origin or "-"]
    return table(headers, rows, right=("MEMORY", "CPUS", "DISK", "USED", "SNAPS"))


def shown_state(vm: Vm) -> str:
    return "template" if vm.template and vm.state == "shutoff" else vm.state


def described(vm: Vm) -> dict[str, Any]:
    """A VM for JSON."""
    return {
        "name": vm.name,
        "id": vm.id,
        "uuid": vm.uuid,
        "path": vm.path,
        "state": vm.state,
        "problem": vm.problem,
        "storage": vm.storage,
        "memory": vm.memory,
        "vcpus": vm.vcpus,
        "autostart": vm.autostart,
        "os": vm.os,
        "size": vm.size,
        "used": vm.used,
        "used-at": vm.used_at,
        "snapshots": vm.snapshot_count,
        "origin": vm.origin,
        "clones": vm.clones,
        "identity": vm.identity,
        "template": vm.template,
        "volumes": vm.volumes,
    }
