"""The files and devices that domains of others have as their disks: what is in them, that nobody writes to them, and
each opened so that a helper can be given it and nothing else.

The paths come from libvirt's definitions. What stands at the end of one must be a regular file, never a link, or a
device below /dev. All of this blocks, on a hanging file system for ever: to be run in a thread of its own.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from ..model import qcow2
from ..model.errors import BadImage, Busy, KvmError, NotFound, WrongState
from ..model.foreign_image import SECTOR
from ..model.image_header import HEAD
from ..model.image_limits import Refused
from ..model.source_disks import BLOCK, NVRAM, SourceDisk
from ..zfs.devices import holders, programs_with_file, size_of
from .copying import kind_of
from .store import header_of

WRITING = (101, 103)
"""Bytes of a file that QEMU and its tools lock when they write to it, or change its size (QEMU, block/file-posix.c)."""
_LOCK = struct.Struct("hhqqi4x")
HIDDEN = ("/home/", "/root/", "/tmp/", "/var/tmp/", "/run/user/")  # noqa: S108 -- nothing is made there
"""What the service's sandbox keeps out of its sight."""


@dataclass(frozen=True)
class Look:
    """identity: tells whether it is still the same, and unchanged; size: bytes of the disk in it; occupied: bytes that
    it takes at the most, 0 if that cannot be told; snapshots: how many are inside."""

    identity: str
    size: int
    occupied: int = 0
    snapshots: int = 0


@dataclass(frozen=True)
class Opened:
    """path: by which systemd opens it for a helper; device: its number, if it is one; file: ours, none of a device.
    What is forgotten is closed: whoever asked for it may be gone."""

    path: Path
    device: str = ""
    file: FileIO | None = None

    def close(self) -> None:
        if self.file:
            self.file.close()


def look(disk: SourceDisk, domain: str, what: str) -> Look:
    """What a disk of that domain is. what: was not done. Raises KvmError."""
    if disk.kind == BLOCK:
        number, size = _device(disk, what)
        if not size:
            raise WrongState(what, f"{_named(disk)} has no size", "")
        return Look(_identity_of_device(number, size), size)
    fd = _open(disk, what)
    try:
        about = os.fstat(fd)
        if _is_locked(fd):
            hint = "shut down whatever uses it; lslocks -u tells what does"
            raise Busy(what, f"{_named(disk)} is open for writing, in QEMU or one of its tools", hint)
        size, snapshots = _size_of(fd, about, disk, domain, what)
        return Look(_identity_of_file(about), size, min(about.st_blocks * 512, size), snapshots)
    finally:
        os.close(fd)


def identity(kind: str, path: str) -> str:
    """Tells whether what is at the path is still the same; empty if nothing is there."""
    with suppress(OSError):
        if kind == BLOCK:
            return _identity_of_device(number := Path(path).stat().st_rdev, size_of(number))
        return _identity_of_file(Path(path).lstat())
    return ""


def open_unused(disk: SourceDisk, planned: str, what: str) -> Opened:
    """Open a disk that nobody writes to. planned: its identity then. what: was not done. Raises KvmError."""
    if disk.kind == BLOCK:
        number, size = _device(disk, what)
        _check_same(_identity_of_device(number, size), planned, disk, what)
        real = os.path.realpath(disk.path)
        if users := holders(real):
            raise _in_use(disk, users, what)
        return Opened(Path(real), f"{os.major(number)}:{os.minor(number)}")
    fd = _open(disk, what)
    try:
        about = os.fstat(fd)
        _check_same(_identity_of_file(about), planned, disk, what)
        if users := _writers(about) or (["QEMU, or one of its tools"] if _is_locked(fd) else []):
            raise _in_use(disk, users, what)
    except BaseException:
        os.close(fd)
        raise
    return Opened(Path(f"/proc/{os.getpid()}/fd/{fd}"), file=FileIO(fd))


def _open(disk: SourceDisk, what: str) -> int:
    try:
        # Without waiting for the writer of a pipe; as a regular file is told by fstat, no device is opened to be told.
        fd = os.open(disk.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as fault:
        raise _not_opened(disk, fault, what) from None
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode):
        os.close(fd)
        raise WrongState(what, f"{_named(disk)} is {kind_of(about)}, not a regular file", "virsh edit can name another")
    return fd


