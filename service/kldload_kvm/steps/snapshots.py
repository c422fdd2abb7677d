"""Steps on snapshots: taking all volumes' at once, and destroying those that were named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..engine.plan import Run, Step, step_kind
from ..model import properties
from ..model.domain_xml import pack
from ..model.errors import InconsistentSnapshot, NotFound
from ..zfs import listing
from .host import Host


@step_kind
@dataclass(frozen=True)
class TakeSnapshot(Step):
    """One name over several volumes, in one transaction, with the domain's XML. uuid: the domain, or empty."""

    kind = "snapshot.take"
    datasets: tuple[str, ...]
    name: str
    snapshot_kind: str
    uuid: str = ""
    require: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{dataset}@{self.name}" for dataset in self.datasets)

    def describe(self) -> str:
        volumes = "1 volume" if len(self.datasets) == 1 else f"{len(self.datasets)} volumes at once"
        return f"take the snapshot @{self.name} of {volumes}"

    def touches(self) -> tuple[str, ...]:
        return self.names

    async def do(self, host: Host, run: Run) -> dict[str, Any]:
        consistency = run.results.get("consistency") or await self._unquiesced(host)
        if self.require and ORDER.index(consistency) > ORDER.index(self.require):
            raise InconsistentSnapshot(
                f"the snapshot @{self.name} was not taken",
                f"it would have been {consistency}-consistent, and {self.require} was asked for",
                "install qemu-guest-agent in the guest, or shut the VM down first",
            )
        domain = host.inventory.domains.get(self.uuid)
        values = {
            properties.KIND: self.snapshot_kind,
            properties.CONSISTENCY: consistency,
            properties.JOB: run.tag,
            properties.DOMAIN: pack(domain.xml) if domain else "",
        }
        await host.zfs.snapshot(self.names, {key: value for key, value in values.items() if value})
        return {"snapshot": self.name, "consistency": consistency}

    async def _unquiesced(self, host: Host) -> str:
        """The consistency of a VM that nobody quiesced: off or paused if it is that, at this very moment."""
        if not self.uuid:
            return "off"
        return {"shutoff": "off", "paused": "paused"}.get(await host.virt.state(self.uuid), "crash")

    async def done(self, host: Host, run: Run) -> bool:
        return len(await self._own(host, run)) == len(self.datasets)

    async def undo(self, host: Host, run: Run) -> None:
        for full in await self._own(host, run):
            dataset, _, name = full.partition("@")
            await host.zfs.destroy_snapshots(dataset, [name])

    async def _own(self, host: Host, run: Run) -> list[str]:
        found = []
        for name in self.names:
            try:
                if await host.zfs.get(name, properties.JOB) == run.tag:
                    found.append(name)
            except NotFound:
                continue
        return found


ORDER = ("off", "app", "paused", "crash")
"""From the most consistent to the least."""


@step_kind
@dataclass(frozen=True)
class DestroySnapshot(Step):
    """A snapshot of one volume: zfs destroys those of several volumes one after the other. guid: of the one meant."""

    kind = "snapshot.destroy"
    reversible = False
    dataset: str
    name: str
    guid: str

    def describe(self) -> str:
        return f"destroy the snapshot {self.dataset}@{self.name}"

    def destroys(self) -> tuple[str, ...]:
        return (f"{self.dataset}@{self.name}",)

    def touches(self) -> tuple[str, ...]:
        return (*self.destroys(), self.dataset)

    async def do(self, host: Host, run: Run) -> None:
        _, found = await listing.named(host.zfs, self.destroys())
        if found and found[0].guid != self.guid:
            why = "it is another snapshot of the same name now"
            raise NotFound(f"{self.dataset}@{self.name} was not destroyed", why, "look at the snapshots again")
        if found:
            await host.zfs.destroy_snapshots(self.dataset, [self.name])

    async def done(self, host: Host, run: Run) -> bool:
        return not (await listing.named(host.zfs, self.destroys()))[1]
