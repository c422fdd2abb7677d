"""Reading osinfo-db: about 900 files, of each the first lines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..model import os_index

# As osinfo-db(5): what the host's administrator put in place counts more than what packages did.
PLACES = (Path("/usr/share/osinfo/os"), Path("/usr/local/share/osinfo/os"), Path("/etc/osinfo/os"))
HEAD = 4096
MOST_FILES = 10_000


def load(places: tuple[Path, ...] = PLACES) -> dict[str, os_index.Os]:
    """All operating systems by short id; none where osinfo-db is not installed. Blocks: to be run in a thread."""
    return os_index.index(_heads(places))


def _heads(places: tuple[Path, ...]) -> Iterator[str]:
    count = 0
    for place in places:
        for folder, _, names in os.walk(place):
            for name in sorted(names):
                if not name.endswith(".xml") or count >= MOST_FILES:
                    continue
                count += 1
                try:
                    with open(f"{folder}/{name}", "rb", buffering=0) as file:  # noqa: PTH123 -- three times as fast
                        yield file.read(HEAD).decode("utf-8", "replace")
                except OSError:
                    continue
