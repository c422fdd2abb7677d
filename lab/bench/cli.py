"""The commands of `lab/lab`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys

from . import guests, image, outer, shell, up
from . import node as nodes
from .node import Node
from .say import LabError, note


def main(arguments: list[str]) -> int:
    """Run one command; give the exit status: the inner command's for `run` and `ssh`, 0 or 1 for the others.

    125 says that the bench itself failed `run` or `ssh`, so that it is not taken for the command's own status.
    """
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.do(chosen) or 0)
    except LabError as error:
        print(error, file=sys.stderr)
        return 125 if chosen.command in ("run", "ssh") else 1
    except KeyboardInterrupt:
        return 130


def _build(chosen: argparse.Namespace) -> None:
    outer.ensure(outer.FOR_BUILDING)
    picture = image.find_or_build(chosen.suite or image.RELEASE)
    disk = guests.find_or_build(full=chosen.full)
    note(f"the bench's image is {picture.directory}, its guest images are in {disk}")


def _up(chosen: argparse.Namespace) -> None:
    wish = up.Wish(chosen.name, chosen.nodes, chosen.fresh, chosen.deb, chosen.memory, chosen.lossy, chosen.suite)
    up.up(wish)


def _down(chosen: argparse.Namespace) -> None:
    count = up.down(chosen.name)
    note(f"{chosen.name}: {'was not running' if count == 0 else f'{count} taken down'}")


def _status(chosen: argparse.Namespace) -> int:
    there = [(node, up.look(node)) for node in nodes.recorded(chosen.name)]
    if chosen.json:
        print(json.dumps([_as_json(node, health) for node, health in there], indent=1))
    elif not there:
        print(f"{chosen.name}: {nodes.Health.ABSENT.value}")
    for node, health in there if not chosen.json else ():
        how = "real KVM" if node.accelerated else "emulated"
        print(f"{node.label}: {health.value} ({how}, pid {node.pid})")
        print(f"  ssh on 127.0.0.1:{node.ssh_port}, Cockpit on https://127.0.0.1:{node.cockpit_port}")
        print(f"  console {node.console}")
    return 0 if there and all(health is nodes.Health.READY for _, health in there) else 1


def _run(chosen: argparse.Namespace) -> int:
    words = chosen.words[1:] if chosen.words[:1] == ["--"] else chosen.words
    if not words and sys.stdin.isatty():
        raise LabError("nothing to run", hint="`lab/lab run -- COMMAND…`, or a script on stdin: `lab/lab run < script`")
    return shell.run(up.usable(chosen.name, chosen.node), words, user=chosen.user)


def _ssh(chosen: argparse.Namespace) -> int:
    node = up.usable(chosen.name, chosen.node)
    shell.keep_connection(node, chosen.user)
    return subprocess.run(shell.ssh(node, user=chosen.user), check=False).returncode


def _put(chosen: argparse.Namespace) -> None:
    node = up.usable(chosen.name, chosen.node)
    shell.copy(node, [*chosen.source], f"root@127.0.0.1:{chosen.target}")


def _get(chosen: argparse.Namespace) -> None:
    node = up.usable(chosen.name, chosen.node)
    shell.copy(node, [f"root@127.0.0.1:{source}" for source in chosen.source], chosen.target)


def _cut(chosen: argparse.Namespace) -> None:
    up.cut(up.usable(chosen.name, chosen.node))


def _as_json(node: Node, health: nodes.Health) -> dict[str, object]:
    return dataclasses.asdict(node) | {"health": health.name.lower(), "console": str(node.console)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab/lab", description="Real ZFS, libvirt and KVM in a Debian virtual machine."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, do: object, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(do=do)
        command.add_argument(
            "--name", default=os.environ.get("LAB_NAME", "bench"), help="which bench (LAB_NAME; default: bench)"
        )
        return command

    def add_inside(name: str, do: object, text: str) -> argparse.ArgumentParser:
        command = add(name, do, text)
        command.add_argument("--node", type=int, default=1, choices=(1, 2), help="which node (default: 1)")
        return command

    def add_suite(command: argparse.ArgumentParser, otherwise: str) -> None:
        command.add_argument(
            "--suite",
            default=os.environ.get("LAB_SUITE", ""),
            metavar="|".join(image.SUITES),
            help=f"which Debian (LAB_SUITE; default: {otherwise})",
        )

    build = add("build", _build, "build the bench's image and the guest images, if they are not in the cache")
    build.add_argument("--full", action="store_true", help="the full Debian guest image too")
    add_suite(build, image.RELEASE)
    start = add("up", _up, "start the bench and install the package built from this checkout")
    start.add_argument("--nodes", type=int, default=1, choices=(1, 2), help="how many, joined by a cable (default: 1)")
    start.add_argument("--no-deb", dest="deb", action="store_false", help="do not build and install the package")
    start.add_argument("--fresh", action="store_true", help="start anew even if a ready one is running")
    start.add_argument("--memory", default="", metavar="SIZE", help="how much each has (default: as it is, or 8G)")
    add_suite(start, f"as it is, or {image.RELEASE}")
    start.add_argument("--lossy", action="store_true", help="on disks that lose at a `cut` what was not flushed")
    status = add("status", _status, "how the bench is; exit status 0 when all of it is ready")
    status.add_argument("--json", action="store_true", help="for programs")
    for name, do, text in (
        ("ssh", _ssh, "a shell inside"),
        (
            "run",
            _run,
            "run a command, or a script from stdin, inside; its exit status is given (125: the bench failed)",
        ),
    ):
        command = add_inside(name, do, text)
        command.add_argument("--user", default="root", choices=shell.USERS, help="as whom (default: root)")
        if name == "run":
            command.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND…")
    for name, copy, text in (("put", _put, "copy files or folders in"), ("get", _get, "copy files or folders out")):
        command = add_inside(name, copy, text)
        command.add_argument("source", nargs="+")
        command.add_argument("target")
    add_inside("cut", _cut, "cut the power and start again with the disks as they were at that moment")
    add("down", _down, "end the bench and take its disks away")
    return parser
