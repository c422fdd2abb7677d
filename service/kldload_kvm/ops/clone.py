"""Clone: VMs from one snapshot of another, each with an identity of its own; they share their blocks with that origin,
or, if asked for, none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Guard, Plan, Step
from ..model import domain_xml, names, properties
from ..model.errors import InvalidArgument
from ..model.inventory import Dataset, Domain, Vm, device, role
from ..model.sizes import format_size
from ..steps.copies import CopyVolume, DropTaken
from ..steps.domains import DefineDomain, StartDomain, StartNetwork
from ..steps.seeds import WriteCloneSeed
from ..steps.volumes import CloneVolume, CreateVolume, NoteWritten
from .request import (
    View,
    VmRequest,
    definition_guard,
    set_guards,
    snapshot_steps,
    taken_names,
    vm_guards,
    vm_locks,
)
from .trash import check_fits, spare_steps

MOST = 100


@dataclass(frozen=True)
class Clone(VmRequest):
    """names: the clones'; snapshot: of the origin, or empty to take one now; full: copies that share no block."""

    operation = "vm.clone"
    names: tuple[str, ...] = ()
    snapshot: str = ""
    start: bool = False
    full: bool = False

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        wanted = tuple(names.vm_name(each) for each in args[0])
        if not 1 <= len(wanted) <= MOST:
            raise InvalidArgument("no clone was made", f"{len(wanted)} names were given", f"give 1 to {MOST} names")
        if len(set(wanted)) != len(wanted):
            raise InvalidArgument("no clone was made", "one name was given twice", "give each clone a name of its own")
        snapshot = names.snapshot_name(options["snapshot"]) if "snapshot" in options else ""
        return cls(target, wanted, snapshot, options.get("start", False), options.get("full", False))

    def subject(self, view: View) -> dict[str, str]:
        return {**super().subject(view), "target": " ".join(self.names)}

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        domain = view.domain(vm)
        parent = vm.first.name.rpartition("/")[0]
        for name in self.names:
            view.check_name_free(name)
            check_fits(f"{name} was not made", parent, name)
        view.check_room(parent, f"{vm.name} was not cloned")
        prepare: list[Step] = []
        guards = vm_guards(vm) + definition_guard(vm)
        if self.snapshot:
            point = view.snapshot(vm, self.snapshot)
            missing = [v.name for v in vm.volumes if v.name not in point.parts and role(v) == "disk"]
            if missing:
                why = f"the snapshot does not have {', '.join(missing)}"
                raise InvalidArgument(
                    f"@{self.snapshot} cannot be cloned", why, "choose another one, or take a new one"
                )
            snapshot, has = self.snapshot, frozenset(point.parts)
            guards += set_guards(point.parts)
            result: dict[str, Any] = {"snapshot": snapshot, "consistency": point.consistency}
        else:
            snapshot = names.unused(names.timestamp(view.now, "clone"), taken_names(view, vm))
            has = frozenset(v.name for v in vm.volumes)
            before, take, after = snapshot_steps(vm, snapshot, "clone")
            prepare += [*before, take, *after]
            result = {"snapshot": snapshot}
        make = _FullCopyOf if self.full else _CloneOf
        clones = [make(view, vm, domain, name, snapshot, has) for name in self.names]
        for part in zip(*(each.volume_steps() for each in clones), strict=True):
            prepare += part
        prepare += [step for each in clones for step in each.seed_steps()]
        *early, last = [each.define() for each in clones]
        # From when it is defined whoever starts one of them has it written to. Of a plain clone that is seen without.
        noted = clones if self.full else clones[:-1]
        if noted:
            prepare.append(NoteWritten(tuple(name for each in noted for name in each.written_by_guests())))
        prepare += early
        finish: list[Step] = []
        if self.full and not self.snapshot:
            finish.append(DropTaken(tuple(v.name for v in vm.volumes), snapshot))
        if self.start:
            finish += [StartNetwork(n) for n in domain.networks if view.facts.networks.get(n) is False]
            finish += [StartDomain(each.uuid, each.name, tuple(each.targets.values())) for each in clones]
        finish += spare_steps(view, parent)
        identity = "cloud-init" if vm.has_seed else "pending"
        return Plan(
            operation=self.operation,
            description=f"{'copy' if self.full else 'clone'} {vm.name} to {', '.join(self.names)}",
            prepare=tuple(prepare),
            commit=last,
            finish=tuple(finish),
            locks=vm_locks(vm) | {f"VM:{name}" for name in self.names},
            guards=guards + tuple(Guard("absent", t) for each in clones for t in each.targets.values()),
            objects=(vm.id, *(each.id for each in clones)),
            warnings=tuple(self._warnings(view, vm)),
            result={**result, "vms": tuple(each.id for each in clones), "names": self.names, "identity": identity},
        )

    def _warnings(self, view: View, vm: Vm) -> list[str]:
        store = view.inventory.datasets[vm.first.name.rpartition("/")[0]]
        most = sum(min(each.used, each.size) for each in vm.volumes) * len(self.names)
        if self.full and most > store.available:
            return [f"this may need {format_size(most)}, and {store.name} has {format_size(store.available)} left"]
        return []


