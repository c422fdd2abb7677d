"""What others do to the host comes into the inventory: read again when it must be, nothing learnt meanwhile lost."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kldload_kvm.model import properties
from kldload_kvm.model.domain_xml import build
from kldload_kvm.model.errors import LibvirtFailed, LibvirtUnavailable
from kldload_kvm.waiting import until
from kldload_kvm.watch import reconcile
from kldload_kvm.watch.networks import Networks, bridges
from kldload_kvm.watch.reconcile import Reconciler
from kldload_kvm.watch.udev import UdevWatch
from kldload_kvm.watch.zfs_events import ZfsWatch
from kldload_kvm.zfs import listing, snapshots
from kldload_kvm.zfs.events import Event
from loops import in_loop, turns
from memory_host import MemoryHost
from world import id_of, spec, uuid_of, volumes_of


async def a_host() -> MemoryHost:
    host = MemoryHost()
    await host.prepare()
    return host


async def put(host: MemoryHost, name: str) -> None:
    """A VM made by somebody else."""
    for each in volumes_of(name):
        await host.zfs.create_volume(each.name, 65536, each.properties)
    await host.virt.define(build(spec(name)))


class Told:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *_: str) -> None:
        self.count += 1


def reconciler(host: MemoryHost, ours: Callable[[str], bool] = lambda name: False, told: Any = None) -> Reconciler:
    return Reconciler(host, ours, told or Told())


class TestReading:
    @in_loop
    async def test_everything_is_in_the_inventory_afterwards_and_told(self) -> None:
        host, told = await a_host(), Told()
        await put(host, "web")
        made = reconciler(host, told=told)
        await made.load_zfs()
        await made.load_domains()
        found = host.inventory.find("web")
        assert found and (found.id, found.state) == (id_of("web"), "shutoff")
        assert told.count == 2

    @in_loop
    async def test_zfs_that_cannot_be_read_is_a_problem_and_changes_nothing(self) -> None:
        host, told = await a_host(), Told()
        await put(host, "web")
        made = reconciler(host, told=told)
        await made.load_zfs()
        before = dict(host.inventory.datasets)

        async def fails(what: str, args: Sequence[str]) -> tuple[int, str, str]:
            return 1, "", "cannot open 'rpool': pool I/O is currently suspended\n"

        host.zfs.execute = fails  # type: ignore[method-assign]
        await made.load_zfs()
        assert "suspended" in made.problem
        assert host.inventory.datasets == before
        del host.zfs.execute  # type: ignore[method-assign]
        await made.load_zfs()
        assert (made.problem, made.fault, told.count) == ("", None, 3)

    @in_loop
    async def test_while_libvirt_is_away_the_last_known_domains_stay(self) -> None:
        host = await a_host()
        await put(host, "web")
        await host.known()
        host.memory_virt.available = False
        await reconciler(host).load_domains()
        assert uuid_of("web") in host.inventory.domains
        await host.refresh_domain(uuid_of("web"))
        assert uuid_of("web") in host.inventory.domains

    @in_loop
    async def test_what_a_job_settles_while_everything_is_read_is_not_lost(self) -> None:
        host = await a_host()
        await put(host, "web")
        await host.known()
        execute, slow = host.zfs.execute, asyncio.Event()

        async def slowly(what: str, args: Sequence[str]) -> tuple[int, str, str]:
            answer = await execute(what, args)
            if "-r" in args:
                await slow.wait()
            return answer

        host.zfs.execute = slowly  # type: ignore[method-assign]
        reading = asyncio.ensure_future(reconciler(host).load_zfs())
        await turns()
        await put(host, "new")
        await host.zfs.snapshot(["rpool/vms/web@s1"], {})
        await host.zfs.destroy("rpool/vms/web.nvram")
        await host.settle(("rpool/vms/new", "rpool/vms/new.nvram", "rpool/vms/web@s1", "rpool/vms/web.nvram"))
        slow.set()
        await reading
        assert {"rpool/vms/new", "rpool/vms/new.nvram"} <= host.inventory.datasets.keys()
        assert "s1" in host.inventory.snapshots["rpool/vms/web"]
        assert "rpool/vms/web.nvram" not in host.inventory.datasets

    @in_loop
    async def test_what_is_used_is_read_of_what_is_there_and_brings_nothing_back(self) -> None:
        host = await a_host()
        await put(host, "web")
        await host.zfs.snapshot(["rpool/vms/web@s1", "rpool/vms/web@s2"], {})
        await host.known()
        execute, slow = host.zfs.execute, asyncio.Event()

        async def slowly(what: str, args: Sequence[str]) -> tuple[int, str, str]:
            answer = await execute(what, args)
            if "-d" in args:
                await slow.wait()
            return answer

        host.zfs.execute = slowly  # type: ignore[method-assign]
        reading = asyncio.ensure_future(host.refresh_usage(["rpool/vms/web"]))
        await turns()
        await host.zfs.destroy_snapshots("rpool/vms/web", ["s1"])
        await host.settle(("rpool/vms/web@s1",))
        slow.set()
        await reading
        assert set(host.inventory.snapshots["rpool/vms/web"]) == {"s2"}


class TestSettling:
    @in_loop
    async def test_takes_two_commands_at_most(self) -> None:
        host = await a_host()
        await put(host, "web")
        host.zfs.started = 0
        await host.settle(("rpool/vms/web", "rpool/vms/web.nvram@*", f"domain:{uuid_of('web')}", "rpool/vms/web@gone"))
        assert host.zfs.started == 2
        host.zfs.started = 0
        await host.settle((f"domain:{uuid_of('web')}",))
        assert host.zfs.started == 0

    @in_loop
    async def test_reads_the_rest_even_if_part_of_it_failed(self) -> None:
        host = await a_host()
        await put(host, "web")

        async def fails(uuid: str) -> None:
            raise LibvirtFailed("the domain cannot be read", "x", "")

        host.virt.domain = fails  # type: ignore[method-assign]
        await host.settle((f"domain:{uuid_of('web')}", "rpool/vms/web"))
        assert "rpool/vms/web" in host.inventory.datasets

    @in_loop
    async def test_of_many_snapshots_does_not_ask_what_each_uses(self) -> None:
        host = await a_host()
        await put(host, "web")
        names = [f"rpool/vms/web@s{number}" for number in range(listing.FEW + 1)]
        await host.zfs.snapshot(names, {properties.SNAPSHOT: "auto:app"})
        before = len(host.memory_zfs.commands)
        await host.settle(("rpool/vms/web", *names, "rpool/vms/web@gone"))
        found = host.inventory.snapshots["rpool/vms/web"]
        assert {(each.name, each.kind, each.consistency) for each in found.values()} == {
            (name.partition("@")[2], "auto", "app") for name in names
        }
        assert "rpool/vms/web" in host.inventory.datasets
        asked = host.memory_zfs.commands[before:]
        assert [",used," in command for command in asked] == [True, False]

    @in_loop
    async def test_does_not_ask_for_a_snapshot_of_which_its_making_told_all(self) -> None:
        host = await a_host()
        await put(host, "web")
        manual = {properties.SNAPSHOT: "manual:off"}
        values: dict[str, dict[str, str]] = {"rpool/vms/web": manual, "rpool/vms/web.nvram": {}}
        await snapshots.snapshot_together(host.zfs, "s1", "job/1", values)
        host.zfs.started = 0
        await host.settle(("rpool/vms/web@s1", "rpool/vms/web.nvram@s1"))
        assert host.zfs.started == 0
        told = {name: dict(each) for name, each in host.inventory.snapshots.items() if each}
        await host.refresh_zfs(["rpool/vms/web@s1", "rpool/vms/web.nvram@s1"], [])
        assert host.inventory.snapshots == told
        assert told["rpool/vms/web"]["s1"].kind == "manual"

    @in_loop
    async def test_asks_for_one_that_was_destroyed_again(self) -> None:
        host = await a_host()
        await put(host, "web")
        await snapshots.snapshot_together(host.zfs, "s1", "job/1", {"rpool/vms/web": {}})
        await host.zfs.destroy_snapshots("rpool/vms/web", ["s1"])
        await host.settle(("rpool/vms/web@s1",))
        assert not host.inventory.snapshots.get("rpool/vms/web")

    @in_loop
    async def test_reads_the_store_again_when_an_image_came_or_went(self) -> None:
        host, read = await a_host(), Told()

        async def images() -> None:
            read()

        host.images_changed = images
        await host.settle(("images:",))
        await host.settle(("rpool/vms/web",))
        assert read.count == 1

    @in_loop
    async def test_clones_of_what_was_renamed_show_its_new_name(self) -> None:
        host = await a_host()
        await put(host, "web")
        await host.zfs.snapshot(["rpool/vms/web@s1"], {})
        await host.zfs.clone("rpool/vms/web@s1", "rpool/vms/copy", {})
        await host.known()
        await host.zfs.create_container("rpool/vms/.trash/web-1", {})
        await host.zfs.rename("rpool/vms/web", "rpool/vms/.trash/web-1/web")
        await host.settle(("rpool/vms/web@*", "rpool/vms/.trash/web-1/web@*"))
        assert host.inventory.datasets["rpool/vms/copy"].origin == "rpool/vms/.trash/web-1/web@s1"


class TestNews:
    @pytest.mark.parametrize(
        ("name", "read"),
        [
            ("rpool/vms/web", True), ("rpool/vms/web@autosnap", True), ("rpool/vms", True), ("vmpool/vms/x/y", True),
            ("rpool/vms/web/%recv", True), ("rpool/vmsx", False), ("rpool/home", False), ("rpool", False), ("", False),
        ],
    )  # fmt: skip
    @in_loop
    async def test_of_a_dataset_below_a_storage_has_it_read_again(self, name: str, read: bool) -> None:
        made = reconciler(await a_host())
        for action in ("rename", "snapshot"):
            made.dataset_changed(name, action)
            assert made._news.is_set() == read
            made._begin_anew()

    @in_loop
    async def test_that_we_made_ourselves_is_none(self) -> None:
        asked: list[str] = []
        made = reconciler(await a_host(), ours=lambda name: bool(asked.append(name) or True))
        for name in ("rpool/vms/web@s1", "rpool/vms/web/%recv"):
            made.dataset_changed(name)
        assert asked == ["rpool/vms/web@s1", "rpool/vms/web"]
        assert not made._news.is_set()

    @in_loop
    async def test_what_we_have_changed_is_read_once_more_a_little_later_and_no_more_than_that(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reconcile, "OWN_MEMORY", -0.98)
        made = reconciler(await a_host(), ours=lambda name: True)
        made.dataset_changed("rpool/vms/web@s1", "snapshot")
        made.dataset_changed("rpool/vms/db@s1", "snapshot")
        await asyncio.wait_for(made._news.wait(), 5)
        assert made._heard.names == {"rpool/vms/web", "rpool/vms/web@s1", "rpool/vms/db", "rpool/vms/db@s1"}
        assert not made._heard.everything

    @in_loop
    async def test_foreign_changes_are_read_soon_and_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reconcile, "DEBOUNCE", 0.02)
        host, told = await a_host(), Told()
        made = reconciler(host, told=told)
        made._last = -10.0
        keeping = asyncio.ensure_future(made.keep_zfs())
        await put(host, "web")
        host.zfs.started = 0

        async def read() -> bool:
            return told.count > 0

        for _ in range(50):
            made.dataset_changed("rpool/vms/web")
        await until(read, 10, 0.01)
        await asyncio.sleep(0.1)
        assert host.inventory.vm_ids() == [id_of("web")]
        assert (host.zfs.started, told.count) == (2, 1)
        keeping.cancel()

    @pytest.mark.parametrize(
        ("name", "action", "alone"),
        [
            ("rpool/vms/web", "create", True), ("rpool/vms/web@s9", "snapshot", True), ("rpool/vms/web", "set", True),
            ("rpool/vms/web@s9", "hold", True), ("rpool/vms/web", "destroy", True), ("rpool/vms", "set", False),
            ("rpool/vms/web", "rename", False), ("rpool/vms/web", "promote", False), ("rpool/vms/web", "", False),
            ("rpool/vms/web/%recv", "receive", False), ("rpool/vms/web/%rollback", "clone swap", False),
        ],
    )  # fmt: skip
    @in_loop
    async def test_what_changes_no_other_dataset_is_read_alone(self, name: str, action: str, alone: bool) -> None:
        host = await a_host()
        await put(host, "web")
        await host.known()
        made = reconciler(host)
        made.dataset_changed(name, action)
        assert (bool(made._heard.names), made._heard.everything) == (alone, not alone)

    @in_loop
    async def test_little_is_read_by_one_command_whatever_became_of_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reconcile, "DEBOUNCE", 0.02)
        host, told = await a_host(), Told()
        await put(host, "web")
        await put(host, "db")
        await host.zfs.snapshot(["rpool/vms/web@old"], {})
        await host.known()
        made = reconciler(host, told=told)
        made._last = time.monotonic()
        keeping = asyncio.ensure_future(made.keep_zfs())
        await host.zfs.snapshot(["rpool/vms/web@new"], {})
        await host.zfs.destroy_snapshots("rpool/vms/web", ["old"])
        await host.zfs.destroy("rpool/vms/db")
        host.zfs.started = 0
        for name, action in (("web@new", "snapshot"), ("web@old", "destroy"), ("db", "destroy")):
            made.dataset_changed(f"rpool/vms/{name}", action)

        async def read() -> bool:
            return told.count > 0

        await until(read, 10, 0.01)
        assert host.inventory.snapshots["rpool/vms/web"].keys() == {"new"}
        assert "rpool/vms/db" not in host.inventory.datasets
        assert host.zfs.started == 1
        keeping.cancel()

    @in_loop
    async def test_nothing_heard_for_long_is_read_again_anyway(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reconcile, "PERIOD", 0.02)
        monkeypatch.setattr(reconcile, "DEBOUNCE", 0.0)
        host = await a_host()
        made = reconciler(host)
        made._last = -10.0
        keeping = asyncio.ensure_future(made.keep_zfs())
        await put(host, "web")

        async def known() -> bool:
            return host.inventory.vm_ids() == [id_of("web")]

        assert await until(known, 10, 0.01)
        keeping.cancel()

    @in_loop
    async def test_where_all_takes_long_to_read_only_what_running_guests_use_is_read_so_often(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reconcile, "PERIOD", 0.02)
        monkeypatch.setattr(reconcile, "DEBOUNCE", 0.0)
        host, told = await a_host(), Told()
        await put(host, "web")
        await put(host, "off")
        await host.known()
        await host.virt.start(uuid_of("web"))
        await host.refresh_domain(uuid_of("web"))
        made = reconciler(host, told=told)
        made._last, made._took = time.monotonic(), 100.0
        del host.memory_zfs.commands[:]
        keeping = asyncio.ensure_future(made.keep_zfs())

        async def read() -> bool:
            return told.count >= 4  # what was read is told of, and then when

        assert await until(read, 10, 0.01)
        keeping.cancel()
        names = {word for line in host.memory_zfs.commands for word in line.split() if word.startswith("rpool/")}
        assert names == {each.name for each in volumes_of("web")}
        assert host.inventory.used_at_of(id_of("web")) > host.inventory.used_at_of(id_of("off"))

    @pytest.mark.parametrize(("took", "due"), [(0.1, reconcile.PERIOD), (2.0, 2000.0), (100.0, reconcile.LONGEST)])
    def test_reading_all_anew_is_no_load_however_long_it_takes(self, took: float, due: float) -> None:
        assert reconcile.rest(took) == due

    @in_loop
    async def test_a_domain_that_a_job_of_ours_is_at_work_on_is_read_a_little_later(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reconcile, "OWN_DOMAIN", 0.05)
        made = reconciler(await a_host(), ours=lambda name: True)
        made.domain_changed("1")
        assert made._domains == {"1"}  # its job has ended
        made.at_work = lambda touched: touched == "domain:2"
        made.domain_changed("2")
        assert made._domains == {"1"}
        await asyncio.sleep(0.1)
        assert made._domains == {"1", "2"}

    @in_loop
    async def test_each_domain_of_which_was_heard_is_read_again_once(self) -> None:
        host, told = await a_host(), Told()
        await put(host, "web")
        made = reconciler(host, told=told)
        keeping = asyncio.ensure_future(made.keep_domains())
        await turns()
        for _ in range(5):
            made.domain_changed(uuid_of("web"))
        made.domain_changed(uuid_of("nobody"))
        await turns()
        assert (set(host.inventory.domains), told.count) == ({uuid_of("web")}, 1)
        keeping.cancel()

    @in_loop
    async def test_a_domain_that_cannot_be_read_does_not_keep_the_others_from_it(self) -> None:
        host = await a_host()
        await put(host, "web")
        read = host.virt.domain

        async def some(uuid: str) -> Any:
            if uuid == "0":
                raise LibvirtFailed("the domain cannot be read", "x", "")
            return await read(uuid)

        host.virt.domain = some  # type: ignore[method-assign]
        made = reconciler(host)
        keeping = asyncio.ensure_future(made.keep_domains())
        made.domain_changed("0")
        made.domain_changed(uuid_of("web"))
        await turns()
        assert not keeping.done()
        assert uuid_of("web") in host.inventory.domains
        keeping.cancel()


class TestCounting:
    """How many events there were, and how long it took until what others changed was known."""

    @in_loop
    async def test_what_others_change_is_measured_from_then_until_it_is_told(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reconcile, "DEBOUNCE", 0.02)
        host, told = await a_host(), Told()
        await put(host, "web")
        await host.known()
        made = reconciler(host, told=told)
        made._last = time.monotonic()
        keeping = asyncio.ensure_future(made.keep_zfs())
        made.dataset_changed("rpool/vms/web", "set", time.time() - 3.0)
        made.dataset_changed("rpool/vms/web@s1", "snapshot", time.time())
        made.dataset_changed("rpool/vms/web@old", "snapshot")  # of the backlog
        made.dataset_changed("rpool/elsewhere", "set", time.time())

        async def measured() -> bool:
            return made.tally.news["zfs"].measured > 0

        assert await until(measured, 10, 0.01)
        news = made.tally.news["zfs"]
        assert (news.events, news.measured, news.late, told.count) == (2, 2, 1, 1)
        assert 3.0 < news.worst < 4.0
        keeping.cancel()

    @in_loop
    async def test_what_we_change_ourselves_is_an_event_and_not_measured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reconcile, "OWN_MEMORY", -1.0)
        made = reconciler(await a_host(), ours=lambda name: True)
        made.dataset_changed("rpool/vms/web@s1", "snapshot", time.time())
        await asyncio.wait_for(made._news.wait(), 5)
        assert (made.tally.news["zfs"].events, made._heard.at) == (1, [])

    @in_loop
    async def test_what_cannot_be_read_is_measured_once_it_can(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reconcile, "DEBOUNCE", 0.0)
        host, failed = await a_host(), Told()
        await put(host, "web")
        await host.known()
        made = reconciler(host)
        made._last = time.monotonic() - 1.0
        execute = host.zfs.execute

        async def fails(what: str, args: Sequence[str]) -> tuple[int, str, str]:
            failed()
            return 1, "", "cannot open 'rpool': pool I/O is currently suspended\n"

        async def had(count: int) -> bool:
            return failed.count >= count

        async def measured() -> bool:
            return made.tally.news["zfs"].measured > 0

        host.zfs.execute = fails  # type: ignore[method-assign]
        keeping = asyncio.ensure_future(made.keep_zfs())
        made.dataset_changed("rpool/vms/web@s1", "snapshot", time.time())
        assert await until(lambda: had(2), 10, 0.01), "alone, and then with everything"
        assert not await measured()
        host.zfs.execute = execute  # type: ignore[method-assign]
        await asyncio.sleep(0.05)
        made.read_all_again("gap")
        assert await until(measured, 10, 0.01)
        assert made.tally.news["zfs"].measured == 1
        assert made.tally.reloads["gap"] == 1
        keeping.cancel()

    @in_loop
    async def test_times_do_not_gather_for_ever(self) -> None:
        made = reconciler(await a_host())
        for number in range(reconcile.MOST + 10):
            made.dataset_changed("rpool/vms/web", "set", 1.0 + number)
        assert len(made._heard.at) == reconcile.MOST
        assert made.tally.news["zfs"].events == reconcile.MOST + 10

    @in_loop
    async def test_of_libvirt_as_well(self) -> None:
        host = await a_host()
        await put(host, "web")
        made = reconciler(host)
        made.at_work = lambda touched: touched == f"domain:{uuid_of('ours')}"
        keeping = asyncio.ensure_future(made.keep_domains())
        made.domain_changed(uuid_of("web"), time.time() - 2.0)
        made.domain_changed(uuid_of("ours"), time.time())
        await turns()
        news = made.tally.news["libvirt"]
        assert (news.events, news.measured, news.late) == (2, 1, 1)
        host.memory_virt.available = False
        made.domain_changed(uuid_of("web"), time.time())
        await turns()
        assert (news.events, news.measured) == (3, 1), "while libvirt is away nothing is known"
        keeping.cancel()


class Device:
    def __init__(self, action: str, *links: str, subsystem: str = "block") -> None:
        self.action, self.device_links, self.subsystem = action, links, subsystem


class Monitor:
    """udev's news, and a file that can be read as long as there are any."""

    def __init__(self, *devices: Device) -> None:
        self.devices = list(devices)
        self.reader, self.writer = os.pipe()
        os.write(self.writer, b"x")

    @classmethod
    def from_netlink(cls, context: object, source: str) -> Monitor:
        assert source == "udev"
        return cls(
            Device("add", "/dev/disk/by-id/x", "/dev/zvol/rpool/vms/web"), Device("remove", "/dev/zvol/rpool/vms/db"),
            Device("change", "/dev/zvol/rpool/vms/web.nvram", "/dev/zvol/vmpool/vms/x"), Device("add"),
            Device("add", subsystem="net"), Device("remove", subsystem="net"),
        )  # fmt: skip

    def filter_by(self, subsystem: str, device_type: str = "") -> None:
        assert (subsystem, device_type) in (("block", ""), ("net", "bridge"))

    def start(self) -> None:
        return None

    def fileno(self) -> int:
        return self.reader

    def poll(self, timeout: int) -> Device | None:
        assert timeout == 0
        if self.devices:
            return self.devices.pop(0)
        os.read(self.reader, 1)
        return None


