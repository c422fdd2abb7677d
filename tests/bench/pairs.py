"""Samples taken in pairs, the work under test and its floor in turns, and how they are told."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from host import daemon_pid

Work = Callable[[int], object]
Samples = dict[str, list[float]]
SOON, QUIET = 5.5, 1.0


def settled() -> None:
    """Until the service has read again what others changed, so that it does not run into the next sample: it begins
    within SOON seconds, and has then started nothing for QUIET seconds."""
    time.sleep(SOON)
    since = time.monotonic()
    while time.monotonic() - since < QUIET:
        if busy():
            since = time.monotonic()
        time.sleep(0.1)


def busy() -> bool:
    """Whether the service has a command at work, other than the one that follows ZFS's events."""
    pid = daemon_pid()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for child in children:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            if Path(f"/proc/{child}/comm").read_text().strip() != "zpool":
                return True
    return False


def pairs(count: int, ours: Work, floor: Work, clean: Work) -> Samples:
    """Samples of both, each pair in the other order than the one before."""
    samples: Samples = {"ours": [], "floor": []}
    for number in range(count):
        order = [("ours", ours), ("floor", floor)]
        for name, work in order if number % 2 else reversed(order):
            began = time.perf_counter()
            work(number)
            samples[name].append(time.perf_counter() - began)
            clean(number)
    return samples


def show(name: str, samples: Samples, floor: str, most: float | None = None) -> None:
    """The medians, their ratio, and whether that is more than it may be; most: None where it is only told."""
    ours, against = statistics.median(samples["ours"]), statistics.median(samples["floor"])
    ratio = ours / against
    limit = f", at most {most}" if most else ""
    verdict = "   ABOVE" if most and ratio > most else ""
    print(f"{name:24} {ours:7.3f} s   floor {against:7.3f} s ({floor})", flush=True)
    print(f"{'':24} ratio {ratio:5.2f}{limit}{verdict}", flush=True)