class _CloneOf:
    """One clone to be: its ids, and where each of the origin's volumes goes."""

    def __init__(self, view: View, vm: Vm, domain: Domain, name: str, snapshot: str, has: frozenset[str]) -> None:
        self.vm, self.domain, self.name, self.snapshot = vm, domain, name, snapshot
        self.id, self.uuid = view.uuid(), view.uuid()
        self.listen = view.config.vnc_listen
        # A seed is written anew, whether the snapshot has it or not: with the origin's, the clone would be its origin.
        self.volumes = [v for v in vm.volumes if v.name in has or role(v) == "seed"]
        parent = vm.first.name.rpartition("/")[0]
        self.volmode = view.volmode(parent)
        self.targets = {v.name: f"{parent}/{name}{v.name.removeprefix(f'{parent}/{vm.name}')}" for v in self.volumes}
        self.macs = [view.mac() for _ in range(domain_xml.interface_count(domain.xml))]

    def written_by_guests(self) -> list[str]:
        """Its volumes but for the seed, which a guest only reads."""
        return [self.targets[volume.name] for volume in self.volumes if role(volume) != "seed"]

    def volume_steps(self) -> list[Step]:
        return [self._volume(volume) for volume in self.volumes]

    def _volume(self, volume: Dataset) -> Step:
        target = self.targets[volume.name]
        ours = {
            properties.VM: self.id,
            properties.UUID: self.uuid,
            properties.ROLE: role(volume),
            properties.TARGET: volume.properties.get(properties.TARGET, ""),
            properties.IDENTITY: "pending" if volume == self.vm.first and not self.vm.has_seed else "",
        }
        ours = {key: value for key, value in ours.items() if value}
        native = {**self.volmode, **({"compression": volume.compression} if volume.compression else {})}
        if role(volume) == "seed":
            # A seed is written anew, so there is nothing to share with the origin's.
            return CreateVolume(target, volume.size, {"volblocksize": str(volume.volblocksize), **native, **ours})
        return self._from_snapshot(volume, target, native, ours)

    def _from_snapshot(self, volume: Dataset, target: str, native: dict[str, str], ours: dict[str, str]) -> Step:
        return CloneVolume(f"{volume.name}@{self.snapshot}", target, {**native, **ours})

    def seed_steps(self) -> list[Step]:
        seed = self.vm.volume("seed")
        if seed is None or seed.name not in self.targets:
            return []
        return [WriteCloneSeed(seed.name, self.targets[seed.name], self.id, self.name, seed.size)]

    def define(self) -> Step:
        sources = {device(old): device(new) for old, new in self.targets.items()}
        xml = domain_xml.for_clone(
            self.domain.xml, name=self.name, uuid=self.uuid, sources=sources, macs=self.macs, vnc_listen=self.listen
        )
        return DefineDomain(self.uuid, self.name, xml)


class _FullCopyOf(_CloneOf):
    """One that shares no block."""

    def _from_snapshot(self, volume: Dataset, target: str, native: dict[str, str], ours: dict[str, str]) -> Step:
        return CopyVolume(f"{volume.name}@{self.snapshot}", target, native, ours)
