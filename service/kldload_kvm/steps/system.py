"""Steps that set properties of pools, units that start by themselves, and networks of libvirt's that do."""

from __future__ import annotations

from dataclasses import dataclass

from ..engine.plan import Run, Step, step_kind
from ..zfs.pools import get_pool, set_pool
from .host import Host


@step_kind
@dataclass(frozen=True)
class SetPoolProperty(Step):
    """Set a property of a pool; undo sets the one before."""

    kind = "pool.set-property"
    pool: str
    key: str
    value: str
    before: str

    def describe(self) -> str:
        return f"set {self.key} of the pool {self.pool} to {self.value}"

    async def do(self, host: Host, run: Run) -> None:
        await set_pool(self.pool, self.key, self.value)

    async def done(self, host: Host, run: Run) -> bool:
        return await get_pool(self.pool, self.key) == self.value

    async def undo(self, host: Host, run: Run) -> None:
        if await self.done(host, run):
            await set_pool(self.pool, self.key, self.before)


@step_kind
@dataclass(frozen=True)
class EnableUnit(Step):
    """Enable a unit, and start it. Undo disables and stops it, if it was not enabled before."""

    kind = "unit.enable"
    unit: str

    def describe(self) -> str:
        return f"enable and start {self.unit}"

    async def do(self, host: Host, run: Run) -> None:
        before = {**run.results.get("_enabled", {}), self.unit: await host.units.enabled(self.unit)}
        await run.note(_enabled=before)
        await host.units.enable(self.unit)
        await host.units.start(self.unit)

    async def done(self, host: Host, run: Run) -> bool:
        return await host.units.enabled(self.unit) and (await host.units.active([self.unit]))[self.unit]

    async def undo(self, host: Host, run: Run) -> None:
        if run.results.get("_enabled", {}).get(self.unit) is False:
            await host.units.disable(self.unit)
            await host.units.stop(self.unit)


@step_kind
@dataclass(frozen=True)
class SetNetworkAutostart(Step):
    """Have a network of libvirt's started by itself."""

    kind = "network.autostart"
    network: str

    def describe(self) -> str:
        return f"have libvirt's network {self.network} started by itself"

    async def do(self, host: Host, run: Run) -> None:
        await host.virt.set_network_autostart(self.network, True)

    async def done(self, host: Host, run: Run) -> bool:
        return await host.virt.network_autostart(self.network)

    async def undo(self, host: Host, run: Run) -> None:
        await host.virt.set_network_autostart(self.network, False)
