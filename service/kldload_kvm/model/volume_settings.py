"""What a person may choose of a volume, made valid at the door. The rules are those of zfsprops(7)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

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


ALIASES = {"gzip-6": "gzip", "zstd-fast-1": "zstd-fast"}
"""What zfs calls by another name when it is asked."""


def primarycache(text: str, what: str) -> str:
    """A value of the property. what: was not done. Raises InvalidArgument."""
    if text in ("all", "metadata", "none"):
        return text
    raise InvalidArgument(what, f"primarycache cannot be {shown(text)}", "all, metadata and none are what there is")


def refreservation(text: str, what: str) -> str:
    """A value of the property: auto for on, none for off. what: was not done. Raises InvalidArgument."""
    values = {"on": "auto", "off": "none"}
    if text in values:
        return values[text]
    why = f"refreservation cannot be {shown(text)}"
    raise InvalidArgument(what, why, "on reserves room for the whole disk, off leaves it thin")


SETTINGS: Mapping[str, Callable[[str, str], str]] = {
    "compression": compression, "primarycache": primarycache, "refreservation": refreservation,
}  # fmt: skip
"""What can be changed of a volume at any time: each with what makes a value for zfs of a person's."""


def said_by_zfs(key: str, value: str, said: str) -> bool:
    """Whether zfs, which says `said`, has the value that was set."""
    if key == "refreservation":
        return (said in ("0", "none")) == (value == "none")
    return said == ALIASES.get(value, value)
