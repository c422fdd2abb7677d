"""What the bench needs on the machine that carries it, installed by apt when it is missing.

Nothing is upgraded or removed. QEMU must be 8 or later: Debian 12's own 7.2 emulates cmpxchg16b wrongly, which makes
the bench's kernel panic at random, so there it comes from backports.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from .say import LabError, note, step

OLDEST_QEMU = 8
BACKPORTS = Path("/etc/apt/sources.list.d/kldload-kvm-lab.list")

# What must be there -> the package that brings it. A path is looked for as it is, a bare name in PATH.
FOR_RUNNING = {"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "ssh": "openssh-client", "tar": "tar"}
FOR_LOSSY = FOR_RUNNING | {"nbdkit": "nbdkit"}
FOR_BUILDING = FOR_RUNNING | {
    "mmdebstrap": "mmdebstrap",
    "ssh-keygen": "openssh-client",
    "mke2fs": "e2fsprogs",
    "sfdisk": "fdisk",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "xz": "xz-utils",
    "objcopy": "binutils",
    "gcc": "gcc",
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "lz4": "lz4",
    "/usr/include/libelf.h": "libelf-dev",
    "/usr/include/stdio.h": "libc6-dev",
    "/usr/share/keyrings/debian-archive-trixie-stable.gpg": "debian-archive-keyring",
}


def ensure(needs: dict[str, str]) -> None:
    """Install what is missing of `needs`, saying so.

    Raises LabError where apt is not there or not allowed.
    """
    missing = sorted({package for thing, package in needs.items() if _find(thing) is None})
    old_qemu = "qemu-system-x86" in missing or _qemu_major() < OLDEST_QEMU
    if old_qemu:
        missing = sorted({*missing, "qemu-system-x86", "qemu-utils"})
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise LabError(
            f"missing on this machine: {', '.join(missing)}",
            "they are installed by apt-get, which needs Debian and root",
            "run this once as root, or install them yourself",
        )
    note(f"installing on this machine by apt: {', '.join(missing)}")
    release = _codename()
    from_backports = old_qemu and release == "bookworm"
    if from_backports and not BACKPORTS.exists():
        note(f"adding {BACKPORTS} (QEMU {OLDEST_QEMU} or later comes from bookworm-backports)")
        BACKPORTS.write_text(f"deb {debian_mirror()} bookworm-backports main\n")
    with step("installing"):
        _apt("update")
        qemu = [name for name in missing if name.startswith("qemu")]
        others = [name for name in missing if name not in qemu]
        if qemu:
            _apt("install", *(["-t", "bookworm-backports"] if from_backports else []), *qemu)
        if others:
            _apt("install", *others)
    _qemu_major.cache_clear()
    if _qemu_major() < OLDEST_QEMU:
        raise LabError(f"QEMU {_qemu_major()} is too old for the bench", f"it needs {OLDEST_QEMU} or later")


def debian_mirror() -> str:
    """The Debian archive that this machine's apt is configured for."""
    asked = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"],
        capture_output=True,
        text=True,
        check=False,
    )
    archives = [line.rstrip("/") for line in asked.stdout.split() if line.rstrip("/").endswith("/debian")]
    return archives[0] if archives else "http://deb.debian.org/debian"


def _find(thing: str) -> str | None:
    """Where a command or a file is, also in the administrator's folders."""
    if thing.startswith("/"):
        return thing if Path(thing).exists() else None
    return shutil.which(thing, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


@functools.cache
def _qemu_major() -> int:
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        return 0
    said = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version (\d+)", said)
    return int(found[1]) if found else 0


def _codename() -> str:
    try:
        return platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    except OSError:
        return ""


def _apt(action: str, *arguments: str) -> None:
    command = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", action]
    if action == "install":
        command.append("--no-install-recommends")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        [*command, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        tail = "\n       ".join((done.stdout + done.stderr).strip().splitlines()[-6:])
        raise LabError(f"apt-get {action} failed", tail, "is the Debian archive reachable from this machine?")
