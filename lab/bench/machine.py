"""The QEMU process of a node: its command line, its start, its end.

Every node starts on new disks: an overlay on the cached image (where lossy: a copy), and empty disks for the pools.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import lossy, places, process, qmp, shell
from .call import call
from .image import BenchImage
from .node import Node
from .say import LabError

POOLS = {"rpool": 30 << 30, "vmpool": 20 << 30}  # bytes, sparse
MEMORY = "8G"
COCKPIT = 9090


@dataclass(frozen=True)
class Shape:
    """What a bench is made with."""

    image: BenchImage
    guests: Path
    accelerated: bool
    memory: str = ""  # MEMORY, if nothing else is asked for
    lossy: bool = False
    suite: str = ""


def start(name: str, number: int, shape: Shape) -> Node:
    """Start a node on new disks; give it before it answers."""
    directory = places.node_dir(name, number)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    if shape.lossy:
        call(["cp", "--sparse=always", "--reflink=auto", shape.image.disk, directory / "root.img"])
    else:
        call(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", shape.image.disk, directory / "root.qcow2"])
    for pool, size in POOLS.items():
        with (directory / f"{pool}.img").open("wb") as disk:
            disk.truncate(size)
    ssh_port, cockpit_port = _free_ports(2)
    node = Node(
        name, number, 0, str(shape.image.directory), str(shape.guests), ssh_port, cockpit_port, shape.accelerated,
        memory=shape.memory, suite=shape.suite,
    )  # fmt: skip
    if shape.lossy:
        node = _with_servers(node)
    return _with_qemu(node)


def _with_servers(node: Node) -> Node:
    for label in ("root", *POOLS):
        node = node.saved(servers=node.servers | {label: lossy.serve(node.directory, label)})
    return node


def _with_qemu(node: Node) -> Node:
    with node.qemu_log.open("wb") as log:
        started = subprocess.Popen(
            _command(node), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    return node.saved(pid=started.pid)


def stop(node: Node) -> None:
    """End a node at once and take its disks away. Nothing in it is kept, so nothing is asked to shut down."""
    if node.alive():
        _hang_up(node)
        with contextlib.suppress(LabError):  # it is ended by its number then
            qmp.ask(node.qmp, "quit", timeout=2)
    process.end(node.pid, node.mark)
    for label, pid in node.servers.items():
        process.kill(pid, str(lossy.image(node.directory, label)))
    sockets = [lossy.socket_path(node.directory, label) for label in node.servers]
    for path in (*map(node.ssh_socket, shell.USERS), node.qmp, *sockets):
        path.unlink(missing_ok=True)
    shutil.rmtree(node.directory, ignore_errors=True)


def _command(node: Node) -> list[str]:
    image = BenchImage(Path(node.image))
    identity = f"6b6c646c6f61646b766d6c6162{node.number:06x}"
    kernel_line = (
        "root=LABEL=lab-root rw console=ttyS0 quiet mitigations=off "
        f"systemd.hostname=lab{node.number} systemd.machine_id={identity}"
    )
    return [
        *("qemu-system-x86_64", "-name", f"kldload-lab-{node.name}-{node.number}"),
        *(
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-machine",
            "q35",
            "-smp",
            "2",
            "-m",
            node.memory or MEMORY,
        ),
        *_processor(node.accelerated),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", kernel_line),
        *(_lossy_disks(node) if node.lossy else _disks(node)),
        *_disk("guests", f"file={node.guests},format=raw,cache=unsafe,read-only=on"),
        *("-netdev", _outside(node), "-device", f"virtio-net-pci,netdev=outside,mac=52:54:00:6b:76:{node.number:02x}"),
        *("-netdev", _cable(node), "-device", f"virtio-net-pci,netdev=cable,mac=52:54:00:6b:77:{node.number:02x}"),
        *("-device", "virtio-rng-pci"),
        *("-serial", f"file:{node.console}", "-qmp", f"unix:{node.qmp},server=on,wait=off"),
    ]


def _processor(accelerated: bool) -> list[str]:
    """Real KVM, or emulation without SVM: guests accelerated by an emulated SVM end the outer QEMU at random.

    Five-level page tables are off because the emulator would walk each of them.
    """
    if accelerated:
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max,svm=off,la57=off"]


def _disks(node: Node) -> list[str]:
    """Fast ones: whatever is written is there as long as this machine is."""
    how = "cache=unsafe,discard=unmap"
    return [
        *_disk("root", f"file={node.directory}/root.qcow2,format=qcow2,{how}"),
        *(word for pool in POOLS for word in _disk(pool, f"file={node.directory}/{pool}.img,format=raw,{how}")),
    ]


def _lossy_disks(node: Node) -> list[str]:
    """Each with its server, which is told of the guest's flushes. Discards would go past what the server keeps back."""
    how = "file.driver=nbd,file.server.type=unix,format=raw,cache=writeback,discard=ignore"
    return [
        word
        for label in node.servers
        for word in _disk(label, f"file.server.path={lossy.socket_path(node.directory, label)},{how}")
    ]


def _disk(label: str, drive: str) -> list[str]:
    return [
        *("-drive", f"if=none,id={label},{drive}"),
        *("-device", f"virtio-blk-pci,drive={label},serial=lab-{label}"),
    ]


def _outside(node: Node) -> str:
    """A network that leads nowhere but to the forwarded ports on loopback."""
    forwards = (f"hostfwd=tcp:127.0.0.1:{node.ssh_port}-:22", f"hostfwd=tcp:127.0.0.1:{node.cockpit_port}-:{COCKPIT}")
    return ",".join(("user", "id=outside", "restrict=on", *forwards))


def _cable(node: Node) -> str:
    """The cable to the other node, whether or not that is there."""
    near = places.socket_path(node.directory, "cable.sock")
    far = places.socket_path(places.node_dir(node.name, 3 - node.number), "cable.sock")
    return f"dgram,id=cable,local.type=unix,local.path={near},remote.type=unix,remote.path={far}"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def power_cut(node: Node) -> Node:
    """What pulling the plug and putting it in again does; give the node as it is then.

    Of a lossy node everything ends that holds what was not flushed. Any other is reset, with the disks as they are.
    """
    if node.lossy:
        _lose_power(node)
        return _with_qemu(_with_servers(node))
    _hang_up(node)
    qmp.ask(node.qmp, "system_reset")
    return node


def _lose_power(node: Node) -> None:
    """All at one moment: the processors stand still before the first disk is gone, so that none learns of that."""
    process.kill(node.pid, node.mark, signal.SIGSTOP)
    for label, pid in node.servers.items():
        process.kill(pid, str(lossy.image(node.directory, label)))
    process.kill(node.pid, node.mark)
    for label, pid in node.servers.items():
        process.end(pid, str(lossy.image(node.directory, label)))
    process.end(node.pid, node.mark)
    _hang_up(node)


def _hang_up(node: Node) -> None:
    for user in shell.USERS:
        shell.control(node, "exit", user)
