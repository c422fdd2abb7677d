"""The bench's side of the tests: the installed package, real ZFS, real libvirt, real polkit, as root and as others.

What the host really is, is read here by plain zfs and virsh, sharing no code with the service.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

SERVICE, ROOT = "org.kldload.Kvm1", "/org/kldload/Kvm1"
JOBS = f"{ROOT}/job/"
MARK = "\torg.kldload.kvm:journal\t"
GUEST = Path("/var/lib/kldload-lab/guests/lean.qcow2")
DEVICE = "/dev/zvol/rpool/vms/"
HOOK = Path("/etc/libvirt/hooks/qemu.d/kldload-kvm")
SETUP = """
zfs list rpool/vms || zfs create -o mountpoint=/var/lib/libvirt/images -o compression=off -o recordsize=64K \
    -o primarycache=metadata -o atime=off -o volmode=dev rpool/vms
zfs list rpool/vms/isos || zfs create -o mountpoint=/var/lib/libvirt/isos -o compression=zstd -o atime=off \
    rpool/vms/isos
zfs list vmpool/vms || zfs create -o mountpoint=none -o volmode=dev vmpool/vms
"""
# What the profile leaves to whoever runs the host, and the other tests stop.
STARTED = """
systemctl -q enable --now kldload-kvm-snapshot.timer kldload-kvm-trash.timer
systemctl start systemd-timesyncd
zfs set primarycache=metadata vmpool/vms
"""


def run(
    *command: str, user: str = "", check: bool = True, timeout: float = 600, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command as root, or as a user without any rights, and give its outcome."""
    argv = ["runuser", "-u", user, "--", *command] if user else list(command)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, input=stdin, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def zfs(*arguments: str) -> list[str]:
    """The lines of a plain zfs command."""
    return run("zfs", *arguments).stdout.splitlines()


def call(
    path: str, interface: str, method: str, *arguments: str, user: str = "", check: bool = True, timeout: int = 600
) -> subprocess.CompletedProcess[str]:
    """One busctl call of ours, answered as JSON."""
    return run(
        "busctl",
        "--json=short",
        f"--timeout={timeout}",
        "call",
        "--",
        SERVICE,
        path,
        f"{SERVICE}.{interface}",
        method,
        *arguments,
        user=user,
        check=check,
    )


def data(done: subprocess.CompletedProcess[str]) -> list:
    return json.loads(done.stdout)["data"] if done.stdout.strip() else []


def find(name: str) -> str:
    """The object path of a VM."""
    return data(call(ROOT, "Manager", "FindVm", "s", name))[0]


def get(path: str, interface: str, name: str) -> object:
    done = run("busctl", "--json=short", "get-property", SERVICE, path, f"{SERVICE}.{interface}", name)
    return json.loads(done.stdout)["data"]


def datasets() -> dict[str, str]:
    """Every dataset and snapshot of the storages with its guid."""
    rows = zfs("list", "-Hp", "-r", "-t", "all", "-o", "name,guid", "rpool/vms", "vmpool/vms")
    return dict(row.split("\t") for row in rows)


def domains() -> dict[str, str]:
    """Every domain's name with its state, as virsh tells."""
    names = run("virsh", "list", "--all", "--name").stdout.split()
    return {name: run("virsh", "domstate", name).stdout.strip() for name in names}


def daemon_pid() -> int:
    return int(run("systemctl", "show", "-P", "MainPID", "kldload-kvmd").stdout)


def fingerprint() -> dict[str, object]:
    """All that a refused call must leave as it was. mark: what storages know of the journal; each job moves it."""
    pid = daemon_pid()
    properties = zfs("get", "-Hp", "-r", "-s", "local", "all", "rpool/vms", "vmpool/vms")
    files = run(
        "find",
        "/etc/kldload-kvm",
        "/var/lib/kldload-kvm",
        "/run/kldload-kvm",
        "/var/lib/libvirt/isos",
        "-printf",
        "%p %s %m %U %T@\n",
    ).stdout
    return {
        "datasets": datasets(),
        "properties": [row for row in properties if MARK not in row],
        "mark": [row for row in properties if MARK in row],
        "domains": domains(),
        "definitions": [re.sub(r"\s+", " ", run("virsh", "dumpxml", "--inactive", name).stdout) for name in domains()],
        "files": files,
        "pid": pid,
        "fds": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "children": Path(f"/proc/{pid}/task/{pid}/children").read_text(),
        "units": run("systemctl", "list-units", "--all", "--no-legend", "kldload-kvm-*").stdout,
    }


