"""The lean guest: a kernel of its own, busybox, the guest agent and an ssh server; up long before a full Debian.

It is a real guest in all that the project deals with: UEFI, virtio, a root file system that persists, agent with exec
and fsfreeze, power button, serial console, NoCloud seed, DHCP. lab/guest/root holds its own files.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from . import disk, image, kernel, outer, places, recipe
from .call import call
from .say import step

PACKAGES = ("busybox-static", "qemu-guest-agent", "dropbear-bin")
PROGRAMS = ("usr/bin/busybox", "usr/sbin/qemu-ga", "usr/sbin/dropbear", "usr/bin/dropbearkey")
LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER = "ld-linux-x86-64.so.2"
OWN_FILES = places.LAB / "guest" / "root"
LAYOUT = disk.Layout(disk=1024, esp=16, name="lean")
EXT4 = ("-m", "0", "-N", "4096", "-J", "size=4")


def find_or_build() -> Path:
    """lean.qcow2 from the cache, or a new one."""
    numbers = repr((PACKAGES, PROGRAMS, LAYOUT, EXT4, kernel.TICK))
    key = recipe.key_of(OWN_FILES, kernel.CONFIG, kernel.COMMAND_LINE, image.RELEASE, numbers)
    found = recipe.cached("lean", key)
    if found is None:
        outer.ensure(outer.FOR_BUILDING)
        found = recipe.built("lean", key, "the lean guest image", _build)
    return found / "lean.qcow2"


def _build(directory: Path) -> None:
    parts, tree = directory / "parts", directory / "tree"
    with step("  packages"):
        image.debootstrap(parts, list(PACKAGES), directory / "mmdebstrap.log", variant="extract")
    program = kernel.find_or_build()
    with step("  disk"):
        _fill(tree, parts)
        raw = directory / "lean.raw"
        disk.make(raw, LAYOUT, program, tree, EXT4)
        disk.to_qcow2(raw, directory / "lean.qcow2", compress=False)
    shutil.rmtree(parts)
    shutil.rmtree(tree)


def _fill(tree: Path, parts: Path) -> None:
    """The root file system: Debian's programs with their libraries, busybox's names, and our own files."""
    for folder in (
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "root",
        "home",
        "data",
        "etc/dropbear",
        "var/lib/cloud",
        "usr/sbin",
        LIBRARIES,
        "usr/lib64",
    ):
        (tree / folder).mkdir(parents=True)
    for name in ("bin", "sbin", "lib64"):
        (tree / name).symlink_to(f"usr/{name}")
    (tree / "var/run").symlink_to("/run")
    (tree / "etc/mtab").symlink_to("/proc/self/mounts")
    (tree / "etc/resolv.conf").symlink_to("/run/resolv.conf")
    for program in PROGRAMS:
        _copy(parts / program, tree / program)
    for library in _needed(parts):
        _copy(parts / LIBRARIES / library, tree / LIBRARIES / library)
    (tree / "usr/lib64" / LOADER).symlink_to(f"/{LIBRARIES}/{LOADER}")
    busybox = tree / "usr/bin/busybox"
    for path in call([busybox, "--list-full"]).split():
        link = tree / path if path.startswith("usr/") else tree / "usr" / path
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to("/usr/bin/busybox")
    for source in OWN_FILES.rglob("*"):
        if source.is_file():
            target = tree / source.relative_to(OWN_FILES)
            target.unlink(missing_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    (tree / "etc/shadow").chmod(0o600)
    (tree / "tmp").chmod(0o1777)


def _needed(parts: Path) -> set[str]:
    """The libraries of the programs and of those libraries, by name, and the loader."""
    found = {LOADER}
    waiting = [parts / program for program in PROGRAMS]
    while waiting:
        said = call(["readelf", "--dynamic", "--wide", waiting.pop()])
        names = {line.partition("[")[2].partition("]")[0] for line in said.splitlines() if "(NEEDED)" in line}
        waiting += [parts / LIBRARIES / name for name in names - found]
        found |= names
    return found


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
    target.chmod(0o755)
