"""How the bench talks to the person in front of it: steps with their times, and errors in three lines.

Everything goes to stderr, so that the stdout of `lab run` is the command's own.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator


class LabError(Exception):
    """Something the bench cannot do: what happened, why, and what to do about it."""

    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.hint = what, why, hint

    def __str__(self) -> str:
        lines = [f"lab: {self.what}"]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


def note(text: str) -> None:
    """One line that needs no answer."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Announce a step, and say how long it took once it is done.

    >>> with step("unpacking"):
    ...     pass
    """
    note(f"{text} ...")
    start = time.monotonic()
    yield
    note(f"{text}: {time.monotonic() - start:.1f} s")
