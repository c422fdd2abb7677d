"""Running the outer machine's tools, with an error that shows what they said."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .say import LabError

SHOWN_LINES = 12


def call(command: Sequence[str | Path], *, log: Path | None = None, why: str = "") -> str:
    """Run a command to its end; give its stdout, or raise LabError with the end of its output.

    With `log` the output goes there instead, for what is long.
    """
    words = [str(word) for word in command]
    environment = os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
    if log is None:
        done = subprocess.run(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        said, out = done.stdout + done.stderr, done.stdout
    else:
        with log.open("wb") as sink:
            done = subprocess.run(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, text=True, check=False
            )
        said, out = log.read_text(errors="replace"), ""
    if done.returncode != 0:
        tail = "\n       ".join(said.strip().splitlines()[-SHOWN_LINES:])
        raise LabError(
            f"{why or words[0]} failed (exit {done.returncode})", tail, f"the command was: {' '.join(words)}"[:600]
        )
    return out
