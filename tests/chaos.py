"""Several who change one host at the same time, each in its own seeded way, and a book of what they asked to be gone.

What each of them does, on which VM and after which pause comes from the seed alone, never from the host, so that the
same seed does the same again; only how they fall together differs. Most of it makes sense; the rest is refused.
"""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from host import DEVICE, ROOT, call, data, find, get, run

NAMES = tuple(f"c-{number}" for number in range(5))
PARENT = "rpool/vms/"
FEW = 2
"""Guests that run at a time: each takes a core under emulation."""
PATIENCE = 300
STAMP, HOLD = "stamped ", "chaos"
KEEP = ("--keep-nvram", "--managed-save", "--snapshots-metadata")
DROP_IN = Path("/run/systemd/system/kldload-kvmd.service.d/chaos.conf")
CONFIG = Path("/etc/kldload-kvm/kvm.conf.d/chaos.conf")


class Refused(Exception):
    """An action that came to nothing, and why."""


@dataclass
class Book:
    """All that was ever there, by GUID: its name and the tag of the job that made it; and, by GUID too, what somebody
    asked to be destroyed, what disks were stamped with, and which were rolled back by hand."""

    seen: dict[str, tuple[str, str]] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    stamps: dict[str, str] = field(default_factory=dict)
    rolled: set[str] = field(default_factory=set)
    said: list[str] = field(default_factory=list)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    began: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> set[str]:
        """Note what is there; the GUIDs."""
        there = existing()
        with self.lock:
            self.seen |= there
        return set(there)

    def tell(self, who: str, what: str, outcome: str) -> None:
        with self.lock:
            self.outcomes[f"{who}: {what.partition(' c-')[0].partition(' rpool')[0]}", outcome.partition(":")[0]] += 1
            self.said.append(f"{time.monotonic() - self.began:7.1f} {who}: {what}: {outcome}")


def existing() -> dict[str, tuple[str, str]]:
    """Every volume and snapshot of both pools, by GUID, with its name and the tag of the job that made it."""
    columns = "name,guid,org.kldload.kvm:job,org.kldload.kvm:snapshot"
    found = {}
    for row in run("zfs", "list", "-Hp", "-t", "volume,snapshot", "-o", columns).stdout.splitlines():
        name, guid, made, taken = row.split("\t")
        found[guid] = (name, taken.rpartition(":")[2] if "@" in name else made)
    return found


def guids(*names: str) -> list[str]:
    """Of datasets with all that is in them, and of snapshots."""
    done = run("zfs", "list", "-Hp", "-r", "-t", "all", "-o", "guid", *names, check=False)
    return done.stdout.split()


def done(*command: str, stdin: str = "") -> str:
    """What a command says. Raises Refused."""
    outcome = run(*command, check=False, timeout=PATIENCE, stdin=stdin)
    if outcome.returncode:
        raise Refused(" ".join((outcome.stderr or outcome.stdout).split())[:160] or f"status {outcome.returncode}")
    return outcome.stdout


class Actor(threading.Thread):
    """One of them. pause: seconds between two actions, at most."""

    pause = 2.0

    def __init__(self, who: str, seed: str, book: Book, end: float) -> None:
        super().__init__(name=who, daemon=True)
        self.book, self.end, self.fault = book, end, ""
        self.dice = random.Random(f"{seed} {who}")
        self.count = 0

    def choices(self) -> Mapping[str, tuple[int, Callable[[str, int], object]]]:
        """What it can do: how often, and how: given the name of a VM, and a number that comes once."""
        raise NotImplementedError

    def run(self) -> None:
        choices = self.choices()
        weights = [weight for weight, _ in choices.values()]
        while time.monotonic() < self.end:
            # Everything is drawn before anything is done.
            (what,), vm = self.dice.choices(list(choices), weights), self.dice.choice(NAMES)
            pause, self.count = self.dice.uniform(0, self.pause), self.count + 1
            try:
                choices[what][1](vm, self.count)
                outcome = "done"
            except (Refused, AssertionError) as refusal:  # the second is host.py's, of a command that failed
                outcome = f"refused: {' '.join(str(refusal).split())[:160]}"
            except (subprocess.TimeoutExpired, KeyError, IndexError, OSError, ValueError) as fault:
                self.fault, outcome = f"{what} {vm}: {fault!r}", f"fault: {fault!r}"
            self.book.tell(self.name, f"{what} {vm}", outcome)
            self.book.look()
            time.sleep(max(0.0, min(pause, self.end - time.monotonic())))


