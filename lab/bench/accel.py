"""Whether this machine's KVM can run the bench, found out once by trying.

A /dev/kvm may be there and yet be unable to boot a stock kernel (nested in somebody's cut-down virtual machine). So the
bench's own kernel is started without any disk: one that works comes as far as missing its root, within a few seconds.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
from pathlib import Path

from . import places
from .say import note

PROBE_SECONDS = 20
REACHED = b"Unable to mount root fs"


def kvm_works(kernel: Path) -> bool:
    """The verdict, from the cache if the machine is the same as then."""
    asked = os.environ.get("LAB_ACCEL")
    if asked in ("kvm", "tcg"):
        return asked == "kvm"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    try:
        verdicts = json.loads(_file().read_text())
    except (OSError, ValueError):
        verdicts = {}
    machine = _machine()
    if machine not in verdicts:
        works = _probe(kernel)
        remember(works)
        note(f"this machine's KVM {'works' if works else 'cannot run a stock kernel: emulating'}")
        return works
    return bool(verdicts[machine])


def remember(works: bool) -> None:
    """Keep a verdict; also called when a bench did not come up under KVM."""
    _file().parent.mkdir(parents=True, exist_ok=True)
    growing = _file().with_suffix(f".{os.getpid()}")
    growing.write_text(json.dumps({_machine(): works}))
    growing.rename(_file())


def _probe(kernel: Path) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        console = Path(directory) / "console"
        command = [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"),
            *("-accel", "kvm", "-cpu", "host", "-m", "512", "-kernel", str(kernel), "-no-reboot"),
            *("-append", "console=ttyS0 panic=-1 root=none", "-serial", f"file:{console}"),
        ]
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return False
        return console.exists() and REACHED in console.read_bytes()


def _machine() -> str:
    """What the verdict holds for: this kernel on this processor."""
    with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{platform.release()} {model}"


def _file() -> Path:
    return places.cache() / "accel.json"