class TestUdev:
    @in_loop
    async def test_links_that_appear_and_bridges_that_change_are_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kldload_kvm.watch.udev.pyudev.Monitor", Monitor)
        appeared: list[str] = []
        bridged = Told()
        watch = UdevWatch(appeared.append, bridged)
        watch.start()
        await asyncio.sleep(0.02)
        watch.stop()
        assert appeared == ["rpool/vms/web", "rpool/vms/web.nvram", "vmpool/vms/x"]
        assert bridged.count == 2


class TestNetworks:
    @in_loop
    async def test_libvirt_s_are_told_and_while_it_is_away_the_last_known_ones_stay(self) -> None:
        told, answers = list[dict[str, object]](), [{"default": True}, LibvirtUnavailable("a", "b", "c")]

        async def ask() -> dict[str, bool]:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        networks = Networks(ask, lambda **found: told.append(found))
        await networks.read()
        await networks.read()
        assert told == [{"networks": {"default": True}}]

    def test_bridges_are_the_links_that_have_ports(self, tmp_path: Path) -> None:
        for link in ("br0/bridge", "eth0/device", "virbr0/bridge"):
            (tmp_path / link).mkdir(parents=True)
        assert bridges(tmp_path) == {"br0", "virbr0"}


class TestZfsEvents:
    def watch(self) -> tuple[ZfsWatch, list[str], Told]:
        changed, lost = list[str](), Told()
        return ZfsWatch(lambda dataset, action, at: changed.append(dataset), lost), changed, lost

    def test_each_is_told_once_and_in_order(self) -> None:
        made, changed, lost = self.watch()
        for eid, dataset in [(7, "a"), (8, ""), (9, "b"), (9, "b"), (8, "x"), (10, "c")]:
            made._seen(Event(eid, dataset))
        assert (changed, lost.count) == (["a", "b", "c"], 0)

    def test_a_pool_that_comes_or_goes_has_all_read_again(self) -> None:
        made, changed, lost = self.watch()
        made._seen(Event(7, "", "", "config_sync"))
        made._seen(Event(8, "", "", "pool_import"))
        assert (changed, lost.count) == ([], 1)

    def test_a_gap_means_that_something_was_missed(self) -> None:
        made, changed, lost = self.watch()
        for eid in (7, 9, 10, 600):
            made._seen(Event(eid, "a"))
        assert (changed, lost.count) == (["a"] * 4, 2)

    def test_what_is_older_than_the_reader_is_told_without_its_time_and_why_something_was_missed_is_said(self) -> None:
        told, reasons = list[tuple[str, float]](), list[str]()
        made = ZfsWatch(lambda dataset, action, at: told.append((dataset, at)), reasons.append)
        made._began = 100.0
        for eid, at, kind in [(1, 99.0, ""), (2, 100.5, ""), (4, 101.0, ""), (5, 102.0, "pool_import")]:
            made._seen(Event(eid, f"d{eid}", "", kind, at))
        assert told == [("d1", 0.0), ("d2", 100.5), ("d4", 101.0), ("d5", 102.0)]
        assert reasons == ["gap", "pool"]

    @pytest.mark.parametrize("fault", [OSError("no zpool"), ValueError("a line too long"), None])
    @in_loop
    async def test_the_reader_is_started_again_whatever_ends_it(
        self, monkeypatch: pytest.MonkeyPatch, fault: Exception | None
    ) -> None:
        started = 0

        async def follow() -> Any:
            nonlocal started
            started += 1
            yield Event(started, "a")
            if fault:
                raise fault

        monkeypatch.setattr("kldload_kvm.watch.zfs_events.follow", follow)
        monkeypatch.setattr("kldload_kvm.watch.zfs_events.PAUSE", 0.0)
        made, changed, lost = self.watch()
        with suppress(TimeoutError):
            await asyncio.wait_for(made.keep(), 0.05)
        assert started > 2
        assert lost.count >= started - 1
        assert len(changed) == started
