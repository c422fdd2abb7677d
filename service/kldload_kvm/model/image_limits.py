"""What every image is held to, and how the readers of headers say no. Pure."""

from __future__ import annotations

from .sizes import format_size

LARGEST_DISK = 16 << 40
"""Bytes. An image may promise a larger disk than its file holds: nobody needs more than 16 TiB of promises."""


class Refused(Exception):
    """A file that cannot be taken: why, and what its owner can do. image_header.py makes a BadImage of it."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why, hint)
        self.why, self.hint = why, hint


def refuse_size(size: int) -> None:
    """Raises Refused for a disk of no bytes, or of more than can be meant."""
    if not size:
        raise Refused("the disk in it has no size")
    if size > LARGEST_DISK:
        raise Refused(f"the disk in it would have {format_size(size)}, and {format_size(LARGEST_DISK)} is the most")
