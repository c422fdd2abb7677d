"""The matrix of what others do to a VM: each action of tests/neighbours.py on a VM that is off, running, paused or a
template, and what matrix_table.md says must come of it: who refuses it; the GUIDs of all datasets and snapshots; what
is on the disks; libvirt's domains; what the bus says, of everything, and without being asked to look again.

In `make test` it is a seeded sample of each state; LIFE_MATRIX=all, for `make soak`, runs all of them. A table of what
came of each is written to /var/tmp/life-matrix.md.
"""

from __future__ import annotations

import mmap
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from host import (
    datasets,
    domains,
    foreign,
    managed,
    nothing_on_the_bus,
    remove_everything,
    run,
    vms,
    wait_until,
    zfs,
)
from matrix import STATES, Cell, cells, not_as_expected, plain
from neighbours import ACTIONS, GIVEN_UP, Done, left_by_others
from oracle import snapshots_of, wait_until_the_bus_is_right
from pictures import letter_or_hash
from scenarios import BYSTANDER, clear, fill, vm

TOLD = Path("/var/tmp/life-matrix.md")
EXTENT = os.environ.get("LIFE_MATRIX", "some")
SEED = os.environ.get("LIFE_MATRIX_SEED", "1")
SAMPLE = {"off": 1, "running": 1, "paused": 1, "template": 1}
"""Cells of each state in `make test`; one that runs costs a core."""
SOON, UNTOLD, RETIRED = 45.0, 90.0, 5.0
"""Seconds: until the bus is right (on an emulated bench); of what neither ZFS nor libvirt tells; and until volumes
would have been retired."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(GIVEN_UP * 4)]


def chosen() -> list[Cell]:
    if EXTENT == "all":
        return cells()
    dice = random.Random(SEED)
    return [each for state in STATES for each in dice.sample([c for c in cells() if c.state == state], SAMPLE[state])]


@pytest.fixture(scope="module", autouse=True)
def beside() -> Iterator[None]:
    """A VM that is not to notice anything, and a table of what came of each."""
    TOLD.write_text(
        "| action | the VM was | outcome | the host, and the bus | all was right after |\n" + "|---" * 5 + "|\n"
    )
    run("systemctl", "stop", "kldload-kvm-snapshot.timer")
    run("virsh", "net-start", "default", check=False)  # what starts by virsh finds it so
    left_by_others()
    remove_everything()
    wait_until(nothing_on_the_bus, 60, "the service sees that the VMs are gone")
    run("kvm-create", BYSTANDER, "--disk", "64M", "--ram", "256", "--cpus", "1")
    fill(BYSTANDER, "C")
    run("kvm-snap", BYSTANDER, "@kept")
    yield
    left_by_others()
    remove_everything()
    wait_until(nothing_on_the_bus, 60, "the service sees that the VMs are gone")


def ready(state: str) -> None:
    """web-1, in that state, and nothing else but the bystander."""
    left_by_others()  # before the VM is gone, whose place a copy of it would take
    clear()
    for snapshot in zfs("list", "-H", "-t", "snapshot", "-o", "name", "-r", "rpool/vms"):
        if not snapshot.startswith(f"rpool/vms/{BYSTANDER}") or not snapshot.endswith("@kept"):
            run("zfs", "destroy", snapshot)
    vm()
    run("kvm-snap", "web-1", "@stable")
    fill("web-1", "B")
    if state == "template":
        run("kvm-vm", "template", "web-1", "on")
    elif state != "off":
        run("kvm-vm", "start", "web-1")
        if state == "paused":
            run("kvm-vm", "pause", "web-1")
    wait_until_the_bus_is_right(SOON, f"web-1 was made ready, to be {state}")


@dataclass(frozen=True)
class Before:
    """What was, with the GUIDs of the VM's volumes and the hash of its variables if nobody has them open."""

    datasets: dict[str, str]
    domains: dict[str, str]
    disk: str
    variables: str
    id: str
    state: str


def looked_at() -> Before:
    names, states = datasets(), domains()
    (one,) = (each for each in vms() if each["Name"]["data"] == "web-1")
    open_ = states["web-1"] != "shut off"
    return Before(
        plain(names), states, names["rpool/vms/web-1"], "" if open_ else contents("rpool/vms/web-1.nvram"),
        one["Id"]["data"], one["State"]["data"],
    )  # fmt: skip


def contents(dataset: str) -> str:
    """The one letter that a volume is filled with, or a hash: as ZFS has it, and not as the host may remember it."""
    path = Path(f"/dev/zvol/{dataset}")
    wait_until(path.exists, 30, f"{path} appears")
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, 1 << 20)  # O_DIRECT takes whole pages

    def blocks() -> Iterator[bytes]:
        offset = 0
        while count := os.preadv(fd, [buffer], offset):
            yield buffer[:count]
            offset += count

    try:
        return letter_or_hash(blocks())
    finally:
        os.close(fd)


