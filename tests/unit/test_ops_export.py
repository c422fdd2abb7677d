"""Export: given this VM, exactly these steps, or this refusal; and nothing of it is left, whatever happens."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.job import Job
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.engine.plan import Guard, Plan
from kldload_kvm.model.errors import InvalidArgument, KvmError, NoSpace, NotFound
from kldload_kvm.model.qcow2 import virtual_size
from kldload_kvm.model.sizes import GIB, MIB
from kldload_kvm.ops.export import Export
from kldload_kvm.ops.request import View
from kldload_kvm.steps.exporting import DropTemporary, ExportDisk, ExportStream
from kldload_kvm.steps.snapshots import TakeSnapshot
from kldload_kvm.steps.volumes import CloneVolume
from loops import in_loop
from memory_host import MemoryHost
from world import World, domain, guid_of, id_of, uuid_of, volume, volumes_of

SNAPSHOT = "clone-20260401_153022"


@pytest.fixture
def host() -> World:
    return World()


def plan(host: World, **options: Any) -> Plan:
    return Export.parse(id_of("web"), [7], options).plan(host.view())


def refusal(host: World, **options: Any) -> KvmError:
    with pytest.raises(KvmError) as caught:
        plan(host, **options)
    return caught.value


class TestSteps:
    def test_a_snapshot_a_clone_to_read_it_from_and_both_cleared_away(self, host: World) -> None:
        host.vm("web", "running", disks=2)
        made = plan(host, target="vdb")
        take, clone, write = made.prepare
        assert take == TakeSnapshot(("rpool/vms/web.vdb",), SNAPSHOT, "clone", uuid_of("web"))
        assert isinstance(clone, CloneVolume)
        assert clone.snapshot == f"rpool/vms/web.vdb@{SNAPSHOT}"
        assert clone.dataset.startswith("rpool/vms/.export-")  # no VM's name begins with a dot
        assert clone.properties == {"volmode": "dev", "readonly": "on", "syncoid:sync": "false"}
        assert write == ExportDisk(7, clone.dataset, "qcow2", clone.snapshot)
        assert made.finish == (DropTemporary(clone.dataset, clone.snapshot, 1, 0),)
        assert (made.commit, made.destroys) == (None, ())
        assert made.result == {"target": "vdb", "format": "qcow2", "size": 20 * GIB, "snapshot": SNAPSHOT}

    def test_of_a_snapshot_there_is_nothing_but_its_clone_to_clear_away(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "s1", consistency="app")
        made = plan(host, snapshot="@s1", format="raw")
        clone, write = made.prepare
        assert isinstance(clone, CloneVolume)
        assert write == ExportDisk(7, clone.dataset, "raw", "rpool/vms/web@s1")
        assert made.finish == (DropTemporary(clone.dataset, "rpool/vms/web@s1", 0, -1),)
        assert Guard("guid", "rpool/vms/web@s1", guid_of("rpool/vms/web@s1")) in made.guards
        assert made.result["consistency"] == "app"

    def test_a_stream_needs_no_clone_and_of_a_snapshot_nothing_at_all(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "s1")
        made = plan(host, format="zfs")
        assert [type(step) for step in made.steps] == [TakeSnapshot, ExportStream, DropTemporary]
        assert made.finish == (DropTemporary("", f"rpool/vms/web@{SNAPSHOT}", -1, 0),)
        made = plan(host, format="zfs", snapshot="s1")
        assert (made.steps, made.locks) == ((ExportStream(7, "rpool/vms/web@s1"),), frozenset())

    def test_the_vm_is_not_locked_and_may_be_an_orphan(self, host: World) -> None:
        host.vm("web", "orphan")
        assert not any(each.startswith("VM:") for each in plan(host).locks)

    def test_says_what_to_polkit(self, host: World) -> None:
        host.vm("web")
        request = Export.parse(id_of("web"), [7], {"snapshot": "s1"})
        assert request.subject(host.view())["target"] == "vda@s1"


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "kind"),
        [
            ({"format": "vmdk"}, InvalidArgument),
            ({"snapshot": "-x"}, InvalidArgument),
            ({"snapshot": "nope"}, NotFound),
            ({"target": "vdq"}, NotFound),
            ({"target": "/dev/sda"}, NotFound),
        ],
    )
    def test_what_cannot_be(self, host: World, options: dict[str, Any], kind: type[KvmError]) -> None:
        host.vm("web")
        assert type(refusal(host, **options)) is kind

    def test_a_disk_that_came_after_the_snapshot(self, host: World) -> None:
        host.vm("web", disks=2)
        host.snap("web", "s1", only=("", ".nvram"))
        assert refusal(host, snapshot="s1", target="vdb").why == "the disk came after it"

    def test_a_pool_below_its_floor_has_no_room_for_a_new_snapshot_but_an_old_one_can_be_had(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "s1")
        host.inventory.put_dataset(replace(host.inventory.datasets["rpool/vms"], used=99 * GIB, available=GIB))
        assert isinstance(refusal(host), NoSpace)
        assert plan(host, snapshot="s1")


@pytest.fixture
def target() -> Iterator[int]:
    fd = os.open("/tmp", os.O_TMPFILE | os.O_RDWR)
    yield fd
    os.close(fd)


async def web() -> tuple[MemoryHost, View]:
    host = MemoryHost()
    await host.prepare()
    for each in volumes_of("web"):
        await host.zfs.create_volume(each.name, MIB, each.properties)
    host.memory_zfs.sets["rpool/vms/web"].contents = b"on the disk"
    await host.virt.define(domain("web").xml)
    await host.known()
    world = World()
    world.inventory = host.inventory
    host.troubles.done.clear()
    return host, world.view()


async def ended(host: MemoryHost, made: Plan) -> Job:
    job = Engine(host, MemoryJournal()).start(made, 0)
    await job.finished.wait()
    return job


class TestExports:
    @in_loop
    async def test_what_was_on_the_disk_is_in_the_file_and_nothing_else_is_left(self, target: int) -> None:
        host, view = await web()
        before = host.picture()
        job = await ended(host, Export(id_of("web"), target, "raw").plan(view))
        assert (job.error, job.result["bytes"], job.result["consistency"]) == (None, MIB, "off")
        assert os.pread(target, 100, 0) == b"on the disk" + bytes(89)
        assert os.fstat(target).st_size == MIB
        assert host.picture() == before

    @in_loop
    async def test_a_qcow2_image(self, target: int) -> None:
        host, view = await web()
        job = await ended(host, Export(id_of("web"), target).plan(view))
        assert job.error is None
        assert virtual_size(os.pread(target, 65536, 0), job.result["bytes"]) == MIB

    @in_loop
    async def test_a_stream(self, target: int) -> None:
        host, view = await web()
        before = host.picture()
        assert (await ended(host, Export(id_of("web"), target, "zfs").plan(view))).error is None
        assert os.pread(target, 100, 0) == b"stream of on the disk"
        assert host.picture() == before

    @in_loop
    async def test_a_file_that_is_not_empty_is_refused_and_stays_as_it_is(self, target: int) -> None:
        host, view = await web()
        os.pwrite(target, b"precious", 0)
        before = host.picture()
        for format_ in ("raw", "qcow2", "zfs"):
            made = Export.parse(id_of("web"), [target], {"format": format_}).plan(view)
            assert isinstance((await ended(host, made)).error, InvalidArgument)
        assert os.pread(target, 100, 0) == b"precious"
        assert host.picture() == before

    @in_loop
    async def test_cancelled_while_nobody_reads_it_leaves_nothing(self) -> None:
        host, view = await web()
        reader, writer = os.pipe()
        before = host.picture()
        engine = Engine(host, MemoryJournal())
        job = engine.start(Export(id_of("web"), writer, "raw").plan(view), 0)
        await asyncio.sleep(0.5)
        assert any("open" in each for each in host.troubles.done)
        assert job.cancelable
        engine.cancel(job)
        await job.finished.wait()
        assert host.picture() == before
        os.close(reader)
        os.close(writer)

    @in_loop
    async def test_a_volume_moved_meanwhile_has_no_snapshot_left_either(
        self, target: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The VM is not locked: it may be renamed, rolled back or deleted while its disk is read."""
        host, view = await web()
        made = Export(id_of("web"), target, "raw").plan(view)

        def move(number: int) -> None:
            if host.troubles.done[-1].startswith("open"):
                host.memory_zfs._rename("rpool/vms/web", "rpool/vms/shop")

        host.troubles.meanwhile = move
        assert (await ended(host, made)).error is None
        assert [name for name in host.memory_zfs.names() if "@" in name or ".export" in name] == []

    @in_loop
    async def test_what_another_made_under_the_same_name_is_not_destroyed(self, target: int) -> None:
        host, view = await web()
        made = Export(id_of("web"), target).plan(view)
        (drop,) = made.finish
        assert isinstance(drop, DropTemporary)
        other = volume(drop.clone, vm="other")
        await host.zfs.create_volume(other.name, MIB, other.properties)
        before = host.picture()
        job = await ended(host, made)
        assert job.error
        assert host.picture() == before
