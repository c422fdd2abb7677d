"""How a new qcow2 image is laid out, when it is known beforehand which of its clusters hold data. Pure.

All tables come first and then the data, in the order of the disk: so the image can be written from its first byte to
its last, into a pipe as well. Version 3, clusters of 64 KiB, nothing compressed, no other file. The rules are QEMU's
docs/interop/qcow2.txt.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from .qcow2 import MAGIC

CLUSTER = 64 << 10
PER_TABLE = CLUSTER // 8
"""Entries in one table: of offsets, 8 bytes each."""
REFCOUNTS = CLUSTER // 2
"""Entries in one block of reference counts, 16 bits each."""
COPIED = 1 << 63
"""The flag of a cluster that is referred to once."""

_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_HEADER_LENGTH = 104


@dataclass(frozen=True)
class Layout:
    """An image of a disk of `size` bytes. tables: which of the 8192 clusters under each second-level table hold data,
    in their order; tables with none are left out."""

    size: int
    tables: Mapping[int, Sequence[int]]

    @property
    def data_clusters(self) -> int:
        return sum(map(len, self.tables.values()))

    @property
    def length(self) -> int:
        """Bytes of the whole image."""
        return self._clusters * CLUSTER

    @property
    def _first_level(self) -> int:
        """Clusters of the first-level table; an empty one would have none."""
        return max(_ceil(self._entries, PER_TABLE), 1)

    @property
    def _entries(self) -> int:
        return _ceil(self.size, CLUSTER * PER_TABLE)

    @property
    def _counted(self) -> tuple[int, int]:
        """Clusters of the reference counts' table, and of its blocks: which count themselves, too."""
        others = 1 + self._first_level + len(self.tables) + self.data_clusters
        blocks = table = 1
        while True:
            more = _ceil(others + table + blocks, REFCOUNTS), _ceil(blocks, PER_TABLE)
            if more == (blocks, table):
                return table, blocks
            blocks, table = more

    @property
    def _clusters(self) -> int:
        return 1 + self._first_level + sum(self._counted) + len(self.tables) + self.data_clusters

    def metadata(self) -> Iterator[bytes]:
        """The image up to its data, in whole clusters."""
        table, blocks = self._counted
        refcounts_at = 1 + self._first_level
        seconds_at = refcounts_at + table + blocks
        data_at = seconds_at + len(self.tables)
        yield _padded(
            _HEADER.pack(
                MAGIC, 3, 0, 0, CLUSTER.bit_length() - 1, self.size, 0, self._entries, CLUSTER,
                refcounts_at * CLUSTER, table, 0, 0, 0, 0, 0, 4, _HEADER_LENGTH,
            )
        )  # fmt: skip
        places = {each: COPIED | (seconds_at + number) * CLUSTER for number, each in enumerate(sorted(self.tables))}
        yield from _entries((places.get(each, 0) for each in range(self._entries)), self._first_level)
        yield from _entries(((refcounts_at + table + each) * CLUSTER for each in range(blocks)), table)
        for each in range(blocks):
            used = min(max(self._clusters - each * REFCOUNTS, 0), REFCOUNTS)
            yield _padded(b"\0\1" * used)
        at = data_at
        for each in sorted(self.tables):
            entries = [0] * PER_TABLE
            for index in self.tables[each]:
                entries[index] = COPIED | at * CLUSTER
                at += 1
            yield struct.pack(f">{PER_TABLE}Q", *entries)

    def data(self) -> Iterator[int]:
        """Where on the disk each cluster of the data begins, in the order in which they follow the metadata."""
        for each in sorted(self.tables):
            yield from ((each * PER_TABLE + index) * CLUSTER for index in self.tables[each])


def _entries(values: Iterator[int], clusters: int) -> Iterator[bytes]:
    """So many clusters of 8-byte entries."""
    for _ in range(clusters):
        part = list(islice(values, PER_TABLE))
        yield _padded(struct.pack(f">{len(part)}Q", *part))


def _padded(part: bytes) -> bytes:
    return part + bytes(CLUSTER - len(part))


def _ceil(number: int, by: int) -> int:
    return -(-number // by)
