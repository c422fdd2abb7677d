"""One scene for each operation: a host on which it makes sense, and the call that starts it. All with blank disks.

A new operation joins the kill matrix with a scene here; tests/unit/test_scenarios.py holds that none is forgotten.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import image_files
from host import ROOT, call, data, domains, find, foreign, run, undefine, virsh_each, vms, wait_until, zfs

DISKS = Path("/dev/zvol/rpool/vms")
STORE = Path("/var/lib/libvirt/isos")
FILLED = 4 << 20
"""Bytes in a disk's beginning that are one letter. All others are zero."""
IMAGE = "kill-matrix.raw"
BYSTANDER = "bystander"
OBEYS = bytes.fromhex(
    "ba02b0 b80001 ef fb"  # mov dx, b002h; mov ax, 100h; out dx, ax; sti: let the power button be seen
    "f4 ba00b0 ed f6c401 74f6"  # hlt; mov dx, b000h; in ax, dx; test ah, 1; jz to hlt: until it was pressed
    "ba04b0 b80020 ef ebfe"  # mov dx, b004h; mov ax, 2000h; out dx, ax; jmp $: off
)
"""A boot sector's beginning, for a q35 with a BIOS: goes off when its power button is pressed."""


@dataclass(frozen=True)
class Scene:
    """prepare: makes the host ready; path, interface, method, arguments, options: the call, in busctl's words.

    When it was done: adds, removes: endings of the names of datasets and snapshots that are there, or gone, then;
    replaces: of those with the names of others that are gone; states: of the domains; autostarts: those of them that
    start with the host; contents: the letter that web-1's disk is filled with; copies: what other disks hold the
    same as, a disk or an image; removes_images: from the store.
    """

    prepare: Callable[[], None]
    path: Callable[[], str]
    interface: str
    method: str
    signature: str = ""
    arguments: tuple[str, ...] | Callable[[], tuple[str, ...]] = ()
    options: tuple[tuple[str, str, str], ...] = ()
    adds: frozenset[str] = frozenset()
    removes: frozenset[str] = frozenset()
    states: Mapping[str, str] | None = None
    contents: str = "A"
    replaces: frozenset[str] = frozenset()
    autostarts: frozenset[str] = frozenset()
    copies: Mapping[str, str] = field(default_factory=dict)
    removes_images: frozenset[str] = frozenset()

    def start(self, *more: tuple[str, str, str]) -> str:
        """Call it, and give the job's path."""
        options = (*self.options, *more)
        flat = [word for option in options for word in option]
        signature = f"{self.signature}a{{sv}}"
        given = self.arguments() if callable(self.arguments) else self.arguments
        done = call(self.path(), self.interface, self.method, signature, *given, str(len(options)), *flat)
        return str(data(done)[0])


def fresh(scene: Scene) -> None:
    """The scene's host, whatever was there of one before. The bystander stays."""
    clear()
    scene.prepare()


def clear() -> None:
    """Nothing is left but the bystander."""
    others = [name for name in domains() if name != BYSTANDER]
    virsh_each("destroy", others)
    for volume in (BYSTANDER, f"{BYSTANDER}.nvram"):
        run("zfs", "destroy", f"rpool/vms/{volume}@all", check=False)
    origins_last = sorted(set(zfs("list", "-H", "-o", "name", "-d", "1", "rpool/vms")[1:]), reverse=True)
    for name in origins_last:
        if f"/{BYSTANDER}" not in name and not name.endswith("/isos"):
            run("zfs", "destroy", "-R", name, check=False)
    undefine(*others)
    wait_until(
        lambda: not foreign() and {vm["Name"]["data"] for vm in vms()} <= {BYSTANDER},
        60, "the service sees what is gone",
    )  # fmt: skip


def bystander() -> None:
    """A running VM that is not to notice anything."""
    run("kvm-create", BYSTANDER, "--disk", "64M", "--ram", "256", "--cpus", "1")
    fill(BYSTANDER, "C")
    run("kvm-snap", BYSTANDER, "@kept")
    run("kvm-vm", "start", BYSTANDER)


