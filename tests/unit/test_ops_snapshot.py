"""Snapshot and delete-snapshot: given this VM, exactly these steps, or this refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kldload_kvm.engine.plan import Guard, Plan
from kldload_kvm.model.errors import AlreadyExists, HasClones, InvalidArgument, KvmError, NotFound
from kldload_kvm.ops.delete_snapshot import DeleteVmSnapshot
from kldload_kvm.ops.snapshot import TakeVmSnapshot
from kldload_kvm.steps.guests import LetGo, Quiesce
from kldload_kvm.steps.snapshots import DestroySnapshot, TakeSnapshot
from world import World, guid_of, id_of, uuid_of, volume

VOLUMES = ("rpool/vms/web", "rpool/vms/web.nvram")


@pytest.fixture
def host() -> World:
    return World()


def take(host: World, **options: Any) -> Plan:
    return TakeVmSnapshot.parse(id_of("web"), [], options).plan(host.view())


def destroy(host: World, name: str) -> Plan:
    return DeleteVmSnapshot.parse(id_of("web"), [name], {}).plan(host.view())


class TestTake:
    def test_all_volumes_at_once_named_by_the_time(self, host: World) -> None:
        host.vm("web")
        made = take(host)
        assert made.steps == (TakeSnapshot(VOLUMES, "2026-04-01_153022", "manual", uuid_of("web")),)
        assert made.commit is made.steps[0]
        assert (made.result, made.locks, made.destroys) == ({"snapshot": "2026-04-01_153022"}, {"VM:web"}, ())

    def test_of_a_running_vm_between_holding_it_still_and_letting_it_go(self, host: World) -> None:
        host.vm("web", "running", disks=2, seed=True)
        made = take(host, name="@stable")
        web = (uuid_of("web"), "web")
        names = ("rpool/vms/web", "rpool/vms/web.vdb", "rpool/vms/web.nvram", "rpool/vms/web.seed")
        assert made.prepare == (Quiesce(*web),)
        assert made.commit == TakeSnapshot(names, "stable", "manual", uuid_of("web"))
        assert made.finish == (LetGo(*web),)

    @pytest.mark.parametrize("state", ["paused", "shutdown", "suspended", "shutoff", "crashed"])
    def test_of_a_vm_that_does_not_run_nobody_is_held_still(self, host: World, state: str) -> None:
        host.vm("web", state)
        assert [type(step) for step in take(host).steps] == [TakeSnapshot]

    def test_of_an_orphan(self, host: World) -> None:
        host.vm("web", "orphan")
        assert take(host).steps == (TakeSnapshot(VOLUMES, "2026-04-01_153022", "manual", uuid_of("web")),)

    def test_a_second_one_in_the_same_second(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "2026-04-01_153022", only=(".nvram",))
        assert take(host).result == {"snapshot": "2026-04-01_153022-2"}

    def test_depends_on_the_volumes_and_the_state(self, host: World) -> None:
        host.vm("web", "running")
        assert take(host).guards == (
            *(Guard("guid", name, guid_of(name)) for name in VOLUMES),
            Guard("state", uuid_of("web"), "running"),
        )

    def test_with_the_consistency_that_was_asked_for(self, host: World) -> None:
        host.vm("web")
        made = take(host, **{"require-consistency": "app"})
        assert isinstance(made.commit, TakeSnapshot)
        assert made.commit.require == "app"

    def test_an_emulated_tpm_is_said_not_to_be_in_it(self, host: World) -> None:
        domain = host.vm("web").domain
        assert domain
        tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm></devices>"
        host.inventory.put_domain(replace(domain, xml=domain.xml.replace("</devices>", tpm)))
        told = "not in the snapshot: the state of the emulated TPM of web, which libvirt keeps in files"
        assert take(host).warnings == (told,)

    def test_a_name_that_is_taken_on_any_volume(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "s1", only=(".nvram",))
        with pytest.raises(AlreadyExists, match="web has a snapshot @s1 already"):
            take(host, name="s1")

    @pytest.mark.parametrize("name", ["a/b", "", "@", "a b", "-f", "a,b", "auto-x", "clone-x", "repl-x", "x" * 101])
    def test_bad_names(self, name: str) -> None:
        with pytest.raises(InvalidArgument):
            TakeVmSnapshot.parse(id_of("web"), [], {"name": name})

    @pytest.mark.parametrize("text", ["crash", "best", "APP", "app\n"])
    def test_bad_consistencies(self, text: str) -> None:
        with pytest.raises(InvalidArgument, match="is not one of app, off or paused"):
            TakeVmSnapshot.parse(id_of("web"), [], {"require-consistency": text})

    def test_a_name_that_would_not_fit_into_the_trash(self, host: World) -> None:
        host.vm("w" * 63)
        with pytest.raises(InvalidArgument) as caught:
            TakeVmSnapshot(id_of("w" * 63), "s" * 100).plan(host.view())
        assert "choose a name that is" in caught.value.hint

    def test_there_is_no_such_vm(self, host: World) -> None:
        with pytest.raises(NotFound, match="there is no such VM"):
            take(host)


class TestDestroy:
    def test_volume_by_volume_each_named_with_its_guid(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "s1")
        host.snap("web", "s2")
        made = destroy(host, "@s1")
        steps = [DestroySnapshot(name, "s1", guid_of(f"{name}@s1")) for name in VOLUMES]
        assert (made.prepare, made.commit, made.finish) == ((), steps[0], (steps[1],))
        assert made.destroys == ("rpool/vms/web@s1", "rpool/vms/web.nvram@s1")
        assert made.guards == tuple(Guard("guid", f"{name}@s1", guid_of(f"{name}@s1")) for name in VOLUMES)
        assert made.locks == {"VM:web"}

    def test_of_one_volume_alone(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "half", only=(".nvram",))
        assert destroy(host, "half").destroys == ("rpool/vms/web.nvram@half",)

    def test_another_s_is_destroyed_when_it_is_named(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "autosnap_2026-04-01_00:00:00_daily", "foreign")
        assert len(destroy(host, "autosnap_2026-04-01_00:00:00_daily").destroys) == 2

    @pytest.mark.parametrize("facts", [{"libvirt": False}, {}])
    def test_libvirt_is_not_needed_and_the_vm_may_run(self, host: World, facts: dict[str, Any]) -> None:
        host.vm("web", "running")
        host.snap("web", "s1")
        assert DeleteVmSnapshot(id_of("web"), "s1").plan(host.view(**facts))

    def test_one_with_clones_is_refused_naming_them(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "s1")
        host.clone("web", "s1", "copy")
        error = refused(host, "s1", HasClones)
        assert (error.what, error.why) == ("@s1 of web was not destroyed", "these are clones of it: copy")

    def test_one_with_clones_in_the_trash_as_well(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "s1")
        given_up = volume("rpool/vms/.trash/web-20260401T000000Z/web", vm="web", origin="rpool/vms/web@s1")
        host.inventory.put_dataset(given_up)
        error = refused(host, "s1", HasClones)
        assert error.why == "these are clones of it: trash entry web-20260401T000000Z"
        assert "purge them from the trash" in error.hint

    def test_one_that_is_not_there(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "s1")
        assert refused(host, "s2", NotFound).why == "its newest are @s1"

    @pytest.mark.parametrize("name", ["s1,s2", "s1%s2", "%", "s1@s2", "", "-r"])
    def test_never_more_than_one(self, name: str) -> None:
        with pytest.raises(InvalidArgument):
            DeleteVmSnapshot.parse(id_of("web"), [name], {})

    def test_polkit_is_told_which(self, host: World) -> None:
        host.vm("web")
        subject = DeleteVmSnapshot(id_of("web"), "s1").subject(host.view())
        assert subject == {"vm": "web", "uuid": uuid_of("web"), "dataset": "rpool/vms/web", "target": "@s1"}


def refused(host: World, name: str, kind: type[KvmError]) -> KvmError:
    with pytest.raises(kind) as caught:
        destroy(host, name)
    return caught.value