def changed(before: dict[str, object]) -> set[str]:
    """What of a fingerprint is not as it was. A job's readings may still be under way when it has ended: their
    processes ("children") and pipes ("fds")."""
    now = fingerprint()
    return {key for key in before if before[key] != now[key]}


def settled() -> dict[str, object]:
    """The fingerprint, once nothing of earlier jobs is under way: the service reads once more what they touched."""
    before, end = fingerprint(), time.monotonic() + 120
    while True:
        time.sleep(3)
        now = fingerprint()
        if now == before:
            return now
        assert time.monotonic() < end, {key: (before[key], now[key]) for key in now if before[key] != now[key]}
        before = now


def write(volume: str, byte: int, megabytes: int = 4) -> None:
    """Fill the beginning of a volume of the default storage with one letter."""
    device = linked(DEVICE + volume)
    run("dd", f"of={device}", "bs=1M", "conv=fsync,nocreat", "status=none", stdin=chr(byte) * (megabytes << 20))


def digest(path: str, megabytes: int = 8) -> str:
    """The checksum of what a device or a file begins with."""
    with Path(linked(path)).open("rb") as file:
        return hashlib.sha256(file.read(megabytes << 20)).hexdigest()


def linked(path: str) -> str:
    """The path, once udev has done with its events: then a volume's link is there, and leads to that volume."""
    if path.startswith("/dev/zvol/"):
        run("udevadm", "settle", "--timeout=60")
        wait_until(Path(path).is_block_device, 60, f"{path} is there")
    return path


def journal_since(cursor: str) -> str:
    return run("journalctl", "-u", "kldload-kvmd", "-o", "cat", "--no-pager", f"--after-cursor={cursor}").stdout


def journal_cursor() -> str:
    return run("journalctl", "-n", "0", "--show-cursor", "--no-pager").stdout.partition("cursor: ")[2].strip()


def wait_until(check: Callable[[], object], timeout: float, what: str) -> None:
    """Until `check` is true; a failure names what did not happen."""
    end = time.monotonic() + timeout
    while not check():
        if time.monotonic() > end:
            raise AssertionError(f"within {timeout:.0f} s it did not happen that {what}")
        time.sleep(0.25)


def remove_everything() -> None:
    """Leave nothing of the tests: by plain virsh and zfs, whatever the service thinks. Volumes first: what is undefined
    before would be retired by it."""
    names = run("virsh", "list", "--all", "--name").stdout.split()
    virsh_each("destroy", names)
    release_holds()
    before, end = [""], time.monotonic() + 60
    while left := below("rpool/vms", "vmpool/vms"):
        if len(left) < len(before):
            end = time.monotonic() + 60
        if time.monotonic() > end:
            raise AssertionError(f"these could not be destroyed: {left}")
        before = left
        for name in left:
            run("zfs", "destroy", "-R", name, check=False)
    undefine(*names)


def release_holds() -> None:
    """What a test that failed has left held."""
    for row in zfs("list", "-Hp", "-r", "-t", "snapshot", "-o", "name,userrefs", "rpool/vms", "vmpool/vms"):
        name, held = row.split("\t")
        for hold in zfs("holds", "-H", name) if int(held) else ():
            run("zfs", "release", hold.split("\t")[1], name)


def left_behind() -> list[str]:
    """All domains and volumes that there are."""
    return [*run("virsh", "list", "--all", "--name").stdout.split(), *below("rpool/vms", "vmpool/vms")]


def undefine(*names: str) -> None:
    virsh_each("undefine --keep-nvram --managed-save --snapshots-metadata", names)


def virsh_each(command: str, names: Iterable[str]) -> None:
    """One virsh does it to all of these; what cannot be done to one is no matter."""
    if lines := [f"{command} {shlex.quote(name)}" for name in names]:
        run("virsh", "; ".join(lines), check=False)


