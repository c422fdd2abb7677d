"""Disks that lose what was not flushed: each is served by an nbdkit of its own, which keeps writes to itself until QEMU
asks for a flush. Killed together with QEMU, it takes with it what a real disk would have lost with its power.

Nothing less would do: what QEMU has written into a file stays in this machine's page cache when QEMU is killed.
"""

from __future__ import annotations

import time
from pathlib import Path

from . import places
from .call import call
from .say import LabError

PATIENCE = 20.0


def serve(directory: Path, label: str) -> int:
    """Start the server of `<directory>/<label>.img`; give its pid. It takes connections then.

    It goes into the background by itself: in the foreground it would end with the thread that started it.
    """
    path, number = socket_path(directory, label), directory / f"{label}.pid"
    for left in (path, number):
        left.unlink(missing_ok=True)
    where = ["--unix", path, "--pidfile", number, "--log=null", "--filter=cache"]
    call(["setsid", "nbdkit", *where, "file", image(directory, label), "cache=writeback"])
    deadline = time.monotonic() + PATIENCE
    while not number.exists() or not number.read_text().endswith("\n"):
        if time.monotonic() > deadline:
            raise LabError(f"nbdkit does not serve {image(directory, label)}", f"no {number} after {PATIENCE:.0f} s")
        time.sleep(0.02)
    return int(number.read_text())


def image(directory: Path, label: str) -> Path:
    """The file that a disk is kept in. It also stands on the command line of its server, and of no other process."""
    return directory / f"{label}.img"


def socket_path(directory: Path, label: str) -> Path:
    """Where QEMU finds the server of a disk."""
    return places.socket_path(directory, f"{label}.sock")
