"""The lean guest's kernel: Debian's kernel source, configured down to what a virtual machine needs.

Debian's own kernels work as well, but under double emulation (a guest inside an emulated bench) their start takes
a minute: hundreds of built-in drivers, a large image to unpack. This one is itself an EFI program with its command
line built in, has no modules and needs no initramfs.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from . import image, places, recipe
from .call import call
from .say import LabError, step

SOURCE = "linux-source-6.12"
PROGRAM = "kernel.efi"
CONFIG = places.LAB / "guest" / "kernel.config"
# Ticks a second; Kconfig offers no fewer than 100, with which a guest starved of processor time does nothing but tick.
TICK = 25
COMMAND_LINE = "console=ttyS0 root=PARTLABEL=lean rw rootwait quiet tsc=reliable no_timer_check"


def find_or_build() -> Path:
    """The EFI program from the cache, or a new one: the longest part of the lean guest, and what changes least."""
    return recipe.built("kernel", key(), "the lean guest's kernel", _build) / PROGRAM


def key() -> str:
    return recipe.key_of(CONFIG, COMMAND_LINE, SOURCE, str(TICK), image.RELEASE)


def _build(directory: Path) -> None:
    parts = directory / "parts"
    with step("  source"):
        image.debootstrap(parts, [SOURCE], directory / "mmdebstrap.log", variant="extract")
    with step("  compiling (minutes)"):
        _compile(parts, directory)
    shutil.rmtree(parts)


def _compile(parts: Path, directory: Path) -> None:
    call(["tar", "-C", directory, "-xf", parts / "usr/src" / f"{SOURCE}.tar.xz"])
    source = directory / SOURCE
    choices = source / "kernel" / "Kconfig.hz"
    choices.write_text(choices.read_text().replace("default 100 if HZ_100", f"default {TICK} if HZ_100"))
    _make(source, directory, "tinyconfig")
    wanted = CONFIG.read_text() + f'CONFIG_CMDLINE="{COMMAND_LINE}"\nCONFIG_HZ={TICK}\n'
    with (source / ".config").open("a") as config:
        config.write(wanted)
    _make(source, directory, "olddefconfig")
    _check(wanted, (source / ".config").read_text())
    _make(source, directory, "bzImage")
    shutil.copy(source / "arch/x86/boot/bzImage", directory / PROGRAM)
    shutil.rmtree(source)


def _make(source: Path, directory: Path, target: str) -> None:
    jobs = len(os.sched_getaffinity(0))
    identity = ("KBUILD_BUILD_USER=lab", "KBUILD_BUILD_HOST=lab")
    call(["make", "-s", "-C", source, f"-j{jobs}", *identity, target], log=directory / f"make-{target}.log", why="make")


def _check(wanted: str, got: str) -> None:
    """Refuse a configuration that lost a line of ours: an option that was renamed, or that depends on another."""
    lines = set(got.splitlines())
    lost = [line for line in wanted.splitlines() if line.startswith("CONFIG_") and line not in lines]
    if lost:
        raise LabError("the kernel's configuration lost options", ", ".join(lost), f"see {CONFIG}")
