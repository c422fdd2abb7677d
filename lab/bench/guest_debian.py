"""The full guest: Debian 13 with its own kernel, cloud-init, the guest agent and sshd. For machines with real KVM."""

from __future__ import annotations

import shutil
from pathlib import Path

from . import disk, image, outer, places, recipe
from .call import call
from .say import step

PACKAGES = (
    *(
        "linux-image-cloud-amd64",
        "initramfs-tools",
        "zstd",
        "systemd-sysv",
        "systemd-resolved",
        "libpam-systemd",
        "dbus",
    ),
    *("udev", "kmod", "iproute2", "iputils-ping", "procps", "e2fsprogs", "cloud-init", "cloud-guest-utils"),
    *("netplan.io", "qemu-guest-agent", "openssh-server", "sudo", "ca-certificates", "less", "systemd-boot-efi"),
)
CONFIGURE = places.LAB / "guest" / "debian.sh"
COMMAND_LINE = "root=LABEL=debian rw console=tty0 console=ttyS0"
STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
LAYOUT = disk.Layout(disk=4096, esp=128, name="debian")


def find() -> Path | None:
    """debian.qcow2, if it has been built."""
    found = recipe.cached("debian", _key())
    return found and found / "debian.qcow2"


def find_or_build() -> Path:
    """debian.qcow2 from the cache, or a new one."""
    outer.ensure(outer.FOR_BUILDING)
    return recipe.built("debian", _key(), "the full Debian guest image", _build) / "debian.qcow2"


def _key() -> str:
    return recipe.key_of(CONFIGURE, image.RELEASE, repr((PACKAGES, COMMAND_LINE, LAYOUT)), *image.MMDEBSTRAP)


def _build(directory: Path) -> None:
    tree = directory / "tree"
    with step("  packages"):
        image.debootstrap(tree, list(PACKAGES), directory / "mmdebstrap.log", f'{CONFIGURE} "$1"')
    with step("  disk"):
        program = _unified_kernel(tree, directory)
        raw = directory / "debian.raw"
        disk.make(raw, LAYOUT, program, tree)
        disk.to_qcow2(raw, directory / "debian.qcow2", compress=True)
    shutil.rmtree(tree)


def _unified_kernel(tree: Path, directory: Path) -> Path:
    """Kernel, initramfs and command line as sections of systemd's stub: one EFI program."""
    (kernel,) = tree.glob("boot/vmlinuz-*")
    (initrd,) = tree.glob("boot/initrd.img-*")
    line = directory / "cmdline"
    line.write_text(COMMAND_LINE)
    stub, program = tree / STUB, directory / "debian.efi"
    sections = [(".osrel", tree / "usr/lib/os-release"), (".cmdline", line), (".linux", kernel), (".initrd", initrd)]
    address, alignment = _end_of(stub)
    words: list[str] = []
    for name, content in sections:
        words += ["--add-section", f"{name}={content}", "--change-section-vma", f"{name}={address:#x}"]
        address += -(-content.stat().st_size // alignment) * alignment
    call(["objcopy", *words, stub, program])
    return program


def _end_of(stub: Path) -> tuple[int, int]:
    """Where the stub's last section ends in memory (rounded up), and the alignment to keep after it."""
    said = call(["objdump", "-p", stub])
    headers = dict(line.split()[:2] for line in said.splitlines() if len(line.split()) == 2)
    base, size, alignment = (int(headers[name], 16) for name in ("ImageBase", "SizeOfImage", "SectionAlignment"))
    return base + -(-size // alignment) * alignment, alignment
