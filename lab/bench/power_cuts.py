"""Power cuts at random moments of random operations, on a bench whose disks lose what was not flushed.

This side chooses, cuts and keeps the table; what is to be seen on the host, tests/power_cut.py sees inside.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import places, project, shell, up
from .node import Node
from .say import LabError, note

INSIDE = f"{project.TESTS_INSIDE}/power_cut.py"
LATEST = 6.0
"""Seconds after the call by which the power is cut."""
HEAD = "| | operation | cut | the job | the host |\n|---|---|---|---|---|\n"


@dataclass(frozen=True)
class Cut:
    """delay: seconds from the call to the cut."""

    operation: str
    delay: float


def main(arguments: list[str]) -> int:
    """Run them all; give 0 if the host was always as before or as after, else 1."""
    chosen = _parser().parse_args(arguments)
    try:
        (node,) = up.up(up.Wish(chosen.name, memory=chosen.memory, lossy=True))
        node = _loses_what_was_not_flushed(node)
        _inside(node, "ready")
        wrong = _all(node, chosen)
    except LabError as error:
        note(str(error).removeprefix("lab: "))
        return 1
    note(f"{chosen.cuts} power cuts, seed {chosen.seed}: {wrong or 'none'} went wrong; {chosen.table}")
    return 1 if wrong else 0


def choices(scenes: dict[str, bool], seed: str) -> Iterator[Cut]:
    """Without end: a shuffled pack in which what changes volumes is twice, and another one after it.

    scenes: each operation, and whether it does.

    >>> next(choices({"vm.start": False}, "1")).operation
    'vm.start'
    """
    chance = random.Random(seed)
    while True:
        pack = [name for name, changes in scenes.items() for _ in range(2 if changes else 1)]
        chance.shuffle(pack)
        for operation in pack:
            yield Cut(operation, round(chance.uniform(0.0, LATEST), 2))


def _loses_what_was_not_flushed(node: Node) -> Node:
    """The ground all of this stands on, tried each time: of two writes that a disk had, only the flushed one stays."""
    had = _inside(node, "written")
    if had != {"flushed": "flushed", "not flushed": "not flushed"}:
        raise LabError("the disk does not read what was written to it", str(had))
    node = up.cut(node)
    has = _inside(node, "read")
    if has != {"flushed": "flushed", "not flushed": "old"}:
        raise LabError("the bench does not lose what was not flushed, and only that", f"after the cut: {has}")
    note("a flushed write survived the cut, one that was not flushed is lost")
    return node


def _all(node: Node, chosen: argparse.Namespace) -> int:
    """How many went wrong."""
    cuts, wrong = choices(_inside(node, "scenes"), chosen.seed), 0
    chosen.table.parent.mkdir(parents=True, exist_ok=True)
    with chosen.table.open("w", encoding="utf-8") as table:
        table.write(HEAD)
        for number in range(1, chosen.cuts + 1):
            cut = next(cuts)
            note(f"cut {number} of {chosen.cuts}: {cut.operation}, {cut.delay} s after the call")
            node, told = _one(node, cut)
            wrong += bool(told["wrong"])
            for each in told["wrong"]:
                note(f"WRONG: {each}")
            host = "**wrong**" if told["wrong"] else "as after" if told["state"] == "succeeded" else "as before"
            row = f"| {number} | {cut.operation} | {told['moment']} | {told['state']} | {host} |"
            note(f"{row} {' / '.join(told['said'].splitlines())}")
            table.write(f"{row}\n")
            table.flush()
    return wrong


def _one(node: Node, cut: Cut) -> tuple[Node, dict]:
    """One scene, one call, one cut; the node as it is then, and what `look` tells, with the moment in words."""
    before = _inside(node, "scene", cut.operation)
    shell.keep_connection(node)
    caller = subprocess.Popen(
        [*shell.ssh(node), f"python3 -B {INSIDE} start {cut.operation}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert caller.stdout is not None
    caller.stdout.readline()  # it is calling
    time.sleep(cut.delay)
    if caller.poll():
        raise LabError(f"{cut.operation} was not begun (exit {caller.returncode})", "see above")
    node = up.cut(node)
    job = json.loads(caller.stdout.readline() or '"unknown"')
    caller.wait(60)
    told = _inside(node, "look", cut.operation, job, stdin=json.dumps(before))
    answered = "after" if job != "unknown" else "before"
    return node, {**told, "moment": f"{cut.delay:.2f} s, {answered} the answer"}


def _inside(node: Node, *words: str, stdin: str = "") -> dict:
    """What tests/power_cut.py answers. What goes wrong in its `look` is an answer too."""
    try:
        return project.ask(node, "power_cut.py", *words, stdin=stdin)
    except project.TestFailed as failed:
        if words[0] != "look":
            raise
        return {"state": "?", "said": "", "wrong": failed.why.splitlines()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab/powercuts",
        description="Cut the power of a bench that loses what was not flushed, at random moments of random operations.",
    )
    parser.add_argument("--cuts", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--seed", default="1", help="chooses operations and moments (default: 1)")
    parser.add_argument("--name", default=os.environ.get("LAB_NAME", "lossy"), help="which bench (LAB_NAME; lossy)")
    parser.add_argument("--memory", default="4G", metavar="SIZE", help="of a new bench (default: 4G)")
    table = places.CHECKOUT / "build" / "power-cuts.md"
    parser.add_argument("--table", type=Path, default=table, metavar="FILE", help="default: build/power-cuts.md")
    return parser
