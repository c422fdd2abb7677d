"""Cold boots: the bench is reset, and VMs that start by themselves are there again, whoever of us starts first.

This side resets and keeps the table; what is to be seen on the host, tests/boot.py sees inside.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from . import places, project, up
from .say import LabError, note

WAYS = {
    "enabled": "the service is enabled, and starts before libvirt",
    "activated": "the service is disabled, and libvirt's hook has D-Bus start it",
    "hung": "the service cannot start at all",
}
HEAD = "| the service | VMs that started | after the boot | system |\n|---|---|---|---|\n"


def main(arguments: list[str]) -> int:
    """Each way once; give 0 if all was there every time, else 1."""
    chosen = _parser().parse_args(arguments)
    wrong = 0
    try:
        (node,) = up.up(up.Wish(chosen.name))
        chosen.table.parent.mkdir(parents=True, exist_ok=True)
        with chosen.table.open("w", encoding="utf-8") as table:
            table.write(HEAD)
            for way, meaning in WAYS.items():
                project.ask(node, "boot.py", "prepare", way)
                node = up.cut(node)
                told = project.ask(node, "boot.py", "look", way)
                wrong += bool(told["wrong"])
                for each in told["wrong"]:
                    note(f"WRONG: {each}")
                row = f"| {meaning} | {', '.join(told['running'])} | {told['seconds']:.0f} s | {told['system']} |"
                note(row)
                table.write(f"{row}\n")
            project.ask(node, "boot.py", "clear")
    except LabError as error:
        note(str(error).removeprefix("lab: "))
        return 1
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    ways = "; ".join(WAYS.values())
    parser = argparse.ArgumentParser(
        prog="lab/boots", description=f"Reset the bench, once each: {ways}. VMs with autostart are to be there again."
    )
    parser.add_argument("--name", default=os.environ.get("LAB_NAME", "bench"), help="which bench (LAB_NAME; bench)")
    table = places.CHECKOUT / "build" / "boots.md"
    parser.add_argument("--table", type=Path, default=table, metavar="FILE", help="default: build/boots.md")
    return parser
