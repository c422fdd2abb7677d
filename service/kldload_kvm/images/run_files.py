"""The files of one run of the image helper, beside each other in one directory, all named by the run's instance.

`.json` is the request, `.source` a link to the image, and `.status`, made by systemd, the helper's answers. They
outlive the daemon. All of this blocks: to be run in a thread.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..model.errors import Failed
from .answer import LONGEST_LINE

DIRECTORY = Path("/run/kldload-kvm/image")
TAIL = 2 * LONGEST_LINE
_VOLUME = re.compile(r"zd[0-9]{1,10}")
_INSTANCES = {"inspect": re.compile(r"[0-9a-f]{1,64}"), "convert": _VOLUME, "copy": _VOLUME}
_KINDS = ("json", "source", "status")


@dataclass(frozen=True)
class Run:
    """One run: "inspect", "convert" or "copy" (a conversion of a device), its instance (the %i of its unit), the image,
    and what is asked."""

    operation: str
    instance: str
    source: Path
    request: dict[str, Any]
    directory: Path = DIRECTORY

    def __post_init__(self) -> None:
        if not _INSTANCES[self.operation].fullmatch(self.instance):
            what = f"{self.request.get('name', 'the image')} was not read"
            raise Failed(what, f"{self.instance!r} is no instance of the image helper's unit", "")

    @property
    def unit(self) -> str:
        return f"kldload-kvm-{self.operation}@{self.instance}.service"

    def file(self, kind: str) -> Path:
        return self.directory / f"{self.instance}.{kind}"


def write(run: Run) -> None:
    """Put the request and the link there, and nothing of an earlier run."""
    run.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove(run)
    fd = os.open(run.file("json"), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(run.request, file)
    run.file("source").symlink_to(run.source)


def there(run: Run) -> bool:
    """Whether this very run is there: the same request for the same image."""
    try:
        same = run.file("source").readlink() == run.source
        return bool(same and json.loads(run.file("json").read_bytes()) == run.request)
    except (OSError, ValueError):
        return False


def output(run: Run) -> bytes | None:
    """The end of the helper's output, or None before systemd has made the file."""
    try:
        fd = os.open(run.file("status"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        return os.pread(fd, TAIL, max(os.fstat(fd).st_size - TAIL, 0))
    finally:
        os.close(fd)


def remove(run: Run) -> None:
    for kind in _KINDS:
        run.file(kind).unlink(missing_ok=True)


def left_over(directory: Path = DIRECTORY) -> list[Run]:
    """All runs whose request is there."""
    found = []
    for path in sorted(directory.glob("*.json")):
        try:
            request = json.loads(path.read_bytes())
            found.append(Run(request["operation"], path.stem, Path(), request, directory))
        except (OSError, ValueError, KeyError, TypeError, Failed):
            continue
    return found
