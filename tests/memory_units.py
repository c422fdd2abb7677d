"""systemd, and the unit that changes the host, in memory: what the steps of host fixes see of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from kldload_kvm.host import applier
from kldload_kvm.images.conversion import UnitState


class MemoryUnits:
    """on: units that are enabled; running: those that are active. The applier's unit acts below `root` when started.
    fails: words in its request that make it fail; broken: words in a unit's name that make it fail."""

    def __init__(self, root: Path, directory: Path) -> None:
        self.root, self.directory = root, directory
        self.on: set[str] = set()
        self.running: set[str] = set()
        self.fails = ""
        self.broken = ""

    async def start(self, unit: str) -> None:
        if unit.startswith("kldload-kvm-host@"):
            self._apply(unit.removeprefix("kldload-kvm-host@").removesuffix(".service"))
        else:
            self.running.add(unit)

    def _apply(self, tag: str) -> None:
        request = json.loads((self.directory / f"{tag}.json").read_text())
        error = ""
        try:
            if self.fails and self.fails in json.dumps(request):
                raise ValueError("it was to fail")
            applier.act(request, str(self.root))
        except (OSError, ValueError, KeyError) as fault:
            error = str(fault)
        (self.directory / f"{tag}.out").write_text(json.dumps({"error": error}))

    async def stop(self, unit: str) -> None:
        self.running.discard(unit)

    async def state(self, unit: str) -> UnitState:
        if self.broken and self.broken in unit:
            return UnitState("failed", "exit-code")
        return UnitState("active" if unit in self.running else "inactive", "success")

    async def active(self, units: Iterable[str]) -> dict[str, bool]:
        return {unit: unit in self.running for unit in units}

    async def enabled(self, unit: str) -> bool:
        return unit in self.on

    async def enable(self, unit: str) -> None:
        self.on.add(unit)

    async def disable(self, unit: str) -> None:
        self.on.discard(unit)
