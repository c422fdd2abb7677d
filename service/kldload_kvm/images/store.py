"""The image store of a storage: a directory of ISOs and disk images, with what is told by their names and contents.

Files that were put there by hand count as well, if their names are an image's. Nobody but root may write there.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ..model.errors import BadImage, InvalidArgument, NotFound
from ..model.image_header import HEAD, TAIL, Header, identify
from ..model.image_name import IMAGE_NAME, Format, image_name, named_format

MOST_IMAGES = 10_000
_RAW = "user.org.kldload.kvm.format"


@dataclass(frozen=True)
class Image:
    """An image in a store. size: bytes of the file; virtual_size: bytes of the disk in it; path: of the file."""

    name: str
    format: Format
    size: int
    virtual_size: int
    path: str


_Seen = dict[tuple[int, int, int, int], Header | None]
_seen: dict[Path, _Seen] = {}


def list_images(directory: Path | str) -> tuple[Image, ...]:
    """The images in a store by name, without files that are none. Blocks: to be run in a thread.

    A file is read again only when its inode, size or time of change has changed.
    """
    directory = Path(directory)
    before, now = _seen.get(directory, {}), _Seen()
    found = []
    for name in _names(directory):
        with contextlib.suppress(OSError):
            about = os.lstat(directory / name)
            if stat.S_ISREG(about.st_mode):
                key = (about.st_dev, about.st_ino, about.st_ctime_ns, about.st_size)
                now[key] = header = before[key] if key in before else _header(directory / name)
                if header:
                    found.append(_image(directory / name, header))
    _seen[directory] = now
    return tuple(found)


def find_image(directory: Path | str, name: str) -> Image:
    """One image. Raises NotFound; BadImage, saying why a file of that name is no image; InvalidArgument for the name.

    Blocks: to be run in a thread.
    """
    path = Path(directory) / image_name(name)
    try:
        return _image(path, read_header(path, name))
    except FileNotFoundError:
        raise NotFound(f"there is no image {name}", f"{directory} holds none of that name", "kvm-image list") from None
    except OSError as fault:
        raise BadImage(f"{name} cannot be used as an image", fault.strerror or str(fault), "") from None


def remove(directory: Path | str, name: str) -> None:
    """Remove an image. Raises NotFound, and InvalidArgument for the name. Blocks: to be run in a thread."""
    path = Path(directory) / image_name(name)
    if path.is_dir() and not path.is_symlink():
        raise BadImage(f"{name} was not removed", "it is a directory, and no image", "")
    try:
        path.unlink()
    except FileNotFoundError:
        raise NotFound(f"there is no image {name}", f"{directory} holds none of that name", "kvm-image list") from None
    sync(path.parent)


def read_header(path: Path, name: str, wanted: Format | None = None) -> Header:
    """What a file of ours is. Raises BadImage and OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return header_of(fd, name, wanted)
    finally:
        os.close(fd)


def header_of(fd: int, name: str, wanted: Format | None = None) -> Header:
    """What an open file of ours is. Raises BadImage and OSError."""
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode):
        raise BadImage(f"{name} cannot be used as an image", "it is not a regular file", "")
    if wanted is None and named_format(name) is None and _said_to_be_raw(fd):
        wanted = "raw"
    tail = os.pread(fd, TAIL, max(about.st_size - TAIL, 0))
    return identify(os.pread(fd, HEAD, 0), about.st_size, name, wanted, tail)


def remember_raw(fd: int, name: str) -> None:
    """Note on a file of ours that it is a raw disk, where its name does not say so. Raises InvalidArgument."""
    if named_format(name) == "raw":
        return
    try:
        os.setxattr(fd, _RAW, b"raw")
    except OSError:
        why = "the store's file system cannot remember it (no extended attributes)"
        raise InvalidArgument(f"{name} cannot be a raw disk by that name", why, f"name it {name[:124]}.raw") from None


def sync(directory: Path) -> None:
    """See a change of names on disk."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _said_to_be_raw(fd: int) -> bool:
    try:
        return os.getxattr(fd, _RAW) == b"raw"
    except OSError:
        return False


def _names(directory: Path) -> list[str]:
    try:
        return sorted(path.name for path in directory.iterdir() if IMAGE_NAME.fullmatch(path.name))[:MOST_IMAGES]
    except FileNotFoundError:
        return []


def _header(path: Path) -> Header | None:
    try:
        return read_header(path, path.name)
    except (BadImage, OSError):
        return None


def _image(path: Path, header: Header) -> Image:
    return Image(path.name, header.format, header.file_size, header.virtual_size, str(path))
