"""What living beside others costs: the hook at each start, hearing of what they change, reading all anew, and being
idle."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

from pairs import Samples, pairs, settled, show

from host import ROOT, call, daemon_pid, get, run, vms, wait_until, without_hook
from kldload_kvm.client.api import Connection, Manager

MINUTES = 5.0


def hook(count: int) -> Samples:
    """Starting by virsh with the hook, and without it."""
    for name in ("ours", "floor"):
        run("kvm-create", name, "--disk", "1G", "--ram", "256", "--cpus", "1")

    def without(number: int) -> None:
        with without_hook():
            run("virsh", "start", "floor")

    samples = pairs(count, lambda n: run("virsh", "start", "ours"), without, lambda n: stop())
    show("virsh start, with the hook", samples, "without it", 1.3)
    for name in ("ours", "floor"):
        run("kvm-delete", name, "--now", "--yes")
    return samples


def stop() -> None:
    for name in ("ours", "floor"):
        run("virsh", "destroy", name, check=False)
    settled()


def news(count: int) -> Samples:
    """From a snapshot that another takes until the signal that tells of it."""
    run("kvm-create", "heard", "--disk", "1G", "--ram", "256", "--cpus", "1")
    lags = []
    with Connection() as connection:
        vm = Manager(connection).find_vm("heard")
        for number in range(count):
            settled()
            with vm.watch() as signals:
                run("zfs", "snapshot", f"rpool/vms/heard@by-hand-{number}")
                taken = time.perf_counter()
                while (signal := signals.next(30.0)) is not None and signal[0] != "SnapshotsChanged":
                    pass
                assert signal, "nothing was told within 30 s"
                lags.append(time.perf_counter() - taken)
    print(f"{'told of a snapshot':24} {statistics.median(lags):7.3f} s   worst {max(lags):7.3f} s", flush=True)
    run("kvm-delete", "heard", "--now", "--yes")
    return {"ours": lags}


def reconcile(count: int) -> Samples:
    """Reading all anew, with 200 VMs and 2,000 snapshots; and with half as many, as many processes."""
    samples = {str(many): read_anew(many) for many in (100, 200)}
    for number in range(200):
        run("zfs", "destroy", "-r", volume(number))
    return samples


def read_anew(many: int) -> list[float]:
    for number in range(many):
        if run("zfs", "list", volume(number), check=False).returncode:
            owner = f"org.kldload.kvm:vm=00000000-0000-4000-8000-{number:012}"
            options = (owner, "org.kldload.kvm:role=disk", "org.kldload.kvm:target=vda", "volmode=none")
            run("zfs", "create", "-s", "-V", "16M", *(w for each in options for w in ("-o", each)), volume(number))
    for number in range(10):
        run("zfs", "snapshot", *(f"{volume(each)}@{many}-{number}" for each in range(many - 100, many)))
    wait_until(lambda: len(vms()) >= many, 120, "all VMs are on the bus")
    times, processes = [], []
    for _ in range(3):
        settled()
        time.sleep(10.5)  # Refresh reads at most once in ten seconds
        before, began = forks(), time.perf_counter()
        call(ROOT, "Manager", "Refresh")
        times.append(time.perf_counter() - began)
        processes.append(forks() - before)
    name = f"all anew, {many} VMs, {many * 10} snapshots"
    print(f"{name}: {statistics.median(times):.3f} s, {min(processes)} processes, busctl's among them", flush=True)
    return times


def volume(number: int) -> str:
    return f"vmpool/vms/r-{number:03}"


def forks() -> int:
    """How many processes and threads this machine has started."""
    lines = Path("/proc/stat").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("processes")).split()[1])


def idle(count: int) -> Samples:
    """What the service takes of a core while nobody asks it anything, with 50 VMs defined."""
    run("kvm-create", "still-0", "--disk", "1G", "--ram", "256", "--cpus", "1")
    run("kvm-clone", "still-0", *(f"still-{number}" for number in range(1, 50)))
    wait_until(lambda: get(ROOT, "Manager", "LibvirtVersion"), 60, "the service is connected to libvirt")
    settled()
    time.sleep(30)
    before = ticks()
    time.sleep(MINUTES * 60)
    share = (ticks() - before) / os.sysconf("SC_CLK_TCK") / (MINUTES * 60) * 100
    print(f"idle, 50 VMs: {share:.2f} % of a core over {MINUTES:.0f} minutes (at most 0.3)", flush=True)
    return {"ours": [share]}


def ticks() -> int:
    """The processor time of the service and of the zpool that follows events for it."""
    pid = daemon_pid()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for each in (str(pid), *children):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12]) + (int(fields[13]) + int(fields[14]) if each == str(pid) else 0)
    return total
