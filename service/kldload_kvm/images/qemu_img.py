"""Running qemu-img on an image that nobody vouches for. Used by the helper alone: never in the daemon's process.

The format is always said, never guessed by qemu-img, and the file is its standard input: no name that it could take for
an option, a protocol (`nbd:`) or a list of options (`json:`). qemu-img opens it anew by that; a file that is for others
alone is handed to it through a socket (nbd.py).
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..model.errors import BadImage, Failed, KvmError, NoSpace, TimedOut
from ..model.image_header import Header
from .nbd import served

SOURCE = "/proc/self/fd/0"
TARGET_DRIVER = "host_device"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
INFO_SECONDS = 60.0
CHECK_SECONDS = 780.0
MOST_OUTPUT = 1 << 20
LEAKS_ONLY = 3
COPY_AGAIN = "copy it again, all of it, or see what can be saved: qemu-img check FILE"


@dataclass(frozen=True)
class Source:
    """An image as qemu-img finds it. stdin: the open image; fds: what it needs besides, as the options name them."""

    stdin: int
    options: str
    fds: tuple[int, ...] = ()


_PERCENT = re.compile(rb"\((\d{1,3}\.\d\d)/100%\)")


def check(name: str, header: Header, source: int) -> None:
    """Hold qemu-img's reading of a qcow2 image against ours, and see that all of its clusters are there.

    Raises BadImage.
    """
    what = f"{name} cannot be used as an image"
    with _opened(header, source) as image:
        status, out, errors = _run(what, image, INFO_SECONDS, "info", "--output=json")
    if status:
        raise _refusal(what, errors)
    _compare(what, _parsed(what, out), header)
    # Every table is read: an image cut off in its data shows only here.
    with _opened(header, source) as image:
        status, _, errors = _run(what, image, CHECK_SECONDS, "check", "-q", "--output=json")
    if status not in (0, LEAKS_ONLY):
        why = "it is damaged or cut off: clusters that it counts on are not there"
        raise BadImage(what, why, COPY_AGAIN) if status != 1 else _refusal(what, errors)


def convert(name: str, header: Header, source: int, device: Path, progress: Callable[[float], None]) -> None:
    """Write the image's disk to a device that reads as zeroes. progress: called with 0 to 1.

    Raises BadImage, NoSpace or Failed.
    """
    what = f"{name} was not converted"
    options = ("-p", "-n", "--target-is-zero", "-W", "-S", "64k", "-t", "none", "--image-opts", "--target-image-opts")
    with tempfile.TemporaryFile() as errors, _opened(header, source) as image:
        process = subprocess.Popen(
            ("qemu-img", "convert", *options, image.options, _target(device)),
            stdin=image.stdin, stdout=subprocess.PIPE, stderr=errors, env=ENVIRONMENT, bufsize=0, pass_fds=image.fds,
        )  # fmt: skip
        assert process.stdout
        with process.stdout as output:
            _follow(output, progress)
        if process.wait():
            errors.seek(0)
            raise _failure(what, errors.read(MOST_OUTPUT).decode("utf-8", "replace"))


def _follow(output: IO[bytes], progress: Callable[[float], None]) -> None:
    """`    (12.34/100%)\\r`, again and again."""
    kept = b""
    while part := output.read(4096):
        kept = (kept + part)[-64:]
        if found := _PERCENT.findall(kept):
            progress(min(float(found[-1]) / 100, 1.0))


def _run(what: str, image: Source, seconds: float, *args: str) -> tuple[int, bytes, str]:
    """Exit status, stdout and stderr of one qemu-img. Output goes to files: it may be more than is worth keeping."""
    command = ("qemu-img", *args, "--image-opts", image.options)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=image.stdin, stdout=out, stderr=errors, env=ENVIRONMENT, pass_fds=image.fds
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise TimedOut(what, f"qemu-img {args[0]} has not ended after {seconds:.0f} s", "") from None
        out.seek(0)
        errors.seek(0)
        return status, out.read(MOST_OUTPUT), errors.read(MOST_OUTPUT).decode("utf-8", "replace")


def _compare(what: str, info: dict[str, Any], header: Header) -> None:
    specific = info.get("format-specific")
    data = specific.get("data", {}) if isinstance(specific, dict) else {}
    if info.get("backing-filename") or info.get("full-backing-filename") or data.get("data-file"):
        raise BadImage(what, "it needs another file", "make it one file: qemu-img convert -O qcow2 OLD NEW")
    if info.get("encrypted") or data.get("encrypt"):
        raise BadImage(what, "it is encrypted", "decrypt it first")
    if data.get("corrupt"):
        raise BadImage(what, "it is marked as corrupt", COPY_AGAIN)
    if info.get("format") != header.format or info.get("virtual-size") != header.virtual_size:
        raise BadImage(what, "its header can be read in more than one way", "")


def _parsed(what: str, out: bytes) -> dict[str, Any]:
    try:
        info = json.loads(out)
    except (ValueError, RecursionError):
        info = None
    if not isinstance(info, dict):
        raise Failed(what, "qemu-img info gave no JSON", "")
    return info


@contextmanager
def _opened(header: Header, source: int) -> Iterator[Source]:
    if _may_open(source):
        driver = "host_device" if stat.S_ISBLK(os.fstat(source).st_mode) else "file"
        yield Source(source, f"driver={header.format},file.driver={driver},file.filename={SOURCE}")
        return
    with served(source) as socket:
        options = f"driver={header.format},file.driver=nbd,file.server.type=fd,file.server.str={socket}"
        yield Source(source, options, (socket,))


def _may_open(source: int) -> bool:
    """Whether the rights of this process, and not of who opened the image, suffice to open it anew."""
    try:
        os.close(os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_CLOEXEC))
    except PermissionError:
        return False
    return True


def _target(device: Path) -> str:
    return f"driver=raw,file.driver={TARGET_DRIVER},file.filename={str(device).replace(',', ',,')}"


def _refusal(what: str, errors: str) -> BadImage:
    return BadImage(what, f"qemu-img: {_last_line(errors)}", "")


def _failure(what: str, errors: str) -> KvmError:
    line = _last_line(errors)
    if "No space left on device" in line:
        return NoSpace(what, "the pool became full while it was written", "free some space, or use another storage")
    if "error while reading" in line:
        return BadImage(what, f"it is damaged: {line}", COPY_AGAIN)
    return Failed(what, f"qemu-img: {line}", "")


def _last_line(errors: str) -> str:
    """The last thing qemu-img said, without what leads nowhere."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()] or ["it gave no reason"]
    line = lines[-1].removeprefix("qemu-img: ").replace(SOURCE, "the image")
    return "".join(c for c in line if c.isprintable())[:300]
