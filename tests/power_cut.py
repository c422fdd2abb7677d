"""The side of the power cuts that is on the bench. lab/powercuts, outside, calls it, and cuts the power between calls.

    power_cut.py scenes                the operations that there are, and whether each changes volumes or snapshots
    power_cut.py ready                 two storages, a bystander, nothing else
    power_cut.py written               writes twice to an idle disk, and flushes between; says what the disk then reads
    power_cut.py read                  says what it reads
    power_cut.py scene OPERATION       makes the scene's host, all of it flushed; gives a picture of it
    power_cut.py start OPERATION       says "calling", then calls; gives the job's path
    power_cut.py look OPERATION JOB    with that picture on stdin: waits for the job's end; says how it and the host are

Answers are JSON, on stdout.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from pathlib import Path

from host import (
    ROOT,
    SERVICE,
    SETUP,
    domains,
    get,
    jobs_on_the_bus,
    nothing_on_the_bus,
    remove_everything,
    run,
    vms,
    wait_until,
)
from pictures import Picture, not_as_after, not_as_before, taken
from scenarios import BYSTANDER, SCENES, bystander, fresh, operation_of

IDLE = "/dev/disk/by-id/virtio-lab-vmpool-part9"
"""What ZFS leaves free at the end of a disk. Nobody writes to this pool meanwhile, so nobody flushes its disk."""
FINAL = ("succeeded", "failed", "cancelled")


def scenes() -> dict[str, bool]:
    return {operation: bool(scene.adds or scene.removes) for operation, scene in SCENES.items()}


def ready() -> None:
    run("sh", "-c", SETUP)
    run("virsh", "net-autostart", "default")  # else no VM could start after a cut
    # A snapshot of the hour, taken after a cut, is a job beside the one that is looked for.
    run("systemctl", "mask", "--now", "kldload-kvm-snapshot.timer", "kldload-kvm-trash.timer")
    remove_everything()
    run("systemctl", "restart", "kldload-kvmd")
    wait_until(_is_connected, 120, "the service is connected to libvirt")
    wait_until(nothing_on_the_bus, 60, "the service sees that there are no VMs")
    bystander()


def written() -> dict[str, str]:
    run("zpool", "sync")
    for block in (0, 1):
        _write(block, "old", "conv=fsync")
    _write(0, "flushed", "conv=fsync")
    _write(1, "not flushed")
    return read()


def read() -> dict[str, str]:
    """What the two blocks read, by the disk itself and not by this kernel's memory."""
    block = ("dd", f"if={IDLE}", "bs=1M", "count=1", "iflag=direct", "status=none")
    first, second = (run(*block, f"skip={number}").stdout.rstrip("\0") for number in (0, 1))
    return {"flushed": first, "not flushed": second}


def _write(block: int, text: str, *how: str) -> None:
    command = ("dd", f"of={IDLE}", "bs=1M", f"seek={block}", "oflag=direct", "iflag=fullblock", "status=none", *how)
    run(*command, stdin=text.ljust(1 << 20, "\0"))


def scene(operation: str) -> dict[str, object]:
    if domains().get(BYSTANDER) != "running":
        run("kvm-vm", "start", BYSTANDER)
    fresh(SCENES[operation])
    for flush in ("sync", "zpool sync", "sync"):
        run(*flush.split())
    return {"picture": dataclasses.asdict(taken()), "jobs": jobs_on_the_bus()}


def start(operation: str) -> str:
    path = SCENES[operation].path()
    ready_to_call = dataclasses.replace(SCENES[operation], path=lambda: path)
    print(json.dumps("calling"), flush=True)
    return ready_to_call.start()


def look(operation: str, job: str) -> dict[str, object]:
    """Without the job's path, which its caller may never have got, it is the one that was not there before."""
    known = json.load(sys.stdin)
    before = Picture(**known["picture"])
    wait_until(_is_connected, 300, "the service is connected to libvirt again")
    wait_until(lambda: get(ROOT, "Manager", "Problems") == [], 60, "the service has no problems left")
    new = sorted(set(jobs_on_the_bus()) - set(known["jobs"]))
    assert job in (*new, "unknown"), f"{job} was given to its caller, and is not known any more; there are {new}"
    assert len(new) <= 1, new
    state, said = "unknown", ""
    if new:
        wait_until(lambda: get(new[0], "Job", "State") in FINAL, 300, f"{new[0]} is brought to its end")
        state, said = str(get(new[0], "Job", "State")), str(get(new[0], "Job", "ErrorMessage"))
        assert get(new[0], "Job", "Operation") == operation_of(operation)
    now = taken()
    wrong = not_as_after(before, now, SCENES[operation]) if state == "succeeded" else not_as_before(before, now)
    return {"state": state, "said": said, "wrong": [*wrong, *_in_disorder(state)]}


def _in_disorder(state: str) -> list[str]:
    """What may never be, whatever the operation was."""
    pools = run("zpool", "status", "-x").stdout.strip()
    units = run("systemctl", "list-units", "--plain", "--no-legend", "kldload-kvm-convert@*").stdout.split()
    return [
        *([f"the pools: {pools}"] if pools != "all pools are healthy" else []),
        *(f"the journal: {path.name}" for path in Path("/var/lib/kldload-kvm").glob("*damaged*")),
        *(f"a VM is held by {vm['Job']['data']}" for vm in vms() if vm["Job"]["data"] != "/"),
        *(f"a domain is paused: {name}" for name, is_ in domains().items() if is_ == "paused"),
        *(f"a helper is at work: {unit}" for unit in units[:1]),
        *(f"a helper's file is left: {path.name}" for path in Path("/run/kldload-kvm/image").iterdir()),
        *([f"the job ended as {state}"] if state == "cancelled" else []),
    ]


def _is_connected() -> bool:
    asked = ("busctl", "--json=short", "get-property", SERVICE, ROOT, f"{SERVICE}.Manager", "LibvirtVersion")
    done = run(*asked, check=False)
    return not done.returncode and bool(json.loads(done.stdout)["data"])


def main() -> None:
    word, *arguments = sys.argv[1:]
    does = {each.__name__: each for each in (scenes, ready, written, read, scene, start, look)}
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(does[word](*arguments)), flush=True)  # type: ignore[operator]


if __name__ == "__main__":
    main()
