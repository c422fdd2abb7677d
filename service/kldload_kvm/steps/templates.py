"""Steps that make a template of a VM: volumes that nobody can write to, and a guest without an identity."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..engine.plan import Run, Step, step_kind
from ..model.errors import NotFound
from .domains import DomainStep
from .host import Host
from .own import no_longer_busy


@step_kind
@dataclass(frozen=True)
class SetReadonly(Step):
    """ZFS's readonly on a volume: QEMU cannot open it to write then, whoever starts the VM. Clones do not get it."""

    kind = "volume.set-readonly"
    dataset: str
    on: bool

    def describe(self) -> str:
        return f"make {self.dataset} {'read-only' if self.on else 'writable again'}"

    def touches(self) -> tuple[str, ...]:
        return (self.dataset,)

    async def do(self, host: Host, run: Run) -> None:
        if self.on:  # under a guest that runs, every further write would fail
            await no_longer_busy(host.devices.check_closed, self.dataset)
        await self._set(host, self.on)

    async def done(self, host: Host, run: Run) -> bool:
        return (await host.zfs.get(self.dataset, "readonly") == "on") == self.on

    async def undo(self, host: Host, run: Run) -> None:
        with suppress(NotFound):  # what was never created has nothing to be taken back
            await self._set(host, not self.on)

    async def _set(self, host: Host, on: bool) -> None:
        if on:
            await host.zfs.set(self.dataset, {"readonly": "on"})
        else:
            await host.zfs.inherit(self.dataset, "readonly")


@step_kind
@dataclass(frozen=True)
class GeneralizeGuest(DomainStep):
    """Take from a guest what only one may have, through its agent: its clones make their own."""

    kind = "guest.generalize"
    reversible = False

    def describe(self) -> str:
        return f"remove cloud-init's memory, machine-id and SSH host keys in {self.name}"

    async def do(self, host: Host, run: Run) -> dict[str, Any]:
        return {"generalized": await host.agent.generalize(self.uuid)}

    async def done(self, host: Host, run: Run) -> bool:
        return False  # doing it twice does no harm
