"""The device nodes of volumes: waiting for them, checking that they are what their names say, writing to them.

The link below /dev/zvol can be missing, late, or point to another volume after a rename, so nothing is
written before the kernel has told, by BLKZNAME, whose node it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TypeVar

from ..model.errors import Busy, TimedOut, ZfsFailed
from ..model.foreign_image import SECTOR
from ..model.inventory import device

BLKZNAME = 0x8100127D  # _IOR(0x12, 125, char[256]): zvol_ioctl in OpenZFS; 0x127d alone would be a discard
CHUNK = 1 << 20
BLOCK = Path("/sys/dev/block")
RELINKING = 15.0
MOVING = (errno.ENOENT, errno.ENXIO, errno.ESTALE, errno.EBUSY)
A = TypeVar("A")
T = TypeVar("T")


class Devices:
    """Which volumes have their node. `appeared` is called by watch/ for each link that udev makes."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    def appeared(self, dataset: str) -> None:
        for event in self._waiting.get(dataset, ()):
            event.set()

    async def wait(self, dataset: str, timeout: float = 60.0) -> str:
        """The path of a volume's node, once it is there and is that volume. Raises TimedOut."""
        event = asyncio.Event()
        self._waiting[dataset].add(event)
        try:
            end = asyncio.get_running_loop().time() + timeout
            while not await asyncio.to_thread(is_node_of, device(dataset), dataset):
                left = end - asyncio.get_running_loop().time()
                if left <= 0:
                    hint = "udevadm trigger --subsystem-match=block makes udev look again"
                    what = f"the device of volume {dataset} did not appear"
                    raise TimedOut(what, f"{device(dataset)} is not there, or is another volume's", hint)
                # udev's event is the rule; the second look is for one that was missed.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), min(left, 1.0))
                event.clear()
            return device(dataset)
        finally:
            self._waiting[dataset].discard(event)
            if not self._waiting[dataset]:
                del self._waiting[dataset]

    async def write(self, dataset: str, contents: bytes) -> None:
        """Write contents to the beginning of a volume of our own that no guest has seen, and see them on disk."""
        await self._with_node(f"the volume {dataset} was not written", dataset, _write, contents)

    async def read(self, dataset: str, most: int) -> bytes:
        """At most so many bytes from the beginning of a volume."""
        return await self._with_node(f"the volume {dataset} was not read", dataset, _read, most)

    async def _with_node(self, what: str, dataset: str, work: Callable[[str, str, A], T], argument: A) -> T:
        """Do some blocking work with the node; once more if udev was just making its link anew (seen on the bench)."""
        end = asyncio.get_running_loop().time() + RELINKING
        while True:
            path = await self.wait(dataset)
            try:
                return await asyncio.to_thread(work, path, dataset, argument)
            except OSError as fault:
                if fault.errno not in MOVING or asyncio.get_running_loop().time() > end:
                    raise ZfsFailed(what, fault.strerror or str(fault), "") from None
            await asyncio.sleep(0.1)

    async def open(self, dataset: str) -> int:
        """A descriptor of our own of a volume's node, for reading; the caller closes it."""
        return await self._with_node(f"the volume {dataset} was not opened", dataset, _checked, os.O_RDONLY)

    async def kernel_name(self, dataset: str) -> str:
        """The name of a volume's node in the kernel, such as zd16, by its number: the link may be on the move."""
        return await self._with_node(f"the volume {dataset} was not found", dataset, _kernel_name, None)

    async def check_closed(self, *datasets: str) -> None:
        """Raises Busy, naming who, if a program on this host has the node of one of these volumes open."""
        for dataset, users in (await self.held(datasets)).items():
            hint = "end it, or shut the VM down, and try again"
            raise Busy(f"the volume {dataset} is in use", f"its device is held by {', '.join(users)}", hint)

    async def held(self, datasets: Collection[str]) -> dict[str, list[str]]:
        """Of the volumes whose node somebody on this host has open: who."""
        return await asyncio.to_thread(_held, datasets)

    async def writers(self, datasets: Iterable[str]) -> dict[str, list[str]]:
        """The programs on this host that have a volume's node open for writing, for each volume that has any."""
        return await asyncio.to_thread(_writers, list(datasets))


def _numbers(datasets: Iterable[str]) -> dict[int, str]:
    """The volumes by the numbers of their nodes. One that has no node is left out: nobody has that open."""
    numbers = {}
    for dataset in datasets:
        with contextlib.suppress(OSError):
            numbers[Path(device(dataset)).stat().st_rdev] = dataset
    return numbers


def _held(datasets: Collection[str]) -> dict[str, list[str]]:
    numbers = _numbers(datasets) if len(datasets) > 1 else None
    if numbers is not None and not _programs_at(numbers) and not any(map(_held_by_kernel, numbers)):
        return {}  # as it is nearly always: one look at all
    return {dataset: users for dataset in datasets if (users := holders(device(dataset)))}


def _writers(datasets: Iterable[str]) -> dict[str, list[str]]:
    numbers = _numbers(datasets)
    if not _programs_at(numbers, writing=True):  # as it is nearly always: one look at all
        return {}
    return {dataset: users for number, dataset in numbers.items() if (users := _programs_at({number}, writing=True))}


