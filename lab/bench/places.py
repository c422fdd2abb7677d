"""Where everything lies: the checkout, the cache of images, and the state of a running bench.

~/.cache/kldload-kvm/lab/
    bench/<key>/            root.img, vmlinuz, initrd, the ssh key pair
    lean/<key>/             lean.qcow2
    debian/<key>/           debian.qcow2
    guests/<key>/           guests.img, the read-only disk that carries the guest images into the bench
    run/<name>/             lock
    run/<name>/<node>/      state.json, disks, console.log, qemu.log, sockets
    accel.json              whether this machine's KVM can run the bench
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

LAB = Path(__file__).resolve().parent.parent
CHECKOUT = LAB.parent

# A UNIX socket's path has 108 bytes, and ssh adds seventeen of its own while it makes one.
LONGEST_SOCKET_PATH = 88


def cache() -> Path:
    """The cache's own directory, outside every checkout."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "kldload-kvm" / "lab"


def run_dir(name: str) -> Path:
    """The directory of the bench called `name`."""
    return cache() / "run" / name


def node_dir(name: str, node: int) -> Path:
    """The directory of one node of that bench."""
    return run_dir(name) / str(node)


def socket_path(directory: Path, leaf: str) -> Path:
    """A path for a UNIX socket that belongs to `directory`, elsewhere if it would be too long there.

    >>> socket_path(Path("/run/x"), "ssh.sock")
    PosixPath('/run/x/ssh.sock')
    """
    path = directory / leaf
    if len(str(path)) <= LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(str(directory).encode()).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"kldload-lab-{os.getuid()}-{digest}"
    short.mkdir(mode=0o700, exist_ok=True)
    return short / leaf