@contextmanager
def without_hook() -> Iterator[None]:
    """libvirt without our hook: it looks for the file at each start."""
    aside = HOOK.parent.parent / "kldload-kvm.aside"  # whatever is in the hook's own folder is run
    HOOK.rename(aside)
    try:
        yield
    finally:
        aside.rename(HOOK)


@contextmanager
def configured(text: str) -> Iterator[None]:
    """The service with a configuration of the test's."""
    conf = Path("/etc/kldload-kvm/kvm.conf.d/90-test.conf")
    conf.write_text(text)
    try:
        restart_service()
        yield
    finally:
        conf.unlink()
        restart_service()


def restart_service() -> None:
    """Until it has libvirt, too."""
    run("systemctl", "restart", "kldload-kvmd")
    libvirt_is_there()


def libvirt_is_there() -> None:
    wait_until(lambda: get(ROOT, "Manager", "LibvirtVersion"), 120, "the service is connected to libvirt")


def managed() -> dict[str, dict]:
    """The service's objects by path, each with its interfaces and their properties."""
    asked = ("org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
    return data(run("busctl", "--json=short", "--timeout=60", "call", SERVICE, ROOT, *asked))[0]


def jobs_on_the_bus() -> list[str]:
    """The paths of all jobs, of those that have ended, too."""
    return sorted(path for path in managed() if path.startswith(JOBS))


def vms() -> list[dict[str, dict]]:
    """The properties of the VMs on the bus."""
    return [each[f"{SERVICE}.Vm"] for each in managed().values() if f"{SERVICE}.Vm" in each]


def nothing_on_the_bus() -> bool:
    """Whether the service has seen that there are no VMs any more, and no domains, and is at work on none: it may have
    begun to retire one whose domain was undefined. (Jobs go on naming those they were about.)"""
    objects = managed()
    vms_left = any(path.startswith(f"{ROOT}/vm/") for path in objects)
    return not vms_left and not at_work(objects) and not foreign()


def at_work(objects: dict[str, dict]) -> bool:
    """Whether there is a job that has not ended. objects: as managed() gives them."""
    jobs = (each[f"{SERVICE}.Job"] for path, each in objects.items() if path.startswith(JOBS))
    return any(each["State"]["data"] in ("running", "undoing") for each in jobs)


def foreign() -> list[dict[str, dict]]:
    """What the service takes for no whole VM: orphans and domains of others."""
    return data(call(ROOT, "Manager", "ListForeign"))[0]


def below(*parents: str) -> list[str]:
    """What stands right under storages' parents, without their image stores."""
    names = zfs("list", "-H", "-o", "name", "-d", "1", "-t", "filesystem,volume", *parents)
    return [name for name in names if name not in parents and not name.endswith("/isos")]


# -- inside a guest, by its agent and plain virsh ----------------------------------------------------------------------


def agent(name: str, command: str, patience: int = 5, **arguments: object) -> dict | None:
    """One answer of a guest's agent, which has that many seconds for it; None while there is none."""
    asked = json.dumps({"execute": command, "arguments": arguments})
    done = run("virsh", "-q", "qemu-agent-command", "--timeout", str(patience), name, asked, check=False)
    return {"return": None, **json.loads(done.stdout)} if not done.returncode and done.stdout.strip() else None


def agent_is_up(name: str) -> bool:
    return agent(name, "guest-ping") is not None


def in_guest(name: str, script: str, timeout: float = 120) -> str:
    """What a shell script prints inside a guest; it must end well."""
    end = time.monotonic() + timeout
    how = {"path": "/bin/sh", "arg": ["-c", script], "capture-output": True}
    # Beside another guest that boots it may not even say that it is there within the five seconds libvirt gives it.
    while (started := agent(name, "guest-exec", 60, **how)) is None:
        assert time.monotonic() < end, f"the agent of {name} does not answer"
    while time.monotonic() < end:
        status = agent(name, "guest-exec-status", pid=started["return"]["pid"])
        if status and status["return"]["exited"]:
            assert status["return"]["exitcode"] == 0, status
            return base64.b64decode(status["return"].get("out-data", "")).decode().strip()
        time.sleep(0.2)
    raise AssertionError(f"in {name}, this did not end within {timeout:.0f} s: {script}")
