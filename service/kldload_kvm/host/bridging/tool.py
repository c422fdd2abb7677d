"""What the tools have in common: running commands, and the files that they go by."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...model.wiring import Link, Owner
from ..sources import NET
from ..whole_file import replace

Runs = Callable[[list[str]], str]
TRIALS = "/run/kldload-kvm/bridges"
LONGEST = 75.0
"""Seconds for one command: ifup waits for DHCP, which gives up after a minute."""
SHORT, MOST = 5.0, 1 << 20
PATIENCE, INTERVAL = 20.0, 0.1


@dataclass(frozen=True)
class Names:
    """What a request names. settings: what the port was configured by when it was planned."""

    bridge: str
    port: str
    settings: str


class Tool(ABC):
    """root: what stands before each path, for tests; run: runs a command, gives what it prints, and raises OSError or
    SubprocessError."""

    name: str

    def __init__(self, root: str = "", run: Runs | None = None) -> None:
        self.root, self.run = root, run or started

    @abstractmethod
    def owns(self, link: Link) -> Owner | None:
        """Whether the tool has that link, and what it goes by."""

    @abstractmethod
    def kept(self) -> Iterable[str]:
        """The bridges that were kept, by name."""

    @abstractmethod
    def tried(self, bridge: str) -> bool:
        """Whether anything is there that was written for it."""

    @abstractmethod
    def begin(self, names: Names, link: Link) -> None:
        """Make the bridge, until the next boot."""

    @abstractmethod
    def keep(self, names: Names, link: Link) -> None:
        """Have the bridge made at each boot. What decides whether it is kept is written last."""

    @abstractmethod
    def take_back(self, names: Names) -> None:
        """Have the port as it was. Goes on where the trial ended, wherever that was."""

    # -- the mark of a trial, until the next boot ------------------------------------------------------------------

    def mark(self, bridge: str) -> None:
        self.path(TRIALS).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.write(f"{TRIALS}/{bridge}", "")

    def marked(self, bridge: str) -> bool:
        return self.there(f"{TRIALS}/{bridge}")

    def unmark(self, bridge: str) -> None:
        self.remove(f"{TRIALS}/{bridge}")

    # -- for these -----------------------------------------------------------------------------------------------------

    def path(self, path: str) -> Path:
        return Path(self.root + path)

    def read(self, path: str) -> str:
        """Raises OSError."""
        return self.path(path).read_text(encoding="utf-8", errors="surrogateescape")

    def there(self, path: str) -> bool:
        return os.path.lexists(self.root + path)

    def names_in(self, path: str) -> list[str]:
        return sorted(each.name for each in self.path(path).iterdir()) if self.path(path).is_dir() else []

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Replace a file whole, durably. Raises OSError."""
        replace(self.path(path), text, mode)

    def remove(self, *paths: str) -> None:
        for path in paths:
            self.path(path).unlink(missing_ok=True)

    def tolerated(self, *command: str) -> str:
        """Run it; its failure is no reason to stop halfway. What it complained of is returned."""
        try:
            self.run(list(command))
        except (OSError, subprocess.SubprocessError) as fault:
            return str(fault)
        return ""

    def active(self, unit: str) -> bool:
        """Whether systemd has that service up."""
        return self.there(f"/run/systemd/units/invocation:{unit}")

    def is_bridge(self, name: str) -> bool:
        return self.there(f"{NET}/{name}/bridge")

    def master(self, port: str) -> str:
        try:
            return self.path(f"{NET}/{port}/master").readlink().name
        except OSError:
            return ""

    def wait_until(self, check: Callable[[], bool], what: str) -> None:
        """Raises TimeoutError, an OSError."""
        end = time.monotonic() + PATIENCE
        while not check():
            if time.monotonic() > end:
                raise TimeoutError(f"within {PATIENCE:.0f} s {self.name} has not {what}")
            time.sleep(INTERVAL)


class ByFiles(Tool):
    """A tool that goes by files of ours: in one directory for the trial, and in another once the bridge is kept.

    port_file: the name of the one that puts the port into the bridge, and so decides; mode: what they are written with.
    """

    trial_in: str
    kept_in: str
    port_file: re.Pattern[str]
    mode: int

    @abstractmethod
    def files(self, bridge: str) -> tuple[str, ...]:
        """In the order in which they are written: without the last one the port is as it was."""

    def kept(self) -> Iterable[str]:
        return [match[1] for name in self.names_in(self.kept_in) if (match := self.port_file.fullmatch(name))]

    def tried(self, bridge: str) -> bool:
        return any(map(self.there, self._everywhere(bridge)))

    def write_trial(self, bridge: str, texts: Iterable[str]) -> None:
        self._write(self.trial_in, dict(zip(self.files(bridge), texts, strict=True)))

    def keep(self, names: Names, link: Link) -> None:
        """The same texts, now in /etc."""
        texts = {file: self.read(f"{self.trial_in}/{file}") for file in self.files(names.bridge)}
        self._write(self.kept_in, texts)
        self.remove(*(f"{self.trial_in}/{file}" for file in texts))

    def remove_files(self, bridge: str) -> None:
        self.remove(*self._everywhere(bridge))

    def _write(self, where: str, texts: Mapping[str, str]) -> None:
        self.path(where).mkdir(mode=0o755, parents=True, exist_ok=True)
        for file, text in texts.items():
            self.write(f"{where}/{file}", text, self.mode)

    def _everywhere(self, bridge: str) -> list[str]:
        """The one that decides first."""
        return [f"{where}/{file}" for where in (self.trial_in, self.kept_in) for file in reversed(self.files(bridge))]


class Ending:
    """A unit that is told to stop ends between two commands of the tool's, never within one: the command would go on by
    itself, beside those that take back what it does."""

    def __init__(self) -> None:
        self.at_work = self.asked = False

    def ask(self, number: int, frame: object) -> None:
        """What SIGTERM does."""
        self.asked = True
        self._end()

    @contextmanager
    def later(self) -> Iterator[None]:
        self.at_work = True
        try:
            yield
        finally:
            self.at_work = False
            self._end()

    def _end(self) -> None:
        if self.asked and not self.at_work:
            sys.exit(128 + signal.SIGTERM)


ENDING = Ending()


def started(command: list[str], longest: float = LONGEST) -> str:
    """Run a command of the tool's, and give what it prints. Raises OSError or SubprocessError with what it said.

    What it says goes to a file in memory: a pipe would stay open as long as a DHCP client that it leaves behind, and
    the unit that looks at the host can write nowhere.
    """
    with ENDING.later(), os.fdopen(os.memfd_create("said"), "w+", errors="replace") as said:
        status = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, timeout=longest, check=False,
            env={**os.environ, "LC_ALL": "C"},
        ).returncode  # fmt: skip
        said.seek(0)
        text = said.read(MOST)
    if status:
        last = (text.strip().splitlines() or [f"status {status}"])[-1]
        raise subprocess.SubprocessError(f"{' '.join(command)}: {last}")
    return text


def quick(command: list[str]) -> str:
    """The same, for looking alone: what looks at the host is itself waited for."""
    return started(command, SHORT)