def fill(name: str, letter: str) -> None:
    run("dd", f"of={DISKS / name}", "bs=1M", "conv=fsync", "status=none", stdin=letter * FILLED)


def vm(*more: str) -> None:
    run("kvm-create", "web-1", "--disk", "64M", "--ram", "256", "--cpus", "1", *more)
    fill("web-1", "A")


def off() -> None:
    vm()


def running() -> None:
    vm()
    run("kvm-vm", "start", "web-1")


def obedient() -> None:
    """A running guest that goes off as soon as it is asked to."""
    made_by_virsh()
    run("kvm-adopt", "web-1")
    with (DISKS / "web-1").open("r+b") as disk:
        disk.write(OBEYS.ljust(510, b"A") + b"\x55\xaa")
        disk.flush()
        os.fsync(disk.fileno())
    run("kvm-vm", "start", "web-1")
    registers = ("virsh", "qemu-monitor-command", "web-1", "--hmp", "info registers")
    wait_until(lambda: "EIP=00007c" in run(*registers).stdout, 60, "the guest has booted from its disk")


def snapshotted() -> None:
    vm()
    run("kvm-snap", "web-1", "@stable")
    fill("web-1", "B")
    run("kvm-snap", "web-1", "@later")


def snapshotted_and_running() -> None:
    snapshotted()
    run("kvm-vm", "start", "web-1")


def paused() -> None:
    running()
    run("kvm-vm", "pause", "web-1")


def with_image() -> None:
    if IMAGE in run("kvm-image", "list").stdout:
        return
    disk = image_files.disk(Path("/var/tmp") / IMAGE)
    run("kvm-image", "add", str(disk))
    disk.unlink()


def two_disks() -> None:
    vm()
    run("kvm-vm", "attach-disk", "web-1", "64M")


def deleted() -> None:
    snapshotted()
    run("kvm-delete", "web-1")


def made_by_virsh() -> None:
    """A domain that others made, on a volume of nobody's."""
    run("zfs", "create", "-s", "-V", "64M", "rpool/vms/web-1")
    wait_until((DISKS / "web-1").exists, 30, "the device appears")
    fill("web-1", "A")
    run("virsh", "define", "/dev/stdin", stdin=THEIRS)


def made_on_files() -> None:
    """A domain that others made on a qcow2 file and a raw one, which only root may open; the pictures show the files of
    the store."""
    raw, qcow2 = STORE / "kill-matrix-2.img", STORE / "kill-matrix-1.qcow2"
    with raw.open("wb") as file:
        file.write(b"A" * FILLED)
        file.truncate(64 << 20)
    image_files.converted(raw, qcow2)
    for path in (raw, qcow2):
        path.chmod(0o600)
    first = THEIRS.replace("type='block' device", "type='file' device").replace("'raw'", "'qcow2'")
    first = first.replace(f"dev='{DISKS}/web-1'", f"file='{qcow2}'")
    second = f"<disk type='file' device='disk'><source file='{raw}'/><target dev='vdb' bus='virtio'/></disk>"
    run("virsh", "define", "/dev/stdin", stdin=first.replace("</devices>", f"{second}</devices>"))


def entry() -> tuple[str, ...]:
    """The id of the newest entry of the trash."""
    return (str(data(call(ROOT, "Manager", "ListTrash"))[0][0]["id"]["data"]),)


def one_entry() -> tuple[str, ...]:
    return ("1", *entry())


def first_card() -> tuple[str, ...]:
    """The address of web-1's only network card."""
    return (run("virsh", "domiflist", "--inactive", "web-1").stdout.split()[-1],)


def web_1() -> str:
    return find("web-1")


def root() -> str:
    return ROOT


def storage() -> str:
    return f"{ROOT}/storage/rpool"


