"""What stands in modprobe.d and sysctl.d, and the two drop-ins of ours there. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

MODPROBE, SYSCTL = "/etc/modprobe.d/", "/etc/sysctl.d/"
DROP_INS = {"modprobe": f"{MODPROBE}zz-kldload-kvm.conf", "sysctl": f"{SYSCTL}60-kldload-kvm.conf"}
"""Ours, by what they are for. Of several values of one module option the last counts, so ours is read late."""
SEAL = "# Made by kvm-host; changed by hand it is kept as it is. Its contents were: "


def options(files: Mapping[str, str], module: str) -> Iterator[tuple[str, str, str]]:
    """Each option of a module in modprobe.d: file, name, value; in the order in which they are read."""
    for path in sorted(each for each in files if each.startswith(MODPROBE)):
        for line in files[path].splitlines():
            words = line.split()
            if words[:2] == ["options", module]:
                for name, _, value in (word.partition("=") for word in words[2:]):
                    yield path, name, value


def option(files: Mapping[str, str], module: str, name: str) -> str:
    """The value that counts: the last one; empty where there is none."""
    return next((value for _, key, value in reversed(list(options(files, module))) if key == name), "")


def sealed(body: str) -> str:
    """A drop-in of ours with those lines: its first line tells whether anybody has changed it since."""
    return f"{SEAL}{_digest(body)}\n{body}"


def is_sealed(text: str) -> bool:
    """Whether a drop-in is as we have made it."""
    first, _, body = text.partition("\n")
    return first == f"{SEAL}{_digest(body)}"


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]
