"""How long things take, as ratios against the plain commands, pair by pair in one run: `make bench`.

measure.py FILE [PAIRS] writes the raw samples to FILE, in seconds. Medians of PAIRS (15) interleaved pairs; what is
under test and its floor take turns in going first.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from host import ROOT, SETUP, call, daemon_pid, find, nothing_on_the_bus, remove_everything, run, wait_until

Work = Callable[[int], None]
SOURCE = "bench"
MOST = {
    "clone by busctl": 1.25, "kvm-clone": 0.4, "ten clones in one call": 1.0, "kvm-list, ten VMs": 4.0,
    "snapshot of 200 VMs": 1.3, "the same, in a loop": 0.15,
}  # fmt: skip
MANY = [f"vmpool/vms/many-{number:03}" for number in range(200)]
LOOPS = 3  # of a loop that takes as long as all the rest


def pairs(count: int, ours: Work, floor: Work, clean: Work) -> dict[str, list[float]]:
    """Samples of both, each pair in the other order than the one before."""
    samples: dict[str, list[float]] = {"ours": [], "floor": []}
    for number in range(count):
        order = [("ours", ours), ("floor", floor)]
        for name, work in order if number % 2 else reversed(order):
            began = time.perf_counter()
            work(number)
            samples[name].append(time.perf_counter() - began)
            clean(number)
    return samples


def plain_clone(name: str) -> None:
    """What a clone cannot do without: one snapshot of all volumes, one clone of each, and the domain's definition."""
    stamp = f"floor-{name}"
    disk, nvram = f"rpool/vms/{SOURCE}", f"rpool/vms/{SOURCE}.nvram"
    run("zfs", "snapshot", f"{disk}@{stamp}", f"{nvram}@{stamp}")
    run("zfs", "clone", f"{disk}@{stamp}", f"rpool/vms/{name}")
    run("zfs", "clone", f"{nvram}@{stamp}", f"rpool/vms/{name}.nvram")
    run("virsh", "define", f"/var/tmp/{name}.xml")


def definition(name: str) -> None:
    """Prepares the floor's XML, outside of the time that is measured."""
    xml = run("virsh", "dumpxml", "--inactive", SOURCE).stdout
    xml = re.sub(r"<uuid>.*</uuid>|<mac address=.*/>", "", xml)
    xml = xml.replace(f"rpool/vms/{SOURCE}", f"rpool/vms/{name}").replace(f"<name>{SOURCE}<", f"<name>{name}<")
    Path(f"/var/tmp/{name}.xml").write_text(xml)


def seed_page_clone(name: str) -> None:
    """The founding page's recipe, with the option without which virt-clone copies every byte."""
    disk = f"rpool/vms/{SOURCE}"
    run("zfs", "snapshot", f"{disk}@page-{name}")
    run("zfs", "clone", f"{disk}@page-{name}", f"rpool/vms/{name}")
    wait_until(lambda: Path(f"/dev/zvol/rpool/vms/{name}").exists(), 60, "the device appears")
    run("virt-clone", "--original", SOURCE, "--name", name, "--file", f"/dev/zvol/rpool/vms/{name}",
        "--preserve-data", "--nvram", f"/var/tmp/{name}.nvram")  # fmt: skip


def forget(*names: str) -> None:
    """Take clones away again, by plain commands, and let the service see it."""
    for name in names:
        run("virsh", "undefine", "--keep-nvram", name, check=False)
        for volume in (f"rpool/vms/{name}", f"rpool/vms/{name}.nvram"):
            for _ in range(40):
                done = run("zfs", "destroy", volume, check=False)
                if not done.returncode or "does not exist" in done.stderr:
                    break
                time.sleep(0.25)
    time.sleep(6)  # the service reads again what others changed; that must not run into the next sample


def clone(path: str, *names: str) -> None:
    call(path, "Vm", "Clone", "asa{sv}", str(len(names)), *names, "1", "wait", "b", "true")


def make_many() -> None:
    """VMs of one volume each, as orphans: this is about ZFS, and no guest is to be held still."""
    ours = "org.kldload.kvm:"
    for name in MANY:
        options = (f"{ours}vm={uuid.uuid4()}", f"{ours}role=disk", f"{ours}target=vda", "volmode=none")
        run("zfs", "create", "-s", "-V", "16M", *(word for each in options for word in ("-o", each)), name)
    wait_until(lambda: len(json.loads(run("kvm-list", "--json").stdout)) >= len(MANY), 120, "all VMs are on the bus")


