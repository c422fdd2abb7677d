"""Clone: given this origin and these names, exactly these steps, or this refusal."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from bad_names import BAD_VM_NAMES
from kldload_kvm.engine.engine import batches
from kldload_kvm.engine.plan import Guard, Plan
from kldload_kvm.model import properties
from kldload_kvm.model.domain_xml import facts
from kldload_kvm.model.errors import (
    AlreadyExists,
    InvalidArgument,
    KvmError,
    LibvirtUnavailable,
    NoSpace,
    NotFound,
    WrongState,
)
from kldload_kvm.model.inventory import device
from kldload_kvm.model.sizes import GIB, MIB
from kldload_kvm.ops.clone import Clone
from kldload_kvm.steps.copies import CopyVolume, DropTaken
from kldload_kvm.steps.domains import DefineDomain, StartDomain, StartNetwork
from kldload_kvm.steps.guests import LetGo, Quiesce
from kldload_kvm.steps.seeds import WriteCloneSeed
from kldload_kvm.steps.snapshots import TakeSnapshot
from kldload_kvm.steps.volumes import CloneVolume, CreateVolume, NoteWritten
from world import World, definition_of, filesystem, guid_of, id_of, uuid_of

NOW = "clone-20260401_153022"


@pytest.fixture
def host() -> World:
    return World()


def request(*names: str, **options: Any) -> Clone:
    return Clone.parse(id_of("web"), [list(names)], options)


def plan(host: World, *names: str, **options: Any) -> Plan:
    return request(*names, **options).plan(host.view())


def refusal(host: World, *names: str, facts: dict[str, Any] | None = None, **options: Any) -> KvmError:
    with pytest.raises(KvmError) as caught:
        request(*names, **options).plan(host.view(**(facts or {})))
    return caught.value


def kinds(made: Plan) -> list[type]:
    return [type(step) for step in made.prepare]


def defined(made: Plan) -> list[DefineDomain]:
    return [step for step in made.steps if isinstance(step, DefineDomain)]


class TestSteps:
    def test_one_clone_of_a_vm_that_is_off(self, host: World) -> None:
        host.vm("web")
        made = plan(host, "copy")
        (domain,) = defined(made)
        ours = {properties.VM: made.result["vms"][0], properties.UUID: domain.uuid}
        native = {"volmode": "dev", "compression": "lz4"}
        assert made.prepare == (
            TakeSnapshot(("rpool/vms/web", "rpool/vms/web.nvram"), NOW, "clone", uuid_of("web")),
            CloneVolume(f"rpool/vms/web@{NOW}", "rpool/vms/copy", {
                **native, **ours, properties.ROLE: "disk", properties.TARGET: "vda", properties.IDENTITY: "pending",
            }),
            CloneVolume(f"rpool/vms/web.nvram@{NOW}", "rpool/vms/copy.nvram", {
                **native, **ours, properties.ROLE: "nvram",
            }),
        )  # fmt: skip
        assert (made.commit, made.finish, made.destroys) == (domain, (), ())
        assert domain.name == "copy"

    def test_a_running_origin_is_held_still_only_for_its_snapshot(self, host: World) -> None:
        host.vm("web", "running")
        made = plan(host, "copy")
        assert kinds(made) == [Quiesce, TakeSnapshot, LetGo, CloneVolume, CloneVolume]
        assert made.prepare[0] == Quiesce(uuid_of("web"), "web")

    def test_of_a_snapshot_takes_none_and_holds_nobody_still(self, host: World) -> None:
        host.vm("web", "running")
        host.snap("web", "s1", consistency="app")
        made = plan(host, "copy", snapshot="@s1")
        assert kinds(made) == [CloneVolume, CloneVolume]
        assert (made.result["snapshot"], made.result["consistency"]) == ("s1", "app")
        assert set(made.guards) >= {
            Guard("guid", "rpool/vms/web@s1", guid_of("rpool/vms/web@s1")),
            Guard("guid", "rpool/vms/web.nvram@s1", guid_of("rpool/vms/web.nvram@s1")),
        }

    def test_ten_names_one_snapshot_and_volumes_of_one_kind_side_by_side(self, host: World) -> None:
        host.vm("web")
        names = [f"c{number}" for number in range(10)]
        made = plan(host, *names)
        assert kinds(made).count(TakeSnapshot) == 1
        assert kinds(made).count(CloneVolume) == 20
        assert [len(each) for each in batches(made)] == [1, 20, 1, 9, 1]
        assert [step.name for step in defined(made)] == names
        assert made.result["names"] == tuple(names)
        assert len({step.uuid for step in defined(made)} | set(made.result["vms"])) == 20
        assert made.description == f"clone web to {', '.join(names)}"

    def test_each_clone_has_addresses_and_volumes_of_its_own(self, host: World) -> None:
        host.vm("web", disks=2)
        made = plan(host, "a", "b")
        macs = [step.xml.partition('mac address="')[2][:17] for step in defined(made)]
        assert len({*macs, "52:54:00:00:00:01"}) == 3
        assert all(each.startswith("52:54:00:") for each in macs)
        assert [facts(step.xml).disks for step in defined(made)] == [
            {
                "vda": device(f"rpool/vms/{name}"),
                "vdb": device(f"rpool/vms/{name}.vdb"),
                "nvram": device(f"rpool/vms/{name}.nvram"),
            }
            for name in ("a", "b")
        ]

    def test_a_seed_is_written_anew_and_brings_the_identity(self, host: World) -> None:
        host.vm("web", seed=True)
        made = plan(host, "a", "b")
        seeds = [step for step in made.prepare if isinstance(step, WriteCloneSeed)]
        assert seeds == [
            WriteCloneSeed("rpool/vms/web.seed", f"rpool/vms/{name}.seed", id_, name, MIB)
            for name, id_ in zip(("a", "b"), made.result["vms"], strict=True)
        ]
        created = [step for step in made.prepare if isinstance(step, CreateVolume)]
        assert [(step.dataset, step.size) for step in created] == [("rpool/vms/a.seed", MIB), ("rpool/vms/b.seed", MIB)]
        assert not any(isinstance(s, CloneVolume) and ".seed" in s.dataset for s in made.prepare)
        assert made.result["identity"] == "cloud-init"
        firsts = [s.properties for s in made.prepare if isinstance(s, CloneVolume) and s.dataset == "rpool/vms/a"]
        assert properties.IDENTITY not in firsts[0]

    def test_without_a_seed_the_identity_is_pending_until_the_guest_is_heard(self, host: World) -> None:
        host.vm("web")
        made = plan(host, "a")
        noted = {s.dataset: s.properties.get(properties.IDENTITY) for s in made.prepare if isinstance(s, CloneVolume)}
        assert noted == {"rpool/vms/a": "pending", "rpool/vms/a.nvram": None}
        assert made.result["identity"] == "pending"

    def test_a_seed_that_the_snapshot_has_not_is_written_nevertheless(self, host: World) -> None:
        host.vm("web", seed=True)
        host.snap("web", "s1", only=("", ".nvram"))
        made = plan(host, "a", snapshot="s1")
        assert device("rpool/vms/web.seed") not in defined(made)[0].xml
        assert kinds(made) == [CloneVolume, CloneVolume, CreateVolume, WriteCloneSeed]

    def test_variables_that_the_snapshot_has_not_are_made_anew_by_libvirt(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "s1", only=("",))
        made = plan(host, "a", snapshot="s1")
        assert kinds(made) == [CloneVolume]
        assert "nvram" not in facts(defined(made)[0].xml).disks

    def test_started_all_with_the_networks_they_need(self, host: World) -> None:
        host.vm("web")
        down = host.view(networks={"default": False})
        made = request("a", "b", start=True).plan(down)
        assert made.finish == (
            StartNetwork("default"),
            *(StartDomain(s.uuid, s.name, (f"rpool/vms/{s.name}", f"rpool/vms/{s.name}.nvram")) for s in defined(made)),
        )

    def test_holds_the_origin_and_every_name(self, host: World) -> None:
        host.vm("web", "running")
        made = plan(host, "a", "b")
        assert made.locks == {"VM:web", "VM:a", "VM:b"}
        assert made.objects == (id_of("web"), *made.result["vms"])
        assert set(made.guards) == {
            Guard("guid", "rpool/vms/web", guid_of("rpool/vms/web")),
            Guard("guid", "rpool/vms/web.nvram", guid_of("rpool/vms/web.nvram")),
            Guard("state", uuid_of("web"), "running"),
            Guard("definition", uuid_of("web"), definition_of(host, "web")),
            *(Guard("absent", f"rpool/vms/{name}{suffix}") for name in "ab" for suffix in ("", ".nvram")),
        }

    def test_the_snapshot_s_name_is_one_that_no_volume_has(self, host: World) -> None:
        host.vm("web")
        host.snap("web", NOW, only=(".nvram",))
        assert plan(host, "a").result["snapshot"] == f"{NOW}-2"

    def test_stays_on_its_origin_s_storage(self, host: World) -> None:
        host.vm("web", parent="vmpool/vms")
        assert all(s.dataset.startswith("vmpool/vms/a") for s in plan(host, "a").prepare if isinstance(s, CloneVolume))

    def test_polkit_is_told_the_origin_and_the_names(self, host: World) -> None:
        host.vm("web")
        assert request("a", "b").subject(host.view()) == {
            "vm": "web", "uuid": uuid_of("web"), "dataset": "rpool/vms/web", "target": "a b",
        }  # fmt: skip

    def test_the_commit_is_the_last_domain_so_that_all_are_there_or_none(self, host: World) -> None:
        host.vm("web")
        made = plan(host, "a", "b", "c")
        assert made.commit == defined(made)[-1]
        assert all(before.uuid != after.uuid for before, after in pairwise(defined(made)))


class TestFullCopies:
    def test_are_sent_and_received_and_the_snapshot_for_it_goes(self, host: World) -> None:
        host.vm("web")
        made = plan(host, "a", full=True)
        native = {"volmode": "dev", "compression": "lz4"}
        (domain,) = defined(made)
        ours = {properties.VM: made.result["vms"][0], properties.UUID: domain.uuid}
        assert made.prepare[1:] == (
            CopyVolume(f"rpool/vms/web@{NOW}", "rpool/vms/a", native, {
                **ours, properties.ROLE: "disk", properties.TARGET: "vda", properties.IDENTITY: "pending",
            }),
            CopyVolume(f"rpool/vms/web.nvram@{NOW}", "rpool/vms/a.nvram", native, {**ours, properties.ROLE: "nvram"}),
            NoteWritten(("rpool/vms/a", "rpool/vms/a.nvram")),
        )  # fmt: skip
        assert made.finish == (DropTaken(("rpool/vms/web", "rpool/vms/web.nvram"), NOW),)
        assert made.destroys == (f"rpool/vms/web@{NOW}", f"rpool/vms/web.nvram@{NOW}")
        assert made.description == "copy web to a"

    def test_of_a_snapshot_that_is_there_leave_it(self, host: World) -> None:
        host.vm("web")
        host.snap("web", "s1")
        made = plan(host, "a", full=True, snapshot="s1")
        assert (made.finish, made.destroys) == ((), ())

    def test_a_seed_is_written_anew_as_for_any_clone(self, host: World) -> None:
        host.vm("web", seed=True)
        made = [TakeSnapshot, CopyVolume, CopyVolume, CreateVolume, WriteCloneSeed, NoteWritten]
        assert kinds(plan(host, "a", full=True)) == made

    def test_more_than_there_is_room_for_is_warned_about(self, host: World) -> None:
        vm = host.vm("web")
        host.inventory.put_dataset(replace(vm.first, used=15 * GIB))
        assert plan(host, "a", full=True).warnings == ()
        (warning,) = plan(host, *"abcdef", full=True).warnings
        assert warning == "this may need 90.0G, and rpool/vms has 80G left"


class TestRefusals:
    @pytest.mark.parametrize(("name", "why"), BAD_VM_NAMES)
    def test_bad_names(self, name: str, why: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            request("good", name)
        assert why in caught.value.why

    @pytest.mark.parametrize(
        ("names", "why"),
        [
            ((), "0 names were given"),
            (("a", "b", "a"), "one name was given twice"),
            (tuple(f"n{i}" for i in range(101)), "101 names were given"),
        ],
    )
    def test_bad_numbers_of_names(self, names: tuple[str, ...], why: str) -> None:
        with pytest.raises(InvalidArgument, match="no clone was made") as caught:
            request(*names)
        assert caught.value.why == why

    @pytest.mark.parametrize("text", ["a/b", "", "a b", "-r", "a@b@c", "a,b", "a%b"])
    def test_bad_snapshot_names(self, text: str) -> None:
        with pytest.raises(InvalidArgument, match="cannot be the name of a snapshot"):
            request("a", snapshot=text)

    def test_there_is_no_such_vm(self, host: World) -> None:
        assert isinstance(refusal(host, "a"), NotFound)
        with pytest.raises(NotFound):
            request("a").subject(host.view())

    def test_there_is_no_such_snapshot_and_which_are_the_newest(self, host: World) -> None:
        host.vm("web")
        assert refusal(host, "a", snapshot="s9").why == "it has no snapshots at all"
        for name in ("s1", "s2", "s3", "s4"):
            host.snap("web", name)
        error = refusal(host, "a", snapshot="s9")
        assert (type(error), error.what, error.why) == (
            NotFound, "web has no snapshot @s9", "its newest are @s2, @s3, @s4",
        )  # fmt: skip

    def test_one_of_the_names_is_taken(self, host: World) -> None:
        host.vm("web")
        host.vm("db", parent="vmpool/vms")
        error = refusal(host, "a", "db", "c")
        assert (type(error), error.what) == (AlreadyExists, "the name db is taken")
        assert isinstance(refusal(host, "web"), AlreadyExists)

    def test_the_snapshot_has_not_all_disks(self, host: World) -> None:
        host.vm("web", disks=2)
        host.snap("web", "half", only=("",))
        error = refusal(host, "a", snapshot="half")
        assert error.why == "the snapshot does not have rpool/vms/web.vdb"

    def test_an_orphan(self, host: World) -> None:
        host.vm("web", "orphan")
        error = refusal(host, "a")
        assert (type(error), error.what) == (WrongState, "web is an orphan")

    def test_libvirt_is_away(self, host: World) -> None:
        host.vm("web", "orphan")
        assert isinstance(refusal(host, "a", facts={"libvirt": False}), LibvirtUnavailable)

    def test_a_disk_that_is_no_volume_of_the_vm(self, host: World) -> None:
        vm = host.vm("web")
        assert vm.domain
        shared = "<disk type='file' device='disk'><source file='/data.img'/><target dev='vdx'/></disk>"
        host.inventory.put_domain(replace(vm.domain, xml=vm.domain.xml.replace("<devices>", f"<devices>{shared}")))
        error = refusal(host, "a")
        assert (type(error), error.what) == (InvalidArgument, "the clone a was not made")
        assert "/data.img" in error.why

    def test_the_pool_is_below_its_floor(self, host: World) -> None:
        host.vm("web")
        host.inventory.put_dataset(filesystem("rpool/vms", used=99 * GIB, available=GIB))
        error = refusal(host, "a")
        assert (type(error), error.what) == (NoSpace, "web was not cloned")

    def test_a_name_too_long_for_the_trash(self, host: World) -> None:
        deep = World(replace(host.config, storages=(replace(host.config.storages[0], dataset="rpool/" + "x" * 70),)))
        deep.vm("web", parent="rpool/" + "x" * 70)
        assert "ZFS takes 255" in refusal(deep, "a", "y" * 63).why
