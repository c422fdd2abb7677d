"""Files of the host's that are there whole or not at all, whenever the power is cut."""

from __future__ import annotations

import os
from pathlib import Path


def replace(file: Path, text: str, mode: int = 0o644) -> None:
    """Write it anew, durably. Raises OSError."""
    fresh = file.with_name(f".{file.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as written:
        os.fchmod(fd, mode)
        written.write(text)
        written.flush()
        os.fsync(fd)
    fresh.rename(file)
    parent = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
