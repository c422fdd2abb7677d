"""The side of the cold boots that is on the bench. lab/boots, outside, calls it, and resets the bench between calls.

    boot.py prepare WAY    a host set up by the profile, VMs that start by themselves, a template, and the service made
                           ready for that way
    boot.py look WAY       says which run, after how long, and what is wrong
    boot.py clear          nothing is left

Answers are JSON, on stdout.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from host import (
    DEVICE,
    ROOT,
    SETUP,
    STARTED,
    digest,
    domains,
    get,
    libvirt_is_there,
    nothing_on_the_bus,
    remove_everything,
    run,
    vms,
    wait_until,
    write,
)

UNIT = "kldload-kvmd.service"
NAMES = ("auto-1", "auto-2", "auto-3")
SUM = Path("/var/lib/kldload-lab/boot-digests.json")
LATEST = {"enabled": 240.0, "activated": 240.0, "hung": 480.0}
"""Seconds until the VMs run. libvirt waits for a service that hangs as long as its unit lets it start, two minutes, and
then the hook does for each VM."""
DROP_IN = Path(f"/etc/systemd/system/{UNIT}.d/boot.conf")


def prepare(way: str) -> dict[str, object]:
    run("sh", "-c", SETUP)
    clear()
    run("sh", "-c", STARTED)
    run("kvm-host", "setup", "--profile", "kvm")
    run("kvm-create", NAMES[0], "--disk", "64M", "--ram", "128", "--cpus", "1")
    write(NAMES[0], 65)
    run("kvm-clone", NAMES[0], *NAMES[1:])
    run("kvm-create", "base", "--disk", "64M", "--ram", "128", "--cpus", "1", "--template")
    for name in NAMES:
        run("virsh", "autostart", name)
    SUM.write_text(json.dumps({name: digest(DEVICE + name) for name in NAMES}))
    run("systemctl", "disable" if way == "activated" else "enable", UNIT)
    if way == "hung":
        DROP_IN.parent.mkdir(exist_ok=True)
        DROP_IN.write_text("[Service]\nExecStart=\nExecStart=/bin/sleep infinity\n")
    if found := findings():
        raise AssertionError(f"the host was set up, and yet: {found}")
    for flush in ("sync", "zpool sync", "sync"):
        run(*flush.split())
    return {}


def findings() -> list[str]:
    """What kvm-host check tells a user without rights."""
    told = json.loads(run("kvm-host", "check", "--json", user="alice", check=False).stdout)
    return [f"{each['id']} {each['object']}: {each['found']}" for each in told]


def look(way: str) -> dict[str, object]:
    wrong = []

    def running() -> list[str]:
        if run("systemctl", "is-active", "libvirtd", check=False).stdout.strip() != "active":
            return []  # virsh would wait with it
        return sorted(name for name, state in domains().items() if state == "running")

    try:
        wait_until(lambda: set(running()) >= set(NAMES), LATEST[way], f"{', '.join(NAMES)} run")
    except AssertionError as late:
        wrong.append(str(late))
    seconds = float(Path("/proc/uptime").read_text().split()[0])
    system = run("systemctl", "is-system-running", check=False).stdout.strip()
    if way != "hung":
        wrong += _served(way)
    if {name: digest(DEVICE + name) for name in NAMES} != json.loads(SUM.read_text()):
        wrong.append("a disk reads otherwise than before")
    failed = run("systemctl", "list-units", "--failed", "--plain", "--no-legend").stdout.splitlines()
    wrong += [f"failed: {line.split()[0]}" for line in failed]
    return {"running": running(), "seconds": seconds, "system": system, "wrong": wrong}


def _served(way: str) -> list[str]:
    """What is wrong with what the service knows, and with the order in which things started."""
    libvirt_is_there()
    wait_until(lambda: len(vms()) == len(NAMES) + 1, 60, "all VMs are on the bus")
    states = {each["Name"]["data"]: each["State"]["data"] for each in vms()}
    wrong = [f"{name} is {states[name]} on the bus" for name in NAMES if states[name] != "running"]
    if (problems := get(ROOT, "Manager", "Problems")) != []:
        wrong.append(f"the service has problems: {problems}")
    wrong += [f"after the boot, {each}" for each in findings()]
    if way == "enabled" and _started(UNIT) > _started("libvirtd.service"):
        wrong.append("libvirt was ready before the service")
    return wrong


def _started(unit: str) -> int:
    """Microseconds from the boot until it was up."""
    return int(run("systemctl", "show", "-P", "ActiveEnterTimestampMonotonic", unit).stdout)


def clear() -> dict[str, object]:
    if DROP_IN.exists():
        DROP_IN.unlink()
        run("systemctl", "daemon-reload")
        run("systemctl", "kill", "--signal=KILL", UNIT, check=False)
        time.sleep(1)
    run("systemctl", "enable", UNIT)
    run("systemctl", "restart", UNIT)
    remove_everything()
    wait_until(nothing_on_the_bus, 120, "the service sees that there are no VMs")
    return {}


def main() -> None:
    word, *arguments = sys.argv[1:]
    print(json.dumps({"prepare": prepare, "look": look, "clear": clear}[word](*arguments)), flush=True)


if __name__ == "__main__":
    main()
