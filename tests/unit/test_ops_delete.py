"""Delete: given this VM, exactly these steps, or this refusal. Nothing is ever destroyed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kldload_kvm.engine.plan import Guard, Plan
from kldload_kvm.model import properties
from kldload_kvm.model.errors import HasClones, KvmError, LibvirtUnavailable, NotFound, WrongState
from kldload_kvm.ops.delete import Delete
from kldload_kvm.ops.identity import RenewVmIdentity
from kldload_kvm.steps.domains import ForceOff, UndefineDomain
from kldload_kvm.steps.guests import RenewIdentity
from kldload_kvm.steps.volumes import CreateTrashEntry, RenameVolume, SetProperty
from world import World, definition_of, guid_of, id_of, uuid_of, volume

ENTRY = "web-20260401T153022Z"
TRASH = f"rpool/vms/.trash/{ENTRY}"


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
        assert plan(host, force=True).prepare[0] == ForceOff(uuid_of("web"), "web")

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
        assert (made.locks, made.objects) == ({"VM:web"}, (id_of("web"),))

    def test_a_clone_can_be_deleted_and_so_can_an_origin_whose_clones_are_in_the_trash(self, host: World) -> None:
        host.vm("db")
        host.snap("db", "s1")
        host.clone("db", "s1", "web")
        assert plan(host)
        host.vm("origin")
        host.snap("origin", "s1")
        host.inventory.put_dataset(volume("rpool/vms/.trash/x/copy", vm="copy", origin="rpool/vms/origin@s1"))
        assert Delete(id_of("origin")).plan(host.view())

    def test_its_snapshots_go_along_and_need_no_step(self, host: World) -> None:
        host.vm("web")
        before = plan(host)
        host.snap("web", "s1")
        assert plan(host) == before


class TestRefusals:
    @pytest.mark.parametrize("state", ["running", "paused", "shutdown", "suspended"])
    def test_a_vm_that_is_not_off(self, host: World, state: str) -> None:
        host.vm("web", state)
        error = refusal(host)
        assert (type(error), error.what, error.why) == (WrongState, "web was not deleted", f"it is {state}")

    @pytest.mark.parametrize("force", [False, True])
    def test_an_origin_with_clones_names_them_once_each_even_with_force(self, host: World, force: bool) -> None:
        host.vm("web", "running")
        host.snap("web", "s1")
        for name in ("c2", "c1"):
            host.clone("web", "s1", name)
        error = refusal(host, force=force)
        assert (type(error), error.what, error.why) == (
            HasClones, "web was not deleted", "these are clones of it: c1, c2",
        )  # fmt: skip

    def test_a_clone_that_is_no_vm_is_named_by_its_dataset(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "s1")
        host.inventory.put_dataset(volume("backup/copy", vm="x", origin="rpool/vms/web@s1"))
        assert refusal(host).why == "these are clones of it: backup/copy"

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
