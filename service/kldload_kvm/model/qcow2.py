"""The header of a qcow2 image, read within fixed bounds. Pure; the rules are QEMU's docs/interop/qcow2.txt.

A qcow2 image may name other files and ask whoever opens it, with that one's rights, to read them (CVE-2024-32498). Here
such an image is refused, and so is one that is damaged, encrypted, or cut off before its own tables end.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .image_limits import Refused, refuse_size

MAGIC = b"QFI\xfb"
CLUSTER_BITS = range(9, 22)
MOST_L1_BYTES = 32 << 20
MOST_REFCOUNT_TABLE_BYTES = 8 << 20
MOST_EXTENSIONS = 64

_FIXED = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")
_EXTENSION = struct.Struct(">II")

DIRTY, CORRUPT, DATA_FILE, COMPRESSION_TYPE, EXTENDED_L2 = (1 << bit for bit in range(5))
KNOWN_FEATURES = DIRTY | CORRUPT | DATA_FILE | COMPRESSION_TYPE | EXTENDED_L2
EXTENSION_DATA_FILE = 0x44415441
EXTENSION_ENCRYPTION = 0x0537BE77


@dataclass(frozen=True)
class _Header:
    version: int
    backing_offset: int
    backing_size: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_entries: int
    l1_offset: int
    refcount_offset: int
    refcount_clusters: int
    features: int
    length: int
    snapshots: int

    @property
    def cluster(self) -> int:
        return 1 << self.cluster_bits


def virtual_size(head: bytes, file_size: int) -> int:
    """Bytes of the disk in the image whose file begins with `head` (64 KiB, or all of it). Raises Refused."""
    header = _read(head)
    _refuse_other_files(head, header)
    _refuse_unreadable(header)
    _refuse_extensions(head, header)
    _refuse_broken_tables(header, file_size)
    return header.size


def internal_snapshots(head: bytes) -> int:
    """How many snapshots are inside of the image whose file begins with `head`. Raises Refused."""
    return _read(head).snapshots


def backing_file(head: bytes) -> str:
    """What the image whose file begins with `head` is an overlay of, as Python writes a text; empty if of nothing.
    Raises Refused."""
    header = _read(head)
    if not header.backing_offset and not header.backing_size:
        return ""
    start, length = header.backing_offset, min(header.backing_size, 1023)
    return ascii(head[start : start + length].decode("utf-8", "replace"))[:200] if start < len(head) else "another"


def _read(head: bytes) -> _Header:
    if len(head) < _FIXED.size:
        raise Refused("it ends within its header", "copy it again, all of it")
    magic, version, backing, backing_size, bits, size, crypt, l1, l1_at, refs_at, refs, snapshots, _ = (
        _FIXED.unpack_from(head)
    )
    if magic != MAGIC or version not in (2, 3):
        hint = "convert it first: qemu-img convert -f qcow -O qcow2 OLD NEW" if version == 1 else ""
        raise Refused(f"it is a qcow image of version {version}; versions 2 and 3 are taken", hint)
    features, length = 0, _FIXED.size
    if version == 3:
        if len(head) < _FIXED.size + _V3.size:
            raise Refused("it ends within its header", "copy it again, all of it")
        features, _, _, _, length = _V3.unpack_from(head, _FIXED.size)
        if length < _FIXED.size + _V3.size or length % 8 or length > len(head):
            raise Refused("it is damaged: its header has an impossible length")
    return _Header(
        version, backing, backing_size, bits, size, crypt, l1, l1_at, refs_at, refs, features, length, snapshots
    )


def _refuse_other_files(head: bytes, header: _Header) -> None:
    if name := backing_file(head):
        hint = "flatten it where its backing file is: qemu-img convert -O qcow2 OLD NEW"
        raise Refused(f"it has a backing file, {name}: it is not whole by itself", hint)
    if header.features & DATA_FILE:
        raise _data_file()


def _refuse_unreadable(header: _Header) -> None:
    if header.crypt_method:
        raise _encrypted()
    if header.features & CORRUPT:
        raise Refused("it is marked as corrupt", "see what can be saved: qemu-img check -r all FILE")
    if header.features & DIRTY:
        raise Refused("it was not closed properly, or is in use", "repair it: qemu-img check -r all FILE")
    if unknown := header.features & ~KNOWN_FEATURES:
        raise Refused(f"it needs features that are not known here ({unknown:#x})", "convert it with qemu-img convert")
    if header.cluster_bits not in CLUSTER_BITS:
        raise Refused(f"it is damaged: its clusters would have 2^{header.cluster_bits} bytes")


def _refuse_extensions(head: bytes, header: _Header) -> None:
    at, end = header.length, min(len(head), header.cluster)
    for _ in range(MOST_EXTENSIONS):
        if at + _EXTENSION.size > end:
            return  # QEMU, too, ends where the first cluster does
        kind, length = _EXTENSION.unpack_from(head, at)
        if not kind:
            return
        if kind == EXTENSION_DATA_FILE:
            raise _data_file()
        if kind == EXTENSION_ENCRYPTION:
            raise _encrypted()
        at += _EXTENSION.size + (length + 7) // 8 * 8
        if at > header.cluster or at > len(head):
            raise Refused("it is damaged: its header is larger than it says")
    raise Refused("it is damaged: its header does not end")


def _refuse_broken_tables(header: _Header, file_size: int) -> None:
    cluster = header.cluster
    refuse_size(header.size)
    entry = 16 if header.features & EXTENDED_L2 else 8
    need = -(-header.size // (cluster * (cluster // entry)))
    l1_bytes, refcount_bytes = header.l1_entries * 8, header.refcount_clusters * cluster
    if l1_bytes > MOST_L1_BYTES or refcount_bytes > MOST_REFCOUNT_TABLE_BYTES:
        raise Refused("it is damaged: its tables would be larger than any image's")
    if header.l1_entries < need or not header.refcount_clusters:
        raise Refused("it is damaged: its tables are smaller than its disk needs")
    if any(not offset or offset % cluster for offset in (header.l1_offset, header.refcount_offset)):
        raise Refused("it is damaged: its tables are in impossible places")
    end = -(-file_size // cluster) * cluster  # the last cluster of a file may be short
    if header.l1_offset + l1_bytes > file_size or header.refcount_offset + refcount_bytes > end:
        raise Refused("it is cut off: its tables lie beyond its end", "copy it again, all of it")


def _data_file() -> Refused:
    hint = "make it one file: qemu-img convert -O qcow2 OLD NEW"
    return Refused("it keeps its data in another file (external data file)", hint)


def _encrypted() -> Refused:
    hint = "decrypt it first: qemu-img convert --object secret,… -O qcow2 …"
    return Refused("it is encrypted, and whoever takes it would need its key", hint)
