"""The inventory: given these datasets, snapshots and domains, these are the VMs, and this is what a change concerns."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from kldload_kvm.model import properties
from kldload_kvm.model.inventory import Dataset, Inventory, Snapshot
from world import World, domain, filesystem, guid_of, id_of, snapshot, uuid_of, volume, volumes_of

PARENTS = {"rpool": "rpool/vms", "fast": "vmpool/vms"}


@pytest.fixture
def host() -> World:
    world = World()
    world.inventory.take_dirty()
    return world


def changed(host: World) -> set[str]:
    """The names of the VMs that changed since the last time."""
    names = {id_of(name): name for name in ("web", "db", "clone", "other")}
    return {names[each] for each in host.inventory.take_dirty()}


class TestVms:
    def test_a_vm_is_its_volumes_and_their_domain(self, host: World) -> None:
        vm = host.vm("web", "running", seed=True, disks=2)
        assert (vm.id, vm.name, vm.storage, vm.state) == (id_of("web"), "web", "rpool", "running")
        assert [each.name.rpartition("/")[2] for each in vm.volumes] == ["web", "web.vdb", "web.nvram", "web.seed"]
        assert [each.name.rpartition("/")[2] for each in vm.disks] == ["web", "web.vdb"]
        assert vm.first.name == "rpool/vms/web"
        assert vm.has_seed

    def test_disks_stand_in_the_order_of_their_targets_and_vdz_comes_before_vdaa(self, host: World) -> None:
        for target in ("vdaa", "vdb", "vda", "vdz"):
            name = "rpool/vms/web" if target == "vda" else f"rpool/vms/web.{target}"
            host.inventory.put_dataset(volume(name, "disk", target, vm="web"))
        host.inventory.put_dataset(volume("rpool/vms/web.nvram", "nvram", vm="web"))
        found = [each.properties.get(properties.TARGET, "nvram") for each in host.get("web").volumes]
        assert found == ["vda", "vdb", "vdz", "vdaa", "nvram"]

    def test_volumes_without_a_domain_are_an_orphan(self, host: World) -> None:
        assert host.vm("web", "orphan").state == "orphan"

    def test_a_domain_that_uses_its_first_disk_is_its_even_with_another_uuid(self, host: World) -> None:
        host.vm("web", "orphan")
        host.inventory.put_domain(replace(domain("web", "running"), uuid="5" * 8))
        vm = host.get("web")
        assert vm.domain and vm.domain.uuid == "5" * 8

    def test_the_recorded_uuid_goes_before_the_disks(self, host: World) -> None:
        host.vm("web", "running")
        host.inventory.put_domain(replace(domain("web"), uuid="0" * 8, name="impostor"))
        assert host.get("web").state == "running"

    def test_what_has_only_its_variables_left_still_has_its_name(self, host: World) -> None:
        host.inventory.put_dataset(volume("rpool/vms/web.nvram", "nvram", vm="web"))
        vm = host.inventory.vm(id_of("web"))
        assert vm and vm.name == "web"

    @pytest.mark.parametrize("name", ["rpool/vms/.trash/web-1/web", "rpool/other/web", "rpool/vms/sub/web"])
    def test_volumes_elsewhere_are_no_vm_s(self, host: World, name: str) -> None:
        host.inventory.put_dataset(volume(name, vm="web"))
        assert host.inventory.vm_ids() == []

    def test_other_storages_have_vms_as_well(self, host: World) -> None:
        assert host.vm("db", parent="vmpool/vms").storage == "fast"

    def test_a_filesystem_with_an_id_is_no_vm(self, host: World) -> None:
        host.inventory.put_dataset(filesystem("rpool/vms/web", properties={properties.VM: id_of("web")}))
        assert host.inventory.vm_ids() == []

    def test_a_copy_that_carries_all_that_stands_on_a_disk_is_nobody_s(self, host: World) -> None:
        """As `zfs send -p` makes them."""
        vm = host.vm("web")
        for copy in ("rpool/vms/a-copy", "vmpool/vms/web"):
            host.inventory.put_dataset(replace(volume(copy, "disk", "vda", vm="web"), createtxg=99))
        assert host.get("web").volumes == vm.volumes
        assert host.inventory.find("a-copy") is None
        assert host.inventory.vm_with("vmpool/vms/web") is None
        assert host.inventory.vm_named_by("rpool/vms/a-copy") == "rpool/vms/a-copy"

    def test_of_two_copies_that_no_domain_has_the_older_is_the_vm_s(self, host: World) -> None:
        host.vm("web", "orphan")
        host.inventory.put_dataset(replace(volume("rpool/vms/a-copy", "disk", "vda", vm="web"), createtxg=99))
        assert host.get("web").first.name == "rpool/vms/web"

    def test_a_copy_that_the_domain_was_given_is_the_vm_s(self, host: World) -> None:
        host.vm("web")
        host.inventory.put_dataset(replace(volume("rpool/vms/back", "disk", "vda", vm="web"), createtxg=99))
        host.inventory.put_domain(replace(domain("web"), disks={"vda": "/dev/zvol/rpool/vms/back"}))
        assert [each.name for each in host.get("back").volumes] == ["rpool/vms/back", "rpool/vms/web.nvram"]
        assert host.inventory.find("web") is None

    @pytest.mark.parametrize("text", ["web", id_of("web"), uuid_of("web")])
    def test_found_by_name_id_and_uuid(self, host: World, text: str) -> None:
        host.vm("web")
        host.vm("db")
        found = host.inventory.find(text)
        assert found and found.name == "web"

    @pytest.mark.parametrize("text", ["", "isos", "web.nvram", ".", "/", "nobody", uuid_of("nobody")])
    def test_others_are_not_found(self, host: World, text: str) -> None:
        host.vm("web", "orphan")
        found = host.inventory.find(text)
        assert found is None or found.name == "web" == text.partition(".")[0]

    def test_an_orphan_is_not_found_by_a_uuid_that_nobody_has(self, host: World) -> None:
        host.vm("web", "orphan")
        assert host.inventory.find(uuid_of("web")) is None


class TestSnapshots:
    def test_one_name_over_all_volumes_is_one_set_oldest_first(self, host: World) -> None:
        vm = host.vm("web")
        host.snap("web", "b-first")
        host.snap("web", "a-second", "auto", consistency="app")
        sets = host.inventory.snapshot_sets(vm)
        assert [(each.name, each.kind, each.consistency, len(each.parts)) for each in sets] == [
            ("b-first", "manual", "off", 2),
            ("a-second", "auto", "app", 2),
        ]

    def test_a_set_may_be_of_some_volumes_only(self, host: World) -> None:
        vm = host.vm("web")
        host.snap("web", "half", only=("",))
        (found,) = host.inventory.snapshot_sets(vm)
        assert list(found.parts) == ["rpool/vms/web"]

    def test_what_a_set_uses_is_the_sum_of_its_parts(self, host: World) -> None:
        vm = host.vm("web")
        for number, each in enumerate(vm.volumes, 1):
            host.inventory.put_snapshot(replace(snapshot(each.name, "s", 5), used=number))
        assert host.inventory.snapshot_sets(vm)[0].used == 3

    def test_clones_hang_on_their_snapshot_and_are_dependents_of_the_vm(self, host: World) -> None:
        vm = host.vm("web")
        host.snap("web", "s1")
        host.snap("web", "s2")
        host.clone("web", "s1", "clone")
        assert [each.clones for each in host.inventory.snapshot_sets(vm)] == [
            ("rpool/vms/clone", "rpool/vms/clone.nvram"),
            (),
        ]
        assert host.inventory.dependents(vm) == ["rpool/vms/clone", "rpool/vms/clone.nvram"]
        assert host.inventory.clones_of("rpool/vms/web", "s1") == ["rpool/vms/clone"]
        assert host.inventory.vm_named_by("rpool/vms/clone.nvram") == "clone"

    def test_a_vm_does_not_depend_on_itself(self, host: World) -> None:
        vm = host.vm("web", disks=2)
        host.snap("web", "s1")
        own = next(each for each in vm.volumes if each.name.endswith(".vdb"))
        host.inventory.put_dataset(replace(own, origin="rpool/vms/web@s1"))
        assert host.inventory.dependents(host.get("web")) == []

    def test_a_clone_that_is_promoted_or_gone_is_none_any_more(self, host: World) -> None:
        vm = host.vm("web")
        host.snap("web", "s1")
        host.clone("web", "s1", "clone")
        clone = host.inventory.datasets["rpool/vms/clone"]
        host.inventory.put_dataset(replace(clone, origin=""))
        host.inventory.remove_dataset("rpool/vms/clone.nvram")
        assert host.inventory.dependents(vm) == []


class TestTrash:
    def entry(self, name: str, since: str, **more: str) -> Dataset:
        noted = {properties.REASON: "deleted", properties.SINCE: since, **more}
        return filesystem(f"rpool/vms/.trash/{name}", properties=noted)

    def test_entries_newest_first_with_their_volumes(self, host: World) -> None:
        host.inventory.put_dataset(filesystem("rpool/vms/.trash"))
        host.inventory.put_dataset(self.entry("web-1", "100"))
        host.inventory.put_dataset(self.entry("db-2", "200"))
        host.inventory.put_dataset(volume("rpool/vms/.trash/web-1/web"))
        assert [each.name.rpartition("/")[2] for each in host.inventory.trash_entries()] == ["db-2", "web-1"]
        assert [each.name for each in host.inventory.children("rpool/vms/.trash/web-1")] == [
            "rpool/vms/.trash/web-1/web"
        ]

    def test_what_lies_there_without_a_reason_is_no_entry(self, host: World) -> None:
        host.inventory.put_dataset(filesystem("rpool/vms/.trash/by-hand"))
        host.inventory.put_dataset(filesystem("rpool/vms/elsewhere", properties={properties.REASON: "deleted"}))
        assert host.inventory.trash_entries() == []

    def test_a_vm_that_goes_to_the_trash_is_gone_and_its_name_free(self, host: World) -> None:
        host.vm("web", "orphan")
        for each in volumes_of("web"):
            host.inventory.remove_dataset(each.name)
            host.inventory.put_dataset(replace(each, name=each.name.replace("vms/", "vms/.trash/web-1/")))
        assert host.inventory.vm_ids() == []
        assert host.inventory.find("web") is None


class TestWhatAChangeConcerns:
    @pytest.fixture
    def two(self, host: World) -> World:
        host.vm("web", "running")
        host.vm("db")
        host.snap("web", "s1")
        host.inventory.take_dirty()
        return host

    @pytest.mark.parametrize(
        "change",
        [
            lambda i: i.put_dataset(replace(i.datasets["rpool/vms/web"], used=7)),
            lambda i: i.remove_dataset("rpool/vms/web"),
            lambda i: i.remove_dataset("rpool/vms/web.nvram"),
            lambda i: i.put_snapshot(snapshot("rpool/vms/web.nvram", "s2", 7)),
            lambda i: i.remove_snapshot("rpool/vms/web", "s1"),
            lambda i: i.put_domain(domain("web", "paused")),
            lambda i: i.put_domain(domain("web", name="renamed")),
            lambda i: i.put_domain(domain("web", disks={})),
            lambda i: i.remove_domain(uuid_of("web")),
            lambda i: i.put_dataset(volume("elsewhere/clone", vm="x", origin="rpool/vms/web@s1")),
        ],
    )  # fmt: skip
    def test_is_the_vm_and_no_other(self, two: World, change: Callable[[Inventory], None]) -> None:
        change(two.inventory)
        assert changed(two) == {"web"}

    @pytest.mark.parametrize(
        "change",
        [
            lambda i: i.put_dataset(i.datasets["rpool/vms/web"]),
            lambda i: i.put_dataset(filesystem("rpool/vms/isos", "/elsewhere")),
            lambda i: i.remove_dataset("rpool/vms/nobody"),
            lambda i: i.remove_snapshot("rpool/vms/web", "never"),
            lambda i: i.put_domain(domain("web", "running")),
            lambda i: i.put_domain(domain("stranger")),
            lambda i: i.remove_domain(uuid_of("stranger")),
        ],
    )
    def test_is_nobody_where_nothing_changed_for_a_vm(self, two: World, change: Callable[[Inventory], None]) -> None:
        before = two.get("web")
        change(two.inventory)
        assert changed(two) == set()
        assert two.get("web") == before

    def test_a_domain_whose_disks_do_not_name_the_volume_concerns_the_vm_whose_uuid_it_has(self, two: World) -> None:
        two.inventory.put_domain(domain("db", disks={"vda": "/dev/zd16"}))
        two.inventory.take_dirty()
        two.inventory.put_domain(domain("db", "running", disks={"vda": "/dev/zd16"}))
        assert changed(two) == {"db"}
        assert two.get("db").state == "running"
        assert two.inventory.find(uuid_of("db")) == two.get("db")

    def test_a_disk_moved_from_one_domain_to_another_concerns_both_vms(self, two: World) -> None:
        two.inventory.put_domain(domain("web", "running", disks={"vda": "/dev/zvol/rpool/vms/db"}))
        assert changed(two) == {"web", "db"}

    def test_a_volume_given_to_another_vm_concerns_both(self, two: World) -> None:
        given = volume("rpool/vms/web.vdb", "disk", "vdb", vm="web")
        two.inventory.put_dataset(given)
        two.inventory.take_dirty()
        two.inventory.put_dataset(replace(given, properties={**given.properties, properties.VM: id_of("db")}))
        assert changed(two) == {"web", "db"}


class TestDomains:
    def test_a_renamed_domain_is_found_by_its_new_name_only(self, host: World) -> None:
        host.vm("web")
        host.inventory.put_domain(domain("web", name="www"))
        assert host.inventory.domain_named("web") is None
        renamed = host.inventory.domain_named("www")
        assert renamed and renamed.uuid == uuid_of("web")

    def test_two_that_swap_their_names_are_both_found(self, host: World) -> None:
        host.inventory.put_domain(domain("a"))
        host.inventory.put_domain(domain("b"))
        host.inventory.replace_domains([domain("a", name="b"), domain("b", name="a")])
        found = {name: host.inventory.domain_named(name) for name in "ab"}
        assert {name: each.uuid for name, each in found.items() if each} == {"a": uuid_of("b"), "b": uuid_of("a")}

    def test_all_read_anew_those_that_are_gone_are_removed(self, host: World) -> None:
        host.vm("web")
        host.vm("db")
        host.inventory.replace_domains([domain("db")])
        assert (host.get("web").state, host.get("db").state) == ("orphan", "shutoff")

    def test_off_means_off(self) -> None:
        states = ("running", "paused", "shutdown", "shutoff", "crashed", "suspended")
        assert [each for each in states if domain("web", each).active] == ["running", "paused", "shutdown", "suspended"]


def whole(inventory: Inventory) -> tuple[list[Dataset], list[Snapshot]]:
    return list(inventory.datasets.values()), [s for each in inventory.snapshots.values() for s in each.values()]


class TestEverythingReadAnew:
    @pytest.fixture
    def two(self, host: World) -> World:
        host.vm("web")
        host.vm("db")
        host.snap("web", "s1")
        host.snap("db", "s1")
        host.inventory.take_dirty()
        return host

    def test_the_same_again_changes_nothing(self, two: World) -> None:
        datasets, snapshots = whole(two.inventory)
        two.inventory.replace_zfs(datasets, snapshots)
        assert changed(two) == set()

    def test_only_the_vms_that_differ_are_marked(self, two: World) -> None:
        datasets, snapshots = whole(two.inventory)
        two.inventory.replace_zfs(datasets, [*snapshots, snapshot("rpool/vms/web", "s2", 300)])
        assert changed(two) == {"web"}
        two.inventory.replace_zfs(datasets, [each for each in snapshots if each.dataset != "rpool/vms/db.nvram"])
        assert changed(two) == {"web", "db"}
        two.inventory.replace_zfs([each for each in datasets if "/db" not in each.name], snapshots)
        assert changed(two) == {"db"}
        assert two.inventory.find("db") is None
        assert "rpool/vms/db" not in two.inventory.snapshots

    def test_a_volume_replaced_under_the_same_name_is_another(self, two: World) -> None:
        datasets, snapshots = whole(two.inventory)
        fresh = [replace(each, guid="1") if each.name == "rpool/vms/web" else each for each in datasets]
        two.inventory.replace_zfs(fresh, snapshots)
        assert changed(two) == {"web"}
        assert two.get("web").first.guid == "1"

    def test_what_snapshots_use_is_kept_as_long_as_they_are_the_same(self, two: World) -> None:
        datasets, snapshots = whole(two.inventory)
        two.inventory.put_snapshot(replace(snapshots[0], used=4096))
        two.inventory.take_dirty()
        two.inventory.replace_zfs(datasets, snapshots)
        assert changed(two) == set()
        kept = two.inventory.snapshots[snapshots[0].dataset][snapshots[0].name]
        assert kept.used == 4096
        two.inventory.replace_zfs(datasets, [replace(snapshots[0], guid="another"), *snapshots[1:]])
        assert two.inventory.snapshots[snapshots[0].dataset][snapshots[0].name].used == 0

    def test_what_was_learnt_while_it_was_read_stands_against_it(self, two: World) -> None:
        datasets, snapshots = whole(two.inventory)
        with two.inventory.noting() as newer:
            two.vm("other")
            two.snap("web", "s2")
            two.inventory.remove_snapshot("rpool/vms/web", "s1")
            two.inventory.remove_dataset("rpool/vms/db")
            two.inventory.remove_domain(uuid_of("db"))
        two.inventory.replace_zfs(datasets, snapshots, newer)
        two.inventory.replace_domains([domain("web", "running"), domain("db")], newer)
        assert two.get("other").state == "shutoff"
        assert set(two.inventory.snapshots["rpool/vms/web"]) == {"s2"}
        assert set(two.inventory.snapshots["rpool/vms/web.nvram"]) == {"s1", "s2"}
        assert "rpool/vms/db" not in two.inventory.datasets
        assert "rpool/vms/db" not in two.inventory.snapshots
        assert "rpool/vms/db.nvram" in two.inventory.datasets
        assert (two.get("web").state, uuid_of("db") in two.inventory.domains) == ("running", False)

    def test_what_was_seen_unchanged_meanwhile_is_known_better_as_well(self, two: World) -> None:
        datasets, snapshots = whole(two.inventory)
        same = two.inventory.datasets["rpool/vms/web"]
        with two.inventory.noting() as newer:
            two.inventory.put_dataset(same)
        older = [each for each in datasets if each.name != "rpool/vms/web"]
        two.inventory.replace_zfs(older, snapshots, newer)
        assert two.inventory.datasets["rpool/vms/web"] == same

    def test_notes_end_with_their_reading(self, two: World) -> None:
        with two.inventory.noting() as newer:
            pass
        two.snap("web", "s2")
        assert newer == set()

    def test_several_may_read_at_once(self, two: World) -> None:
        with two.inventory.noting() as first:
            with two.inventory.noting() as second:
                two.inventory.remove_dataset("rpool/vms/web.nvram")
            two.inventory.remove_dataset("rpool/vms/db.nvram")
        assert (first, second) == ({"rpool/vms/web.nvram", "rpool/vms/db.nvram"}, {"rpool/vms/web.nvram"})


def large(vms: int, each: int) -> tuple[Inventory, list[Dataset], list[Snapshot]]:
    """So many orphans, as many domains that are others', and so many snapshots of each VM."""
    datasets: list[Dataset] = [filesystem("rpool/vms")]
    snapshots: list[Snapshot] = []
    inventory = Inventory(PARENTS)
    for number in range(vms):
        name = f"vm{number}"
        datasets += volumes_of(name)
        for count in range(each):
            full = f"rpool/vms/{name}"
            snapshots.append(Snapshot(full, f"auto-{count}", guid_of("x"), count, count, "auto"))
        inventory.put_domain(domain("web", xml=XML, name=f"other{number}", uuid=f"other{number}", disks={}))
    return inventory, datasets, snapshots