class Virsh(Actor):
    """Domains by virsh."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.kept: dict[str, str] = {}

    def choices(self) -> Mapping[str, tuple[int, Callable[[str, int], object]]]:
        return {
            "start": (6, self.start_one),
            "destroy": (6, lambda vm, n: done("virsh", "destroy", vm)),
            "undefine": (3, self.undefine),
            "define": (6, self.define),
            "undefine and define": (2, self.move),
            "domrename": (2, self.rename),
            "setvcpus": (2, lambda vm, n: done("virsh", "setvcpus", vm, str(1 + n % 2), "--config")),
            "autostart": (1, lambda vm, n: done("virsh", "autostart", vm, *(() if n % 2 else ("--disable",)))),
            "managedsave": (2, lambda vm, n: done("virsh", "managedsave", vm)),
            "define what asks for a volume": (2, self.define_asking),
        }

    def start_one(self, vm: str, number: int) -> None:
        if len(run("virsh", "list", "--name", check=False).stdout.split()) >= FEW:
            raise Refused("enough of them run")
        done("virsh", "start", vm)

    def keep(self, vm: str) -> str:
        self.kept[vm] = done("virsh", "dumpxml", "--inactive", "--security-info", vm)
        return self.kept[vm]

    def undefine(self, vm: str, number: int) -> None:
        self.keep(vm)
        done("virsh", "undefine", vm, *KEEP)

    def define(self, vm: str, number: int) -> None:
        if vm not in self.kept:
            self.keep(vm)
        done("virsh", "define", "/dev/stdin", stdin=self.kept[vm])

    def move(self, vm: str, number: int) -> None:
        whole = self.keep(vm)
        done("virsh", "undefine", vm, *KEEP)
        done("virsh", "define", "/dev/stdin", stdin=whole)

    def rename(self, vm: str, number: int) -> None:
        done("virsh", "domrename", vm, f"{vm}-shop")
        time.sleep(1)
        done("virsh", "domrename", f"{vm}-shop", vm)

    def define_asking(self, vm: str, number: int) -> None:
        name = f"asked-{number}"
        done("virsh", "define", "/dev/stdin", stdin=ASKING.format(name=name, device=f"{DEVICE}{name}"))


ASKING = """<domain type='qemu'>
  <name>{name}</name>
  <metadata><k:volumes xmlns:k='https://kldload.org/xmlns/kvm/1.0'>
    <k:volume target='vda' size='16M'/></k:volumes></metadata>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices><disk type='block' device='disk'><driver name='qemu' type='raw'/>
    <source dev='{device}'/><target dev='vda'/></disk></devices>