def snapshot_many(name: str) -> None:
    call(ROOT, "Manager", "SnapshotAll", "a{sv}", "3", "wait", "b", "true", "storage", "s", "vmpool", "name", "s", name)


def forget_many(*names: str) -> None:
    for name in names:
        run("zfs", "destroy", "-r", f"vmpool/vms@{name}")
    time.sleep(6)


def measure_many(count: int, samples: dict[str, dict[str, list[float]]]) -> None:
    make_many()
    samples["snapshot of 200 VMs"] = pairs(
        count,
        lambda n: snapshot_many(f"ours-{n}"),
        lambda n: run("zfs", "snapshot", *(f"{name}@floor-{n}" for name in MANY)) and None,
        lambda n: time.sleep(6),
    )
    show("snapshot of 200 VMs", samples, "one zfs snapshot with the same names")
    forget_many(*(f"{whose}-{n}" for whose in ("ours", "floor") for n in range(count)))
    loop = f"for name in {' '.join(MANY)}; do zfs snapshot $name@loop-$1; done"
    samples["the same, in a loop"] = pairs(
        LOOPS,
        lambda n: snapshot_many(f"again-{n}"),
        lambda n: run("sh", "-c", loop, "sh", str(n)) and None,
        lambda n: time.sleep(6),
    )
    show("the same, in a loop", samples, "a shell's loop over zfs snapshot")
    for name in MANY:
        run("zfs", "destroy", "-r", name)


def main() -> None:
    file, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 15
    run("sh", "-c", SETUP)
    remove_everything()
    wait_until(nothing_on_the_bus, 60, "the service sees that there are no VMs")
    run("kvm-create", SOURCE, "--disk", "1G", "--ram", "256", "--cpus", "1")
    path = find(SOURCE)
    samples = {}

    for number in range(count):
        definition(f"f{number}")
    samples["clone by busctl"] = pairs(
        count,
        lambda n: clone(path, f"o{n}"),
        lambda n: plain_clone(f"f{n}"),
        lambda n: forget(f"o{n}", f"f{n}"),
    )
    show("clone by busctl", samples, "zfs snapshot, zfs clone of each volume, virsh define")

    samples["kvm-clone"] = pairs(
        count, lambda n: run("kvm-clone", SOURCE, f"o{n}") and None, lambda n: seed_page_clone(f"p{n}"),
        lambda n: forget(f"o{n}", f"p{n}"),
    )  # fmt: skip
    show("kvm-clone", samples, "zfs snapshot, zfs clone, virt-clone --preserve-data")

    ten = [[f"t{n}x{i}" for i in range(10)] for n in range(count)]
    for names in ten:
        for name in names:
            definition(f"{name}f")
    samples["ten clones in one call"] = pairs(
        count,
        lambda n: clone(path, *ten[n]),
        lambda n: [plain_clone(f"{name}f") for name in ten[n]] and None,
        lambda n: forget(*ten[n], *(f"{name}f" for name in ten[n])),
    )
    show("ten clones in one call", samples, "ten times the floor of one")

    measure_many(count, samples)
    wait_until(
        lambda: len(json.loads(run("kvm-list", "--json").stdout)) == 1, 120, "the service sees that they are gone"
    )

    clone(path, *(f"list-{number}" for number in range(9)))
    samples["kvm-list, ten VMs"] = pairs(
        count, lambda n: run("kvm-list") and None, lambda n: run("python3", "-c", "pass") and None, lambda n: None
    )
    show("kvm-list, ten VMs", samples, "python3 -c pass")

    status = Path(f"/proc/{daemon_pid()}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]
    print(f"resident memory of the service, idle, ten VMs: {int(resident) / 1024:.1f} MiB")
    security = run("systemd-analyze", "security", "--no-pager", "kldload-kvmd").stdout.strip().splitlines()[-1]
    print(security.strip("→ "))
    file.write_text(json.dumps(samples, indent=1))
    remove_everything()


def show(name: str, samples: dict[str, dict[str, list[float]]], floor: str) -> None:
    ours, against = (statistics.median(samples[name][key]) for key in ("ours", "floor"))
    limit = MOST[name]
    verdict = "" if ours / against <= limit else "   ABOVE"
    print(f"{name:24} {ours:7.3f} s   floor {against:7.3f} s ({floor})", flush=True)
    print(f"{'':24} ratio {ours / against:5.2f}, at most {limit}{verdict}", flush=True)


main()
