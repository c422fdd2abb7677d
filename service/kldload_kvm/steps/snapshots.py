"""Steps on snapshots: taking all volumes' at once, of one VM or of many, and destroying those that were named."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..engine.plan import LookingStep, Run, Step, step_kind
from ..model import properties
from ..model.domain_xml import left_out, pack
from ..model.errors import Busy, HasClones, InconsistentSnapshot, KvmError, NotFound
from ..model.inventory import Domain
from ..model.sharing import others_on
from ..zfs import listing, snapshots
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
        consistency = run.results.get("consistency") or await unquiesced(host, self.uuid, self.datasets)
        if self.require and falls_short(consistency, self.require):
            raise InconsistentSnapshot(
                f"the snapshot @{self.name} was not taken",
                f"it would have been {consistency}-consistent, and {self.require} was asked for",
                "install qemu-guest-agent in the guest, or shut the VM down first",
            )
        domain = host.inventory.domains.get(self.uuid)
        values = volume_values(self.datasets, self.snapshot_kind, consistency, domain)
        await snapshots.snapshot_together(host.zfs, self.name, run.tag, values)
        return {"snapshot": self.name, "consistency": consistency}

    async def done(self, host: Host, run: Run) -> bool:
        return len(await own_snapshots(host, self.names, run)) == len(self.datasets)

    async def undo(self, host: Host, run: Run) -> None:
        await destroy_own_snapshots(host, self.names, run)


@step_kind
@dataclass(frozen=True)
class TakeSnapshots(Step):
    """One name over volumes of many VMs on one pool, in one transaction, each VM's with its own consistency and XML.

    volumes: the id of the VM that each is of, by dataset, each VM's first disk first; names and uuids of the VMs: by
    id. A volume that is not there any more is left out, and told. After the step `snapshots` and `missing` of the
    results hold what became of each VM (see ops/snapshot_all.py).
    """

    kind = "snapshot.take-all"
    pool: str
    name: str
    snapshot_kind: str
    volumes: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    uuids: dict[str, str] = field(default_factory=dict)
    require: str = ""

    @property
    def full_names(self) -> tuple[str, ...]:
        return tuple(f"{dataset}@{self.name}" for dataset in self.volumes)

    def describe(self) -> str:
        vms = len(set(self.volumes.values()))
        of = f"{vms} VMs" if vms > 1 else "1 VM"
        return f"take the snapshot @{self.name} of {of} ({len(self.volumes)} volumes) on {self.pool} at once"

    def touches(self) -> tuple[str, ...]:
        return self.full_names

    async def do(self, host: Host, run: Run) -> dict[str, Any]:
        reached = await self._reached(host, run)
        self._check(reached)
        domains = {vm: host.inventory.domains.get(self.uuids[vm]) for vm in reached}
        groups = await asyncio.to_thread(self._groups, reached, domains)  # much to compress, for many VMs
        outcome = await snapshots.snapshot_each(host.zfs, self.pool, self.name, run.tag, groups)
        faults = {f"{d}@{self.name}": what for d, what in outcome.items() if what not in ("taken", "gone")}
        for full, what in faults.items():
            await destroy_own_snapshots(host, self.full_names, run)
            raise snapshots.failure(full, what)
        taken: list[dict[str, Any]] = run.results.setdefault("snapshots", [])
        missing: list[str] = run.results.setdefault("missing", [])
        volumes = Counter(owner for dataset, owner in self.volumes.items() if outcome.get(dataset) == "taken")
        for vm, consistency in reached.items():
            if number := volumes[vm]:
                taken.append({"vm": self.names[vm], "consistency": consistency, "held": 0.0, "volumes": number})
        missing += [dataset for dataset in self.volumes if outcome.get(dataset) != "taken"]
        return {"snapshots": taken, "missing": missing}

    def _groups(self, reached: dict[str, str], domains: dict[str, Domain | None]) -> list[dict[str, dict[str, str]]]:
        of = self._volumes_of()
        return [volume_values(tuple(of[vm]), self.snapshot_kind, each, domains[vm]) for vm, each in reached.items()]

    def _volumes_of(self) -> dict[str, list[str]]:
        """The volumes of each VM."""
        of: dict[str, list[str]] = defaultdict(list)
        for dataset, owner in self.volumes.items():
            of[owner].append(dataset)
        return of

    async def _reached(self, host: Host, run: Run) -> dict[str, str]:
        """The consistency of each VM's snapshot: what was reached by holding it still, or by its state of this moment.
        One question for all: guests are waiting."""
        held = run.results.get("_guests", {})
        try:
            states = await host.virt.states()
        except KvmError:
            states = {}  # nobody knows, so all are the least
            unknown = "crash"
        else:
            unknown = "off"  # no domain is there to write
        reached = {}
        for vm, datasets in self._volumes_of().items():
            uuid = self.uuids[vm]
            state = UNQUIESCED.get(states[uuid], "crash") if uuid in states else unknown
            if others_write(host, uuid, datasets):
                state = "crash"
            reached[vm] = str(held.get(uuid, {}).get("consistency") or state)
        return reached

    def _check(self, reached: dict[str, str]) -> None:
        if not self.require:
            return
        less = [f"{self.names[vm]} ({each})" for vm, each in reached.items() if falls_short(each, self.require)]
        if less:
            raise InconsistentSnapshot(
                f"the snapshots @{self.name} were not taken",
                f"{self.require} was asked for, and these would have been less consistent: {', '.join(sorted(less))}",
                "install qemu-guest-agent in these guests, or shut them down first",
            )

    async def done(self, host: Host, run: Run) -> bool:
        return bool(await own_snapshots(host, self.full_names, run))

    async def undo(self, host: Host, run: Run) -> None:
        await destroy_own_snapshots(host, self.full_names, run)


def volume_values(
    datasets: tuple[str, ...], kind: str, consistency: str, domain: Domain | None
) -> dict[str, dict[str, str]]:
    """The properties of a VM's snapshot, by volume: the domain's XML stands on the first one's only."""
    common = {
        properties.SNAPSHOT: properties.snapshot_value(kind, consistency),
        properties.EXCLUDES: left_out(domain.xml) if domain else "",
    }
    found = {dataset: {key: value for key, value in common.items() if value} for dataset in datasets}
    if domain and (packed := pack(domain.xml)):
        found[datasets[0]][properties.DOMAIN] = packed
    return found


