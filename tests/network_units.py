"""The unit that changes the host's network, in memory: what the steps of a bridge see of systemd."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kldload_kvm.host.bridging import __main__ as bridging
from kldload_kvm.model.errors import KvmError
from memory_network import MemoryNetwork
from memory_units import MemoryUnits

UNIT = "kldload-kvm-network@"


class NetworkUnits(MemoryUnits):
    """A unit acts on `network` when started; a guard waits until `guards_wake`. moment: called before and after each
    start and stop, and may raise, as if the daemon was killed then."""

    def __init__(self, network: MemoryNetwork, directory: Path) -> None:
        super().__init__(network.root, directory)
        self.network = network
        self.guards: dict[str, dict[str, Any]] = {}
        self.did: list[str] = []
        self.moment: Callable[[str], None] = lambda what: None

    async def start(self, unit: str) -> None:
        self.moment(f"before start {unit}")
        tag = unit.removeprefix(UNIT).removesuffix(".service")
        request = json.loads((self.directory / f"{tag}.json").read_text())
        self.did.append(request["do"])
        if request["do"] == "guard":
            self.guards[unit] = request
        else:
            (self.directory / f"{tag}.out").write_text(json.dumps({"error": self.act(request)}))
        self.moment(f"after start {unit}")

    def act(self, request: dict[str, Any]) -> str:
        try:
            if self.fails and self.fails == request["do"]:
                raise ValueError("it was to fail")
            bridging.act(request, str(self.root), self.network.run, lambda seconds: None)
        except KvmError as error:
            return error.why
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as fault:
            return str(fault)
        return ""

    async def stop(self, unit: str) -> None:
        self.moment(f"before stop {unit}")
        self.guards.pop(unit, None)
        self.moment(f"after stop {unit}")

    def guards_wake(self) -> None:
        for request in self.guards.values():
            assert self.act(request) == ""
        self.guards.clear()
