"""The image helper: reads and converts images that nobody vouches for, as a user without any rights.

Run by systemd/kldload-kvm-inspect@.service, …-convert@.service and …-copy@.service, which say what it can see: the
image as standard input, the request as a credential, and for a conversion one volume's device. Standard output is
the answer, one JSON object a line: {"progress": 0.5} any number of times, and last
{"result": {"format", "virtual_size"}} or {"error": {"name", "what", "why", "hint"}}.

It runs alone in its process, so it may block. What it says is believed by nobody: see conversion.py.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

from ..model.errors import BadImage, Failed, KvmError, NoSpace
from ..model.foreign_image import SECTOR
from ..model.image_header import HEAD, TAIL, Header, identify
from ..model.image_name import image_format
from . import qemu_img
from .nbd import size_of

REQUEST = 64 << 10
LONGEST_TEXT = 300
SECONDS_BETWEEN = 0.25


def main(operation: str, instance: str) -> int:
    """The exit status: 0 whenever there is an answer, be it an error."""
    try:
        request = _request()
        if operation == "inspect":
            answer = inspect(request)
        elif operation == "convert":
            answer = convert(request, Path("/dev", instance))
        else:
            raise Failed(f"the image helper does not know {operation}")
    except KvmError as error:
        _say({"error": {"name": type(error).__name__, "what": error.what, "why": error.why, "hint": error.hint}})
    except (OSError, ValueError, KeyError, TypeError) as fault:
        why = f"{type(fault).__name__}: {fault}"[:LONGEST_TEXT]
        _say({"error": {"name": "Failed", "what": "the image helper failed", "why": why, "hint": ""}})
    else:
        _say({"result": answer})
    return 0


def inspect(request: dict[str, Any], source: int = 0) -> dict[str, Any]:
    """What the image is, after its header and all of its tables were read. Raises BadImage."""
    header = _identify(request, source)
    if header.format == "qcow2":
        qemu_img.check(request["name"], header, source)
    return {"format": header.format, "virtual_size": header.virtual_size}


def convert(request: dict[str, Any], device: Path, source: int = 0) -> dict[str, Any]:
    """Write the image's disk to a new volume, whose zeroes are left as they are. Raises BadImage, NoSpace or Failed."""
    header = _identify(request, source)
    if header.virtual_size != request["virtual_size"]:
        raise BadImage(f"{request['name']} was not converted", "it is no longer the image that was planned with", "")
    target = _open_target(device, request)
    try:
        qemu_img.convert(request["name"], header, source, device, _Progress())
        os.fsync(target)
    except OSError as fault:
        raise _not_written(request["name"], fault) from None
    finally:
        os.close(target)
    return {"format": header.format, "virtual_size": header.virtual_size}


def _not_written(name: str, fault: OSError) -> KvmError:
    what = f"{name} was not converted"
    if fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(what, "the pool became full while it was written", "free some space, or use another storage")
    return Failed(what, fault.strerror or str(fault), "")


def _request() -> dict[str, Any]:
    with Path(os.environ["CREDENTIALS_DIRECTORY"], "request").open("rb") as file:
        request = json.loads(file.read(REQUEST))
    if not isinstance(request, dict) or not isinstance(request["name"], str):
        raise ValueError("the request is none")
    return request


def _identify(request: dict[str, Any], source: int) -> Header:
    about = os.fstat(source)
    if request.get("raw"):
        return _raw(request, source, about)
    if not stat.S_ISREG(about.st_mode):
        raise BadImage(f"{request['name']} cannot be used as an image", "it is not a regular file", "")
    tail = os.pread(source, TAIL, max(about.st_size - TAIL, 0))
    wanted = image_format(request.get("format") or "")
    return identify(os.pread(source, HEAD, 0), about.st_size, request["name"], wanted, tail)


def _raw(request: dict[str, Any], source: int, about: os.stat_result) -> Header:
    """What is a guest's disk from its first byte to its last, by its domain's definition, whatever a guest has written
    there. A device must be the one that was meant."""
    number = f"{os.major(about.st_rdev)}:{os.minor(about.st_rdev)}"
    if not stat.S_ISREG(about.st_mode) and not (stat.S_ISBLK(about.st_mode) and request.get("device") == number):
        raise Failed(f"{request['name']} was not copied", "it is not the file or device that was planned with", "")
    size = -(-size_of(source) // SECTOR) * SECTOR
    return Header("raw", size, about.st_size)


def _open_target(device: Path, request: dict[str, Any]) -> int:
    """The device, after the kernel has said that it is the volume meant: numbers of devices are used again."""
    from ..zfs.devices import is_node_of  # here, because an inspection needs none of it

    if not is_node_of(str(device), request["dataset"]):
        raise Failed(f"{request['name']} was not converted", f"{device} is not the volume {request['dataset']}", "")
    target = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    if os.lseek(target, 0, os.SEEK_END) < request["virtual_size"]:
        raise Failed(f"{request['name']} was not converted", "the volume is smaller than the disk in the image", "")
    return target


class _Progress:
    """Says how far a conversion has come, four times a second at most."""

    def __init__(self) -> None:
        self._said = 0.0

    def __call__(self, share: float) -> None:
        now = time.monotonic()
        if now - self._said >= SECONDS_BETWEEN:
            self._said = now
            _say({"progress": share})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
