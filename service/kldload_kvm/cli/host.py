"""kvm-host: what is wrong with the host, why it matters, and putting it right."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from ..client.api import Host
from ..model import catalogue
from ..model.constants import ROOT
from ..model.errors import InvalidArgument
from ..model.finding import FIXED, SEVERITIES
from ..model.wiring import AWAITED, WITHIN
from .common import Command, perform
from .explain import explain
from .options import Parser, add_common, completed, count
from .tables import table

if TYPE_CHECKING:
    import argparse

    from ..client.api import Job

EXAMPLES = """\
  kvm-host check
  kvm-host check --severity error
  kvm-host explain arc-unlimited
  kvm-host fix --dry-run
  kvm-host fix pool-autotrim scrub-unscheduled
  kvm-host setup --profile kvm
  KLDLOAD_PROFILE=kvm kvm-host setup --json    unattended
  kvm-host bridge br0 --port enp3s0
  kvm-host bridge br0 --confirm"""

DESCRIPTION = """\
Check the host that the VMs run on, explain what was found, and put it right.

Nobody needs any rights to check. What cannot be looked at is itself something that was found. Putting right is planned
first, as any operation is, and taken back whole if a step of it fails."""

CHECK = """\
Check pools and datasets, memory, kernel, libvirt, networks, what confines guests, and the settings of guests. The exit
status is 1 if an error or a warning was found, and 0 if there were none, or notices alone."""


FIX = """\
Put right what was found: settings of pools and datasets, datasets that are missing, the limit of ZFS's cache, swapping,
timers, libvirt's network. The host is checked first; what was done is taken back if a step fails."""

SETUP = """\
Set the host up as a profile has it: datasets, ZFS's cache, kernel, timers, libvirt's network. Done again it changes
nothing. For each line of the profile it tells whether it was set, is so already, or is left out, and why.

Without --profile, KLDLOAD_PROFILE=kvm or KLDLOAD_ENABLE_KVM=1 in the environment names it."""


BRIDGE = """\
Make a bridge on a network card, so that VMs are in the network that the host is in. It is made by the tool that has the
card (systemd-networkd, NetworkManager or ifupdown), and takes over its address and settings.

The bridge is only tried at first. It is kept if that is confirmed in time: by Enter on the terminal, or by --confirm
from another, both of which show that the host is still reached. If not, the network is as it was before; so it is when
the command is interrupted, the service killed, or the host rebooted. Scripts use --no-wait, then look whether they
reach what they must, then --confirm."""


def parser() -> argparse.ArgumentParser:
    made = Parser("kvm-host", description=DESCRIPTION, examples=EXAMPLES)
    actions = made.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="find what is wrong", description=CHECK)
    check.add_argument("--severity", choices=SEVERITIES, help="the least that is told of (notice)")
    add_common(check, changes=False)
    fix = actions.add_parser("fix", help="put right what was found", description=FIX)
    text = "of findings; all that can be, if none is named"
    completed(" ".join(FIXED), fix.add_argument("ids", metavar="ID", nargs="*", help=text))
    add_common(fix, changes=True)
    setup = actions.add_parser("setup", help="set the host up as a profile has it", description=SETUP)
    setup.add_argument("--profile", choices=("kvm",), help="the profile; else as the environment says")
    add_common(setup, changes=True)
    bridge = actions.add_parser("bridge", help="make a bridge on a network card", description=BRIDGE)
    bridge.add_argument("name", metavar="NAME", help="of the bridge, such as br0")
    bridge.add_argument("--port", metavar="CARD", help="the network card, such as enp3s0")
    text = f"how long it waits to be confirmed, 10 to 600 ({WITHIN})"
    bridge.add_argument("--within", metavar="SECONDS", type=count, help=text)
    bridge.add_argument("--confirm", action="store_true", help="keep the bridge that is being tried")
    add_common(bridge, changes=True)
    text = "tell why a finding matters, and what can be done"
    explained = actions.add_parser("explain", help=text, description=f"{text[0].upper()}{text[1:]}.")
    completed(
        " ".join(catalogue.findings()),
        explained.add_argument("id", metavar="ID", help="of the finding, such as arc-unlimited"),
    )
    add_common(explained, changes=False)
    made.sections = {"FINDINGS": [(each.id, f"{each.title}. {each.why}") for each in catalogue.findings().values()]}
    return made


def main() -> int:
    made = parser()
    args = made.parse_args()
    if args.action == "explain":
        return explain(made.prog, args)
    return perform(made.prog, args, act)


