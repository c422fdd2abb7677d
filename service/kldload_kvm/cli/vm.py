"""kvm-vm: start, stop, reach and change VMs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..model.errors import InvalidArgument, NotFound, WrongState
from . import change
from .common import Command, each, run
from .options import Parser, add_common, add_vm, count

if TYPE_CHECKING:
    import argparse

    from ..client.api import Vm
    from .common import Start

EXAMPLES = f"""\
  kvm-vm start web-1 web-2
  kvm-vm shutdown web-1                        ask the guest, and wait until it is off
  kvm-vm off web-1                             pull the power cord
  kvm-vm autostart web-1 on
  kvm-vm template base on --generalize
  kvm-vm console web-1                         Ctrl-] leaves it
  ssh admin@$(kvm-vm ip web-1 | head -1)
  kvm-vm why web-1                             what keeps it from starting
{change.EXAMPLES}"""

POWER = {
    "start": ("start VMs", "started"),
    "shutdown": ("ask guests to shut down, and wait until they are off", "shut down"),
    "off": ("force VMs off, as by pulling the power cord", "forced off"),
    "reboot": ("ask guests to reboot", "rebooting"),
    "pause": ("stop the CPUs of VMs; their memory stays", "paused"),
    "resume": ("let paused VMs run again", "running again"),
}
"""What is done to several VMs alike: its help, and what is said when it was done."""

REACH = {
    "console": "connect this terminal to the serial console of a running VM; Ctrl-] leaves it",
    "vnc": "print where the screen of a running VM is, as HOST:PORT",
    "ip": "print the addresses of a running VM's guest, one a line",
    "why": "tell why a VM does not start, and what can be done",
}


def parser() -> argparse.ArgumentParser:
    made = Parser("kvm-vm", description="Start, stop, reach and change VMs.", examples=EXAMPLES)
    actions = made.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (text, _) in POWER.items():
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        add_vm(action, "vms", nargs="+", text="the VMs")
        if name == "shutdown":
            action.add_argument("--timeout", type=count, metavar="SECONDS", help="how long to wait for a guest (300)")
        add_common(action, changes=True)
    autostart = actions.add_parser("autostart", help="start a VM when the host boots, or not", description=AUTOSTART)
    add_vm(autostart, text="the VM")
    autostart.add_argument("switch", nargs="?", choices=("on", "off"), help="what it shall be; what it is if not given")
    add_common(autostart, changes=True)
    template = actions.add_parser("template", help="mark a VM as a template, or not", description=TEMPLATE)
    add_vm(template, text="the VM")
    template.add_argument("switch", nargs="?", choices=("on", "off"), help="what it shall be; what it is if not given")
    template.add_argument(
        "--generalize", action="store_true", help="on: first clear the running guest's identity, and shut it down"
    )
    add_common(template, changes=True)
    for name, text in REACH.items():
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        add_vm(action, text="the VM")
        add_common(action, changes=False)
    change.add_actions(actions)
    return made


AUTOSTART = "Have a VM started when the host boots, or not; or say which it is."

TEMPLATE = """\
Mark a VM as a template, or make it a VM again that can be started; or say which it is. A template cannot be started, by
virsh neither: its volumes are read-only. Clones of it are as any other.

With --generalize its guest, which must be running, first loses what only one may have: cloud-init's memory, machine-id
and SSH host keys. For a guest without an agent: shut it down and use virt-sysprep(1)."""


def main() -> int:
    return run(parser(), act)


def act(command: Command) -> int | None:
    action = command.args.action
    if action in POWER:
        return each(command, command.args.vms, switch)
    vm = command.vm(command.args.vm)
    if action == "autostart":
        return autostart(command, vm)
    if action == "template":
        return template(command, vm)
    if action == "console":
        from .console import attach

        command.note(f"connected to {vm.name}; Ctrl-] leaves it")
        left = attach(vm.open_console())
        command.note("left the console" if left else "the console was closed: the VM is off, or rebooting")
    elif action == "vnc":
        show_display(command, vm)
    elif action == "ip":
        show_addresses(command, vm)
    elif action == "why":
        show_causes(command, vm)
    else:
        return change.act(command, vm)
    return None


def switch(command: Command, name: str) -> int:
    action = command.args.action
    vm = command.vm(name)
    starts: dict[str, Start] = {
        "start": vm.start,
        "shutdown": partial(vm.shutdown, timeout=getattr(command.args, "timeout", None)),
        "off": vm.force_off,
        "reboot": vm.reboot,
        "pause": vm.pause,
        "resume": vm.resume,
    }
    return command.operate(starts[action], lambda _: f"{name} {POWER[action][1]}")


def autostart(command: Command, vm: Vm) -> int | None:
    wanted = command.args.switch
    if wanted:
        how = "starts" if wanted == "on" else "does not start"
        told = f"{vm.name} {how} when the host boots"
        return command.operate(partial(vm.set_autostart, wanted == "on"), lambda _: told)
    if command.args.json:
        command.emit({"autostart": vm.autostart})
    else:
        print("on" if vm.autostart else "off")
    return None


def template(command: Command, vm: Vm) -> int | None:
    args = command.args
    if args.switch:
        start = partial(vm.set_template, args.switch == "on", generalize=args.generalize or None)
        told = "is a template now, and does not start" if args.switch == "on" else "is no template any more"
        return command.operate(start, lambda _: f"{vm.name} {told}")
    if args.generalize:
        hint = f"write: kvm-vm template {vm.name} on --generalize"
        raise InvalidArgument("--generalize goes with on only", hint=hint)
    if args.json:
        command.emit({"template": vm.template})
    else:
        print("on" if vm.template else "off")
    return None


def show_display(command: Command, vm: Vm) -> None:
    address = vm.get_display()
    if not address:
        raise WrongState(f"{vm.name} has no screen now", f"it is {vm.state}", f"see: kvm-vm start {vm.name}")
    if command.args.json:
        command.emit({"address": address})
    else:
        print(address)


def show_causes(command: Command, vm: Vm) -> None:
    causes = vm.why()
    if command.args.json:
        command.emit(causes)
        return
    for number, cause in enumerate(causes):
        print(f"{chr(10) if number else ''}{cause['severity']}: {cause['found']} ({cause['id']})")
        print(f"  why:  {cause['why']}\n  hint: {cause['todo']}")


def show_addresses(command: Command, vm: Vm) -> None:
    addresses = vm.get_addresses()
    if not addresses and not command.args.json:
        why = f"it is {vm.state}" if vm.state != "running" else "neither its agent nor the host's DHCP server knows one"
        raise NotFound(f"{vm.name} has no address that is known", why)
    if command.args.json:
        command.emit(addresses)
    else:
        addresses.sort(key=lambda address: address.lower().startswith("fe80:"))  # of use with a zone only
        print("\n".join(address.partition("/")[0] for address in addresses))
