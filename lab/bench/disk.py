"""A bootable disk for a UEFI machine, put together without loop devices or mounts.

1 MiB           EFI system partition (FAT) with one program, EFI/BOOT/BOOTX64.EFI
after it        the root file system (ext4), up to the backup table
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from .call import call
from .say import LabError

MIB = 1 << 20
ESP_START = 1  # MiB


@dataclass(frozen=True)
class Layout:
    """Sizes in MiB, and the root partition's name (also its file system's label)."""

    disk: int
    esp: int
    name: str

    @property
    def root_start(self) -> int:
        return ESP_START + self.esp

    @property
    def root_size(self) -> int:
        return self.disk - self.root_start - 1

    def table(self) -> str:
        """The partition table, as sfdisk reads it."""
        return (
            "label: gpt\n"
            f"start={ESP_START}MiB, size={self.esp}MiB, type=uefi, name=esp\n"
            f"start={self.root_start}MiB, size={self.root_size}MiB, type=linux, name={self.name}\n"
        )


def make(target: Path, layout: Layout, efi_program: Path, tree: Path, ext4: tuple[str, ...] = ()) -> None:
    """Write a raw, sparse disk that boots `efi_program` and holds `tree`.

    `ext4` are further options of mke2fs.
    """
    with target.open("wb") as raw:
        raw.truncate(layout.disk * MIB)
    cut = subprocess.run(
        ["/sbin/sfdisk", "--quiet", target], input=layout.table(), capture_output=True, text=True, check=False
    )
    if cut.returncode != 0:
        raise LabError("sfdisk failed", cut.stderr.strip())
    esp = f"{target}@@{ESP_START}M"
    sector, blocks = ESP_START * MIB // 512, layout.esp * 1024
    call(["mkfs.vfat", "-F", "16", "-n", "ESP", "--offset", str(sector), target, str(blocks)])
    call(["mmd", "-i", esp, "::/EFI", "::/EFI/BOOT"])
    call(["mcopy", "-i", esp, efi_program, "::/EFI/BOOT/BOOTX64.EFI"])
    offset = f"offset={layout.root_start * MIB},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0"
    call(
        [
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            layout.name,
            "-E",
            offset,
            *ext4,
            "-d",
            tree,
            target,
            f"{layout.root_size}M",
        ]
    )


def to_qcow2(raw: Path, target: Path, *, compress: bool) -> None:
    """Convert a raw disk to qcow2, and drop the raw one."""
    call(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *(["-c"] if compress else []), raw, target])
    raw.unlink()
