"""Delete: given this VM, exactly these steps, or this refusal. Nothing is destroyed unless that was asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

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
from kldload_kvm.ops.delete import Delete
from kldload_kvm.ops.identity import RenewVmIdentity
from kldload_kvm.steps.domains import ForceOff, UndefineDomain
from kldload_kvm.steps.guests import RenewIdentity
from kldload_kvm.steps.snapshots import DestroySnapshot
from kldload_kvm.steps.trash import CheckClosed, CreateTrashEntry, DestroySnapshots, DestroyVolume
from kldload_kvm.steps.volumes import PromoteVolume, RenameVolume, SetProperty
from world import World, definition_of, guid_of, id_of, uuid_of, volume

ENTRY = "web-20260401T153022Z"
TRASH = f"rpool/vms/.trash/{ENTRY}"
VOLUMES = ("rpool/vms/web", "rpool/vms/web.nvram")


@pytest.fixture
def host() -> World:
    return World()


def plan(host: World, facts: dict[str, Any] | None = None, **options: Any) -> Plan:
    return Delete.parse(id_of("web"), [], options).plan(host.view(**(facts or {})))


def refusal(host: World, facts: dict[str, Any] | None = None, **options: Any) -> KvmError:
    with pytest.raises(KvmError) as caught:
        plan(host, facts, **options)
    return caught.value


class TestSteps:
    def test_volumes_to_the_trash_and_the_domain_last(self, host: World) -> None:
        vm = host.vm("web", seed=True)
        made = plan(host)
        entry, *moves = made.prepare
        assert isinstance(entry, CreateTrashEntry)
        assert (entry.dataset, entry.properties[properties.REASON]) == (TRASH, "deleted")
        assert moves == [
            RenameVolume(f"rpool/vms/{name}", f"{TRASH}/{name}", guid_of(f"rpool/vms/{name}"))
            for name in ("web", "web.nvram", "web.seed")
        ]
        assert vm.domain
        assert made.commit == UndefineDomain(uuid_of("web"), "web", vm.domain.xml, False)
        assert (made.finish, made.destroys, made.result) == ((), (), {"trash": ENTRY})
        assert made.description == "delete web (into the trash)"

    def test_a_running_vm_is_forced_off_first_if_that_is_allowed(self, host: World) -> None:
        host.vm("web", "running")
        assert plan(host, force=True).prepare[0] == ForceOff(uuid_of("web"), "web", VOLUMES)

    def test_autostart_is_remembered_for_its_undo(self, host: World) -> None:
        vm = host.vm("web")
        assert vm.domain
        host.inventory.put_domain(replace(vm.domain, autostart=True))
        made = plan(host)
        assert isinstance(made.commit, UndefineDomain)
        assert made.commit.autostart

    def test_an_orphan_has_no_domain_to_undefine(self, host: World) -> None:
        host.vm("web", "orphan")
        made = plan(host)
        assert made.commit is None
        assert [type(step) for step in made.prepare] == [CreateTrashEntry, RenameVolume, RenameVolume]

    def test_a_transient_domain_is_gone_when_it_is_off(self, host: World) -> None:
        vm = host.vm("web", "running")
        assert vm.domain
        host.inventory.put_domain(replace(vm.domain, persistent=False))
        made = plan(host, force=True)
        assert made.commit is None
        assert isinstance(made.prepare[0], ForceOff)

    def test_depends_on_the_volumes_and_the_state(self, host: World) -> None:
        host.vm("web")
        made = plan(host)
        names = ("rpool/vms/web", "rpool/vms/web.nvram")
        assert made.guards == (
            *(Guard("guid", name, guid_of(name)) for name in names),
            Guard("state", uuid_of("web"), "shutoff"),
            Guard("definition", uuid_of("web"), definition_of(host, "web")),
        )
        assert (made.locks, made.objects) == ({"VM:web", f"trash:{TRASH}"}, (id_of("web"),))

    def test_a_clone_can_be_deleted_and_so_can_an_origin_whose_clones_are_in_the_trash(self, host: World) -> None:
        host.vm("db")
        host.snap("db", "s1")
        host.clone("db", "s1", "web")
        assert plan(host)
        host.vm("origin")
        host.snap("origin", "s1")
        host.inventory.put_dataset(volume("rpool/vms/.trash/x/copy", vm="copy", origin="rpool/vms/origin@s1"))
        assert Delete(id_of("origin")).plan(host.view())

    @pytest.mark.parametrize("force", [False, True])
    def test_an_origin_waits_in_the_trash_for_its_clones_which_are_named_once_each(
        self, host: World, force: bool
    ) -> None:
        host.vm("web")
        before = plan(host, force=force)
        host.snap("web", "s1")
        for name in ("c2", "c1"):
            host.clone("web", "s1", name)
        made = plan(host, force=force)
        assert made.steps == before.steps
        assert made.warnings == (
            "it stays in the trash until its last clone is gone; these are clones of it: c1, c2",
        )  # fmt: skip

    def test_a_clone_that_is_no_vm_is_named_by_its_dataset(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "s1")
        host.inventory.put_dataset(volume("backup/copy", vm="x", origin="rpool/vms/web@s1"))
        assert plan(host).warnings[0].endswith("these are clones of it: backup/copy")

    def test_its_snapshots_go_along_and_need_no_step(self, host: World) -> None:
        host.vm("web")
        before = plan(host)
        host.snap("web", "s1")
        assert plan(host) == before


class TestPromote:
    def clones(self, host: World) -> None:
        host.vm("web")
        for number in ("1", "2"):
            host.snap("web", f"s{number}")
            host.clone("web", f"s{number}", f"c{number}")
        host.snap("web", "s3")

    def test_the_clone_of_the_newest_snapshot_takes_over_so_that_nothing_hangs_on_it(self, host: World) -> None:
        self.clones(host)
        made = plan(host, promote=True)
        assert made.prepare[:2] == (
            PromoteVolume("rpool/vms/c2", "rpool/vms/web"), PromoteVolume("rpool/vms/c2.nvram", "rpool/vms/web.nvram"),
        )  # fmt: skip
        assert made.warnings == ("c2 takes over the snapshots that it shares with web, and their space",)
        assert made.locks == {"VM:web", "VM:c2", f"trash:{TRASH}"}
        assert Guard("guid", "rpool/vms/c2", guid_of("rpool/vms/c2")) in made.guards

    def test_one_without_clones_is_just_deleted(self, host: World) -> None:
        host.vm("web")
        assert plan(host, promote=True) == plan(host)

    def test_what_is_in_the_trash_or_no_vm_inherits_nothing(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "s1")
        host.inventory.put_dataset(volume("rpool/vms/.trash/x/copy", vm="copy", origin="rpool/vms/web@s1"))
        host.inventory.put_dataset(volume("backup/copy", vm="x", origin="rpool/vms/web@s1"))
        assert not [step for step in plan(host, promote=True).prepare if isinstance(step, PromoteVolume)]

    def test_a_clone_that_has_a_snapshot_of_a_name_that_it_would_get(self, host: World) -> None:
        self.clones(host)
        host.snap("c2", "s1")
        error = refusal(host, promote=True)
        assert type(error) is AlreadyExists
        assert error.why == "rpool/vms/c2 has snapshots of its own of the names that it would get: s1"
        host.inventory.remove_snapshot("rpool/vms/c2", "s1")
        host.inventory.remove_snapshot("rpool/vms/c2.nvram", "s1")
        host.snap("c2", "s3")  # newer than what it shares, and stays where it is
        assert plan(host, promote=True)


class TestNow:
    def test_every_volume_and_snapshot_is_named_and_the_domain_goes_last(self, host: World) -> None:
        vm = host.vm("web")
        host.snap("web", "s1")
        host.snap("web", "s2", only=("",))
        made = plan(host, now=True)
        guids = {name: guid_of(f"rpool/vms/web@{name}") for name in ("s1", "s2")}
        assert vm.domain
        assert made.steps == (
            CheckClosed(("rpool/vms/web", "rpool/vms/web.nvram")),
            DestroySnapshots("rpool/vms/web", guids),
            DestroyVolume("rpool/vms/web", guid_of("rpool/vms/web")),
            DestroySnapshots("rpool/vms/web.nvram", {"s1": guid_of("rpool/vms/web.nvram@s1")}),
            DestroyVolume("rpool/vms/web.nvram", guid_of("rpool/vms/web.nvram")),
            UndefineDomain(uuid_of("web"), "web", vm.domain.xml, False),
        )  # fmt: skip
        assert made.destroys == (
            "rpool/vms/web@s1", "rpool/vms/web@s2", "rpool/vms/web", "rpool/vms/web.nvram@s1", "rpool/vms/web.nvram",
        )  # fmt: skip
        assert made.commit == made.steps[1]
        assert made.description == "delete web for good"

    def test_a_snapshot_that_was_taken_for_its_clones_alone_goes_with_the_last_of_them(self, host: World) -> None:
        host.vm("origin")
        host.snap("origin", "clone-1", kind="clone")
        for name in ("web", "other"):
            host.clone("origin", "clone-1", name)
        assert not [step for step in plan(host, now=True).steps if isinstance(step, DestroySnapshot)]
        for name in ("rpool/vms/other", "rpool/vms/other.nvram"):
            host.inventory.remove_dataset(name)
        made = plan(host, now=True)
        assert [step for step in made.steps if isinstance(step, DestroySnapshot)] == [
            DestroySnapshot(name, "clone-1", guid_of(f"{name}@clone-1"))
            for name in ("rpool/vms/origin", "rpool/vms/origin.nvram")
        ]
        assert "rpool/vms/origin@clone-1" in made.destroys

    def test_a_snapshot_that_somebody_else_took_stays(self, host: World) -> None:
        host.vm("origin")
        host.snap("origin", "stable")
        host.clone("origin", "stable", "web")
        assert not [step for step in plan(host, now=True).steps if isinstance(step, DestroySnapshot)]

    def test_a_running_vm_needs_force(self, host: World) -> None:
        host.vm("web", "running")
        assert isinstance(refusal(host, now=True), WrongState)
        assert plan(host, now=True, force=True).prepare[0] == ForceOff(uuid_of("web"), "web", VOLUMES)

    @pytest.mark.parametrize("holder", ["rpool/vms/copy", "rpool/vms/.trash/copy-1/copy"])
    def test_an_origin_is_refused_naming_what_hangs_on_it(self, host: World, holder: str) -> None:
        host.vm("web")
        host.snap("web", "s1")
        host.inventory.put_dataset(volume(holder, vm="copy", origin="rpool/vms/web@s1"))
        error = refusal(host, now=True)
        assert type(error) is HasClones
        assert error.why.endswith("copy" if "trash" not in holder else "trash entry copy-1")

    def test_polkit_is_told(self, host: World) -> None:
        host.vm("web")
        assert Delete.parse(id_of("web"), [], {"now": True}).subject(host.view())["target"] == "now"
        assert "target" not in Delete.parse(id_of("web"), [], {}).subject(host.view())

    def test_it_cannot_be_promoted_and_destroyed_in_one(self, host: World) -> None:
        host.vm("web")
        assert isinstance(refusal(host, now=True, promote=True), InvalidArgument)


class TestRefusals:
    @pytest.mark.parametrize("state", ["running", "paused", "shutdown", "suspended"])
    def test_a_vm_that_is_not_off(self, host: World, state: str) -> None:
        host.vm("web", state)
        error = refusal(host)
        assert (type(error), error.what, error.why) == (WrongState, "web was not deleted", f"it is {state}")

    @pytest.mark.parametrize("state", ["shutoff", "orphan"])
    def test_libvirt_is_away(self, host: World, state: str) -> None:
        host.vm("web", state)
        assert isinstance(refusal(host, {"libvirt": False}), LibvirtUnavailable)

    def test_there_is_no_such_vm(self, host: World) -> None:
        assert isinstance(refusal(host), NotFound)


class TestIdentity:
    """What the service starts by itself when a clone's guest is first heard."""

    def test_renewed_in_the_guest_and_then_noted(self, host: World) -> None:
        host.vm("web", "running")
        made = RenewVmIdentity(id_of("web")).plan(host.view())
        assert made.commit == RenewIdentity(uuid_of("web"), "web")
        assert made.finish == (SetProperty("rpool/vms/web", properties.IDENTITY, "", "pending"),)
        assert made.locks == {"VM:web"}
