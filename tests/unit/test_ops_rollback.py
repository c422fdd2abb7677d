"""Rollback: given this VM and this snapshot, exactly these steps and warnings, or this refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kldload_kvm.engine.plan import Guard, Plan
from kldload_kvm.model import properties
from kldload_kvm.model.domain_xml import digest, unpack
from kldload_kvm.model.errors import InvalidArgument, KvmError, LibvirtUnavailable, NotFound, WrongState
from kldload_kvm.model.inventory import Bookmark
from kldload_kvm.ops.rollback import Rollback
from kldload_kvm.steps.domains import CheckUnsaved, ForceOff, RestoreDefinition, StartDomain, StartNetwork
from kldload_kvm.steps.trash import CreateTrashEntry
from kldload_kvm.steps.volumes import CloneBack, PromoteBack, RenameVolume
from world import World, filesystem, guid_of, id_of, uuid_of

ENTRY = "web-20260401T153022Z"
TRASH = f"rpool/vms/.trash/{ENTRY}"
VOLUMES = ("rpool/vms/web", "rpool/vms/web.nvram")


@pytest.fixture
def host() -> World:
    world = World()
    world.vm("web")
    world.snap("web", "s1")
    return world


def plan(host: World, facts: dict[str, Any] | None = None, **options: Any) -> Plan:
    return Rollback.parse(id_of("web"), [], options).plan(host.view(**(facts or {})))


def refusal(host: World, facts: dict[str, Any] | None = None, **options: Any) -> KvmError:
    with pytest.raises(KvmError) as caught:
        plan(host, facts, **options)
    return caught.value


class TestSteps:
    def test_aside_clone_back_promote_and_nothing_destroyed(self, host: World) -> None:
        made = plan(host, snapshot="@s1")
        unsaved, entry = made.prepare[:2]
        assert isinstance(unsaved, CheckUnsaved)
        assert isinstance(entry, CreateTrashEntry)
        assert made.prepare[2:] == (
            RenameVolume("rpool/vms/web", f"{TRASH}/web", guid_of("rpool/vms/web")),
            RenameVolume("rpool/vms/web.nvram", f"{TRASH}/web.nvram", guid_of("rpool/vms/web.nvram")),
            CloneBack(f"{TRASH}/web", "s1", "rpool/vms/web"),
            CloneBack(f"{TRASH}/web.nvram", "s1", "rpool/vms/web.nvram"),
            PromoteBack("rpool/vms/web", f"{TRASH}/web", "s1", guid_of("rpool/vms/web@s1")),
            PromoteBack("rpool/vms/web.nvram", f"{TRASH}/web.nvram", "s1", guid_of("rpool/vms/web.nvram@s1")),
        )
        assert (made.commit, made.finish, made.destroys, made.warnings) == (None, (), (), ())
        assert made.result == {"snapshot": "s1", "trash": ENTRY}
        assert made.description == "roll web back to @s1"

    def test_the_trash_remembers_what_and_whose_it_was(self, host: World) -> None:
        entry = plan(host).prepare[1]
        assert isinstance(entry, CreateTrashEntry)
        assert entry.dataset == TRASH
        noted = dict(entry.properties)
        assert "<name>web</name>" in unpack(noted.pop(properties.DOMAIN))
        assert noted == {
            properties.VM: id_of("web"), properties.NAME: "web", properties.UUID: uuid_of("web"),
            properties.REASON: "rolled-back", properties.UID: "1000",
        }  # fmt: skip

    def test_a_second_entry_in_the_same_second_has_a_dataset_of_its_own(self, host: World) -> None:
        host.inventory.put_dataset(filesystem("rpool/vms/.trash"))
        host.inventory.put_dataset(filesystem(TRASH))
        assert plan(host).result["trash"] == f"{ENTRY}-2"

    def test_newer_snapshots_are_named_as_a_warning(self, host: World) -> None:
        for name in ("s2", "auto-1"):
            host.snap("web", name)
        made = plan(host, snapshot="s1")
        assert made.warnings == ("newer snapshots go to the trash with the state given up: auto-1, s2",)
        assert plan(host, snapshot="auto-1").warnings == ()

    def test_another_s_newer_snapshots_are_named_too(self, host: World) -> None:
        host.snap("web", "syncoid_x", "foreign", only=(".nvram",))
        assert "syncoid_x" in plan(host, snapshot="s1").warnings[0]

    def test_everybody_who_needs_what_leaves_is_named_beforehand(self, host: World) -> None:
        host.snap("web", "s2")
        host.snap("web", "repl-9", "replication")
        host.clone("web", "s2", "copy")
        old = host.inventory.snapshots["rpool/vms/web"]["repl-9"]
        host.inventory.put_snapshot(replace(old, holds=1))
        disk = host.inventory.datasets["rpool/vms/web"]
        marks = (Bookmark("before", "1", 1), Bookmark("after", "2", old.createtxg))
        host.inventory.put_dataset(replace(disk, bookmarks=marks))
        assert plan(host, snapshot="s1").warnings == (
            "newer snapshots go to the trash with the state given up: repl-9, s2",
            "of these, somebody holds (zfs holds names who): repl-9",
            "these are clones of newer snapshots, whose origin will be in the trash: copy",
            "replication goes on from these, and then has to go back to an older one that both sides have: "
            "repl-9, rpool/vms/web#after",
        )
        assert plan(host, snapshot="repl-9").warnings == ()

    def test_with_the_definition_of_that_moment(self, host: World) -> None:
        made = plan(host, **{"with-definition": True, "start": True})
        assert made.commit == RestoreDefinition(uuid_of("web"), "web", "rpool/vms/web", "s1")
        assert isinstance(made.finish[-1], StartDomain)
        domain = host.get("web").domain
        assert domain
        assert made.guards[-1] == Guard("definition", uuid_of("web"), digest(domain.xml))
        assert made.warnings == (
            "passwords and other secrets are not kept with a snapshot's definition: set them anew",
        )

    def test_with_the_definition_the_secrets_that_today_s_has_are_named(self, host: World) -> None:
        domain = host.get("web").domain
        assert domain
        secret = "<launchSecurity type='sev'/></domain>"
        host.inventory.put_domain(replace(domain, xml=domain.xml.replace("</domain>", secret)))
        assert plan(host, **{"with-definition": True}).warnings[-1].endswith("today's has launchSecurity")

    def test_with_the_definition_of_an_orphan_or_without_the_first_disk(self, host: World) -> None:
        host.snap("web", "half", only=(".nvram",))
        error = refusal(host, snapshot="half", **{"with-definition": True})
        assert error.what == "@half has no definition of web"
        host.inventory.remove_domain(uuid_of("web"))
        assert isinstance(refusal(host, **{"with-definition": True}), WrongState)

    def test_volumes_without_that_snapshot_stay_and_are_named(self, host: World) -> None:
        host.snap("web", "half", only=("",))
        made = plan(host, snapshot="half")
        assert [step.old for step in made.prepare if isinstance(step, RenameVolume)] == ["rpool/vms/web"]
        assert made.warnings[-1] == "these volumes have no such snapshot and stay as they are: rpool/vms/web.nvram"

    def test_without_a_name_to_the_newest_that_a_person_or_the_timer_made(self, host: World) -> None:
        host.snap("web", "by-timer", "auto")
        for kind in ("clone", "replication", "foreign"):
            host.snap("web", f"by-{kind}", kind)
        assert plan(host).result["snapshot"] == "by-timer"

    def test_by_name_to_any(self, host: World) -> None:
        host.snap("web", "by-hand", "foreign")
        assert plan(host, snapshot="by-hand").result["snapshot"] == "by-hand"

    def test_a_running_vm_is_forced_off_first_if_that_is_allowed(self, host: World) -> None:
        host.vm("web", "running")
        made = plan(host, force=True)
        assert made.prepare[0] == ForceOff(uuid_of("web"), "web", VOLUMES)
        assert isinstance(made.prepare[1], CreateTrashEntry)

    def test_and_started_afterwards(self, host: World) -> None:
        made = plan(host, {"networks": {"default": False}}, start=True)
        volumes = ("rpool/vms/web", "rpool/vms/web.nvram")
        assert made.finish == (StartNetwork("default"), StartDomain(uuid_of("web"), "web", volumes))

    def test_depends_on_volumes_snapshots_and_state(self, host: World) -> None:
        names = ("rpool/vms/web", "rpool/vms/web.nvram")
        made = plan(host)
        assert made.guards == (
            *(Guard("guid", name, guid_of(name)) for name in names),
            Guard("state", uuid_of("web"), "shutoff"),
            *(Guard("guid", f"{name}@s1", guid_of(f"{name}@s1")) for name in names),
        )
        assert (made.locks, made.objects) == ({"VM:web", f"trash:{TRASH}"}, (id_of("web"),))

    def test_of_an_orphan(self, host: World) -> None:
        host.inventory.remove_domain(uuid_of("web"))
        made = plan(host)
        entry = made.prepare[0]
        assert isinstance(entry, CreateTrashEntry)
        assert properties.DOMAIN not in entry.properties
        assert len(made.prepare) == 7

    def test_all_can_be_undone_until_the_last_step(self, host: World) -> None:
        made = plan(host)
        assert made.point_of_no_return == len(made.steps)

    def test_polkit_is_told_the_snapshot_if_it_was_named(self, host: World) -> None:
        view = host.view()
        assert Rollback(id_of("web"), "s1").subject(view)["target"] == "@s1"
        assert Rollback(id_of("web")).subject(view)["target"] == ""


class TestRefusals:
    @pytest.mark.parametrize("state", ["running", "paused", "shutdown", "suspended"])
    def test_a_vm_that_is_not_off(self, host: World, state: str) -> None:
        host.vm("web", state)
        error = refusal(host)
        assert (type(error), error.what, error.why) == (WrongState, "web was not rolled back", f"it is {state}")
        assert "kvm-vm shutdown web" in error.hint and "--force" in error.hint

    def test_one_that_crashed_is_off(self, host: World) -> None:
        host.vm("web", "crashed")
        assert not any(isinstance(step, ForceOff) for step in plan(host).prepare)

    @pytest.mark.parametrize("state", ["shutoff", "orphan"])
    def test_libvirt_is_away_and_nobody_knows_whether_it_runs(self, host: World, state: str) -> None:
        if state == "orphan":
            host.inventory.remove_domain(uuid_of("web"))
        assert isinstance(refusal(host, {"libvirt": False}), LibvirtUnavailable)

    def test_there_is_no_such_snapshot(self, host: World) -> None:
        assert refusal(host, snapshot="s9").what == "web has no snapshot @s9"

    def test_there_is_nothing_to_go_back_to(self, host: World) -> None:
        host.vm("db")
        host.snap("db", "clone-1", "clone")
        with pytest.raises(NotFound, match="db has nothing to be rolled back to"):
            Rollback(id_of("db")).plan(host.view())

    def test_an_orphan_cannot_be_started_afterwards(self, host: World) -> None:
        host.inventory.remove_domain(uuid_of("web"))
        assert isinstance(refusal(host, start=True), WrongState)

    @pytest.mark.parametrize("text", ["", "a/b", "@@", "a,b", "%", "-r"])
    def test_bad_names(self, text: str) -> None:
        with pytest.raises(InvalidArgument):
            Rollback.parse(id_of("web"), [], {"snapshot": text})


def test_a_snapshot_replaced_by_another_of_its_name_is_another(host: World) -> None:
    before = plan(host)
    for name in ("rpool/vms/web", "rpool/vms/web.nvram"):
        old = host.inventory.snapshots[name]["s1"]
        host.inventory.put_snapshot(replace(old, guid="1"))
    assert plan(host).guards != before.guards
