"""A pool that is full: what is refused, what always works, and guests that go on by themselves once there is room."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt
import pytest

from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.job import Job, State
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.engine.plan import Plan, Run
from kldload_kvm.model import properties, space
from kldload_kvm.model.domain_xml import build
from kldload_kvm.model.errors import HasClones, KvmError, NoSpace
from kldload_kvm.model.inventory import IO_ERROR, NO_SPACE, SPARE, TRASH, Dataset
from kldload_kvm.model.sizes import GIB, MIB
from kldload_kvm.ops.clone import Clone
from kldload_kvm.ops.create import Create
from kldload_kvm.ops.delete import Delete
from kldload_kvm.ops.delete_snapshot import DeleteVmSnapshot
from kldload_kvm.ops.power import Resume
from kldload_kvm.ops.request import Request, View
from kldload_kvm.ops.rollback import Rollback
from kldload_kvm.ops.snapshot import TakeVmSnapshot
from kldload_kvm.steps.trash import CreateTrashEntry, KeepSpare
from kldload_kvm.virt.domains import _fault
from kldload_kvm.watch import space as watch_space
from kldload_kvm.watch.space import FIRST, FORGOTTEN, LONGEST, SpaceWatch
from loops import in_loop
from memory_host import MemoryHost
from world import FACTS, NOW, World, domain, filesystem, id_of, spec, volume, volumes_of

SPARE_NAME = f"rpool/vms/{TRASH}/{SPARE}"


def store(free: int, used: int = 0) -> Dataset:
    return filesystem("rpool/vms", used=used or 100 * GIB - free, available=free)


class TestFigures:
    def test_the_floor_is_a_share_of_what_is_there_in_all(self) -> None:
        assert space.floor(store(free=1 * GIB), 0.05) == 5 * GIB
        assert space.floor(store(free=80 * GIB), 0.0) == 0

    def test_guests_go_on_only_well_above_the_floor(self) -> None:
        assert space.resume_at(store(free=1 * GIB), 0.05) == int(7.5 * GIB)
        assert space.resume_at(store(free=1 * GIB), 0.0) == GIB

    def test_overcommit(self) -> None:
        disks = [volume("rpool/vms/a", size=150 * GIB), volume("rpool/vms/b", size=100 * GIB)]
        assert space.overcommit(store(free=1 * GIB), disks) == 2.5
        assert space.overcommit(None, disks) == 0.0
        assert space.overcommit(filesystem("rpool/vms"), disks) == 0.0


class TestPlans:
    @pytest.mark.parametrize("kind", [Create, Clone])
    def test_what_grows_is_refused_below_the_floor(self, kind: type[Request]) -> None:
        host = World()
        host.vm("web")
        host.inventory.put_dataset(store(free=4 * GIB))
        request = Create(name="new") if kind is Create else Clone(id_of("web"), ("new",))
        with pytest.raises(NoSpace) as caught:
            request.plan(host.view())
        assert caught.value.why == "rpool/vms has 4G left, and 5G are kept free"

    @pytest.mark.parametrize(
        "request_", [Delete(id_of("web")), DeleteVmSnapshot(id_of("web"), "s1"), Rollback(id_of("web"), "s1")]
    )
    def test_what_does_not_grow_is_planned_in_a_full_pool(self, request_: Request) -> None:
        host = World()
        host.vm("web")
        host.snap("web", "s1")
        host.inventory.put_dataset(store(free=0))
        assert request_.plan(host.view()).steps

    def test_where_the_trash_has_no_spare_entry_the_next_new_vm_makes_one(self) -> None:
        host = World()
        host.vm("web")
        plans = [Create(name="new"), Clone(id_of("web"), ("copy",))]
        assert not any(isinstance(s, KeepSpare) for each in plans for s in each.plan(host.view()).steps)
        host.inventory.remove_dataset(SPARE_NAME)
        for each in plans:
            made: Plan = each.plan(host.view())
            assert made.finish[-1] == KeepSpare("rpool/vms/.trash")


class Full:
    """A host with a VM web, with a snapshot s1, in a pool without any room."""

    def __init__(self) -> None:
        self.host = MemoryHost()
        self.engine = Engine(self.host, MemoryJournal())

    async def prepare(self) -> Full:
        await self.host.prepare()
        for each in volumes_of("web"):
            await self.host.zfs.create_volume(each.name, each.size, each.properties)
        await self.host.virt.define(build(spec("web")))
        taken = ["rpool/vms/web@s1", "rpool/vms/web.nvram@s1"]
        await self.host.zfs.snapshot(taken, {properties.SNAPSHOT: "manual:off"})
        self.host.memory_zfs.full = {"rpool"}
        await self.host.known()
        return self

    async def run(self, request: Request) -> Job:
        job = self.engine.start(request.plan(View(self.host.inventory, self.host.config, FACTS, NOW)), 0)
        await job.finished.wait()
        return job

    @property
    def names(self) -> list[str]:
        return self.host.memory_zfs.names()


class TestInAFullPool:
    @in_loop
    async def test_a_vm_is_deleted_into_the_spare_entry(self) -> None:
        full = await Full().prepare()
        full.host.memory_zfs.sets[SPARE_NAME].values[properties.DOMAIN] = "of another that came to nothing"
        await full.host.virt.undefine(full.host.guest("web").uuid)
        await full.host.known()
        job = await full.run(Delete(id_of("web")))
        assert job.state is State.SUCCEEDED, job.error
        entry = f"rpool/vms/.trash/{job.result['trash']}"
        assert f"{entry}/web@s1" in full.names and "rpool/vms/web" not in full.names
        assert SPARE_NAME not in full.names
        noted = full.host.memory_zfs.sets[entry].values
        assert (noted[properties.NAME], noted[properties.REASON]) == ("web", "deleted")
        assert properties.DOMAIN not in noted, "nor anything else of another"
        assert [each.name for each in full.host.inventory.trash_entries()] == [entry]

    @in_loop
    async def test_a_delete_that_fails_gives_the_spare_entry_back(self) -> None:
        full = await Full().prepare()
        full.host.troubles.meanwhile = lambda number: setattr(
            full.host.troubles, "at", number if "undefine" in full.host.troubles.done[number] else -1
        )
        job = await full.run(Delete(id_of("web")))
        assert job.state is State.FAILED
        assert SPARE_NAME in full.names
        assert full.host.inventory.trash_entries() == []
        full.host.troubles.meanwhile = lambda number: None
        full.host.troubles.at = -1
        assert (await full.run(Delete(id_of("web")))).state is State.SUCCEEDED

    @in_loop
    async def test_an_entry_that_still_holds_a_volume_never_becomes_the_spare(self) -> None:
        """It could not be moved back: it must stay to be seen."""
        full = await Full().prepare()
        step = CreateTrashEntry("rpool/vms/.trash/web-1", {properties.REASON: "deleted"})
        run = Run("5f3a", 0, {}, lambda done, total: None)
        await step.do(full.host, run)
        await full.host.zfs.rename("rpool/vms/web", "rpool/vms/.trash/web-1/web")
        with pytest.raises(HasClones):
            await step.undo(full.host, run)
        assert "rpool/vms/.trash/web-1/web" in full.names

    @in_loop
    async def test_without_a_spare_entry_it_is_said_and_nothing_is_changed(self) -> None:
        full = await Full().prepare()
        await full.host.zfs.destroy(SPARE_NAME)
        before = full.host.picture()
        job = await full.run(Delete(id_of("web")))
        assert isinstance(job.error, NoSpace)
        assert full.host.picture() == before

    @in_loop
    async def test_a_snapshot_is_destroyed(self) -> None:
        full = await Full().prepare()
        assert (await full.run(DeleteVmSnapshot(id_of("web"), "s1"))).state is State.SUCCEEDED
        assert not [name for name in full.names if "@" in name]

    @pytest.mark.parametrize("request_", [TakeVmSnapshot(id_of("web"), "x"), Rollback(id_of("web"), "s1")])
    @in_loop
    async def test_what_needs_room_says_so_and_is_undone(self, request_: Request) -> None:
        full = await Full().prepare()
        before = full.host.picture()
        job = await full.run(request_)
        assert isinstance(job.error, NoSpace)
        assert full.host.picture() == before

    @in_loop
    async def test_no_spare_entry_can_be_made_and_that_fails_nothing(self) -> None:
        full = await Full().prepare()
        await full.host.zfs.destroy(SPARE_NAME)
        step = KeepSpare("rpool/vms/.trash")
        await step.do(full.host, None)  # type: ignore[arg-type]
        assert not await step.done(full.host, None)  # type: ignore[arg-type]


class Watched:
    """A host of data with a VM that stopped, and the watch over it."""

    def __init__(self, fault: str = NO_SPACE, state: str = "paused", free: int = 0) -> None:
        self.world = World()
        self.world.vm("web")
        self.world.inventory.put_domain(domain("web", state, fault=fault))
        self.config, self.inventory = self.world.config, self.world.inventory
        self.free, self.reads = free, 0
        self.started: list[Request] = []
        self.refusal: KvmError | None = None
        self.written, self.at_once = 0, MIB * 100  # each time that somebody looks
        self.watch = SpaceWatch(self, self.start, self.count)  # type: ignore[arg-type]
        self.watch._sampled = self.watch._looked = 0

    def count(self) -> int:
        self.written += self.at_once
        return self.written

    async def refresh_zfs(self, plain: list[str], whole: list[str]) -> None:
        assert (plain, whole) == (["rpool/vms", "vmpool/vms"], [])
        self.reads += 1
        self.inventory.put_dataset(store(self.free))

    def published(self) -> None:
        return None

    def start(self, request: Request) -> None:
        if self.refusal:
            raise self.refusal
        self.started.append(request)


class TestGoingOn:
    @in_loop
    async def test_once_there_is_room_well_above_the_floor(self) -> None:
        host = Watched(free=7 * GIB)
        await host.watch.look(0)
        assert host.started == []
        host.free = 8 * GIB
        await host.watch.look(10)
        assert host.started == [Resume(id_of("web"))]

    @pytest.mark.parametrize(("fault", "state"), [("", "paused"), (IO_ERROR, "paused"), (NO_SPACE, "running")])
    @in_loop
    async def test_only_who_stopped_for_want_of_space_and_else_nothing_is_even_read(
        self, fault: str, state: str
    ) -> None:
        host = Watched(fault, state, free=50 * GIB)
        await host.watch.look(0)
        assert (host.started, host.reads) == ([], 0)

    @in_loop
    async def test_who_stops_again_soon_waits_longer_each_time(self) -> None:
        host = Watched(free=50 * GIB)
        waits, now, last = [], 0.0, 0.0
        for _ in range(2000):
            before = len(host.started)
            await host.watch.look(now)
            if len(host.started) > before:
                waits.append(now - last)
                last = now
            now += 10
        assert waits[:5] == [0, FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
        assert max(waits) == LONGEST

    @in_loop
    async def test_who_ran_for_long_is_not_held_to_have_stopped_again(self) -> None:
        host = Watched(free=50 * GIB)
        for now in (0, 10, FORGOTTEN + 11, FORGOTTEN + 21):
            await host.watch.look(now)
        assert len(host.started) == 4

    @in_loop
    async def test_what_cannot_be_started_is_tried_again(self) -> None:
        host = Watched(free=50 * GIB)
        host.refusal = KvmError("VM web is in use by job 7")
        await host.watch.look(0)
        host.refusal = None
        await host.watch.look(FIRST)
        assert host.started == [Resume(id_of("web"))]


class TestSampling:
    @in_loop
    async def test_once_a_minute_all_storages_with_one_command_and_it_carries_its_time(self) -> None:
        host = Watched("", "running", free=50 * GIB)
        for now in range(0, 600, 10):
            await host.watch.look(now)
        assert host.reads == 9
        assert host.inventory.datasets["rpool/vms"].available == 50 * GIB
        assert host.inventory.stores_at > 0

    @in_loop
    async def test_every_five_minutes_where_little_is_written_and_a_minute_later_where_it_becomes_much(self) -> None:
        host = Watched("", "running", free=50 * GIB)
        host.at_once = 0
        for now in range(0, 610, 10):
            await host.watch.look(now)
        assert host.reads == 2
        host.at_once = 3 * MIB
        for now in range(610, 840, 10):
            await host.watch.look(now)
        assert host.reads == 3, "little by little it was much"

    def test_what_is_written_to_disks_is_counted_and_to_zvols_is_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("vda", "sdb", "zd0", "gone"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "stat").write_text("  10 0 80 5  20 0 4096 9  0 14 14 0 0 0 0 0 0\n")
        (tmp_path / "gone" / "stat").unlink()
        monkeypatch.setattr(watch_space, "DISKS", tmp_path)
        assert watch_space.bytes_written() == 2 * 4096 * 512

    @in_loop
    async def test_a_storage_that_is_not_there_is_not_asked_for(self) -> None:
        host = MemoryHost()
        await host.prepare()
        host.inventory.remove_dataset("vmpool/vms")
        await SpaceWatch(host, lambda request: None).look(0)
        assert host.memory_zfs.commands[-1].endswith(" rpool/vms")

    @in_loop
    async def test_what_cannot_be_read_is_said_once(self, caplog: pytest.LogCaptureFixture) -> None:
        host = Watched(free=50 * GIB)

        async def fails(plain: list[str], whole: list[str]) -> None:
            raise KvmError("the datasets cannot be listed", "the pool is suspended")

        host.refresh_zfs = fails  # type: ignore[method-assign]
        for now in (0, 100, 200):
            await host.watch.look(now)
        assert [record.getMessage() for record in caplog.records] == [
            "the datasets cannot be listed: the pool is suspended"
        ]
        assert host.started == []


class Stopped:
    """What libvirt's domain says of its disks."""

    def __init__(self, faults: dict[str, int] | None) -> None:
        self.faults = faults

    def diskErrors(self) -> dict[str, int]:
        if self.faults is None:
            raise libvirt.libvirtError("no")
        return self.faults


@pytest.mark.parametrize(
    ("faults", "found"),
    [
        ({"vda": libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE}, NO_SPACE),
        ({"vda": libvirt.VIR_DOMAIN_DISK_ERROR_UNSPEC, "vdb": libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE}, NO_SPACE),
        ({"vda": libvirt.VIR_DOMAIN_DISK_ERROR_UNSPEC}, IO_ERROR),
        ({}, IO_ERROR),
        (None, IO_ERROR),
    ],
)
def test_why_qemu_stopped_a_guest_is_asked_of_its_disks(faults: dict[str, int] | None, found: str) -> None:
    assert _fault(Stopped(faults)) == found


def test_sizes_are_what_they_say() -> None:
    given: dict[str, Any] = {"used": 30 * MIB, "available": 70 * MIB}
    assert space.capacity(replace(store(free=GIB), **given)) == 100 * MIB
