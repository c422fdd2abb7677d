"""Restore and purge: given this trash, exactly these steps, or this refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bad_names import BAD_VM_NAMES
from kldload_kvm.engine.plan import Guard, Plan
from kldload_kvm.model import properties
from kldload_kvm.model.errors import (
    AlreadyExists,
    HasClones,
    InvalidArgument,
    KvmError,
    LibvirtUnavailable,
    NotFound,
    WrongState,
)
from kldload_kvm.model.inventory import device
from kldload_kvm.model.trash import entries, holders
from kldload_kvm.ops.delete import Delete
from kldload_kvm.ops.detach_disk import DetachDisk
from kldload_kvm.ops.purge import AT_ONCE, PurgeTrash
from kldload_kvm.ops.restore import RestoreTrash
from kldload_kvm.ops.retire import Retire
from kldload_kvm.ops.rollback import Rollback
from kldload_kvm.steps.devices import AttachDevice
from kldload_kvm.steps.domains import CheckUnsaved, ForceOff, RestoreDomain, SetAutostart
from kldload_kvm.steps.snapshots import DestroySnapshot
from kldload_kvm.steps.trash import CheckClosed, CreateTrashEntry, DestroySnapshots, DestroyVolume, RemoveTrashEntry
from kldload_kvm.steps.volumes import PromoteVolume, RenameVolume, SetProperty
from world import World, filesystem, guid_of, id_of, snapshot, uuid_of, volume, volumes_of

ENTRY = "web-20260401T000000Z"
TRASH = f"rpool/vms/.trash/{ENTRY}"
VOLUMES = ("rpool/vms/web", "rpool/vms/web.nvram")
NEXT = "rpool/vms/.trash/web-20260401T153022Z"


@pytest.fixture
def host() -> World:
    return World()


def entry(host: World, id_: str = ENTRY, reason: str = "deleted", **more: str) -> None:
    """A container, noted as that of the VM web."""
    noted = {
        properties.VM: id_of("web"), properties.NAME: "web", properties.UUID: uuid_of("web"),
        properties.REASON: reason, properties.SINCE: "1774000000", **more,
    }  # fmt: skip
    noted = {key: value for key, value in noted.items() if value}
    host.inventory.put_dataset(filesystem(f"rpool/vms/.trash/{id_}", properties=noted))


def deleted(host: World, **more: str) -> None:
    entry(host, **more)
    for each in volumes_of("web", TRASH):
        host.inventory.put_dataset(each)


def given_up(host: World, id_: str = ENTRY, origin: str = "rpool/vms/{}@s1") -> None:
    """A state of web that a rollback to s1 gave up."""
    entry(host, id_, "rolled-back")
    for each in volumes_of("web", f"rpool/vms/.trash/{id_}"):
        host.inventory.put_dataset(replace(each, origin=origin.format(each.name.rpartition("/")[2])))


def restore(host: World, facts: dict[str, Any] | None = None, id_: str = ENTRY, **options: Any) -> Plan:
    return RestoreTrash.parse("", [id_], options).plan(host.view(**(facts or {})))


def refusal(host: World, facts: dict[str, Any] | None = None, **options: Any) -> KvmError:
    with pytest.raises(KvmError) as caught:
        restore(host, facts, **options)
    return caught.value


def removed(name: str = TRASH) -> RemoveTrashEntry:
    return RemoveTrashEntry(name, guid_of(name))


class TestRestore:
    def test_volumes_back_under_their_name_and_then_the_domain(self, host: World) -> None:
        deleted(host)
        made = restore(host)
        names = ("web", "web.nvram")
        assert made.prepare == tuple(
            RenameVolume(f"{TRASH}/{name}", f"rpool/vms/{name}", guid_of(f"{TRASH}/{name}")) for name in names
        )
        paths = {device(f"rpool/vms/{name}"): device(f"rpool/vms/{name}") for name in names}
        assert made.commit == RestoreDomain(uuid_of("web"), "web", TRASH, paths)
        assert made.finish == (removed(),)
        assert made.result == {"vm": id_of("web"), "name": "web"}
        assert made.locks == {"VM:web", f"trash:{TRASH}"}
        assert set(made.guards) == {
            Guard("guid", TRASH, guid_of(TRASH)),
            *(Guard("guid", f"{TRASH}/{name}", guid_of(f"{TRASH}/{name}")) for name in names),
            *(Guard("absent", f"rpool/vms/{name}") for name in names),
        }

    def test_under_another_name(self, host: World) -> None:
        deleted(host)
        made = restore(host, name="new")
        assert [step.new for step in made.prepare if isinstance(step, RenameVolume)] == [
            "rpool/vms/new", "rpool/vms/new.nvram",
        ]  # fmt: skip
        assert isinstance(made.commit, RestoreDomain)
        assert made.commit.sources[device("rpool/vms/web.nvram")] == device("rpool/vms/new.nvram")
        assert (made.commit.name, made.result["name"]) == ("new", "new")

    def test_a_uuid_that_is_taken_is_renewed_and_noted_on_each_volume(self, host: World) -> None:
        deleted(host)
        host.inventory.put_domain(replace(host.vm("other").domain, uuid=uuid_of("web")))  # type: ignore[type-var]
        made = restore(host)
        assert isinstance(made.commit, RestoreDomain)
        new = made.commit.uuid
        assert new != uuid_of("web")
        assert made.commit.renewed
        assert [step for step in made.prepare if isinstance(step, SetProperty)] == [
            SetProperty(f"rpool/vms/{name}", properties.UUID, new, uuid_of("web")) for name in ("web", "web.nvram")
        ]
        assert "the libvirt domain other has its UUID" in made.warnings[0]

    def test_a_vm_that_was_an_orphan_is_one_again(self, host: World) -> None:
        deleted(host, **{properties.UUID: ""})
        made = restore(host)
        assert made.commit is None
        assert made.warnings == ("no domain was kept with it: only its volumes come back",)

    def test_autostart_comes_back(self, host: World) -> None:
        deleted(host, **{properties.AUTOSTART: "yes"})
        assert restore(host).finish == (SetAutostart(uuid_of("web"), "web", True), removed())

    def test_a_container_with_snapshots_of_another_tool_goes_with_these_named(self, host: World) -> None:
        deleted(host)
        host.inventory.put_snapshot(snapshot(TRASH, "autosnap", 7, "foreign"))
        made = restore(host)
        assert made.finish == (DestroySnapshot(TRASH, "autosnap", guid_of(f"{TRASH}@autosnap")), removed())
        assert made.destroys == (f"{TRASH}@autosnap", TRASH)

    def test_polkit_is_told_the_vm_and_the_entry(self, host: World) -> None:
        deleted(host)
        asked = RestoreTrash.parse("", [ENTRY], {"name": "new"})
        assert asked.subject(host.view()) == {
            "vm": "web", "uuid": uuid_of("web"), "dataset": TRASH, "target": f"{ENTRY} new",
        }  # fmt: skip

    def test_polkit_is_asked_first_and_only_then_it_is_told_that_there_is_none(self, host: World) -> None:
        assert RestoreTrash.parse("", [ENTRY], {}).subject(host.view()) == {"target": ENTRY}
        assert isinstance(refusal(host), NotFound)


class TestRestoreRefusals:
    def test_the_name_is_taken_by_a_vm_on_any_storage(self, host: World) -> None:
        deleted(host)
        host.vm("db", parent="vmpool/vms")
        error = refusal(host, name="db")
        assert (type(error), error.why) == (AlreadyExists, "there is a dataset vmpool/vms/db")

    def test_the_name_is_taken_by_a_domain(self, host: World) -> None:
        deleted(host)
        host.vm("other")
        host.inventory.put_domain(replace(host.vm("other").domain, name="web"))  # type: ignore[type-var]
        assert refusal(host).why == "libvirt has a domain of that name"

    def test_one_of_its_volumes_places_is_taken(self, host: World) -> None:
        deleted(host)
        host.inventory.put_dataset(volume(f"{TRASH}/web.vdb", target="vdb", vm="web"))
        host.inventory.put_dataset(filesystem("rpool/vms/web.vdb"))
        assert refusal(host).why == "there is a dataset rpool/vms/web.vdb"

    def test_its_vm_is_there(self, host: World) -> None:
        deleted(host)
        host.inventory.put_dataset(volume("rpool/vms/renamed", vm="web"))
        assert refusal(host).why == "its VM is there, as renamed"

    def test_there_is_nothing_in_it(self, host: World) -> None:
        entry(host)
        assert isinstance(refusal(host), NotFound)

    def test_two_storages_have_one_of_that_id(self, host: World) -> None:
        deleted(host)
        noted = host.inventory.datasets[TRASH].properties
        host.inventory.put_dataset(filesystem(f"vmpool/vms/.trash/{ENTRY}", properties=noted))
        error = refusal(host)
        assert isinstance(error, InvalidArgument)
        assert "vmpool/vms/.trash" in error.why

    def test_libvirt_is_away(self, host: World) -> None:
        deleted(host)
        assert isinstance(refusal(host, {"libvirt": False}), LibvirtUnavailable)

    def test_a_name_too_long_for_the_trash(self, host: World) -> None:
        deep = World(replace(host.config, storages=(replace(host.config.storages[0], dataset="rpool/" + "x" * 70),)))
        place = f"rpool/{'x' * 70}/.trash/{ENTRY}"
        noted = {properties.REASON: "deleted", properties.NAME: "web", properties.VM: id_of("web")}
        deep.inventory.put_dataset(filesystem(place, properties=noted))
        deep.inventory.put_dataset(volume(f"{place}/web"))
        assert "ZFS takes 255" in refusal(deep, name="y" * 63).why

    @pytest.mark.parametrize(("name", "why"), BAD_VM_NAMES)
    def test_bad_names(self, name: str, why: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            RestoreTrash.parse("", [ENTRY], {"name": name})
        assert why in caught.value.why

    @pytest.mark.parametrize("id_", ["", "a/b", "-r", "a@b", "..", "a b", "x" * 200])
    def test_bad_ids(self, id_: str) -> None:
        with pytest.raises(InvalidArgument, match="is no entry of the trash"):
            RestoreTrash.parse("", [id_], {})
        with pytest.raises(InvalidArgument, match="is no entry of the trash"):
            PurgeTrash.parse("", [[ENTRY, id_]], {})


class TestPartOfAVm:
    """Of a VM whose domain was undefined, what was to be kept stayed."""

    def test_comes_back_beside_what_stayed(self, host: World) -> None:
        entry(host, reason="undefined")
        for each in volumes_of("web", TRASH):
            host.inventory.put_dataset(each)
        host.inventory.put_dataset(volume("rpool/vms/web.vdb", target="vdb", vm="web"))
        made = restore(host)
        assert [step.new for step in made.prepare if isinstance(step, RenameVolume)] == [
            "rpool/vms/web", "rpool/vms/web.nvram",
        ]  # fmt: skip
        assert isinstance(made.commit, RestoreDomain)

    def test_does_not_if_the_same_disk_is_there_again(self, host: World) -> None:
        entry(host, reason="undefined")
        for each in volumes_of("web", TRASH):
            host.inventory.put_dataset(each)
        host.vm("web", "orphan")
        assert isinstance(refusal(host), AlreadyExists)


class TestDetachedDisk:
    @staticmethod
    def waiting(host: World, target: str = "vdb", state: str = "shutoff") -> None:
        """A disk that was taken from web, which is there."""
        host.vm("web", state)
        entry(host, **{properties.UUID: ""})
        host.inventory.put_dataset(volume(f"{TRASH}/web.{target}", target=target, vm="web"))

    def test_comes_back_to_its_vm_and_that_the_running_guest_has_it_is_the_commit_point(self, host: World) -> None:
        self.waiting(host, state="running")
        made = restore(host)
        assert made.prepare[0] == RenameVolume(f"{TRASH}/web.vdb", "rpool/vms/web.vdb", guid_of(f"{TRASH}/web.vdb"))
        *_, config = made.prepare
        assert isinstance(config, AttachDevice) and isinstance(made.commit, AttachDevice)
        assert (config.where, config.key, made.commit.where, made.commit.key) == ("config", "vdb", "live", "vdb")
        assert "/dev/zvol/rpool/vms/web.vdb" in config.xml
        assert made.finish == (removed(),)
        assert made.result == {
            "vm": id_of("web"), "name": "web", "target": "vdb", "dataset": "rpool/vms/web.vdb", "applied": "now",
        }  # fmt: skip
        assert made.warnings == ()
        assert Guard("absent", "rpool/vms/web.vdb") in made.guards
        assert "VM:web" in made.locks

    def test_under_another_target_if_its_own_is_taken(self, host: World) -> None:
        self.waiting(host)
        host.inventory.put_dataset(volume("rpool/vms/web.vdb", target="vdb", vm="web"))
        made = restore(host)
        assert RenameVolume(f"{TRASH}/web.vdb", "rpool/vms/web.vdc", guid_of(f"{TRASH}/web.vdb")) in made.prepare
        assert SetProperty("rpool/vms/web.vdc", properties.TARGET, "vdc", "vdb") in made.prepare
        assert made.warnings == ("its guest has it as vdc, for vdb is another disk of it by now",)

    def test_has_no_other_name(self, host: World) -> None:
        self.waiting(host)
        error = refusal(host, name="new")
        assert (type(error), error.why) == (InvalidArgument, "it is a disk of web, and comes back as that")

    def test_of_a_vm_without_a_domain_stays(self, host: World) -> None:
        self.waiting(host)
        host.inventory.remove_domain(uuid_of("web"))
        assert isinstance(refusal(host), WrongState)

    def test_of_a_vm_that_was_deleted_too_comes_back_as_its_volume(self, host: World) -> None:
        entry(host, **{properties.UUID: ""})
        host.inventory.put_dataset(volume(f"{TRASH}/web.vdb", target="vdb", vm="web"))
        assert restore(host).commit is None


class TestUndoOfARollback:
    def test_promote_rename_rename(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "s1")
        given_up(host)
        made = restore(host)
        pairs = [(f"{TRASH}/{name}", f"rpool/vms/{name}", f"{NEXT}/{name}") for name in ("web", "web.nvram")]
        unsaved, container, *rest = made.prepare
        assert isinstance(unsaved, CheckUnsaved)
        assert isinstance(container, CreateTrashEntry)
        assert (container.dataset, container.properties[properties.REASON]) == (NEXT, "rolled-back")
        assert rest == [
            *(PromoteVolume(waiting, current) for waiting, current, _ in pairs),
            *(RenameVolume(current, after, guid_of(current)) for _, current, after in pairs),
            *(RenameVolume(waiting, current, guid_of(waiting)) for waiting, current, _ in pairs),
        ]
        assert (made.commit, made.finish, made.destroys) == (None, (removed(),), (TRASH,))
        assert made.result == {"vm": id_of("web"), "name": "web", "trash": NEXT.rpartition("/")[2]}
        assert made.locks == {"VM:web", f"trash:{NEXT}", f"trash:{TRASH}"}
        assert made.warnings == ()

    def test_snapshots_since_the_rollback_are_named(self, host: World) -> None:
        host.vm("web")
        for name in ("s0", "s1", "s4", "s5"):
            host.snap("web", name)
        given_up(host)
        assert restore(host).warnings == ("these snapshots go to the trash with the current state: s4, s5",)

    def test_one_that_descends_from_another_state_given_up_is_promoted_over_that_too(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "s1")
        given_up(host, "second")
        for name in ("web", "web.nvram"):
            host.inventory.put_snapshot(snapshot(f"rpool/vms/.trash/second/{name}", "s2", 200))
        given_up(host, ENTRY, "rpool/vms/.trash/second/{}@s2")
        made = restore(host)
        assert [step for step in made.prepare if isinstance(step, PromoteVolume)] == [
            PromoteVolume(f"{TRASH}/{name}", over)
            for name in ("web", "web.nvram")
            for over in (f"rpool/vms/.trash/second/{name}", f"rpool/vms/{name}")
        ]
        assert made.locks == {"VM:web", f"trash:{NEXT}", f"trash:{TRASH}", "trash:rpool/vms/.trash/second"}

    def test_snapshots_that_a_promoted_clone_has_now_stay_with_it(self, host: World) -> None:
        host.vm("web")
        host.vm("copy")
        host.snap("copy", "s1")
        given_up(host, origin="rpool/vms/copy@s1")
        assert not [step for step in restore(host).prepare if isinstance(step, PromoteVolume)]

    def test_a_uuid_that_was_bound_anew_since_is_kept(self, host: World) -> None:
        vm = host.vm("web")
        host.snap("web", "s1")
        given_up(host)
        assert vm.domain
        host.inventory.remove_domain(vm.domain.uuid)
        host.inventory.put_domain(replace(vm.domain, uuid=uuid_of("anew")))
        assert restore(host).prepare[-2:] == tuple(
            SetProperty(f"rpool/vms/{name}", properties.UUID, uuid_of("anew"), uuid_of("web"))
            for name in ("web", "web.nvram")
        )

    def test_a_running_vm_needs_force(self, host: World) -> None:
        host.vm("web", "running")
        host.snap("web", "s1")
        given_up(host)
        error = refusal(host)
        assert (type(error), error.what, error.why) == (WrongState, "web was not changed", "it is running")
        assert restore(host, force=True).prepare[0] == ForceOff(uuid_of("web"), "web", VOLUMES)

    def test_it_has_no_other_name(self, host: World) -> None:
        host.vm("web")
        given_up(host)
        assert isinstance(refusal(host, name="new"), InvalidArgument)

    def test_a_disk_that_the_vm_has_no_more(self, host: World) -> None:
        host.vm("web")
        given_up(host)
        host.inventory.put_dataset(volume(f"{TRASH}/web.vdb", target="vdb", vm="web"))
        error = refusal(host)
        assert (type(error), error.why) == (WrongState, f"web has no disk vdb any more, and {TRASH}/web.vdb was that")

    def test_volumes_that_were_no_part_of_it_stay(self, host: World) -> None:
        host.vm("web", disks=2)
        host.snap("web", "s1")
        given_up(host)
        assert restore(host).warnings == (
            "these volumes were not part of it and stay as they are: rpool/vms/web.vdb",
        )  # fmt: skip

    def test_its_vm_is_in_the_trash_itself(self, host: World) -> None:
        given_up(host)
        entry(host, "web-20260401T090000Z")
        error = refusal(host)
        assert (type(error), error.hint) == (
            WrongState, "restore that first: kvm-trash restore web-20260401T090000Z",
        )  # fmt: skip

    def test_its_vm_is_gone(self, host: World) -> None:
        given_up(host)
        assert isinstance(refusal(host), NotFound)


def purge(host: World, *ids: str, **options: Any) -> Plan:
    return PurgeTrash.parse("", [list(ids)], options).plan(host.view())


class TestWhileItIsFilled:
    def test_an_entry_that_a_job_still_fills_is_not_due_however_full_the_pool(self, host: World) -> None:
        """What it holds comes back, should that job be undone."""
        deleted(host)
        view = replace(host.view(), config=replace(host.config, grace=0))
        request = PurgeTrash.parse("", [[]], {"expired": True})
        assert request.plan(view).result == {"purged": (ENTRY,)}
        busy = replace(view, holder=lambda lock: "7" if lock == f"trash:{TRASH}" else "")
        assert request.plan(busy).result == {"purged": ()}

    def test_all_that_fill_one_hold_it(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "s1")
        host.inventory.put_dataset(volume("rpool/vms/web.vdb", target="vdb", vm="web"))
        domain = host.inventory.domains[uuid_of("web")]
        for request in (
            Delete(id_of("web")), Rollback(id_of("web"), "s1"), DetachDisk(id_of("web"), "vdb"),
            Retire(id_of("web"), domain),
        ):  # fmt: skip
            if isinstance(request, Retire):
                host.inventory.remove_domain(domain.uuid)
            made = request.plan(host.view())
            assert f"trash:rpool/vms/.trash/{made.result['trash']}" in made.locks, request


class TestHeld:
    """A snapshot that somebody holds, which ZFS does not destroy."""

    def test_an_entry_with_one_is_not_purged_in_part_nor_does_it_keep_others(self, host: World) -> None:
        deleted(host)
        host.inventory.put_snapshot(replace(snapshot(f"{TRASH}/web.nvram", "s1", 7), holds=1))
        with pytest.raises(HasClones, match="somebody holds these snapshots") as caught:
            purge(host, ENTRY)
        assert f"zfs holds {TRASH}/web.nvram@s1" in caught.value.hint
        assert holders(host.inventory, entries(host.inventory)[0]) == [f"{TRASH}/web.nvram@s1"]

    def test_a_vm_with_one_is_not_deleted_at_once_in_part(self, host: World) -> None:
        host.vm("web")
        host.inventory.put_snapshot(replace(snapshot("rpool/vms/web.nvram", "s1", 7), holds=1))
        with pytest.raises(HasClones, match=r"rpool/vms/web\.nvram@s1"):
            Delete(id_of("web"), now=True).plan(host.view())
        assert Delete(id_of("web")).plan(host.view()).commit


class TestPurge:
    def test_every_snapshot_and_volume_is_named_by_guid_and_then_the_entry(self, host: World) -> None:
        deleted(host)
        host.inventory.put_snapshot(snapshot(f"{TRASH}/web", "s1", 7))
        made = purge(host, ENTRY)
        assert made.steps == (
            CheckClosed((f"{TRASH}/web", f"{TRASH}/web.nvram")),
            DestroySnapshots(f"{TRASH}/web", {"s1": guid_of(f"{TRASH}/web@s1")}),
            DestroyVolume(f"{TRASH}/web", guid_of(f"{TRASH}/web")),
            DestroyVolume(f"{TRASH}/web.nvram", guid_of(f"{TRASH}/web.nvram")),
            removed(),
        )
        assert made.destroys == (f"{TRASH}/web@s1", f"{TRASH}/web", f"{TRASH}/web.nvram", TRASH)
        assert made.commit == made.steps[1]
        assert "rpool/vms" in made.steps[-1].touches()  # whose free space is read again
        assert made.locks == {f"trash:{TRASH}"}
        assert made.result == {"purged": (ENTRY,)}

    def test_a_state_given_up_goes_and_the_snapshot_it_hangs_on_stays(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "s1")
        given_up(host)
        assert "rpool/vms/web@s1" not in purge(host, ENTRY).destroys

    def test_a_snapshot_that_was_taken_for_it_alone_goes_along(self, host: World) -> None:
        host.vm("origin")
        host.snap("origin", "clone-1", kind="clone")
        entry(host)
        host.inventory.put_dataset(volume(f"{TRASH}/web", origin="rpool/vms/origin@clone-1"))
        assert purge(host, ENTRY).destroys[-2:] == ("rpool/vms/origin@clone-1", "rpool/vms/origin.nvram@clone-1")

    def test_thousands_of_snapshots_go_in_parts(self, host: World) -> None:
        deleted(host)
        for number in range(AT_ONCE + 1):
            host.inventory.put_snapshot(snapshot(f"{TRASH}/web", f"s{number}", number))
        parts = [len(step.snapshots) for step in purge(host, ENTRY).steps if isinstance(step, DestroySnapshots)]
        assert parts == [AT_ONCE, 1]

    def test_one_with_living_clones_is_refused_naming_them(self, host: World) -> None:
        deleted(host)
        host.inventory.put_snapshot(snapshot(f"{TRASH}/web", "s1", 7))
        host.inventory.put_dataset(volume("rpool/vms/copy", vm="copy", origin=f"{TRASH}/web@s1"))
        with pytest.raises(HasClones) as caught:
            purge(host, ENTRY)
        assert caught.value.what == f"nothing was purged: {ENTRY} cannot go yet"
        assert caught.value.why == "these are clones of what is in it: copy"

    def test_one_whose_clone_waits_in_the_trash_goes_only_with_that(self, host: World) -> None:
        deleted(host)
        host.inventory.put_snapshot(snapshot(f"{TRASH}/web", "s1", 7))
        noted = {**host.inventory.datasets[TRASH].properties, properties.NAME: "copy", properties.VM: id_of("copy")}
        host.inventory.put_dataset(filesystem("rpool/vms/.trash/copy-1", properties=noted))
        host.inventory.put_dataset(volume("rpool/vms/.trash/copy-1/copy", vm="copy", origin=f"{TRASH}/web@s1"))
        with pytest.raises(HasClones) as caught:
            purge(host, ENTRY)
        assert caught.value.why == "these are clones of what is in it: trash entry copy-1"
        first = purge(host, ENTRY, "copy-1").commit
        assert first == DestroyVolume("rpool/vms/.trash/copy-1/copy", guid_of("rpool/vms/.trash/copy-1/copy"))

    def test_all_that_are_due_and_nothing_if_none_is(self, host: World) -> None:
        deleted(host)
        assert purge(host, expired=True).result == {"purged": (ENTRY,)}
        host.config = replace(host.config, grace=10**9)
        made = purge(host, expired=True)
        assert (made.steps, made.result) == ((), {"purged": ()})

    def test_there_is_none_of_that_id(self, host: World) -> None:
        deleted(host)
        with pytest.raises(NotFound):
            purge(host, ENTRY, "nosuch-1")

    @pytest.mark.parametrize(("ids", "options"), [((), {}), ((ENTRY,), {"expired": True}), ((), {"expired": False})])
    def test_entries_or_expired_and_not_both(self, ids: tuple[str, ...], options: dict[str, bool]) -> None:
        with pytest.raises(InvalidArgument, match="nothing was purged"):
            PurgeTrash.parse("", [list(ids)], options)

    def test_polkit_is_told_what_goes(self, host: World) -> None:
        deleted(host)
        assert PurgeTrash.parse("", [[ENTRY]], {}).subject(host.view()) == {
            "vm": "web", "dataset": TRASH, "target": ENTRY,
        }  # fmt: skip
        assert PurgeTrash.parse("", [[]], {"expired": True}).subject(host.view())["target"] == "expired"
