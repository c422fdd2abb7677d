"""What a file is, told from its beginning and its size before anything else touches it. Pure, and bounded.

Only ISO 9660, qcow2 that needs no other file, and raw disks that are named so are images here. A raw disk is whatever
its last user wrote, so nothing in it can be believed: hence it is never guessed (docs/architecture.md).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from . import qcow2
from .errors import BadImage
from .foreign_image import SECTOR, refuse_foreign
from .image_limits import Refused, refuse_size
from .image_name import FORMAT_NAMES, Format, named_format
from .names import shown
from .sizes import format_size

HEAD = 64 << 10
"""How many bytes from the beginning of a file are needed."""
TAIL = SECTOR
"""How many from its end."""

SMALLEST = 64 << 10
_ISO_VOLUME = 0x8000
_ISO_BLOCK = 2048
_ISO_RUN_OUT = 150 * _ISO_BLOCK
_RENAME = "name it by what it is"
_NOT_AN_IMAGE = "ISO 9660 and qcow2 images are taken, and raw disks that are named .raw"


@dataclass(frozen=True)
class Header:
    """An image that can be taken. Sizes in bytes: of the disk in it (always whole sectors), and of the file."""

    format: Format
    virtual_size: int
    file_size: int


def identify(head: bytes, file_size: int, name: str, wanted: Format | None = None, tail: bytes = b"") -> Header:
    """What the file `name` of that size is. head: its first HEAD bytes; tail: its last TAIL ones; wanted: as asked for.

    Raises BadImage, and nothing else, whatever the bytes are.
    """
    try:
        return _identify(head, file_size, wanted, named_format(name), tail)
    except Refused as refused:
        raise BadImage(f"{shown(name)} cannot be used as an image", refused.why, refused.hint) from None


def _identify(head: bytes, file_size: int, wanted: Format | None, named: Format | None, tail: bytes) -> Header:
    if wanted and named and wanted != named:
        raise Refused(f"its name ends in .{named}, and it was said to be {FORMAT_NAMES[wanted]}", _RENAME)
    expected = wanted or named
    if file_size <= 0 or not head:
        raise Refused("it is empty", "copy it again")
    refuse_foreign(head, tail)
    if head.startswith(qcow2.MAGIC):
        found = Header("qcow2", qcow2.virtual_size(head, file_size), file_size)
    elif file_size < SMALLEST:
        raise Refused(f"it has only {format_size(file_size)}: no image is that small", "copy it again, all of it")
    elif expected == "raw":
        return _raw(head, file_size)
    elif head[_ISO_VOLUME : _ISO_VOLUME + 6] == b"\x01CD001":
        found = _iso(head, file_size)
    else:
        raise _unknown(head, expected)
    if expected and found.format != expected:
        raise Refused(f"it is not {FORMAT_NAMES[expected]}, it is {FORMAT_NAMES[found.format]}", _RENAME)
    return found


def _raw(head: bytes, file_size: int) -> Header:
    size = -(-file_size // SECTOR) * SECTOR
    refuse_size(size)
    if head[SECTOR : SECTOR + 8] == b"EFI PART" and len(head) >= SECTOR + 40:
        (last,) = struct.unpack_from("<Q", head, SECTOR + 32)  # where the backup of the partition table is
        if (last + 1) * SECTOR > size:
            raise Refused("it is cut off: its partition table reaches beyond its end", "copy it again, all of it")
    return Header("raw", size, file_size)


def _iso(head: bytes, file_size: int) -> Header:
    if len(head) < _ISO_VOLUME + _ISO_BLOCK:
        raise Refused("it ends within its header", "copy it again, all of it")
    (blocks,) = struct.unpack_from("<I", head, _ISO_VOLUME + 80)
    (block,) = struct.unpack_from("<H", head, _ISO_VOLUME + 128)
    if block not in (512, 1024, 2048):
        raise Refused("it is damaged: its blocks have an impossible size")
    # Programs count up to 150 blocks of run-out that not all of them write.
    if blocks * block > file_size + _ISO_RUN_OUT:
        why = f"it is cut off: {format_size(file_size)} of {format_size(blocks * block)} are here"
        raise Refused(why, "copy it again, all of it")
    return Header("iso", -(-file_size // SECTOR) * SECTOR, file_size)


def _unknown(head: bytes, expected: Format | None) -> Refused:
    disk = head[SECTOR : SECTOR + 8] == b"EFI PART" or head[510:512] == b"\x55\xaa"
    if disk:
        why = "it looks like a raw disk, and is not named so"
        return Refused(why, "if it is one, say so: format=raw, or a name that ends in .raw")
    if expected:
        return Refused(f"it is not {FORMAT_NAMES[expected]}", _NOT_AN_IMAGE)
    return Refused("nothing known is in it", _NOT_AN_IMAGE)
