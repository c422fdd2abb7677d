"""Reads what the host is, for the checks: ZFS, libvirt, systemd and the collector are asked at the same time."""

from __future__ import annotations

import asyncio
import time
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from ..host import collecting
from ..host.sources import SCRUB_TIMERS, UNITS
from ..model.domain_wants import Wants, wants
from ..model.errors import KvmError
from ..model.firmware import FirmwarePair
from ..model.host_facts import Guest, HostFacts, Settings, System
from ..model.inventory import Vm
from ..steps.host import Host
from ..virt.about import about
from ..virt.connection import Connection
from ..zfs.about import pools, stores

T = TypeVar("T")
PATIENCE = 10.0
"""Seconds; a caller on the bus waits 25."""


class Units(collecting.Starts, Protocol):
    """systemd, as much of it as is needed here."""

    async def active(self, units: Iterable[str]) -> dict[str, bool]: ...


class HostState:
    """firmware(): reads what VMs would get, or None; unheard(): domains that started without the hook being asked. What
    cannot be read is told in the facts, and is no failure."""

    def __init__(self, host: Host, connection: Connection, units: Units, firmware: Callable[[], FirmwarePair | None],
                 unheard: Callable[[], Iterable[str]] = tuple) -> None:  # fmt: skip
        self.host, self.connection, self.units = host, connection, units
        self._firmware, self._unheard = firmware, unheard
        self._asked: dict[str, asyncio.Task[Any]] = {}

    async def read(self) -> HostFacts:
        host, inventory = self.host, self.host.inventory
        config = host.config
        settings = Settings(config.parents, config.accelerator, config.network, config.bridge, config.vnc_listen,
                            config.floor)  # fmt: skip
        parents = list(settings.parents.values())
        (
            (version, zfs_fault),
            (found, pools_fault),
            (datasets, stores_fault),
            (libvirt, libvirt_fault),
            firmware,
        ) = await asyncio.gather(
            self._bounded("the version of ZFS", host.zfs.version),
            self._bounded("the pools", lambda: pools(host.zfs)),
            self._bounded("the datasets", lambda: stores(host.zfs, parents)),
            self._bounded("libvirt", lambda: about(self.connection)),
            asyncio.to_thread(self._firmware),
        )
        vms = [vm for vm in map(inventory.vm, inventory.vm_ids()) if vm]
        owners = {vm.domain.uuid: vm for vm in vms if vm.domain}
        domains = sorted(inventory.domains.values(), key=lambda each: each.name)
        guests = await asyncio.to_thread(lambda: tuple(Guest(d, _wants(d.xml), owners.get(d.uuid)) for d in domains))
        mounts = [s["mountpoint"] for s in (datasets or {}).values() if s["mountpoint"].startswith("/")]
        paths = dict.fromkeys([*mounts, *(path for guest in guests for path in guest.wants.paths)])
        timers = [timer.format(pool.name) for pool in found or () for timer in SCRUB_TIMERS]
        (system, system_fault), (active, _) = await asyncio.gather(
            _tried(collecting.look(self.units, paths)),
            _tried(self.units.active([*timers, *(unit for each in UNITS.values() for unit in each)])),
        )
        return HostFacts(
            now=int(time.time()),
            settings=settings,
            zfs_version=tuple(int(each) for each in (version or "").split(".") if each.isdecimal()),
            zfs_fault=zfs_fault,
            pools=found or (),
            pools_fault=pools_fault,
            stores_fault=stores_fault,
            stores=datasets or {},
            libvirt=libvirt,
            libvirt_fault=libvirt_fault,
            system=system or System(),
            system_fault=system_fault,
            units=active or {},
            guests=guests,
            orphans=tuple(vm for vm in vms if vm.domain is None) if libvirt else (),
            volumes=_owners(vms),
            firmware=firmware,
            kvm=bool(system and system.there("/dev/kvm")),
            unheard=tuple(self._unheard()),
        )

    async def _bounded(self, what: str, read: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T | None, str]:
        """What was read, or why it was not. What does not answer, as a pool that is suspended, is waited for a while,
        then left to itself, and not asked a second time before it has answered."""
        task = self._asked.pop(what, None) or asyncio.get_running_loop().create_task(_tried(read()))
        await asyncio.wait({task}, timeout=PATIENCE)
        if not task.done():
            self._asked[what] = task
            return None, f"{what} cannot be read: no answer within {PATIENCE:.0f} s"
        found: tuple[T | None, str] = task.result()
        return found


@lru_cache(4096)
def _wants(xml: str) -> Wants:
    """What a domain asks for; nothing where that cannot be read."""
    try:
        return wants(xml)
    except (ET.ParseError, ValueError):
        return Wants()


def _owners(vms: Iterable[Vm]) -> Mapping[str, str]:
    return {volume.name: vm.name for vm in vms for volume in vm.volumes}


async def _tried(work: Awaitable[T]) -> tuple[T | None, str]:
    """What was read, or why it could not be."""
    try:
        return await work, ""
    except KvmError as error:
        return None, ": ".join(filter(None, (error.what, error.why)))
