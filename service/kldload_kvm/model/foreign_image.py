"""What else a file may be than an image that is taken here, told from its first and last bytes. Pure.

A table, so that whoever brings a VMDK or a compressed image reads its name and what to do, not "not recognised".
"""

from __future__ import annotations

from .image_limits import Refused

SECTOR = 512
CONVERT = "convert it first: qemu-img convert -O qcow2 OLD NEW"
UNPACK = "unpack it first: {} FILE"

_AT_START: tuple[tuple[bytes, str, str], ...] = (
    (b"KDMV", "a VMDK image", CONVERT),
    (b"COWD", "a VMDK image", CONVERT),
    (b"\xbe\xba\xfe\xca\0\0\0\0", "a VMDK image", CONVERT),
    (b"vhdxfile", "a VHDX image", CONVERT),
    (b"conectix", "a VHD image", CONVERT),
    (b"QED\0", "a QED image", CONVERT),
    (b"WithoutFreeSpace", "a Parallels image", CONVERT),
    (b"WithouFreSpacExt", "a Parallels image", CONVERT),
    (b"Bochs Virtual HD Image", "a Bochs image", CONVERT),
    (b"#!/bin/sh\n#V2.0 Format\n", "a cloop image", CONVERT),
    (b"OOOM", "a User-mode Linux COW file", CONVERT),
    (b"\0\0\0\x02OOOM", "a User-mode Linux COW file", CONVERT),
    (b"LUKS\xba\xbe", "encrypted (LUKS)", "decrypt it first, or install the guest anew with encryption inside"),
    (b"\x1f\x8b", "compressed (gzip)", UNPACK.format("gunzip")),
    (b"\xfd7zXZ\0", "compressed (xz)", UNPACK.format("unxz")),
    (b"\x28\xb5\x2f\xfd", "compressed (zstd)", UNPACK.format("unzstd")),
    (b"BZh", "compressed (bzip2)", UNPACK.format("bunzip2")),
    (b"\x04\x22\x4d\x18", "compressed (lz4)", UNPACK.format("unlz4")),
    (b"LZIP", "compressed (lzip)", UNPACK.format("lzip -d")),
    (b"7z\xbc\xaf\x27\x1c", "an archive (7z)", UNPACK.format("7z x")),
    (b"PK\x03\x04", "an archive (zip)", UNPACK.format("unzip")),
    (b"MSWIM\0\0\0", "a Windows image (WIM), which is no disk", "take the ISO that it came on"),
)
_AT_END: tuple[tuple[bytes, str, str], ...] = (
    (b"conectix", "a VHD image", CONVERT),
    (b"koly", "a Macintosh disk image (DMG)", CONVERT),
)


def refuse_foreign(head: bytes, tail: bytes) -> None:
    """Raises Refused if the file is of a kind that is known and not taken. tail: the file's last 512 bytes or more."""
    for magic, kind, hint in _AT_START:
        if head.startswith(magic):
            raise Refused(f"it is {kind}", hint)
    for magic, kind, hint in _AT_END:
        # Old programs wrote a footer of 511 bytes.
        if tail[-SECTOR:].startswith(magic) or tail[1 - SECTOR :].startswith(magic):
            raise Refused(f"it is {kind}", hint)
    if head[0x40:0x44] == b"\x7f\x10\xda\xbe":
        raise Refused("it is a VDI image", CONVERT)
    if head[257:262] == b"ustar":
        raise Refused("it is an archive (tar, as OVA files are)", UNPACK.format("tar -xf"))
    text = head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith((b"json:", b"{")):
        raise Refused("it is a text that names other storage (json:), no disk", "add the disk itself")
    if b"# disk descriptorfile" in text.lower():
        raise Refused("it is the descriptor of a VMDK image, whose data are in other files", CONVERT)
