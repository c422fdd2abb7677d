"""What the image helper answers, held to its form. Pure: every byte of it may have been chosen by an image's maker."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from ..model.errors import BadImage, Failed, KvmError, NoSpace, TimedOut
from ..model.image_limits import LARGEST_DISK
from ..model.image_name import FORMATS, Format

LONGEST_LINE = 8 << 10
LONGEST_TEXT = 400
_ERRORS: dict[str, type[KvmError]] = {kind.__name__: kind for kind in (BadImage, NoSpace, TimedOut, Failed)}


@dataclass(frozen=True)
class Disk:
    """The disk in an image: its format, and its size in bytes."""

    format: Format
    virtual_size: int


Answer = float | Disk | KvmError
"""Progress from 0 to 1, or what the helper ended with."""


def last_answer(tail: bytes) -> Answer | None:
    """What the last whole line of the helper's output says; None while there is none. tail: the end of that output.

    Raises Failed for anything that the helper's own code cannot have written.
    """
    whole, newline, _ = tail.rpartition(b"\n")
    if not newline:
        if len(tail) >= LONGEST_LINE:
            raise _nonsense("a line without end")
        return None
    line = whole.rpartition(b"\n")[2]
    if len(line) > LONGEST_LINE:
        raise _nonsense("a line too long")
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise _nonsense("no JSON") from None
    if not isinstance(said, dict) or len(said) != 1:
        raise _nonsense("not one thing")
    ((kind, value),) = said.items()
    if kind == "progress":
        return _progress(value)
    if not isinstance(value, dict):
        raise _nonsense("an answer without contents")
    if kind == "result":
        return _disk(value)
    if kind == "error":
        return _error(value)
    raise _nonsense("neither progress nor result nor error")


def _progress(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= 1:
        raise _nonsense("a progress that is none")
    return float(value)


def _disk(value: dict[str, Any]) -> Disk:
    format_, size = value.get("format"), value.get("virtual_size")
    known = next((each for each in FORMATS if each == format_), None)
    if known is None or not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= LARGEST_DISK:
        raise _nonsense("a disk that is none")
    return Disk(known, size)


def _error(value: dict[str, Any]) -> KvmError:
    kind = _ERRORS.get(value["name"]) if isinstance(value.get("name"), str) else None
    if kind is None:
        raise _nonsense("an error that is none")
    what, why, hint = (_text(value.get(part)) for part in ("what", "why", "hint"))
    return kind(what or "the image was refused", why, hint)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _nonsense("an error without words")
    return "".join(c if c.isprintable() else " " for c in value[:LONGEST_TEXT]).strip()


def _nonsense(what: str) -> Failed:
    hint = "do not use this image; journalctl -u 'kldload-kvm-*' may tell more"
    return Failed("the image was not read", f"the image helper said what it never says: {what}", hint)
