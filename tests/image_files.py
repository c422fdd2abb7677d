"""Disk images for the tests, good and bad, made by qemu-img itself (package qemu-utils)."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

MIB = 1 << 20


def qemu_img(*args: str) -> str:
    """Run qemu-img, and return its stdout."""
    return subprocess.run(("qemu-img", *args), check=True, capture_output=True, text=True).stdout


def create(path: Path, format_: str = "qcow2", size: int = 64 * MIB, **options: str) -> Path:
    """An empty image; keyword arguments become `-o` options."""
    pairs = [f"{key}={value}" for key, value in options.items()]
    qemu_img("create", "-q", "-f", format_, *(("-o", ",".join(pairs)) if pairs else ()), str(path), str(size))
    return path


def disk(path: Path, size: int = 8 * MIB, filled: int = MIB) -> Path:
    """A raw disk with a boot record, and data that are no zeroes in its beginning."""
    pattern = bytes(range(1, 252)) * (filled // 251 + 1)
    contents = bytearray(pattern[:filled])
    contents[:512] = bytes(510) + b"\x55\xaa"
    with path.open("wb") as file:
        file.write(contents)
        file.truncate(size)
    return path


def gpt_disk(path: Path, size: int = 8 * MIB) -> Path:
    """A raw disk with the header of a GUID partition table that knows where its backup is."""
    disk(path, size)
    with path.open("r+b") as file:
        file.seek(512)
        file.write(b"EFI PART" + struct.pack("<IIIIQQ", 0x10000, 92, 0, 0, 1, size // 512 - 1))
    return path


def iso(path: Path, blocks: int = 64) -> Path:
    """The volume descriptor of an ISO 9660 image, and nothing more."""
    descriptor = bytearray(2048)
    descriptor[:6] = b"\x01CD001"
    struct.pack_into("<I", descriptor, 80, blocks)
    struct.pack_into("<H", descriptor, 128, 2048)
    path.write_bytes((bytes(0x8000) + bytes(descriptor)).ljust(blocks * 2048, b"\0"))
    return path


def converted(source: Path, path: Path, format_: str = "qcow2", *args: str) -> Path:
    """The raw disk `source` in another format."""
    qemu_img("convert", "-q", *args, "-f", "raw", "-O", format_, str(source), str(path))
    return path


def patched(path: Path, offset: int, contents: bytes) -> Path:
    """The file with some of its bytes changed in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(contents)
    return path


def cut(path: Path, size: int) -> Path:
    """The file cut off."""
    with path.open("r+b") as file:
        file.truncate(size)
    return path
