"""Steps that give a domain that is off another name, and other paths to its volumes."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..engine.plan import Run, step_kind
from ..model.domain_devices import sources, with_sources
from ..model.errors import WrongState
from ..model.inventory import device
from .domains import DomainStep
from .host import Host


@step_kind
@dataclass(frozen=True)
class RenameDomain(DomainStep):
    """name: the one it has; new: the one it gets. Its UUID, and whether it starts with the host, stay."""

    kind = "domain.rename"
    new: str

    def describe(self) -> str:
        return f"rename the libvirt domain {self.name} to {self.new}"

    async def do(self, host: Host, run: Run) -> None:
        if not await self.done(host, run):
            await host.virt.rename(self.uuid, self.new)

    async def done(self, host: Host, run: Run) -> bool:
        domain = await host.virt.domain(self.uuid)
        return domain is not None and domain.name == self.new

    async def undo(self, host: Host, run: Run) -> None:
        if await self.done(host, run):
            await host.virt.rename(self.uuid, self.name)


@step_kind
@dataclass(frozen=True)
class MoveSources(DomainStep):
    """Point a domain's disks and variables at other paths. moved: each old path with its new one."""

    kind = "domain.move-sources"
    moved: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        return f"point the disks of {self.name} at its renamed volumes"

    async def do(self, host: Host, run: Run) -> None:
        await host.virt.edit(self.uuid, lambda xml: with_sources(xml, self.moved))

    async def done(self, host: Host, run: Run) -> bool:
        return set(self.moved.values()) <= await self._sources(host)

    async def undo(self, host: Host, run: Run) -> None:
        back = {new: old for old, new in self.moved.items()}
        if await self._sources(host) & back.keys():
            names = [old.removeprefix(device("")) for old in self.moved]
            if taken := sorted(await host.zfs.get_each(names, "guid")):  # its own are not there again yet
                why = f"others are called {', '.join(taken)} by now"
                hint = "rename these, and then point the domain at its own volumes: virsh edit"
                raise WrongState(f"the disks of {self.name} were not pointed back at their old paths", why, hint)
            await host.virt.edit(self.uuid, lambda xml: with_sources(xml, back))

    async def _sources(self, host: Host) -> set[str]:
        domain = await host.virt.domain(self.uuid)
        return sources(domain.xml) if domain else set()