def act(command: Command) -> int:
    host = Host(command.connection, f"{ROOT}/host")
    if command.args.action == "fix":
        return command.operate(partial(host.fix, command.args.ids), fixed)
    if command.args.action == "setup":
        return command.operate(partial(host.setup, command.args.profile or profile()), set_up)
    if command.args.action == "bridge":
        return bridge(command, host)
    return check(command, host)


def profile() -> str:
    """As the environment says. Raises InvalidArgument."""
    named = os.environ.get("KLDLOAD_PROFILE", "")
    if named == "kvm" or os.environ.get("KLDLOAD_ENABLE_KVM") == "1":
        return "kvm"
    raise InvalidArgument("which profile?", "", "write: kvm-host setup --profile kvm; or set KLDLOAD_PROFILE=kvm")


def fixed(result: dict[str, Any]) -> str:
    done = [f"{each['id']}: {each['object']} is put right" for each in result["fixed"]]
    return "\n".join(done) or "there was nothing to put right"


def set_up(result: dict[str, Any]) -> str:
    rows = [[each["state"], each["line"], each["why"]] for each in result["lines"]]
    return table(["STATE", "LINE", "WHY"], rows)


def bridge(command: Command, host: Host) -> int:
    name, port = command.args.name, command.args.port
    args = command.args
    if args.confirm:
        if args.dry_run or args.no_wait or port or args.within:
            raise InvalidArgument(f"{name} was not confirmed", "--confirm is at once, and takes no other option", "")
        host.confirm_bridge(name)
        command.done({"name": name}, f"{name} is kept")
        return 0
    if not port:
        raise InvalidArgument("on which card?", "", f"write: kvm-host bridge {name} --port CARD; ip link shows them")
    start = partial(host.create_bridge, name, port, confirm_within=command.args.within)
    return command.operate(start, bridged, meanwhile=Trial(command, host).look)


class Trial:
    """Asks for the confirmation while the job waits for it. Enter does: whoever can type it still reaches the host."""

    def __init__(self, command: Command, host: Host) -> None:
        self.command, self.host, self.name = command, host, command.args.name
        self.asks = sys.stdin.isatty() and sys.stderr.isatty() and not command.args.yes
        self.told = False

    def look(self, job: Job) -> None:
        if not any(step["kind"] == AWAITED and step["state"] == "running" for step in job.steps):
            return
        if not self.told:
            self.told = True
            self._tell()
        elif self.asks and typed():
            self.host.confirm_bridge(self.name)

    def _tell(self) -> None:
        if not self.asks:
            self.command.note(f"{self.name} is being tried; to keep it: kvm-host bridge {self.name} --confirm")
            return
        forget_typed()
        seconds = self.command.args.within or WITHIN
        text = f"{self.name} is being tried. Press Enter within {seconds} s to keep it; Ctrl-C takes it back."
        print(f"\r\033[K{text}", file=sys.stderr, flush=True)


def typed() -> bool:
    """Whether Enter was typed."""
    import select

    return bool(select.select([sys.stdin], [], [], 0)[0] and sys.stdin.readline())


def forget_typed() -> None:
    """What was typed before it was asked for is no answer."""
    import termios

    termios.tcflush(sys.stdin, termios.TCIFLUSH)


def bridged(result: dict[str, Any]) -> str:
    name = result["bridge"]
    more = "new VMs get it" if result["used"] else f"VMs get it by --network bridge={name}, or all new ones by kvm.conf"
    return f"{name} is kept, on {result['port']}; {more}"


def check(command: Command, host: Host) -> int:
    found = host.check(severity=command.args.severity)
    if command.args.json:
        command.emit(found)
    elif found:
        print("\n".join(lines(found)))
    else:
        command.say("nothing was found")
    return int(any(each["severity"] in ("error", "warning") for each in found))


def lines(found: list[dict[str, Any]]) -> list[str]:
    """A table, and below it what to do about each kind."""
    rows = [[each["severity"], each["id"], each["object"], each["found"]] for each in found]
    told = [table(["SEVERITY", "ID", "OBJECT", "FOUND"], rows), ""]
    todo = dict.fromkeys((each["id"], each["todo"]) for each in found)
    told += [f"{id_}: {text}" for id_, text in todo]
    told += ["", "kvm-host explain ID tells why each matters."]
    if fixes := sorted({each["id"] for each in found if each["fix"]}):
        told += [f"kvm-host fix puts right: {', '.join(fixes)}"]
    return told