def _not_opened(disk: SourceDisk, fault: OSError, what: str) -> KvmError:
    if disk.path.startswith(HIDDEN) and isinstance(fault, FileNotFoundError | PermissionError):
        hint = "move it to /var/lib/libvirt/images, in the domain's definition too: virsh edit"
        return NotFound(what, f"{_named(disk)} is where the service's sandbox does not let it look", hint)
    if Path(disk.path).is_symlink():
        hint = f"name the file itself in the definition, by virsh edit: {os.path.realpath(disk.path)}"
        return WrongState(what, f"{_named(disk)} is a symbolic link", hint)
    hint = "virsh edit can name another"
    return NotFound(what, f"{_named(disk)} cannot be opened: {fault.strerror or fault}", hint)


def _size_of(fd: int, about: os.stat_result, disk: SourceDisk, domain: str, what: str) -> tuple[int, int]:
    """Bytes of the disk in a file, and how many snapshots there are in it. Raises BadImage."""
    if disk.format == "raw":
        if not about.st_size:
            raise BadImage(what, f"{_named(disk)} is empty", "")
        return -(-about.st_size // SECTOR) * SECTOR, 0
    head = os.pread(fd, HEAD, 0)
    if not head.startswith(qcow2.MAGIC):
        hint = f"see what it is, and say so by virsh edit: qemu-img info {shlex.quote(disk.path)}"
        raise BadImage(what, f"{_named(disk)} is no qcow2 image, as its definition says", hint)
    try:
        if below := qcow2.backing_file(head):
            hint = f"make it whole by itself: qemu-img rebase -f qcow2 -b '' {shlex.quote(disk.path)}"
            raise BadImage(what, f"{_named(disk)} is an overlay of another file, {below}", hint)
        size = header_of(fd, image_name(domain, disk), disk.format).virtual_size
    except Refused as refused:
        raise BadImage(what, f"{_named(disk)} cannot be used: {refused.why}", refused.hint) from None
    except BadImage as error:
        if error.what == what:
            raise
        raise BadImage(what, f"{_named(disk)} cannot be used: {error.why}", error.hint) from None
    return size, qcow2.internal_snapshots(head)


def image_name(domain: str, disk: SourceDisk) -> str:
    """What a disk is called in errors of the image helper: by no ending that would claim a format."""
    return f"{domain}'s {disk.target}"


def _device(disk: SourceDisk, what: str) -> tuple[int, int]:
    """Number and size in bytes of a block device. Nothing is opened: the sandbox lets the service open volumes only."""
    real = os.path.realpath(disk.path)
    if not real.startswith("/dev/"):
        raise WrongState(what, f"{_named(disk)} is no device below /dev", "virsh edit can name another")
    try:
        about = Path(real).stat()
    except OSError as fault:
        raise NotFound(what, f"{_named(disk)} is not there: {fault.strerror or fault}", "") from None
    if not stat.S_ISBLK(about.st_mode):
        raise WrongState(what, f"{_named(disk)} is {kind_of(about)}, not a disk", "virsh edit can name another")
    try:
        return about.st_rdev, size_of(about.st_rdev)
    except (OSError, ValueError) as fault:
        raise NotFound(what, f"{_named(disk)} does not tell its size: {fault}", "") from None


def _identity_of_file(about: os.stat_result) -> str:
    return f"{about.st_dev}:{about.st_ino}:{about.st_size}:{about.st_mtime_ns}"


def _identity_of_device(number: int, size: int) -> str:
    return f"{os.major(number)}:{os.minor(number)}:{size}"


def _check_same(now: str, planned: str, disk: SourceDisk, what: str) -> None:
    if now != planned:
        raise WrongState(what, f"{_named(disk)} has been changed or replaced meanwhile", "make a new plan")


def _writers(about: os.stat_result) -> list[str]:
    """Who has a file open for writing, by name: programs, and loop devices."""
    found = programs_with_file(about, writing=True)
    for loop in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):
            backing = Path(loop.read_text(encoding="utf-8").strip()).stat()
            if (backing.st_dev, backing.st_ino) == (about.st_dev, about.st_ino):
                found.append(f"the loop device {loop.parents[1].name}")
    return found


def _is_locked(fd: int) -> bool:
    """Whether QEMU, or a program that comes with it, has told by its locks that it writes to the file."""
    for byte in WRITING:
        with suppress(OSError):  # a file system without locks
            asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
            if _LOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK:
                return True
    return False


def _in_use(disk: SourceDisk, users: list[str], what: str) -> Busy:
    return Busy(what, f"{_named(disk)} is in use: {', '.join(users)}", "end it, and try again")


def _named(disk: SourceDisk) -> str:
    where = "the store of its UEFI variables" if disk.target == NVRAM else f"its disk {disk.target}"
    return f"{where}, {disk.path},"
