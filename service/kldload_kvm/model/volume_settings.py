"""What a person may choose of a new volume, made valid at the door. The rules are those of zfsprops(7)."""

from __future__ import annotations

import re

from .errors import InvalidArgument
from .names import shown
from .sizes import KIB, format_size

LARGEST_DISK = 1 << 50
SMALLEST_BLOCK, LARGEST_BLOCK = 4 * KIB, 128 * KIB
COMPRESSION = re.compile(
    r"on|off|lz4|lzjb|zle|gzip(-[1-9])?|zstd(-(1?[1-9]|10))?|zstd-fast(-([1-9]|[1-9]0|100|500|1000))?"
)


def compression(text: str, what: str) -> str:
    """A value of the property. what: was not done. Raises InvalidArgument."""
    if COMPRESSION.fullmatch(text):
        return text
    why = f"there is no compression {shown(text)}"
    raise InvalidArgument(what, why, "lz4, zstd, zstd-3, gzip-6 and off are some; zfsprops(7) tells all")


def volblocksize(size: int, what: str) -> int:
    """A block size in bytes. what: was not done. Raises InvalidArgument."""
    if SMALLEST_BLOCK <= size <= LARGEST_BLOCK and not size & (size - 1):
        return size
    bounds = f"from {format_size(SMALLEST_BLOCK)} to {format_size(LARGEST_BLOCK)}"
    why = f"volblocksize is {size}, and must be a power of two {bounds}"
    raise InvalidArgument(what, why, "64K is the default")