XML = domain("web").xml


def calls(work: Callable[[], object]) -> int:
    """How many calls of Python functions that takes: a measure of work that no other load disturbs."""
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


class TestSize:
    """Work grows with the host as a line does: twice the host, at most a little over twice the work."""

    def test_reading_everything_anew(self) -> None:
        small, many = large(100, 10), large(200, 10)
        less = calls(lambda: small[0].replace_zfs(*small[1:]))
        more = calls(lambda: many[0].replace_zfs(*many[1:]))
        assert more < 2.2 * less

    def test_one_vm_costs_the_same_on_any_host(self) -> None:
        small, many = large(100, 1), large(400, 1)
        for inventory, datasets, snapshots in (small, many):
            inventory.replace_zfs(datasets, snapshots)
        for text in ("vm7", id_of("vm7"), uuid_of("vm7")):
            assert calls(lambda text=text: many[0].find(text)) == calls(lambda text=text: small[0].find(text))
        assert calls(lambda: many[0].vm(id_of("vm7"))) == calls(lambda: small[0].vm(id_of("vm7")))

    def test_a_thousand_vms_and_fifty_thousand_snapshots(self) -> None:
        inventory, datasets, snapshots = large(1000, 50)
        work = calls(lambda: inventory.replace_zfs(datasets, snapshots))
        assert work < 20 * (len(datasets) + len(snapshots))
        assert len(inventory.take_dirty()) == 1000
        assert calls(lambda: inventory.replace_zfs(datasets, snapshots)) < 5 * (len(datasets) + len(snapshots))
        assert inventory.take_dirty() == set()
        vm = inventory.vm(id_of("vm7"))
        assert vm and calls(lambda: inventory.snapshot_sets(vm)) < 50 * 20
