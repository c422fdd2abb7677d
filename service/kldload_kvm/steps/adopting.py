"""Steps that make a whole VM of what others made, or of what has lost its domain."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field

from ..engine.plan import Run, Step, step_kind
from ..model import properties
from ..model.domain_xml import restored, unpack
from ..model.errors import NotFound
from .domains import DomainStep
from .host import Host


@step_kind
@dataclass(frozen=True)
class NoteOwner(Step):
    """Note on a volume whose it is. values: what is set; nothing of it was there, or it had another value: then that
    comes back."""

    kind = "volume.note-owner"
    dataset: str
    values: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        return f"note on {self.dataset} that it is a volume of this VM"

    def touches(self) -> tuple[str, ...]:
        return (self.dataset,)

    async def do(self, host: Host, run: Run) -> None:
        known = await host.zfs.local_properties(self.dataset)
        await run.note(**{f"_was:{self.dataset}": {key: known.get(key, "") for key in self.values}})
        await host.zfs.set(self.dataset, self.values)

    async def done(self, host: Host, run: Run) -> bool:
        known = await host.zfs.local_properties(self.dataset)
        return all(known.get(key) == value for key, value in self.values.items())

    async def undo(self, host: Host, run: Run) -> None:
        was = run.results.get(f"_was:{self.dataset}")
        if was is None:
            return  # it was never begun
        for key, value in was.items():
            if value:
                await host.zfs.set(self.dataset, {key: value})
            else:
                await host.zfs.inherit(self.dataset, key)


@step_kind
@dataclass(frozen=True)
class RegisterDomain(DomainStep):
    """Define a domain from the newest of these snapshots that keeps a definition."""

    kind = "domain.register"
    snapshots: tuple[str, ...] = ()

    def describe(self) -> str:
        return f"define the libvirt domain {self.name} as its newest snapshot keeps it"

    async def do(self, host: Host, run: Run) -> None:
        kept = await host.zfs.get_each(self.snapshots, properties.DOMAIN)
        for snapshot in self.snapshots:
            try:
                xml = restored(unpack(kept.get(snapshot, "-")), name=self.name, uuid=self.uuid)
            except (ValueError, ET.ParseError):
                continue
            await host.virt.define(xml)
            return
        hint = f"define one on its volumes yourself: virsh define, and then kvm-adopt {self.name}"
        raise NotFound(f"{self.name} was not defined", "none of its snapshots keeps a definition", hint)

    async def done(self, host: Host, run: Run) -> bool:
        return await host.virt.domain(self.uuid) is not None

    async def undo(self, host: Host, run: Run) -> None:
        if await self.done(host, run):
            await host.virt.undefine(self.uuid)
