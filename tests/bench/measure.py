"""How long things take, as ratios against the plain commands, pair by pair in one run: `make bench`.

measure.py FILE [PAIRS [WHAT…]] writes the raw samples to FILE, in seconds. Medians of PAIRS (15) interleaved pairs;
what is under test and its floor take turns in going first. WHAT: names of METRICS, all if none is given.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import clones
import many
import others
import safety
from pairs import Samples, pairs, show

from host import SETUP, daemon_pid, find, nothing_on_the_bus, remove_everything, run, wait_until


def listing(count: int) -> Samples:
    clones.clone(find(clones.SOURCE), *(f"list-{number}" for number in range(9)))
    samples = pairs(count, lambda n: run("kvm-list"), lambda n: run("python3", "-c", "pass"), lambda n: None)
    show("kvm-list, ten VMs", samples, "python3 -c pass", 4.0)
    return samples


def memory(count: int) -> Samples:
    status = Path(f"/proc/{daemon_pid()}/status").read_text()
    resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    there = len(run("virsh", "list", "--all", "--name").stdout.split())
    print(f"resident memory of the service, idle, {there} VMs: {resident / 1024:.1f} MiB")
    print(run("python3", str(Path(__file__).with_name("memory.py"))).stdout.strip(), flush=True)
    return {}


def security(count: int) -> Samples:
    last = run("systemd-analyze", "security", "--no-pager", "kldload-kvmd").stdout.strip().splitlines()[-1]
    print(f"{last.strip('→ ')} (at most 2.3)", flush=True)
    return {}


METRICS: dict[str, Callable[[int], Samples]] = {
    "clone": clones.one_call,
    "kvm-clone": clones.command,
    "ten-clones": clones.ten,
    "snapshot-all": many.all_at_once,
    "snapshot-loop": many.loop,
    "journal": safety.journal,
    "rollback": safety.rollback,
    "frozen": safety.frozen,
    "list": listing,
    "hook": others.hook,
    "news": others.news,
    "reconcile": others.reconcile,
    "idle": others.idle,
    "memory": memory,
    "security": security,
}


def main() -> None:
    file, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 15
    wanted = sys.argv[3:] or list(METRICS)
    run("sh", "-c", SETUP)
    run("systemctl", "stop", "kldload-kvm-snapshot.timer")  # else an hour may strike in a sample
    remove_everything()
    wait_until(nothing_on_the_bus, 60, "the service sees that there are no VMs")
    clones.make_source()
    samples = {}
    for name in wanted:
        samples[name] = METRICS[name](count)
        file.write_text(json.dumps(samples, indent=1))
    remove_everything()


main()
