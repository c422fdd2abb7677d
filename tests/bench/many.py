"""A snapshot of 200 VMs at once, against one zfs command with the same names, and against a shell's loop."""

from __future__ import annotations

import json
import uuid

from pairs import Samples, pairs, settled, show

from host import ROOT, call, run, wait_until

MANY = [f"vmpool/vms/many-{number:03}" for number in range(200)]
LOOPS = 3
"""Pairs with the loop, which takes as long as all the rest."""


def all_at_once(count: int) -> Samples:
    make()
    samples = pairs(
        count,
        lambda n: snapshot(f"ours-{n}"),
        lambda n: run("zfs", "snapshot", *(f"{name}@floor-{n}" for name in MANY)),
        lambda n: settled(),
    )
    show("snapshot of 200 VMs", samples, "one zfs snapshot with the same names", 1.3)
    forget(*(f"{whose}-{n}" for whose in ("ours", "floor") for n in range(count)))
    return samples


def loop(count: int) -> Samples:
    make()
    text = f"for name in {' '.join(MANY)}; do zfs snapshot $name@loop-$1; done"
    samples = pairs(
        min(count, LOOPS),
        lambda n: snapshot(f"again-{n}"),
        lambda n: run("sh", "-c", text, "sh", str(n)),
        lambda n: settled(),
    )
    show("the same, in a loop", samples, "a shell's loop over zfs snapshot", 0.15)
    for name in MANY:
        run("zfs", "destroy", "-r", name)
    wait_until(lambda: len(listed()) < len(MANY), 120, "the service sees that they are gone")
    return samples


def make() -> None:
    """VMs of one volume each, as orphans: this is about ZFS, and no guest is to be held still."""
    ours, there = "org.kldload.kvm:", run("zfs", "list", "-H", "-o", "name", "-r", "vmpool/vms").stdout.split()
    for name in MANY:
        options = (f"{ours}vm={uuid.uuid4()}", f"{ours}role=disk", f"{ours}target=vda", "volmode=none")
        if name not in there:
            run("zfs", "create", "-s", "-V", "16M", *(word for each in options for word in ("-o", each)), name)
    wait_until(lambda: len(listed()) >= len(MANY), 120, "all VMs are on the bus")


def listed() -> list[object]:
    return json.loads(run("kvm-list", "--json").stdout)


def snapshot(name: str) -> None:
    call(ROOT, "Manager", "SnapshotAll", "a{sv}", "3", "wait", "b", "true", "storage", "s", "vmpool", "name", "s", name)


def forget(*names: str) -> None:
    for name in names:
        run("zfs", "destroy", "-r", f"vmpool/vms@{name}")
    settled()
