"""libvirt's storage pools of our storages: made where that is configured, once, and never touched."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.ops.pool import Pool
from kldload_kvm.ops.request import Request, View
from kldload_kvm.virt.connection import Connection
from kldload_kvm.virt.pools import Pools
from kldload_kvm.waiting import until
from kldload_kvm.watch import pools
from kldload_kvm.watch.pools import PoolWatch
from loops import followed, in_loop
from memory_host import MemoryHost
from world import FACTS, NOW

BOTH = {"kldload-fast": "/dev/zvol/vmpool/vms", "kldload-rpool": "/dev/zvol/rpool/vms"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "CALM", 0.0)


class Watched:
    """A host with two storages; devices: the folders of devices that there are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pool: bool = True) -> None:
        self.host = MemoryHost()
        self.host.config = replace(self.host.config, pool=pool)
        self.engine = Engine(self.host, MemoryJournal())
        self.watch = PoolWatch(self.host, self.start, self.view)
        self.devices = set(BOTH.values())
        monkeypatch.setattr(Path, "is_dir", lambda path: str(path) in self.devices)

    def view(self) -> View:
        return View(self.host.inventory, self.host.config, FACTS, NOW)

    def start(self, request: Request) -> object:
        return self.engine.start(request.plan(self.view()), 0)

    async def later(self) -> dict[str, str]:
        """A moment afterwards, with all jobs at their end: the pools that were defined."""
        await followed(self.watch.keep(), self.engine)
        return self.host.memory_virt.pools.paths


@in_loop
async def test_one_for_each_storage_when_libvirt_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    assert await watched.later() == {}
    watched.watch.look()
    assert await watched.later() == BOTH
    assert watched.host.memory_virt.pools.known == {"default": True, **dict.fromkeys(BOTH, True)}
    assert {job.error for job in watched.engine.jobs.values()} == {None}


@in_loop
async def test_none_unless_it_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, pool=False)
    watched.watch.look()
    assert await watched.later() == {}


@in_loop
async def test_one_that_is_there_is_nobody_s_to_be_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.host.memory_virt.pools.known["kldload-rpool"] = False
    watched.watch.look()
    assert list(await watched.later()) == ["kldload-fast"]
    assert watched.host.memory_virt.pools.known["kldload-rpool"] is False


@in_loop
async def test_one_of_an_empty_storage_waits_for_its_first_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.devices.discard("/dev/zvol/rpool/vms")
    watched.watch.look()
    assert list(await watched.later()) == ["kldload-fast"]
    for elsewhere in ("rpool/other", "rpool/vms/.trash/e/web", "vmpool/vms/web"):
        watched.watch.appeared(elsewhere)
    assert list(await watched.later()) == ["kldload-fast"]
    watched.devices.add("/dev/zvol/rpool/vms")
    watched.watch.appeared("rpool/vms/web")
    assert await watched.later() == BOTH


@in_loop
async def test_while_libvirt_is_away_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.host.memory_virt.available = False
    watched.watch.look()
    assert await watched.later() == {}
    watched.host.memory_virt.available = True
    watched.watch.look()
    assert await watched.later() == BOTH


def test_its_type_is_one_in_which_libvirt_can_destroy_no_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Pool("rpool").plan(Watched(monkeypatch).view())
    assert plan.result == {"pool": "kldload-rpool"}
    assert [step.describe() for step in plan.steps] == [
        "define the libvirt storage pool kldload-rpool on /dev/zvol/rpool/vms",
        "start the libvirt storage pool kldload-rpool",
    ]


@in_loop
async def test_the_calls_on_libvirt_s_own_test_driver() -> None:
    connection = Connection("test:///default")
    task = asyncio.ensure_future(connection.keep())

    async def connected() -> bool:
        return connection.connected

    assert await until(connected, 10, 0.01)
    there = Pools(connection)
    await there.define("kldload-a&b", "/dev/zvol/rpool/a&b")
    assert (await there.all())["kldload-a&b"] is False
    await there.start("kldload-a&b")
    assert (await there.all())["kldload-a&b"] is True
    xml = await connection.call("", lambda c: c.storagePoolLookupByName("kldload-a&b").XMLDesc(0))
    assert "type='dir'" in xml and "<path>/dev/zvol/rpool/a&amp;b</path>" in xml
    auto = await connection.call("", lambda c: c.storagePoolLookupByName("kldload-a&b").autostart())
    assert auto
    await there.undefine("kldload-a&b")
    assert "kldload-a&b" not in await there.all()
    task.cancel()
    with suppress(asyncio.CancelledError, libvirt.libvirtError):
        await task
