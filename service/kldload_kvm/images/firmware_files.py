"""Reading QEMU's firmware descriptors, in the order its docs/interop/firmware.json gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..model import firmware
from ..model.errors import NotFound

# The first place that has a file of some name is the one that counts; an empty file there takes the name out.
PLACES = (Path("/etc/qemu/firmware"), Path("/usr/local/share/qemu/firmware"), Path("/usr/share/qemu/firmware"))
LARGEST = 64 << 10


def load(places: tuple[Path, ...] = PLACES) -> firmware.FirmwarePair:
    """The firmware that VMs get. Blocks: to be run in a thread. Raises NotFound, with what to install."""
    fallback = firmware.FirmwarePair(firmware.DEBIAN_CODE, firmware.DEBIAN_VARS)
    found = [each for each in _descriptors(places) if _there(each)]
    try:
        return firmware.choose(found)
    except NotFound:
        if _files_there(fallback):
            return fallback
        raise


def _descriptors(places: tuple[Path, ...]) -> list[dict[str, Any]]:
    files: dict[str, Path] = {}
    for place in places:
        for path in place.glob("*.json"):
            files.setdefault(path.name, path)
    found = []
    for _, path in sorted(files.items()):
        try:
            with path.open("rb") as file:
                parsed = json.loads(file.read(LARGEST))
        except (OSError, ValueError):
            continue
        if isinstance(parsed, dict):
            found.append(parsed)
    return found


def _there(descriptor: dict[str, Any]) -> bool:
    """A descriptor may outlive the package whose files it names."""
    try:
        return _files_there(firmware.choose([descriptor]))
    except NotFound:
        return False


def _files_there(pair: firmware.FirmwarePair) -> bool:
    return Path(pair.code).is_file() and Path(pair.vars_template).is_file()