def where(guid: str) -> str:
    """The name of the volume with that GUID, in any pool; empty if it is nowhere."""
    rows = (row.split("\t") for row in zfs("list", "-Hp", "-t", "volume", "-o", "name,guid"))
    return next((name for name, each in rows if each == guid), "")


@pytest.mark.parametrize("cell", chosen(), ids=lambda cell: f"{cell.action} ({cell.state})".replace(" ", "-"))
def test_others(cell: Cell) -> None:
    action = ACTIONS[cell.action]
    ready(cell.state)
    action.prepare()
    wait_until_the_bus_is_right(SOON, "others have made ready")
    before, began = looked_at(), time.monotonic()
    try:
        done = action.do()
        has_the_outcome(cell, done)
        host_is_right(cell, before)
        wait_until_the_bus_is_right(UNTOLD if "volsize" in cell.action else SOON, f"{cell.action} was done")
        took = time.monotonic() - began
        bus_says(cell, before)
        if "undefine" in cell.action or "destroy" in cell.action:  # what is taken away wrongly goes a little later
            time.sleep(RETIRED)
            host_is_right(cell, before)
        data_are_right(cell, before)
    except AssertionError:
        told(cell, "**wrong**", "")
        raise
    told(cell, "as expected", f"{took:.1f} s")


def has_the_outcome(cell: Cell, done: Done) -> None:
    said = f"{done.stdout}\n{done.stderr}"
    if cell.refusal:
        assert done.returncode, f"it was not refused:\n{said}"
        assert cell.refusal in said, said
    else:
        assert done.returncode == 0, said


def host_is_right(cell: Cell, before: Before) -> None:
    """Datasets and domains; what is yet to come is waited for."""
    then, states = cell.after(before.datasets), cell.domains(before.domains)
    wrong: list[str] = []

    def right() -> bool:
        wrong[:] = not_as_expected(then, plain(datasets()))
        if (now := domains()) != states:
            wrong.append(f"the domains should be {states}, and are {now}")
        return not wrong

    try:
        wait_until(right, SOON, "")
    except AssertionError:
        raise AssertionError("\n".join(wrong)) from None


def data_are_right(cell: Cell, before: Before) -> None:
    for name, letter in cell.letters().items():
        dataset = name or where(before.disk)
        assert bool(dataset) == bool(letter), f"the disk is {dataset or 'nowhere'}"
        if dataset:
            assert contents(dataset) == letter, f"what {dataset} holds"
    variables = where(before.datasets["rpool/vms/web-1.nvram"])
    if before.variables and "web-1" in cell.domains(before.domains) and domains()["web-1"] == "shut off":
        assert contents(variables) == before.variables, "what the UEFI variables are"
    assert contents(f"rpool/vms/{BYSTANDER}") == "C"


def bus_says(cell: Cell, before: Before) -> None:
    """What the row says of the bus. The oracle has seen already that the bus is right; this is that it is so."""
    found = next(((path, values) for path, values in vm_objects() if values["Id"]["data"] == before.id), None)
    said = {key: value["data"] for key, value in found[1].items()} if found else {}
    for words in cell.bus.split(", "):
        match words.split():
            case ["as", "before"]:
                assert said["State"] == before.state
            case ["none"]:
                assert not said, said
            case ["undefined"]:
                assert "undefined" in run("kvm-trash", "list").stdout
            case ["named", name]:
                assert said["Name"] == name
            case ["disk", "missing"]:
                assert "not there: rpool/vms/web-1" in said["Problem"], said["Problem"]
            case ["vcpus", number]:
                assert said["Vcpus"] == int(number)
            case ["size", size]:
                assert said["Size"] == int(size.removesuffix("M")) << 20
            case ["autostart"]:
                assert said["Autostart"] is True
            case ["snapshot", name]:
                assert found and any(each.partition("_")[0] == name for each in snapshots_of(found[0]))
            case ["clone", name]:
                assert said["Clones"] == [name]
            case [name, ("shared" | "adoptable") as kind]:
                assert {each["name"]["data"]: each["kind"]["data"] for each in foreign()}[name] == kind
            case [state]:
                assert said["State"] == state
            case _:
                raise AssertionError(f"the table's '{words}' cannot be looked at")


def vm_objects() -> list[tuple[str, dict[str, dict]]]:
    """The VMs on the bus: path and properties."""
    interface = "org.kldload.Kvm1.Vm"
    return [(path, each[interface]) for path, each in managed().items() if interface in each]


def told(cell: Cell, host: str, after: str) -> None:
    with TOLD.open("a") as file:
        file.write(f"| {cell.action} | {cell.state} | {cell.outcome} | {host} | {after} |\n")
