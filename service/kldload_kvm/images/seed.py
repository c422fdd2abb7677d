"""The seed volume: an ISO 9660 image with the label and the two files that cloud-init's NoCloud source looks for.

It is written by pycdlib and read back, for a clone, by the few lines below: a guest may have had its hands on it.
"""

from __future__ import annotations

import io
import struct

from ..model.errors import BadImage

ALIGNMENT = 64 << 10
"""Bytes: a seed fills whole blocks of its volume."""
LARGEST = 1 << 20

_SECTOR = 2048
_VOLUME = 16 * _SECTOR
_META, _USER, _NETWORK = "META_DAT.;1", "USER_DAT.;1", "NETWORK_.;1"


def build_seed(meta: str, user: str, network: str | None = None) -> bytes:
    """The seed's whole contents, padded to ALIGNMENT. Blocks for some milliseconds: to be run in a thread."""
    import pycdlib  # here, because it is only needed now and then, and large

    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=1, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    files = [(_META, "meta-data", meta), (_USER, "user-data", user), (_NETWORK, "network-config", network)]
    for iso_name, name, text in files:
        if text is not None:
            contents = text.encode()
            iso.add_fp(io.BytesIO(contents), len(contents), f"/{iso_name}", rr_name=name, joliet_path=f"/{name}")
    image = io.BytesIO()
    iso.write_fp(image)
    iso.close()
    contents = image.getvalue()
    return contents + bytes(-len(contents) % ALIGNMENT)


def read_seed(image: bytes) -> tuple[str, str]:
    """meta-data and user-data of a seed made by build_seed. Raises BadImage if this is none."""
    files = _files(image)
    if _META not in files or _USER not in files:
        raise BadImage("the seed cannot be read", "meta-data or user-data is missing in it", "")
    try:
        return files[_META].decode(), files[_USER].decode()
    except UnicodeDecodeError:
        raise BadImage("the seed cannot be read", "what is in it is no text", "") from None


def _files(image: bytes) -> dict[str, bytes]:
    """The files in the root directory by their ISO 9660 names. See ECMA-119, 8.4 and 9.1."""
    if len(image) < _VOLUME + _SECTOR or image[_VOLUME : _VOLUME + 6] != b"\x01CD001" or len(image) > LARGEST:
        raise BadImage("the seed cannot be read", "it is no ISO 9660 image of a seed's size", "")
    start, length = _extent(image, _VOLUME + 156)
    directory = image[start : start + min(length, _SECTOR)]
    found: dict[str, bytes] = {}
    at = 0
    while at + 34 <= len(directory) and directory[at] >= 34:
        name = directory[at + 33 : at + 33 + directory[at + 32]].decode("ascii", "replace")
        start, length = _extent(directory, at)
        found[name] = image[start : start + length]
        at += directory[at]
    return found


def _extent(record: bytes, at: int) -> tuple[int, int]:
    """Where the contents of a directory record stand, and how long they are, in bytes."""
    (sector,) = struct.unpack_from("<I", record, at + 2)
    (length,) = struct.unpack_from("<I", record, at + 10)
    return sector * _SECTOR, length
