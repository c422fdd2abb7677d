"""What safety costs: the journal, a rollback that can be undone, and the time for which a guest is held still."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

from clones import forget
from pairs import Samples, pairs, settled, show

from host import GUEST, ROOT, agent_is_up, call, data, get, in_guest, run, wait_until

DROP_IN = Path("/run/systemd/system/kldload-kvmd.service.d/bench.conf")
FORGETFUL = Path(__file__).with_name("without_journal.py")
LOAD = "nohup sh -c 'while :; do head -c 8000000 /dev/urandom > /data/load; sync; done' > /dev/null 2>&1 &"


def journal(count: int) -> Samples:
    """Create a VM, with the journal and without: the very same service, started anew for each sample."""
    samples: Samples = {"ours": [], "floor": []}
    for number in range(count):
        for name in ("ours", "floor") if number % 2 else ("floor", "ours"):
            start_service(durable=name == "ours")
            began = time.perf_counter()
            create(f"j{number}")
            samples[name].append(time.perf_counter() - began)
            forget(f"j{number}")
    start_service(durable=True)
    show("create, with the journal", samples, "without a journal", 1.1)
    return samples


def start_service(durable: bool) -> None:
    """The service as it is installed, or one that forgets."""
    if durable:
        DROP_IN.unlink(missing_ok=True)
        if DROP_IN.parent.exists():
            DROP_IN.parent.rmdir()
    else:
        DROP_IN.parent.mkdir(parents=True, exist_ok=True)
        DROP_IN.write_text(f"[Service]\nExecStart=\nExecStart=/usr/bin/python3 {FORGETFUL}\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "reset-failed", "kldload-kvmd", check=False)
    run("systemctl", "restart", "kldload-kvmd")
    wait_until(lambda: get(ROOT, "Manager", "LibvirtVersion"), 60, "the service is connected to libvirt")
    create("warm")  # what is done once at the first call
    forget("warm")


def create(name: str) -> None:
    options = ("4", "wait", "b", "true", "disk", "t", str(1 << 30), "memory", "t", str(256 << 20), "vcpus", "u", "1")
    call(ROOT, "Manager", "CreateVm", "sa{sv}", name, *options)


def rollback(count: int) -> Samples:
    """A rollback that can be undone, by clone and promotion, against one that destroys what came after."""
    create("back")
    path = data(call(ROOT, "Manager", "FindVm", "s", "back"))[0]
    run("zfs", "create", "-s", "-V", "1G", "rpool/plain")
    call(path, "Vm", "Snapshot", "a{sv}", "2", "wait", "b", "true", "name", "s", "base")
    run("zfs", "snapshot", "rpool/plain@base")
    settled()
    samples = pairs(
        count,
        lambda n: call(path, "Vm", "Rollback", "a{sv}", "2", "wait", "b", "true", "snapshot", "s", "base"),
        lambda n: run("zfs", "rollback", "-r", "rpool/plain@base"),
        lambda n: settled(),
    )
    show("rollback, undoable", samples, "zfs rollback -r of one volume, which destroys")
    run("zfs", "destroy", "-r", "rpool/plain")
    run("kvm-delete", "back", "--yes")
    return samples


def frozen(count: int) -> Samples:
    """For how long a guest that writes all the time is held still by a snapshot, as the service says and as the guest
    itself saw it."""
    if GUEST.name not in run("kvm-image", "list").stdout:
        run("kvm-image", "add", str(GUEST))
    run("kvm-create", "busy", "--image", GUEST.name, "--ram", "384", "--cpus", "1", "--disk", "1")
    wait_until(lambda: agent_is_up("busy"), 900, "the guest's agent answers")
    in_guest("busy", LOAD)
    held = []
    for number in range(count):
        result = json.loads(run("kvm-snap", "busy", "create", f"@held-{number}", "--json").stdout)["result"]
        assert result["consistency"] == "app", result
        held.append(result["held"])
        settled()
    print(f"{'held still, under load':24} {statistics.median(held):7.3f} s   worst {max(held):7.3f} s", flush=True)
    run("kvm-delete", "busy", "--force", "--now", "--yes")
    return {"ours": held}