</domain>
"""


class Zfs(Actor):
    """Volumes by zfs."""

    def choices(self) -> Mapping[str, tuple[int, Callable[[str, int], object]]]:
        return {
            "snapshot": (8, lambda vm, n: done("zfs", "snapshot", f"{PARENT}{vm}@hand-{n}")),
            "destroy a snapshot": (4, self.destroy_snapshot),
            "rename": (3, self.rename),
            "set": (3, lambda vm, n: done("zfs", "set", f"compression={'zstd' if n % 2 else 'lz4'}", PARENT + vm)),
            "set volsize": (2, lambda vm, n: done("zfs", "set", f"volsize={64 + n}M", PARENT + vm)),
            "rollback": (2, self.roll_back),
            "clone": (3, self.clone),
            "destroy": (1, self.destroy),
            "hold": (1, lambda vm, n: done("zfs", "hold", HOLD, newest(vm))),
            "create": (1, lambda vm, n: done("zfs", "create", "-s", "-V", "16M", f"{PARENT}loose-{n}")),
        }

    def destroy_snapshot(self, vm: str, number: int) -> None:
        name = newest(vm, "@hand-")
        self.book.asked.update(guids(name))
        done("zfs", "destroy", name)

    def rename(self, vm: str, number: int) -> None:
        done("zfs", "rename", PARENT + vm, f"{PARENT}{vm}-away")
        time.sleep(2)
        done("zfs", "rename", f"{PARENT}{vm}-away", PARENT + vm)

    def roll_back(self, vm: str, number: int) -> None:
        name = newest(vm, "@hand-")
        self.book.rolled.update(guids(PARENT + vm))
        done("zfs", "rollback", name)
        self.book.rolled.update(guids(PARENT + vm))

    def clone(self, vm: str, number: int) -> None:
        done("zfs", "clone", newest(vm), f"{PARENT}{vm}-by-hand-{number}")

    def destroy(self, vm: str, number: int) -> None:
        """Taken away first, so that nobody else changes it between the look at what goes and its going."""
        done("zfs", "rename", PARENT + vm, f"rpool/doomed-{number}")
        self.book.asked.update(guids(f"rpool/doomed-{number}"))
        done("zfs", "destroy", "-r", f"rpool/doomed-{number}")


def newest(vm: str, kind: str = "@") -> str:
    """The newest snapshot of a VM's disk."""
    rows = done("zfs", "list", "-H", "-t", "snapshot", "-o", "name", "-S", "createtxg", PARENT + vm).splitlines()
    if found := next((row for row in rows if kind in row), ""):
        return found
    raise Refused("it has none")


class Ours(Actor):
    """VMs by the service's own commands."""

    def choices(self) -> Mapping[str, tuple[int, Callable[[str, int], object]]]:
        return {
            "kvm-create": (8, self.create),
            "kvm-snap": (6, lambda vm, n: done("kvm-snap", vm, f"@{self.name}-{n}")),
            "kvm-snap rollback": (4, lambda vm, n: done("kvm-snap", vm, "rollback", "--force", "--yes")),
            "kvm-snap --all": (1, lambda vm, n: done("kvm-snap", "--all", f"@{self.name}-all-{n}")),
            "kvm-clone": (4, lambda vm, n: done("kvm-clone", vm, self.dice_name(vm))),
            "kvm-delete": (3, lambda vm, n: done("kvm-delete", vm, "--force", "--yes")),
            "kvm-delete --now": (1, self.delete_now),
            "kvm-trash restore": (5, lambda vm, n: done("kvm-trash", "restore", entry_of(vm), "--yes")),
            "kvm-trash purge": (1, self.purge),
            "kvm-vm resize": (1, lambda vm, n: done("kvm-vm", "resize", vm, "+16M")),
            "kvm-vm attach-disk": (1, lambda vm, n: done("kvm-vm", "attach-disk", vm, "16M")),
            "kvm-vm rename": (1, self.rename),
            "kvm-vm template": (1, self.template),
            "kvm-adopt": (3, lambda vm, n: done("kvm-adopt", vm, "--yes")),
        }

    def dice_name(self, vm: str) -> str:
        """Another VM's name: which one depends on how far it is."""
        return NAMES[(NAMES.index(vm) + 1 + self.count % (len(NAMES) - 1)) % len(NAMES)]

    def create(self, vm: str, number: int) -> None:
        done("kvm-create", vm, "--disk", "64M", "--ram", "256", "--cpus", "1")
        stamp = f"{STAMP}{self.name} {number}\n"
        (guid, *_) = guids(PARENT + vm) or [""]
        done("dd", f"of={DEVICE}{vm}", "bs=4096", "conv=fsync,sync,nocreat", "status=none", stdin=stamp)
        self.book.stamps[guid] = stamp

    def rename(self, vm: str, number: int) -> None:
        done("kvm-vm", "rename", vm, f"{vm}-{number}", "--yes")
        done("kvm-vm", "rename", f"{vm}-{number}", vm, "--yes")

    def template(self, vm: str, number: int) -> None:
        done("kvm-vm", "template", vm, "on", "--yes")
        done("kvm-vm", "template", vm, "off", "--yes")

    def delete_now(self, vm: str, number: int) -> None:
        self.for_good(lambda: call(find_or_refuse(vm), "Vm", "Delete", "a{sv}", "3", "plan-only", "b", "true", "now",
                                   "b", "true", "force", "b", "true", check=False))  # fmt: skip

    def purge(self, vm: str, number: int) -> None:
        entry = entry_of(vm)
        self.for_good(lambda: call(ROOT, "Manager", "PurgeTrash", "asa{sv}", "1", entry, "1", "plan-only", "b", "true",
                                   check=False))  # fmt: skip

    def for_good(self, planned: Callable[[], subprocess.CompletedProcess[str]]) -> None:
        """By a plan: what is applied is what was asked, or nothing."""
        answer = planned()
        if answer.returncode:
            raise Refused(answer.stderr.strip())
        (job,) = data(answer)
        names = [str(each) for each in get(job, "Job", "Destroys")]  # type: ignore[attr-defined]
        self.book.asked.update(guid for name in names for guid in guids(name))
        applied = call(job, "Job", "Apply", "a{sv}", "1", "wait", "b", "true", check=False)
        if applied.returncode:
            raise Refused(applied.stderr.strip())