THEIRS = f"""<domain type='qemu'>
  <name>web-1</name>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <disk type='block' device='disk'><driver name='qemu' type='raw'/>
      <source dev='{DISKS}/web-1'/><target dev='vda' bus='virtio'/></disk>
  </devices>
</domain>
"""
SMALL = (("disk", "t", str(64 << 20)), ("memory", "t", str(256 << 20)), ("vcpus", "u", "1"))

OFF, RUNNING, PAUSED = {"web-1": "shut off"}, {"web-1": "running"}, {"web-1": "paused"}
ENTRY = "/.trash/web-1-TIME"
TRASH = frozenset({ENTRY})
BOTH = ("/web-1", "/web-1.nvram")


def each(*names: str, at: str = "", below: str = "") -> frozenset[str]:
    """Those volumes' snapshots of that name, or themselves, below a dataset."""
    return frozenset(f"{below}{name}{at}" for name in names)


SNAPSHOTS = each(*BOTH, at="@stable") | each(*BOTH, at="@later")
IN_TRASH = {ENTRY} | each(*BOTH, below=ENTRY) | frozenset(f"{ENTRY}{name}" for name in SNAPSHOTS)


def operation_of(scene: str) -> str:
    """What a scene is about: "vm.adopt" of "vm.adopt/files"."""
    return scene.partition("/")[0]


