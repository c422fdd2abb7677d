"""A process that this bench started, told apart from any other that may have got its number since."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path


def is_ours(pid: int, mark: str) -> bool:
    """Whether `pid` is alive and its command line holds `mark` (a path of the bench's own).

    A process that has only just been started may show an empty command line for a moment, a dead one for ever.
    """
    for _ in range(100):
        try:
            command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        if command_line or state in "ZX":
            return mark.encode() in command_line
        time.sleep(0.02)
    return False


def kill(pid: int, mark: str, number: int = signal.SIGKILL) -> None:
    """Send that process a signal, if it is still ours."""
    if is_ours(pid, mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end(pid: int, mark: str, patience: float = 5.0) -> None:
    """End that process, if it is still ours: asked first, killed after `patience` seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        kill(pid, mark, number)
        gone = time.monotonic() + patience
        while time.monotonic() < gone:
            if not is_ours(pid, mark):
                return
            time.sleep(0.05)