def find_or_refuse(vm: str) -> str:
    try:
        return find(vm)
    except AssertionError:
        raise Refused("there is no such VM") from None


def entry_of(vm: str) -> str:
    """The newest trash entry of a VM."""
    for entry in done("kvm-trash", "list", "--names").split():
        if entry.startswith(f"{vm}-2"):
            return entry
    raise Refused("nothing of it is in the trash")


class Breaker(Actor):
    """Restarts what the others stand on."""

    pause = 30.0

    def choices(self) -> Mapping[str, tuple[int, Callable[[str, int], object]]]:
        return {
            "restart libvirt": (3, lambda vm, n: restart("libvirtd.service")),
            "restart the service": (2, lambda vm, n: restart("kldload-kvmd.service")),
            "kill the service": (3, lambda vm, n: done("systemctl", "kill", "-s", "KILL", "kldload-kvmd.service")),
            "restart udev": (2, lambda vm, n: restart("systemd-udevd.service")),
            "udevadm trigger": (1, lambda vm, n: done("udevadm", "trigger", "--subsystem-match=block")),
            "restart polkit": (1, lambda vm, n: restart("polkit.service")),
        }


def restart(unit: str) -> None:
    run("systemctl", "reset-failed", unit, check=False)
    done("systemctl", "restart", unit)


def actors(seed: str, book: Book, seconds: float) -> list[Actor]:
    end = time.monotonic() + seconds
    kinds: list[tuple[str, type[Actor]]] = [
        ("anna", Ours), ("bert", Ours), ("virsh", Virsh), ("zfs", Zfs), ("breaker", Breaker),
    ]  # fmt: skip
    return [kind(who, seed, book, end) for who, kind in kinds]


@contextmanager
def lasting() -> Iterator[None]:
    """A service that may be killed as often as it comes, and remembers every job."""
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    DROP_IN.write_text("[Unit]\nStartLimitIntervalSec=0\n")
    CONFIG.write_text("[limits]\njobs_kept = 10000\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "kldload-kvmd")
    try:
        yield
    finally:
        DROP_IN.unlink()
        DROP_IN.parent.rmdir()
        CONFIG.unlink()
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "kldload-kvmd")


def left_over() -> None:
    """Take away what would stand in the way of taking away everything."""
    for row in run("zfs", "list", "-Hp", "-t", "snapshot", "-o", "name,userrefs").stdout.splitlines():
        name, holds = row.split("\t")
        if holds != "0":
            run("zfs", "release", HOLD, name, check=False)
    for name in run("zfs", "list", "-H", "-o", "name", "-d", "1", "rpool").stdout.split():
        if "/doomed-" in name:
            run("zfs", "destroy", "-R", name, check=False)
