"""Following a job to its end: its progress on the terminal, and what Ctrl-C does to it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..client.api import Job
from ..model.errors import Failed, KvmError, by_dbus_name
from ..model.sizes import format_size
from . import failures

PATIENCE = 0.5
"""Seconds before a bar is shown: what ends sooner needs none."""
BAR_WIDTH = 24
SILENCE = 5.0
"""Seconds without a signal after which the job is asked for."""


class Interrupted(Exception):
    """Ctrl-C. The text says what became of the job."""


def follow(prog: str, job: Job, *, show: bool, meanwhile: Callable[[Job], None] = lambda job: None) -> bool:
    """Wait until the job has ended, and keep its last properties in it. True if it was done all the same after Ctrl-C.

    Ctrl-C cancels the job and waits for its undo; another one leaves it to itself. show: a bar on standard error;
    meanwhile: called again and again until then. Raises the job's error, or Interrupted.
    """
    with _interrupts() as interrupts, job.watch() as signals, _Bar(show=show) as bar:
        _reload(job)
        heard, handled = time.monotonic(), 0
        while job.state in ("running", "undoing"):
            bar.update(job)
            if len(interrupts) > handled:
                handled = len(interrupts)
                _interrupt(prog, job, bar, handled)
            meanwhile(job)
            news = signals.next(0.5)
            if news is not None:
                job.take(news)
            if (news and job.state not in ("running", "undoing")) or time.monotonic() > heard + SILENCE:
                _reload(job)
            if news is not None:
                heard = time.monotonic()
    if job.state == "succeeded":
        return bool(interrupts)
    if interrupts and job.state == "cancelled":
        raise Interrupted("cancelled; what had been done was undone")
    raise by_dbus_name(job.error_name, job.error_message)


def _interrupt(prog: str, job: Job, bar: _Bar, times: int) -> None:
    bar.clear()
    if times > 1:
        raise Interrupted(f"job {job.id} is left to itself; see: kvm-job show {job.id}")
    print(f"{prog}: cancelling; once more Ctrl-C leaves the job to itself", file=sys.stderr)
    try:
        job.cancel()
    except KvmError as error:
        failures.report(prog, error)


def _reload(job: Job) -> None:
    try:
        job.reload()
    except KvmError as error:
        name = job.path.rpartition("/")[2]
        hint = f"see: kvm-job show {name}; journalctl -u kldload-kvmd"
        raise Failed(f"what became of job {name} is not known", error.what, hint) from error


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect Ctrl-C instead of raising it, so that the connection can still be used."""
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, before)


class _Bar:
    """The job's progress on one line of standard error, once it has taken longer than PATIENCE."""

    def __init__(self, *, show: bool) -> None:
        self._begun = time.monotonic()
        self._due = self._begun + PATIENCE if show and os.environ.get("TERM", "dumb") != "dumb" else float("inf")

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def update(self, job: Job) -> None:
        if (now := time.monotonic()) >= self._due:
            _put(f"\r{drawn(job, now - self._begun, os.get_terminal_size(sys.stderr.fileno()).columns or 80)}\033[K")

    def clear(self) -> None:
        """Leave the line empty for others to write on."""
        if time.monotonic() >= self._due:
            _put("\r\033[K")


def drawn(job: Job, seconds: float, columns: int) -> str:
    """The bar as one line of at most so many columns: "undoing  ######------  50%  1.20G of 3G, 95M/s  0:07"."""
    full = round(BAR_WIDTH * min(max(job.progress, 0.0), 1.0))
    bar = f"{'#' * full}{'-' * (BAR_WIDTH - full)} {job.progress:4.0%}"
    tail = "  ".join(filter(None, [bar, _amount(job), f"{int(seconds) // 60}:{int(seconds) % 60:02}"]))
    room = columns - len(tail) - 3
    doing = _doing(job)
    if room < 8:
        return tail[: columns - 1]
    return f"{doing if len(doing) <= room else doing[: room - 1] + '…'}  {tail}"


def _put(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _doing(job: Job) -> str:
    """The step under way, or the job itself."""
    if job.state == "undoing":
        return "undoing"
    return next((str(step["description"]) for step in job.steps if step["state"] == "running"), job.description)


def _amount(job: Job) -> str:
    """Bytes done of the step under way, such as "1.20G of 3G, 95M/s"."""
    if not job.bytes:
        return ""
    of = f" of {format_size(job.bytes_total)}" if job.bytes_total else ""
    return f"{format_size(job.bytes)}{of}" + (f", {format_size(job.rate)}/s" if job.rate else "")
