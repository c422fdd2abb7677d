"""Tables and times as the commands print them."""

from __future__ import annotations

import time
from itertools import groupby

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> str:
    """Rows under their headers, two blanks between the columns; those named in `right` are numbers, and end even."""
    lines = [headers, *([_printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ends = [name in right for name in headers]
    aligned = (
        (cell.rjust(width) if end else cell.ljust(width) for cell, width, end in zip(line, widths, ends, strict=True))
        for line in lines
    )
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)


def moment(seconds: int) -> str:
    """A time as `zfs list` shows it, in local time: "Wed Apr  1 15:30 2026"."""
    return time.strftime("%a %b %e %H:%M %Y", time.localtime(seconds))


def natural(name: str) -> list[tuple[bool, int, str]]:
    """A sort key that puts web-2 before web-10."""
    parts = ("".join(part) for _, part in groupby(name, key=lambda letter: letter.isascii() and letter.isdigit()))
    return [(False, int(part), "") if part[0].isascii() and part[0].isdigit() else (True, 0, part) for part in parts]


def _printable(text: str) -> str:
    """The text without what could move the cursor; names made by other programs may hold anything."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)