def sizes(datasets: Iterable[str]) -> dict[str, int]:
    """What the kernel says of the sizes of volumes' nodes, in bytes, without opening any; those without a node are left
    out. A link may be another volume's after a rename: a hint, and no more."""
    found = {}
    for dataset in datasets:
        with contextlib.suppress(OSError, ValueError):
            found[dataset] = size_of(os.stat(device(dataset)).st_rdev)  # noqa: PTH116 - each minute, of every volume
    return found


def size_of(number: int) -> int:
    """The size in bytes of the block device of that number. Raises OSError or ValueError where it is not told."""
    fd = os.open(f"{BLOCK}/{os.major(number)}:{os.minor(number)}/size", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(fd, 32)) * SECTOR  # in units of 512 bytes, whatever the device's own are
    finally:
        os.close(fd)


def is_node_of(path: str, dataset: str) -> bool:
    """Whether the node at `path` is that volume's, as the kernel tells."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return _name_of(fd) == dataset
    finally:
        os.close(fd)


def _name_of(fd: int) -> str:
    try:
        answer = fcntl.ioctl(fd, BLKZNAME, bytes(256))
    except OSError:
        return ""
    return answer.partition(b"\0")[0].decode("utf-8", "replace")


def _checked(path: str, dataset: str, flags: int) -> int:
    fd = os.open(path, flags | os.O_CLOEXEC)
    if _name_of(fd) != dataset:
        os.close(fd)
        raise OSError(errno.ESTALE, f"{path} is not that volume")
    return fd


def _write(path: str, dataset: str, contents: bytes) -> None:
    fd = _checked(path, dataset, os.O_WRONLY | os.O_EXCL)
    try:
        view = memoryview(contents)
        while view:
            view = view[os.write(fd, view[:CHUNK]) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _kernel_name(path: str, dataset: str, _: None) -> str:
    fd = _checked(path, dataset, os.O_RDONLY)
    try:
        number = os.fstat(fd).st_rdev
    finally:
        os.close(fd)
    return Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name


def _read(path: str, dataset: str, most: int) -> bytes:
    fd = _checked(path, dataset, os.O_RDONLY)
    try:
        parts = []
        while most > 0 and (part := os.read(fd, min(most, CHUNK))):
            parts.append(part)
            most -= len(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def holders(path: str) -> list[str]:
    """The programs that have a block device open, or what in the kernel holds it, by name."""
    try:
        number = Path(path).stat().st_rdev
    except FileNotFoundError:
        return []
    return _held_by_kernel(number) + _programs_at({number})


def _held_by_kernel(number: int) -> list[str]:
    """What in the kernel holds the block device of that number."""
    node = f"{os.major(number)}:{os.minor(number)}"
    found = [f"{_mapped(each)} (device mapper or RAID)" for each in Path(f"/sys/dev/block/{node}/holders").glob("*")]
    return found + [f"the file system on {where}" for where in _mounted(node)]


def _programs_at(numbers: Collection[int], writing: bool = False) -> list[str]:
    """The programs that have a block device of one of these numbers open."""
    return programs_with(lambda each: each.st_rdev in numbers and stat.S_ISBLK(each.st_mode), writing)


def programs_with_file(about: os.stat_result, writing: bool = False) -> list[str]:
    """The programs, but this one, that have a file open, by name. writing: only those that have it open for that."""
    return programs_with(lambda each: (each.st_dev, each.st_ino) == (about.st_dev, about.st_ino), writing)


def programs_with(is_it: Callable[[os.stat_result], bool], writing: bool = False) -> list[str]:
    """The programs, but this one, that have something open, by name. writing: only those that have it open for that."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name != str(os.getpid()) and _has_open(process, is_it, writing):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                found.append(f"{(process / 'comm').read_text().strip()} ({process.name})")
    return found


def _mapped(holder: Path) -> str:
    """What device mapper calls it, such as vg-root, or its kernel name."""
    try:
        return (holder / "dm" / "name").read_text(encoding="utf-8").strip()
    except OSError:
        return holder.name


def _mounted(node: str) -> list[str]:
    """Where the host has a block device mounted: proc(5), mountinfo, of the host's own namespace if it can be read."""
    for who in ("1", "self"):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{who}/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
            return sorted({fields[4] for line in lines if (fields := line.split())[2] == node})
    return []


def _has_open(process: Path, is_it: Callable[[os.stat_result], bool], writing: bool) -> bool:
    try:
        for each in os.scandir(process / "fd"):
            with contextlib.suppress(OSError):
                if is_it(each.stat()) and (not writing or _for_writing(process / "fdinfo" / each.name)):
                    return True
    except OSError:
        pass  # it ended meanwhile, or is a kernel thread
    return False


def _for_writing(about: Path) -> bool:
    """What proc(5) tells of a descriptor: "flags:\t0100002", in octal."""
    lines = about.read_text(encoding="ascii").splitlines()
    return any(int(each.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY for each in lines if each.startswith("flags:"))
