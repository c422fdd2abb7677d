"""The step that makes libvirt's view of a storage."""

from __future__ import annotations

from dataclasses import dataclass

from ..engine.plan import Run, Step, step_kind
from .host import Host


@step_kind
@dataclass(frozen=True)
class DefinePool(Step):
    """A storage pool that nobody has, of the devices in a directory."""

    kind = "pool.define"
    name: str
    path: str

    def describe(self) -> str:
        return f"define the libvirt storage pool {self.name} on {self.path}"

    async def do(self, host: Host, run: Run) -> None:
        await host.virt.pools.define(self.name, self.path)

    async def done(self, host: Host, run: Run) -> bool:
        return self.name in await host.virt.pools.all()

    async def undo(self, host: Host, run: Run) -> None:
        if await self.done(host, run):
            await host.virt.pools.undefine(self.name)


@step_kind
@dataclass(frozen=True)
class StartPool(Step):
    """Have libvirt look into it."""

    kind = "pool.start"
    reversible = False
    name: str

    def describe(self) -> str:
        return f"start the libvirt storage pool {self.name}"

    async def do(self, host: Host, run: Run) -> None:
        if not await self.done(host, run):
            await host.virt.pools.start(self.name)

    async def done(self, host: Host, run: Run) -> bool:
        return (await host.virt.pools.all()).get(self.name, False)
