"""Chaos: several who know nothing of each other change domains by virsh, volumes by zfs and VMs by the service's
commands, on the same few names, while libvirt, the service, udev and polkit are restarted and the service is killed.

Afterwards: what the bus says is what an oracle of plain zfs and virsh says, without being asked to look again; no
volume and no snapshot is gone but what somebody asked to be destroyed, or what a job that failed had made itself; disks
hold what was written to them; nobody is left paused, and no job unfinished.

CHAOS_SEED chooses what is done (the same does the same again); a minute of it and thirty are in `make soak`,
CHAOS_MINUTES says otherwise. All that was done is written to /var/tmp/life-chaos.log, counted in life-chaos.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos import PATIENCE, Book, actors, existing, lasting, left_over
from host import ROOT, SERVICE, domains, get, journal_cursor, journal_since, managed, run, wait_until
from oracle import wait_until_the_bus_is_right

SEED = os.environ.get("CHAOS_SEED", "1")
LOG, COUNTED = Path("/var/tmp/life-chaos.log"), Path("/var/tmp/life-chaos.md")
CALM = 150.0
"""Seconds until all that was begun has come to its end, and the bus is right."""


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_minute_of_chaos(vm: Callable[..., str]) -> None:
    chaos(float(os.environ.get("CHAOS_MINUTES", "1")))


@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
def test_half_an_hour_of_chaos(vm: Callable[..., str]) -> None:
    chaos(float(os.environ.get("CHAOS_MINUTES", "30")))


def chaos(minutes: float) -> None:
    book, cursor = Book(), journal_cursor()
    run("virsh", "net-start", "default", check=False)
    book.look()
    with lasting():
        everybody = actors(SEED, book, minutes * 60)
        for each in everybody:
            each.start()
        for each in everybody:
            each.join(minutes * 60 + 2 * PATIENCE)
        try:
            assert not [each.name for each in everybody if each.is_alive()], "somebody has not come to an end"
            assert not [each.fault for each in everybody if each.fault]
            comes_to_rest()
            wait_until_the_bus_is_right(CALM, f"there was chaos, of seed {SEED}")
            nothing_is_lost(book)
            disks_hold_what_was_written(book)
            assert "paused" not in domains().values()
            assert "Traceback" not in journal_since(cursor)
        finally:
            write_down(book)
            left_over()
    done = sum(count for (_, outcome), count in book.outcomes.items() if outcome == "done")
    assert done > sum(book.outcomes.values()) / 4, "hardly anything was done at all"


def comes_to_rest() -> None:
    """All that is restarted is there again, and no job is at work."""
    run("systemctl", "reset-failed")
    run("systemctl", "start", "libvirtd.service", "systemd-udevd.service", "polkit.service", "kldload-kvmd.service")
    wait_until(lambda: get(ROOT, "Manager", "LibvirtVersion"), CALM, "the service is connected to libvirt")
    run("udevadm", "settle", "--timeout=60")
    wait_until(lambda: not any(state in ("running", "undoing") for state in jobs().values()), CALM, "all jobs are over")
    time.sleep(5)  # what was undefined a moment ago is retired
    wait_until(lambda: not any(state in ("running", "undoing") for state in jobs().values()), CALM, "all jobs are over")


def jobs() -> dict[str, str]:
    """The state of each job, by its id."""
    objects = (each.get(f"{SERVICE}.Job") for each in managed().values())
    return {str(each["Id"]["data"]): str(each["State"]["data"]) for each in objects if each}


def nothing_is_lost(book: Book) -> None:
    there, states = existing(), jobs()
    gone = {guid: what for guid, what in book.seen.items() if guid not in there and guid not in book.asked}
    undone = {job for job, state in states.items() if state in ("failed", "cancelled")}
    lost = [
        name
        for name, tag in gone.values()
        if tag.partition("/")[0] not in undone and not ("@clone-" in name and tag != "-")
    ]
    assert not lost, "these are gone, and nobody asked for that"


def disks_hold_what_was_written(book: Book) -> None:
    there = existing()
    for guid, stamp in book.stamps.items():
        if guid in there and guid not in book.rolled:
            with Path(f"/dev/zvol/{there[guid][0]}").open("rb") as disk:
                assert disk.read(len(stamp)).decode("ascii", "replace") == stamp, there[guid][0]


def write_down(book: Book) -> None:
    LOG.write_text("\n".join([f"seed {SEED}", *book.said, ""]))
    rows = sorted({what for what, _ in book.outcomes})
    counts = [(what, book.outcomes[what, "done"], book.outcomes[what, "refused"]) for what in rows]
    COUNTED.write_text(
        "| who: what | done | refused |\n|---|---|---|\n" + "".join(f"| {w} | {d} | {r} |\n" for w, d, r in counts)
    )
