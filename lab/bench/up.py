"""Bringing a bench up, looking at it, taking it down.

A bench is either ready or rebuilt: one whose QEMU died, that is silent, that was left half-built, or that runs on an
image which is no longer the current one, is never used again.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

from . import accel, guests, image, machine, outer, places, project, recipe, shell
from . import node as nodes
from .node import Health, Node
from .say import LabError, note, step

BOOT_SECONDS = {True: 60.0, False: 420.0}  # with real KVM, emulated
PREPARE = (places.LAB / "inside" / "prepare.sh").read_text
AGAIN = (places.LAB / "inside" / "again.sh").read_text
TRIES = 3


@dataclass(frozen=True)
class Wish:
    """What `lab up` was asked for."""

    name: str
    nodes: int = 1
    fresh: bool = False
    deb: bool = True
    memory: str = ""  # as it is, or 8G
    lossy: bool = False
    suite: str = ""  # of Debian: as it is, or trixie


def up(wish: Wish) -> list[Node]:
    """Make the bench as wished: kept if it is ready, rebuilt if it is not; give its nodes."""
    start = time.monotonic()
    outer.ensure(outer.FOR_LOSSY if wish.lossy else outer.FOR_RUNNING)
    suite = wish.suite or next((each.suite for each in nodes.recorded(wish.name)), "") or image.RELEASE
    wish = replace(wish, suite=suite)
    picture = image.find_or_build(suite)
    disk = guests.find_or_build()
    with _held(wish.name):
        ready = _ready_nodes(wish, str(picture.directory), str(disk))
        missing = [number for number in range(1, wish.nodes + 1) if number not in {each.number for each in ready}]
        if missing:
            ready += _start(wish, missing, picture, disk)
        if wish.deb:
            package = project.build()
            for node in ready:
                project.configure(node)
            ready = [project.install(node, package) for node in ready]
        ready = [project.copy_tests(node) for node in ready]
        for node in ready:
            if node.lossy:  # what is here so far is not what a cut is to take away
                shell.output(node, "sync; zpool sync", why="flushing all that was installed")
    note(f"{wish.name} is ready after {time.monotonic() - start:.1f} s ({len(ready)} running)")
    return ready


def look(node: Node) -> Health:
    """How a node really is."""
    if not node.alive():
        return Health.DEAD
    if not node.ready:
        return Health.HALF_BUILT
    return Health.READY if shell.answers(node, 30) else Health.SILENT


def down(name: str) -> int:
    """End every node of a bench and take its disks away; give how many there were."""
    with _held(name):
        there = nodes.recorded(name)
        for node in there:
            machine.stop(node)
    return len(there)


def cut(node: Node) -> Node:
    """Cut a node's power, start it again on the same disks, wait until its pools are there; give it as it is then.

    Where it does not come up, as an emulated kernel sometimes does not, its power is cut once more.
    """
    with _held(node.name), step(f"cutting the power of {node.label}"):
        for left in reversed(range(TRIES)):
            node = machine.power_cut(node)
            try:
                shell.wait_for(node, BOOT_SECONDS[node.accelerated])
                break
            except LabError as error:
                if not left:
                    raise
                note(f"{error}\nlab: once more")
        shell.output(node, AGAIN(), why="finding the pools again")
        return node


def usable(name: str, number: int) -> Node:
    """The node to run something in; raises LabError where there is none that may be used."""
    node = nodes.load(name, number)
    if node is None:
        raise LabError(f"{name} (node {number}) is not running", hint="start it with `lab/lab up`")
    if not node.alive():
        raise LabError(f"{node.label}: its QEMU has died", nodes.last_words(node), "`lab/lab up` starts it anew")
    if not node.ready:
        raise LabError(
            f"{node.label} is half-built", "`lab/lab up` is still at work, or was interrupted", "`lab/lab up`"
        )
    return node


def _ready_nodes(wish: Wish, picture: str, disk: str) -> list[Node]:
    """The nodes that can be kept; the whole bench is taken down when any of them cannot."""
    there = nodes.recorded(wish.name)
    reasons = []
    for node in there:
        health = look(node)
        if wish.fresh:
            reasons.append(f"{node.label}: a fresh one was asked for")
        elif health is not Health.READY:
            reasons.append(f"{node.label}: {health.value}")
        elif (node.image, node.guests) != (picture, disk):
            reasons.append(f"{node.label}: its image is no longer the current one")
        elif wish.memory not in ("", node.memory or machine.MEMORY):
            reasons.append(f"{node.label}: it has {node.memory or machine.MEMORY} of memory")
        elif wish.lossy and not node.lossy:
            reasons.append(f"{node.label}: its disks lose nothing")
    if not reasons:
        return there
    for reason in reasons:
        note(f"{reason}; building it anew")
    for node in there:
        machine.stop(node)
    return []


def _start(wish: Wish, numbers: list[int], picture: image.BenchImage, disk: Path) -> list[Node]:
    kvm = accel.kvm_works(picture.kernel)
    shape = machine.Shape(picture, disk, kvm, wish.memory, wish.lossy, wish.suite)
    name, tries = wish.name, TRIES
    while True:
        how = "real KVM" if shape.accelerated else "emulation"
        tries -= 1
        try:
            with step(f"starting {name} by {how}"), ThreadPoolExecutor() as pool:
                return list(pool.map(_start_one, repeat(name), numbers, repeat(shape)))
        except LabError as error:
            if shape.accelerated:
                note(f"{error.what}; this machine's KVM will not be used again")
                accel.remember(False)
                shape = replace(shape, accelerated=False)
            elif tries <= 0:
                raise
            else:
                note(f"{error}\nlab: once more")
            for node in nodes.recorded(name):
                if node.number in numbers:
                    machine.stop(node)


def _start_one(name: str, number: int, shape: machine.Shape) -> Node:
    node = machine.start(name, number, shape)
    shell.wait_for(node, BOOT_SECONDS[shape.accelerated])
    shell.keep_connection(node)
    shell.output(node, PREPARE(), why="preparing the pools")
    return node.saved(ready=True)


def _held(name: str) -> contextlib.AbstractContextManager[None]:
    return recipe.locked(places.run_dir(name) / "lock", f"another `lab/lab` at work on {name}")
