"""The bench's own image: a Debian tree by mmdebstrap, with ZFS built by dkms inside it, made into one ext4 disk.

No loop device, no mount of ours, and no module loaded outside: mke2fs fills the file system from the tree.
"""

from __future__ import annotations

import gzip
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import outer, places, recipe
from .call import call
from .say import LabError, step

SUITES = ("trixie", "bookworm")
"""Debian 13, which is the bench's unless another is asked for, and 12."""
RELEASE = SUITES[0]
DISK_SIZE = "12G"
MMDEBSTRAP = (
    "--format=directory",
    "--components=main,contrib",
    '--aptopt=APT::Install-Recommends "false"',
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
)
PRESEED = '--essential-hook=echo man-db man-db/auto-update boolean false | chroot "$1" debconf-set-selections'
MAKEUP = places.LAB / "image"
PACKAGES = places.LAB / "packages.txt"


@dataclass(frozen=True)
class BenchImage:
    """What one build gives, as paths."""

    directory: Path

    @property
    def disk(self) -> Path:
        """Raw ext4, the root file system; sparse, never written to (benches run on an overlay)."""
        return self.directory / "root.img"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd"

    @property
    def key(self) -> Path:
        """The private ssh key that opens root's, alice's and bob's accounts."""
        return self.directory / "key"


def packages() -> list[str]:
    """The package list, without its comments."""
    lines = (line.partition("#")[0].strip() for line in PACKAGES.read_text().splitlines())
    return [line for line in lines if line]


def find_or_build(suite: str = RELEASE) -> BenchImage:
    """The image from the cache, or a new one (about five minutes on two cores)."""
    if suite not in SUITES:
        raise LabError(f"the bench cannot be made of {suite!r}", hint=f"one of {', '.join(SUITES)}")
    key = recipe.key_of(PACKAGES, MAKEUP, suite, DISK_SIZE, PRESEED, *MMDEBSTRAP)
    found = recipe.cached("bench", key)
    if found is None:
        outer.ensure(outer.FOR_BUILDING)
        found = recipe.built("bench", key, f"the bench's image ({suite})", partial(_build, suite=suite))
    return BenchImage(found)


def _build(directory: Path, suite: str) -> None:
    image, tree = BenchImage(directory), directory / "tree"
    call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "kldload-kvm-lab", "-f", image.key])
    with step("  Debian packages, and ZFS by dkms (the longest part)"):
        configure = f'{MAKEUP / "configure.sh"} "$1" {image.key}'
        debootstrap(tree, packages(), directory / "mmdebstrap.log", configure, suite=suite)
    with step("  the disk"):
        (kernel,) = tree.glob("boot/vmlinuz-*")
        (initrd,) = tree.glob("boot/initrd.img-*")
        (tree / "lib/modules" / kernel.name.removeprefix("vmlinuz-") / "updates/dkms/zfs.ko").stat()
        shutil.copy(kernel, image.kernel)
        image.initrd.write_bytes(gzip.decompress(initrd.read_bytes()))
        make_ext4(image.disk, DISK_SIZE, "lab-root", tree)
    shutil.rmtree(tree)


def debootstrap(
    tree: Path,
    names: list[str],
    log: Path,
    customize: str = "true",
    *,
    variant: str = "minbase",
    suite: str = RELEASE,
) -> None:
    """Install Debian packages, and what they depend on, into a new directory; then run a hook on it.

    The variant `extract` only unpacks them.
    """
    call(
        [
            "mmdebstrap",
            *MMDEBSTRAP,
            *((PRESEED, f"--customize-hook={customize}") if variant != "extract" else ()),
            f"--variant={variant}",
            f"--include={','.join(names)}",
            suite,
            str(tree),
            outer.debian_mirror(),
        ],
        log=log,
        why="mmdebstrap",
    )


def make_ext4(disk: Path, size: str, label: str, tree: Path) -> None:
    """A sparse raw file of `size` that holds `tree` as a labelled ext4 file system."""
    call(["mke2fs", "-q", "-t", "ext4", "-L", label, "-E", "root_owner=0:0", "-d", tree, disk, size])
