"""Adding a file to an image store from a descriptor that a client opened, and may still change under us.

The file is copied first, and only the copy is looked at. It gets its name last: whoever lists the store sees all of an
image or nothing. Everything that touches the client's file runs in a thread of its own, which a file on a hanging
network or FUSE file system can keep, but nobody waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from ..model.errors import BadImage, InvalidArgument
from ..model.image_name import Format, new_image_name
from ..model.names import shown
from ..waiting import uninterrupted
from .copying import PREFIX, Copy, check_file
from .own_thread import in_own_thread

__all__ = ["Added", "add_from_fd", "check_file", "check_sha256", "clean"]


@dataclass(frozen=True)
class Added:
    """What Storage.Add answers. Sizes in bytes; sha256 in hexadecimal."""

    name: str
    format: Format
    size: int
    virtual_size: int
    sha256: str


def check_sha256(text: str) -> str:
    """A checksum as asked for, in lower case; the empty string for none. Raises InvalidArgument."""
    digits = text.strip().lower()
    if digits and (len(digits) != 64 or digits.strip("0123456789abcdef")):
        hint = "it has 64 hexadecimal digits: sha256sum FILE"
        raise InvalidArgument(f"{shown(text)} is no SHA-256 checksum", "", hint)
    return digits


async def add_from_fd(
    fd: int,
    directory: Path | str,
    name: str,
    format_: Format | None,
    sha256: str,
    report: Callable[[int, int], None],
    inspect: Callable[[Path, Format], Awaitable[object]] | None = None,
    floor: int = 0,
) -> Added:
    """Copy the file behind `fd` into the store as `name`, if it is an image of that format (None: of any).

    sha256: what its checksum must be, or ""; report: bytes copied, and in all; inspect: a further look at the copy, by
    its path and format; floor: bytes that must stay free. The caller keeps `fd`. When it fails or is cancelled, nothing
    is left of it; once it has its name, a cancellation comes too late. Raises InvalidArgument, AlreadyExists, NotFound,
    NoSpace, BadImage, and what `inspect` raises.
    """
    new_image_name(name, format_)
    wanted = check_sha256(sha256)
    copy = Copy(os.dup(fd), Path(directory), name, floor)
    try:
        digest = await _copied(copy, report)
        if wanted and digest != wanted:
            why = f"its checksum is {digest}, not {wanted}"
            raise BadImage(f"{name} was not added", why, "fetch it again, and compare the checksum with its source's")
        header = await asyncio.to_thread(copy.identify, format_)
        if inspect:
            await inspect(copy.path, header.format)
        await uninterrupted(asyncio.to_thread(copy.publish))
    finally:
        await uninterrupted(asyncio.to_thread(copy.discard))
    return Added(name, header.format, header.file_size, header.virtual_size, digest)


def clean(directory: Path | str) -> list[str]:
    """Remove what a daemon that was killed left of its copies. Gives their names. Blocks: to be run in a thread."""
    removed = []
    for path in Path(directory).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                # A copy that is under way holds this lock.
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed.append(path.name)
            finally:
                os.close(fd)
    return removed


async def _copied(copy: Copy, report: Callable[[int, int], None]) -> str:
    """Run the copy in a thread that ends with the process; report while it runs. Gives the copy's checksum."""
    copy.begin()
    digest: str = await in_own_thread("image copy", copy.run, lambda: report(copy.done, copy.total))
    return digest