UNQUIESCED = {"shutoff": "off", "paused": "paused"}
"""The consistency by the state of a domain that nobody quiesced; of any other state it is the least."""


async def unquiesced(host: Host, uuid: str, datasets: Iterable[str]) -> str:
    """The consistency of a VM that nobody quiesced: off or paused if it is that, at this very moment. uuid: of its
    domain, empty if it has none."""
    if others_write(host, uuid, datasets):
        return "crash"
    if not uuid:
        return "off"
    try:
        state = await host.virt.state(uuid)
        if state == "shutoff" and (await host.virt.kept_of(uuid)).saved:
            return "crash"  # what the guest had not written yet is in its saved memory
    except NotFound:
        return "off"  # no domain is there to write
    except KvmError:
        return "crash"  # nobody knows, so it is the least
    return UNQUIESCED.get(state, "crash")


def others_write(host: Host, uuid: str, datasets: Iterable[str]) -> bool:
    """Whether a domain that is not the VM's own runs on its volumes."""
    return any(others_on(host.inventory, uuid, dataset) for dataset in datasets)


async def own_snapshots(host: Host, names: tuple[str, ...], run: Run) -> list[str]:
    """Those of the snapshots that this very step took."""
    values = await host.zfs.get_each(names, properties.SNAPSHOT)
    return [name for name in names if properties.snapshot_facts(values.get(name, ""))[2] == run.tag]


async def destroy_own_snapshots(host: Host, names: tuple[str, ...], run: Run) -> None:
    for full in await own_snapshots(host, names, run):
        dataset, _, name = full.partition("@")
        await host.zfs.destroy_snapshots(dataset, [name])


def falls_short(consistency: str, required: str) -> bool:
    return ORDER.index(consistency) > ORDER.index(required)


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


@step_kind
@dataclass(frozen=True)
class CheckMadeHere(LookingStep):
    """Leave out what another host's service made, and what came here with a replication: it is not ours to prune.
    sets: which VM@NAME each snapshot is part of; one goes as a whole. What is to go then is in the results as removed.
    """

    kind = "snapshot.check-made-here"
    sets: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        return "leave out those that came from another host"

    async def do(self, host: Host, run: Run) -> dict[str, Any]:
        made = await host.zfs.made_here(list(self.sets), properties.SNAPSHOT)
        others = {each for part, each in self.sets.items() if part not in made}
        ours = {part: each for part, each in self.sets.items() if each not in others}
        return {"removed": list(dict.fromkeys(ours.values())), "_ours": list(ours)}


@step_kind
@dataclass(frozen=True)
class PruneVolume(Step):
    """Several snapshots of one volume. guids: of those meant, by name; beside: all volumes of its VM. One that cannot
    go, because by now a clone hangs on it or somebody holds it on any of these, stays: it goes another time."""

    kind = "snapshot.prune"
    reversible = False
    dataset: str
    guids: dict[str, str] = field(default_factory=dict)
    beside: tuple[str, ...] = ()

    def describe(self) -> str:
        of = f"{len(self.guids)} snapshots" if len(self.guids) > 1 else "the snapshot"
        return f"destroy {of} of {self.dataset}: {', '.join(f'@{name}' for name in self.guids)}"

    def destroys(self) -> tuple[str, ...]:
        return tuple(f"{self.dataset}@{name}" for name in self.guids)

    def touches(self) -> tuple[str, ...]:
        return (*self.destroys(), self.dataset)

    async def do(self, host: Host, run: Run) -> None:
        names = await self._there(host, run)
        try:
            if names:
                await host.zfs.destroy_snapshots(self.dataset, names)
        except (Busy, HasClones, NotFound):
            for name in names:
                with suppress(Busy, HasClones, NotFound):
                    await host.zfs.destroy_snapshots(self.dataset, [name])

    async def done(self, host: Host, run: Run) -> bool:
        return not await self._there(host, run)

    async def _there(self, host: Host, run: Run) -> list[str]:
        """Those that are there, are the ones meant, and are held on no volume of the VM, as the host knows now."""
        volumes = dict.fromkeys((self.dataset, *self.beside))
        _, found = await listing.named(host.zfs, [f"{volume}@{name}" for volume in volumes for name in self.guids])
        held = {each.name for each in found if each.holds}
        ours = run.results.get("_ours", ())
        own = [each for each in found if each.dataset == self.dataset and f"{each.dataset}@{each.name}" in ours]
        return [each.name for each in own if each.guid == self.guids[each.name] and each.name not in held]
