"""The trash as data: given these entries and this pool, exactly these are due, and these hold each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kldload_kvm.model import properties, trash
from kldload_kvm.model.sizes import GIB
from world import World, filesystem, id_of, snapshot, volume

NOW, HOUR = 1_775_000_000, 3600
GRACE = 24 * HOUR


@pytest.fixture
def host() -> World:
    return World()


def put(
    host: World, vm: str, age: int, reason: str = "deleted", used: int = 0, parent: str = "rpool/vms", origin: str = ""
) -> str:
    """An entry of one volume, `age` hours old; its id."""
    id_ = f"{vm}-{age}"
    noted = {
        properties.VM: id_of(vm), properties.NAME: vm, properties.REASON: reason,
        properties.SINCE: str(NOW - age * HOUR),
    }  # fmt: skip
    host.inventory.put_dataset(filesystem(f"{parent}/.trash/{id_}", properties=noted))
    host.inventory.put_dataset(replace(volume(f"{parent}/.trash/{id_}/{vm}", vm=vm, origin=origin), used=used))
    return id_


def snap(host: World, dataset: str, name: str, kind: str = "manual") -> None:
    host.txg += 1
    host.inventory.put_snapshot(snapshot(dataset, name, host.txg, kind))


def pool(host: World, free: int, parent: str = "rpool/vms") -> None:
    """A pool of 100 GiB with so many of them free."""
    host.inventory.put_dataset(filesystem(parent, used=(100 - free) * GIB, available=free * GIB))


def due(host: World, *in_use: str) -> list[str]:
    return [each.id for each in trash.due(host.inventory, NOW, GRACE, 0.05, in_use)]


class TestDue:
    def test_what_has_waited_for_its_grace_period_whatever_it_is(self, host: World) -> None:
        put(host, "a", 23)
        put(host, "b", 24)
        put(host, "c", 30, "rolled-back")
        assert sorted(due(host)) == ["b-24", "c-30"]

    def test_what_somebody_has_open_is_passed_over_and_counts_for_nothing_at_the_floor(self, host: World) -> None:
        pool(host, 4)
        put(host, "a", 30)
        put(host, "b", 3, used=2 * GIB)
        put(host, "c", 2, used=2 * GIB)
        assert sorted(due(host)) == ["a-30", "b-3"]
        assert due(host, "rpool/vms/.trash/a-30/a", "rpool/vms/.trash/b-3/b") == ["c-2"]

    def test_nothing_whose_time_is_not_known(self, host: World) -> None:
        id_ = put(host, "a", 30)
        container = host.inventory.datasets[f"rpool/vms/.trash/{id_}"]
        for noted in ("", "never", "-1"):
            values = {**container.properties, properties.SINCE: noted}
            host.inventory.put_dataset(replace(container, properties=values))
            assert due(host) == []

    def test_an_origin_waits_for_its_last_clone(self, host: World) -> None:
        put(host, "a", 30)
        snap(host, "rpool/vms/.trash/a-30/a", "s1")
        host.inventory.put_dataset(volume("rpool/vms/copy", vm="copy", origin="rpool/vms/.trash/a-30/a@s1"))
        assert due(host) == []
        host.inventory.remove_dataset("rpool/vms/copy")
        assert due(host) == ["a-30"]

    def test_an_origin_goes_together_with_clones_that_are_due_as_well(self, host: World) -> None:
        put(host, "a", 30)
        snap(host, "rpool/vms/.trash/a-30/a", "s1")
        put(host, "b", 25, origin="rpool/vms/.trash/a-30/a@s1")
        assert sorted(due(host)) == ["a-30", "b-25"]

    def test_and_not_before_them(self, host: World) -> None:
        put(host, "a", 30)
        snap(host, "rpool/vms/.trash/a-30/a", "s1")
        put(host, "b", 1, origin="rpool/vms/.trash/a-30/a@s1")
        assert due(host) == []


class TestAtTheFloor:
    def test_what_a_person_deleted_goes_early_the_oldest_first_and_no_more_than_it_takes(self, host: World) -> None:
        pool(host, 2)
        for vm, age in (("a", 1), ("b", 3), ("c", 2)):
            put(host, vm, age, used=2 * GIB)
        assert due(host) == ["b-3", "c-2"]

    @pytest.mark.parametrize("reason", ["rolled-back", "retired", ""])
    def test_nothing_else_ever_does(self, host: World, reason: str) -> None:
        pool(host, 0)
        put(host, "a", 23, reason, used=GIB)
        assert due(host) == []

    def test_what_has_expired_counts_first(self, host: World) -> None:
        pool(host, 2)
        put(host, "a", 30, "rolled-back", used=3 * GIB)
        put(host, "b", 1, used=GIB)
        assert due(host) == ["a-30"]

    def test_only_in_the_storage_that_lacks_room(self, host: World) -> None:
        pool(host, 1)
        put(host, "a", 1, used=GIB, parent="vmpool/vms")
        assert due(host) == []

    def test_not_what_others_are_clones_of(self, host: World) -> None:
        pool(host, 1)
        put(host, "a", 3, used=9 * GIB)
        snap(host, "rpool/vms/.trash/a-3/a", "s1")
        host.inventory.put_dataset(volume("rpool/vms/copy", vm="copy", origin="rpool/vms/.trash/a-3/a@s1"))
        put(host, "b", 2, used=9 * GIB)
        assert due(host) == ["b-2"]

    def test_a_pool_with_room_enough_keeps_everything(self, host: World) -> None:
        pool(host, 5)
        put(host, "a", 1, used=GIB)
        assert due(host) == []


class TestOrder:
    def test_each_volume_after_its_clones(self, host: World) -> None:
        put(host, "a", 30)
        snap(host, "rpool/vms/.trash/a-30/a", "s1")
        put(host, "b", 30, origin="rpool/vms/.trash/a-30/a@s1")
        snap(host, "rpool/vms/.trash/b-30/b", "s1")
        put(host, "c", 30, origin="rpool/vms/.trash/b-30/b@s1")
        volumes = [volume for each in trash.entries(host.inventory) for volume in each.volumes]
        found = trash.in_order(host.inventory, volumes)
        assert [each.name.rpartition("/")[2] for each in found] == ["c", "b", "a"]


class TestOrphanedSnapshots:
    def test_those_taken_for_a_clone_on_all_volumes_of_the_origin(self, host: World) -> None:
        host.vm("web", seed=True)
        host.snap("web", "clone-1", kind="clone")
        put(host, "copy", 1, origin="rpool/vms/web@clone-1")
        gone = {"rpool/vms/.trash/copy-1/copy"}
        found = trash.orphaned(host.inventory, gone)
        assert [each.dataset for each in found] == ["rpool/vms/web", "rpool/vms/web.nvram", "rpool/vms/web.seed"]

    def test_not_as_long_as_one_volume_of_another_clone_is_there(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "clone-1", kind="clone")
        put(host, "copy", 1, origin="rpool/vms/web@clone-1")
        nvram = volume("rpool/vms/other.nvram", "nvram", vm="other", origin="rpool/vms/web.nvram@clone-1")
        host.inventory.put_dataset(nvram)
        assert trash.orphaned(host.inventory, {"rpool/vms/.trash/copy-1/copy"}) == []

    @pytest.mark.parametrize("kind", ["manual", "auto", "replication", "foreign"])
    def test_not_those_of_anybody_else(self, host: World, kind: str) -> None:
        host.vm("web")
        host.snap("web", "clone-1", kind=kind)
        put(host, "copy", 1, origin="rpool/vms/web@clone-1")
        assert trash.orphaned(host.inventory, {"rpool/vms/.trash/copy-1/copy"}) == []


def test_a_container_that_is_no_entry_is_none(host: World) -> None:
    put(host, "a", 1)
    below = filesystem("rpool/vms/.trash/a-1/deeper", properties={properties.REASON: "deleted"})
    host.inventory.put_dataset(below)
    assert [(each.id, len(each.volumes)) for each in trash.entries(host.inventory)] == [("a-1", 1)]