SCENES: Mapping[str, Scene] = {
    "vm.create": Scene(
        with_image, root, "Manager", "CreateVm", "s", ("web-2",),
        (("disk", "t", str(64 << 20)), *SMALL[1:], ("image", "s", IMAGE), ("start", "b", "true")),
        adds=each("/web-2", "/web-2.nvram", "/web-2.seed"), states={"web-2": "running"}, contents="",
        copies={"web-2": IMAGE},
    ),
    "vm.adopt": Scene(made_by_virsh, root, "Manager", "Adopt", "s", ("web-1",), states=OFF),
    "vm.adopt/files": Scene(
        made_on_files, root, "Manager", "Adopt", "s", ("web-1",), adds=each("/web-1", "/web-1.vdb"), states=OFF,
    ),
    "vm.start": Scene(off, web_1, "Vm", "Start", states=RUNNING),
    "vm.shutdown": Scene(
        obedient, web_1, "Vm", "Shutdown", options=(("timeout", "u", "60"),), states=OFF, contents="",
        copies={"web-1": "web-1"},
    ),
    "vm.force-off": Scene(running, web_1, "Vm", "ForceOff", states=OFF),
    "vm.reboot": Scene(running, web_1, "Vm", "Reboot", states=RUNNING),
    "vm.pause": Scene(running, web_1, "Vm", "Pause", states=PAUSED),
    "vm.resume": Scene(paused, web_1, "Vm", "Resume", states=RUNNING),
    "vm.autostart": Scene(
        off, web_1, "Vm", "SetAutostart", "b", ("true",), states=OFF, autostarts=frozenset({"web-1"}),
    ),
    "vm.snapshot": Scene(
        running, web_1, "Vm", "Snapshot", options=(("name", "s", "now"),), adds=each(*BOTH, at="@now"), states=RUNNING,
    ),
    "vm.rollback": Scene(
        snapshotted_and_running, web_1, "Vm", "Rollback",
        options=(("snapshot", "s", "stable"), ("force", "b", "true"), ("start", "b", "true")),
        adds=TRASH | each(*BOTH, below=ENTRY) | each(*BOTH, at="@later", below=ENTRY),
        removes=each(*BOTH, at="@later"), replaces=each(*BOTH), states=RUNNING,
    ),
    "vm.delete-snapshot": Scene(
        snapshotted, web_1, "Vm", "DeleteSnapshot", "s", ("stable",),
        removes=each(*BOTH, at="@stable"), states=OFF, contents="B",
    ),
    "vm.clone": Scene(
        running, web_1, "Vm", "Clone", "as", ("2", "web-2", "web-3"), (("start", "b", "true"),),
        adds=each(*BOTH, at="@clone-TIME") | each("/web-2", "/web-2.nvram", "/web-3", "/web-3.nvram"),
        states={"web-1": "running", "web-2": "running", "web-3": "running"},
        copies={"web-2": "web-1", "web-3": "web-1"},
    ),
    "vm.delete": Scene(
        snapshotted_and_running, web_1, "Vm", "Delete", options=(("force", "b", "true"),),
        adds=TRASH | each(*BOTH, below=ENTRY)
        | each(*BOTH, at="@stable", below=ENTRY) | each(*BOTH, at="@later", below=ENTRY),
        removes=each(*BOTH) | SNAPSHOTS, states={}, contents="",
    ),
    "vm.snapshot-all": Scene(
        running, root, "Manager", "SnapshotAll", options=(("name", "s", "all"),),
        adds=each(*BOTH, "/bystander", "/bystander.nvram", at="@all"), states=RUNNING,
    ),
    "vm.attach-disk": Scene(
        running, web_1, "Vm", "AttachDisk", "t", (str(64 << 20),), adds=each("/web-1.vdb"), states=RUNNING,
    ),
    "vm.detach-disk": Scene(
        two_disks, web_1, "Vm", "DetachDisk", "s", ("vdb",),
        adds=TRASH | each("/web-1.vdb", below=ENTRY), removes=each("/web-1.vdb"), states=OFF,
    ),
    "vm.attach-nic": Scene(running, web_1, "Vm", "AttachNic", states=RUNNING),
    "vm.detach-nic": Scene(off, web_1, "Vm", "DetachNic", "s", first_card, states=OFF),
    "vm.rename": Scene(
        snapshotted, web_1, "Vm", "Rename", "s", ("web-9",),
        adds=each("/web-9", "/web-9.nvram") | each("/web-9", "/web-9.nvram", at="@stable")
        | each("/web-9", "/web-9.nvram", at="@later"),
        removes=each(*BOTH) | each(*BOTH, at="@stable") | each(*BOTH, at="@later"),
        states={"web-9": "shut off"}, contents="", copies={"web-9": "web-1"},
    ),
    "vm.resize": Scene(running, web_1, "Vm", "Resize", "st", ("vda", str(128 << 20)), states=RUNNING),
    "vm.set-memory": Scene(running, web_1, "Vm", "SetMemory", "t", (str(192 << 20),), states=RUNNING),
    "vm.set-vcpus": Scene(running, web_1, "Vm", "SetVcpus", "u", ("2",), states=RUNNING),
    "vm.set-storage-options": Scene(
        running, web_1, "Vm", "SetStorageOptions", options=(("primarycache", "s", "all"),), states=RUNNING,
    ),
    "vm.template": Scene(off, web_1, "Vm", "SetTemplate", "b", ("true",), states=OFF),
    "trash.restore": Scene(
        deleted, root, "Manager", "RestoreTrash", "s", entry,
        adds=each(*BOTH) | SNAPSHOTS, removes=IN_TRASH, states=OFF, contents="B",
    ),
    "trash.purge": Scene(
        deleted, root, "Manager", "PurgeTrash", "as", one_entry,
        removes=IN_TRASH, states={}, contents="",
    ),
    "image.remove": Scene(
        with_image, storage, "Storage", "Remove", "s", (IMAGE,), states={}, contents="",
        removes_images=frozenset({IMAGE}),
    ),
}  # fmt: skip

LEFT_OUT = {
    "vm.prune-snapshots": "a snapshot is due after an hour at the soonest, and zfs makes none that is older than it is",
    "vm.export": "busctl cannot pass its file; nothing of the VM is changed, and its clone goes as those of vm.clone",
    "image.add": "busctl cannot pass its file; one that is half copied is removed at the next start",
    "host.fix": "its pictures are of the host, not of VMs: tests/lab/test_host.py kills it",
    "host.setup": "the same steps as host.fix",
    "host.bridge": "its pictures are of the host's network: tests/lab/test_bridge.py kills it",
    "vm.renew-identity": "it is no method, and what it does in a guest may be done twice",
}
"""Operations without a scene, and why."""
