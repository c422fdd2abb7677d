"""GetStatistics: tables of numbers for monitoring, from what is on the bus, counted and sampled already.

Only what running guests use is asked of libvirt, once a second at most and within a bound.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from dbus_next import Variant

from ..engine.engine import Engine
from ..model import trash
from ..model.constants import ROOT
from ..model.errors import InvalidArgument
from ..model.inventory import Inventory
from ..model.tally import Tally
from ..virt.sampler import Sample, Sampler
from .dispatch import Answer, Call
from .tree import Tree
from .values import dictionary

Row = dict[str, Variant]

KEPT = 1.0
SERVICE = {"version": "Version", "zfs": "ZfsVersion", "libvirt": "LibvirtVersion"}
STORAGE = {
    "storage": "Name", "capacity": "Capacity", "free": "Free", "floor": "Floor", "provisioned": "Provisioned",
    "sampled-at": "SampledAt", "problem": "Problem",
}  # fmt: skip
VM = {
    "vm": "Name", "id": "Id", "uuid": "Uuid", "state": "State", "storage": "Storage", "template": "Template",
    "problem": "Problem", "memory": "Memory", "vcpus": "Vcpus", "size": "Size", "used": "Used", "used-at": "UsedAt",
    "snapshots": "SnapshotCount",
}  # fmt: skip
"""Columns and the properties that they are."""


class Statistics:
    """The tables by name; their rows are kept for a second, so that to ask often costs little."""

    def __init__(self, tree: Tree, inventory: Inventory, engine: Engine, tally: Tally, sampler: Sampler) -> None:
        self.tree, self.inventory, self.engine, self.tally, self.sampler = tree, inventory, engine, tally, sampler
        self._sampled: dict[str, Callable[[Sample], Iterable[Row]]] = {
            "service": self._service, "usage": self._usage, "disk": self._disks, "interface": self._interfaces,
        }  # fmt: skip
        self._known: dict[str, Callable[[], Iterable[Row]]] = {
            "storage": self._storages, "vm": self._vms, "snapshot": self._snapshots, "held": self._held,
            "job": self._jobs, "event": self._events, "reload": self._reloads,
        }  # fmt: skip
        self._kept: dict[str, tuple[float, list[Row]]] = {}

    def table(self) -> dict[tuple[str, str], Callable[[Call], Awaitable[Answer]]]:
        return {("Manager", "GetStatistics"): self.get_statistics}

    async def get_statistics(self, call: Call) -> Answer:
        every = [*self._sampled, *self._known]
        wanted = dict.fromkeys(call.options.get("tables", every))
        if unknown := [name for name in wanted if name not in every]:
            why = f"there is no table '{unknown[0][:80]}'"
            raise InvalidArgument("nothing can be told", why, f"there are {', '.join(sorted(every))}")
        sample = await self.sampler.latest() if wanted.keys() & self._sampled.keys() else Sample()
        found = {}
        for name in wanted:
            found[name] = self._rows(name, sample)
            await asyncio.sleep(0)  # of a thousand VMs a table takes a tenth of a second: others have their turn
        return Answer((found,))

    def _rows(self, name: str, sample: Sample) -> list[Row]:
        now = time.monotonic()
        made, rows = self._kept.get(name, (-KEPT, []))
        if now - made >= KEPT:
            rows = list(self._sampled[name](sample) if name in self._sampled else self._known[name]())
            self._kept[name] = now, rows
        return rows

    # -- from libvirt's figures ----------------------------------------------------------------------------------------

    def _service(self, sample: Sample) -> Iterator[Row]:
        properties = self.tree.objects[ROOT][1]
        yield _properties(properties, SERVICE) | dictionary({
            "started": int(self.tally.since),
            "problems": len(properties["Problems"].value),
            "jobs-running": len(self.engine.running()),
            "libvirt-connected": bool(properties["LibvirtVersion"].value),
            "usage-problem": sample.problem,
        })  # fmt: skip

    def _usage(self, sample: Sample) -> Iterator[Row]:
        for each, uuid in self._domains(sample):
            yield each | dictionary(dict(sample.usage[uuid].guest))

    def _disks(self, sample: Sample) -> Iterator[Row]:
        for each, uuid in self._domains(sample):
            for target, figures in sample.usage[uuid].disks.items():
                yield each | dictionary({"target": target, **figures})

    def _interfaces(self, sample: Sample) -> Iterator[Row]:
        for each, uuid in self._domains(sample):
            for device, figures in sample.usage[uuid].interfaces.items():
                yield each | dictionary({"device": device, **figures})

    def _domains(self, sample: Sample) -> Iterator[tuple[Row, str]]:
        """The VMs of which there are figures, and the UUIDs of their domains."""
        for properties in self._objects("Vm"):
            if (uuid := properties["Uuid"].value) in sample.usage:
                yield _named(properties), uuid

    # -- from memory ---------------------------------------------------------------------------------------------------

    def _storages(self) -> Iterator[Row]:
        entries = trash.entries(self.inventory)
        for properties in self._objects("Storage"):
            below = f"{properties['Dataset'].value}/"
            here = [each.used for each in entries if each.container.name.startswith(below)]
            more = dictionary({"trash-entries": len(here), "trash-used": sum(here)})
            yield _properties(properties, STORAGE) | more

    def _vms(self) -> Iterator[Row]:
        for properties in self._objects("Vm"):
            yield _properties(properties, VM)

    def _snapshots(self) -> Iterator[Row]:
        """Of the first disk: what is on it is on all volumes, if it is of ours."""
        for properties in self._objects("Vm"):
            if (vm := self.inventory.vm(properties["Id"].value)) is None:
                continue
            created = defaultdict[str, list[int]](list)
            for snapshot in self.inventory.snapshots.get(vm.first.name, {}).values():
                created[snapshot.kind].append(snapshot.creation)
            for kind, times in sorted(created.items()):
                yield _named(properties) | dictionary({"kind": kind, "count": len(times), "newest": max(times)})

    def _held(self) -> Iterator[Row]:
        names = {properties["Id"].value: _named(properties) for properties in self._objects("Vm")}
        for (id_, how), held in self.tally.held.items():
            if id_ in names:
                more = {"how": how, "count": held.count, "seconds": held.seconds, "last": held.last}
                yield names[id_] | dictionary(more)

    def _jobs(self) -> Iterator[Row]:
        for (operation, outcome), ended in self.tally.jobs.items():
            row = {"operation": operation, "outcome": outcome, "count": ended.count, "seconds": ended.seconds}
            yield dictionary(row)

    def _events(self) -> Iterator[Row]:
        for source, news in self.tally.news.items():
            yield dictionary({"source": source, **vars(news)})

    def _reloads(self) -> Iterator[Row]:
        for why, count in self.tally.reloads.items():
            yield dictionary({"reason": why, "count": count})

    def _objects(self, short: str) -> Iterator[dict[str, Variant]]:
        """The properties of all objects of that interface."""
        return (properties for interface, properties in self.tree.objects.values() if interface.short == short)


def _properties(values: dict[str, Variant], columns: dict[str, str]) -> Row:
    return {column: values[name] for column, name in columns.items()}


def _named(vm: dict[str, Any]) -> Row:
    """What a row of a VM begins with."""
    return {"vm": vm["Name"], "id": vm["Id"]}
