"""Resize, AttachDisk, DetachDisk and network cards: given this VM, exactly these steps, or this refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.engine.plan import Guard, Plan
from kldload_kvm.model import properties
from kldload_kvm.model.domain_devices import Device, macs
from kldload_kvm.model.errors import (
    AlreadyExists,
    GuestFailed,
    InvalidArgument,
    KvmError,
    LimitsExceeded,
    NoSpace,
    NotFound,
    TimedOut,
    WrongState,
)
from kldload_kvm.model.inventory import device
from kldload_kvm.model.sizes import GIB, KIB, MIB, TIB
from kldload_kvm.ops.attach_disk import AttachDisk
from kldload_kvm.ops.detach_disk import DetachDisk
from kldload_kvm.ops.nics import AttachNic, DetachNic
from kldload_kvm.ops.request import Request
from kldload_kvm.ops.resize import Resize
from kldload_kvm.steps import devices
from kldload_kvm.steps.devices import AttachDevice, DetachDevice, ShowSize
from kldload_kvm.steps.domains import StartNetwork
from kldload_kvm.steps.trash import CreateTrashEntry
from kldload_kvm.steps.volumes import CreateVolume, GrowVolume, NoteWritten, RenameVolume
from loops import in_loop
from memory_host import MemoryHost
from world import World, guid_of, id_of, snapshot, uuid_of, volume

ENTRY = "web-20260401T153022Z"


@pytest.fixture
def host() -> World:
    return World()


def plan(host: World, kind: type[Request], *args: Any, **options: Any) -> Plan:
    return kind.parse(id_of("web"), list(args), options).plan(host.view())


def refusal(host: World, kind: type[Request], *args: Any, **options: Any) -> KvmError:
    with pytest.raises(KvmError) as caught:
        plan(host, kind, *args, **options)
    return caught.value


class TestResize:
    def test_growing_is_the_point_of_no_return_and_then_the_running_guest_is_told(self, host: World) -> None:
        host.vm("web", "running")
        made = plan(host, Resize, "vda", 30 * GIB)
        assert made.prepare == ()
        assert made.commit == GrowVolume("rpool/vms/web", guid_of("rpool/vms/web"), 20 * GIB, 30 * GIB)
        assert made.finish == (ShowSize(uuid_of("web"), "web", "vda", 30 * GIB),)
        assert made.result == {"dataset": "rpool/vms/web", "size": 30 * GIB, "applied": "now"}
        assert made.commit.describe() == "grow rpool/vms/web from 20G to 30G"

    def test_a_vm_that_is_off_sees_it_at_its_next_boot(self, host: World) -> None:
        host.vm("web")
        made = plan(host, Resize, "vda", 30 * GIB)
        assert (made.finish, made.result["applied"]) == ((), "at next boot")

    def test_a_guest_that_was_not_told_can_be_told_again(self, host: World) -> None:
        host.vm("web", "running")
        assert plan(host, Resize, "vda", 20 * GIB).steps == (ShowSize(uuid_of("web"), "web", "vda", 20 * GIB),)

    def test_a_further_disk(self, host: World) -> None:
        host.vm("web", disks=2)
        made = plan(host, Resize, "vdb", 30 * GIB)
        assert isinstance(made.commit, GrowVolume)
        assert made.commit.dataset == "rpool/vms/web.vdb"

    def test_a_disk_of_an_adopted_vm_is_known_by_its_path(self, host: World) -> None:
        vm = host.vm("web")
        host.inventory.put_dataset(
            replace(vm.first, properties={**vm.first.properties, properties.TARGET: ""})
        )  # fmt: skip
        assert plan(host, Resize, "vda", 30 * GIB).commit

    @pytest.mark.parametrize("state", ["shutoff", "running"])
    def test_a_smaller_size_is_refused(self, host: World, state: str) -> None:
        host.vm("web", state)
        error = refusal(host, Resize, "vda", 10 * GIB)
        assert (type(error), error.why) == (
            InvalidArgument, "it has 20G, and what lies beyond 10G would be lost",
        )  # fmt: skip
        assert "attach-disk web" in error.hint

    @pytest.mark.parametrize(
        ("args", "kind", "words"),
        [
            (("vda", 20 * GIB), InvalidArgument, "it has 20G already"),
            (("vda", 20 * GIB + 512), InvalidArgument, "no multiple of its block size, 65536"),
            (("vdb", 30 * GIB), NotFound, "its disks: vda (20G)"),
            (("", 30 * GIB), NotFound, "its disks: vda (20G)"),
            (("../web", 30 * GIB), NotFound, "its disks: vda (20G)"),
            (("vda", 0), InvalidArgument, "must be from 1M to 1P"),
            (("vda", 1 << 62), InvalidArgument, "must be from 1M to 1P"),
        ],
    )
    def test_what_cannot_be(self, host: World, args: tuple[Any, ...], kind: type[KvmError], words: str) -> None:
        host.vm("web")
        error = refusal(host, Resize, *args)
        assert type(error) is kind
        assert words in error.why

    def test_variables_and_seed_are_no_disks(self, host: World) -> None:
        host.vm("web", seed=True)
        assert isinstance(refusal(host, Resize, "vdz", 2 * MIB), NotFound)

    def test_more_than_the_pool_holds_is_warned_of(self, host: World) -> None:
        host.vm("web")
        assert "it promises 1T, and the pool holds 100G" in plan(host, Resize, "vda", TIB).warnings[0]

    def test_says_which_disk_to_polkit(self, host: World) -> None:
        host.vm("web")
        subject = Resize.parse(id_of("web"), ["vda", 30 * GIB], {}).subject(host.view())
        assert (subject["vm"], subject["target"]) == ("web", "vda")


class TestAttachDisk:
    def test_a_volume_of_the_vm_then_the_definition_and_last_the_running_guest(self, host: World) -> None:
        host.vm("web", "running")
        made = plan(host, AttachDisk, GIB)
        create, note, config = made.prepare
        assert note == NoteWritten(("rpool/vms/web.vdb",))
        assert create == CreateVolume("rpool/vms/web.vdb", GIB, {
            "volmode": "dev", properties.VM: id_of("web"), properties.UUID: uuid_of("web"), "volblocksize": "65536",
            "compression": "lz4", properties.ROLE: "disk", properties.TARGET: "vdb",
        })  # fmt: skip
        assert isinstance(config, AttachDevice)
        assert isinstance(made.commit, AttachDevice)
        assert (config.where, made.commit.where) == ("config", "live")
        for part in (
            'dev="/dev/zvol/rpool/vms/web.vdb"',
            'cache="none"',
            'discard="unmap"',
            "<serial>web-vdb</serial>",
        ):
            assert part in config.xml
        assert "boot" not in config.xml
        assert made.guards[-1] == Guard("absent", "rpool/vms/web.vdb")
        assert made.result == {"target": "vdb", "dataset": "rpool/vms/web.vdb", "applied": "now"}

    def test_of_a_vm_that_is_off_only_the_definition_is_changed(self, host: World) -> None:
        host.vm("web")
        made = plan(host, AttachDisk, GIB)
        assert [type(step) for step in made.steps] == [CreateVolume, NoteWritten, AttachDevice]
        assert isinstance(made.commit, AttachDevice)
        assert (made.commit.where, made.result["applied"]) == ("config", "at next boot")

    def test_a_transient_domain_has_no_definition(self, host: World) -> None:
        vm = host.vm("web", "running")
        assert vm.domain
        host.inventory.put_domain(replace(vm.domain, persistent=False))
        assert [type(step) for step in plan(host, AttachDisk, GIB).steps] == [CreateVolume, NoteWritten, AttachDevice]

    def test_the_next_target_that_neither_the_domain_nor_a_volume_has(self, host: World) -> None:
        host.vm("web", seed=True)  # the seed is vdb in the domain
        host.inventory.put_dataset(volume("rpool/vms/web.vdc", "disk", "vdc"))
        assert plan(host, AttachDisk, GIB).result["target"] == "vdd"
        host.inventory.put_dataset(volume("rpool/vms/web.vdd", vm="stranger"))
        assert plan(host, AttachDisk, GIB).result["target"] == "vde"

    def test_settings_that_were_asked_for(self, host: World) -> None:
        host.vm("web")
        create, *_ = plan(host, AttachDisk, GIB, target="vdx", volblocksize=16 * KIB, compression="zstd").prepare
        assert isinstance(create, CreateVolume)
        assert create.dataset == "rpool/vms/web.vdx"
        assert (create.properties["volblocksize"], create.properties["compression"]) == ("16384", "zstd")

    @pytest.mark.parametrize(
        ("size", "options", "kind", "words"),
        [
            (GIB, {"target": "vda"}, InvalidArgument, "'vda' is no further disk's target"),
            (GIB, {"target": "sdb"}, InvalidArgument, "no further disk's target"),
            (GIB, {"target": "vdb,x"}, InvalidArgument, "no further disk's target"),
            (GIB, {"target": "vdb"}, AlreadyExists, "it has a vdb already"),
            (GIB, {"volblocksize": 1000}, InvalidArgument, "must be a power of two"),
            (GIB, {"compression": "lz4 -o x"}, InvalidArgument, "there is no compression"),
            (GIB + 512, {}, InvalidArgument, "no multiple of its block size"),
            (0, {}, InvalidArgument, "must be from 1M"),
        ],
    )
    def test_what_cannot_be(
        self, host: World, size: int, options: dict[str, Any], kind: type[KvmError], words: str
    ) -> None:
        host.vm("web", disks=2)
        error = refusal(host, AttachDisk, size, **options)
        assert type(error) is kind
        assert words in error.why

    def test_no_target_is_left(self, host: World) -> None:
        host.vm("web")
        for letter in "bcdefghijklmnopqrstuvwxyz":
            host.inventory.put_dataset(volume(f"rpool/vms/web.vd{letter}", "disk", f"vd{letter}"))
        assert isinstance(refusal(host, AttachDisk, GIB), LimitsExceeded)

    def test_a_pool_below_its_floor(self, host: World) -> None:
        host.vm("web")
        host.inventory.put_dataset(replace(host.inventory.datasets["rpool/vms"], used=99 * GIB, available=GIB))
        assert isinstance(refusal(host, AttachDisk, GIB), NoSpace)

    def test_an_orphan(self, host: World) -> None:
        host.vm("web", "orphan")
        assert isinstance(refusal(host, AttachDisk, GIB), WrongState)


class TestDetachDisk:
    def test_from_the_definition_and_the_guest_and_then_into_the_trash(self, host: World) -> None:
        host.vm("web", "running", disks=2)
        made = plan(host, DetachDisk, "vdb")
        config, live, entry, move = made.prepare
        assert isinstance(config, DetachDevice)
        assert isinstance(live, DetachDevice)
        assert (config.where, live.where, made.commit) == ("config", "live", None)
        assert isinstance(entry, CreateTrashEntry)
        assert entry.properties == {
            properties.VM: id_of("web"), properties.NAME: "web", properties.REASON: "deleted", properties.UID: "1000",
        }  # fmt: skip
        trash = f"rpool/vms/.trash/{ENTRY}"
        assert move == RenameVolume("rpool/vms/web.vdb", f"{trash}/web.vdb", guid_of("rpool/vms/web.vdb"))
        assert (made.result, made.destroys) == ({"trash": ENTRY, "target": "vdb"}, ())

    def test_one_that_the_domain_has_not_any_more_only_goes_to_the_trash(self, host: World) -> None:
        host.vm("web", "running")
        host.inventory.put_dataset(volume("rpool/vms/web.vdb", "disk", "vdb"))
        assert [type(step) for step in plan(host, DetachDisk, "vdb").steps] == [CreateTrashEntry, RenameVolume]

    def test_the_first_disk_stays(self, host: World) -> None:
        host.vm("web", disks=2)
        error = refusal(host, DetachDisk, "vda")
        assert (type(error), error.hint) == (InvalidArgument, "kvm-delete web")

    def test_one_that_is_not_there(self, host: World) -> None:
        host.vm("web", disks=2)
        assert refusal(host, DetachDisk, "vdq").why == "its disks: vda (20G), vdb (20G)"

    def test_clones_of_it_are_named(self, host: World) -> None:
        host.vm("web", disks=2)
        host.inventory.put_snapshot(snapshot("rpool/vms/web.vdb", "s1", 200))
        host.inventory.put_dataset(volume("rpool/vms/copy.vdb", vm="copy", origin="rpool/vms/web.vdb@s1"))
        assert "copy" in plan(host, DetachDisk, "vdb").warnings[0]


class TestWhichDisk:
    def test_is_what_the_domain_has_there_now(self, host: World) -> None:
        """Others have changed vdb and vdc since."""
        vm = host.vm("web", disks=3)
        assert vm.domain
        paths = {**vm.domain.disks, "vdb": device("rpool/vms/web.vdc"), "vdc": device("rpool/vms/web.vdb")}
        host.inventory.put_domain(replace(vm.domain, disks=paths))
        made = plan(host, DetachDisk, "vdb")
        assert [step.old for step in made.steps if isinstance(step, RenameVolume)] == ["rpool/vms/web.vdc"]

    def test_is_none_of_the_vm_s_where_the_domain_has_another_s_there(self, host: World) -> None:
        vm = host.vm("web", disks=2)
        assert vm.domain
        host.inventory.put_domain(replace(vm.domain, disks={**vm.domain.disks, "vdb": "/dev/sdb"}))
        assert type(refusal(host, DetachDisk, "vdb")) is NotFound


class TestNics:
    def test_a_card_gets_an_address_of_its_own(self, host: World) -> None:
        host.vm("web", "running")
        made = plan(host, AttachNic, network="network=default")
        (config,) = made.prepare
        assert isinstance(config, AttachDevice)
        assert isinstance(made.commit, AttachDevice)
        assert (config.where, made.commit.where) == ("config", "live")
        assert made.result["mac"].startswith("52:54:00:")
        assert macs(f"<d><devices>{config.xml}</devices></d>") == [made.result["mac"]]

    def test_a_network_that_is_down_is_started_for_a_running_guest_only(self, host: World) -> None:
        host.vm("web", "running")
        assert plan(host, AttachNic, network="network=down").prepare[0] == StartNetwork("down")
        host.vm("web")
        assert [type(s) for s in plan(host, AttachNic, network="network=down").steps] == [AttachDevice]

    def test_without_a_word_it_is_on_the_configured_network(self, host: World) -> None:
        host.vm("web")
        assert plan(host, AttachNic).description == "add a network card on bridge br0 to web"

    @pytest.mark.parametrize(
        ("network", "kind"),
        [("none", InvalidArgument), ("bridge=nope", NotFound), ("network=nope", NotFound), ("x", InvalidArgument)],
    )
    def test_a_network_that_cannot_be(self, host: World, network: str, kind: type[KvmError]) -> None:
        host.vm("web")
        assert type(refusal(host, AttachNic, network=network)) is kind

    def test_a_card_is_removed_by_its_address_in_either_case(self, host: World) -> None:
        host.vm("web", "running")
        made = plan(host, DetachNic, "52:54:00:00:00:01".upper())
        assert [step.where for step in made.prepare if isinstance(step, DetachDevice)] == ["config", "live"]
        assert made.commit is None

    def test_an_address_that_it_has_not(self, host: World) -> None:
        host.vm("web")
        error = refusal(host, DetachNic, "52:54:00:00:00:02")
        assert (type(error), error.why) == (NotFound, "its network cards: 52:54:00:00:00:01")


async def web(state: str = "shutoff") -> MemoryHost:
    """A host with the VM web, whose second disk has been written to."""
    host = MemoryHost()
    await host.prepare()
    for name, target, role in (("web", "vda", "disk"), ("web.vdb", "vdb", "disk"), ("web.nvram", "", "nvram")):
        each = volume(f"rpool/vms/{name}", role, target, size=MIB)
        await host.zfs.create_volume(each.name, each.size, each.properties)
        host.memory_zfs.sets[each.name].contents = f"in {name}".encode()
    world = World()
    made = world.vm("web", disks=2)
    assert made.domain
    await host.virt.define(made.domain.xml)
    if state != "shutoff":
        host.memory_virt.put(host.guest("web"), state)
    await host.known()
    return host


async def outcome(host: MemoryHost, request: Request) -> KvmError | None:
    world = World()
    world.inventory = host.inventory
    job = Engine(host, MemoryJournal()).start(request.plan(world.view()), 0)
    await job.finished.wait()
    return job.error


class TestTroubles:
    """What guests and others do at the wrong moment."""

    @in_loop
    async def test_a_guest_that_does_not_let_go_keeps_its_disk_in_the_definition_too(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(devices, "LETTING_GO", 0.0)
        host = await web("running")
        host.guest("web").plugs = False
        before = host.picture()
        error = await outcome(host, DetachDisk(id_of("web"), "vdb"))
        assert error
        assert "has not; it may yet, when it reboots" in error.why
        assert host.picture() == before

    @in_loop
    async def test_a_volume_that_cannot_be_moved_comes_back_into_the_guest(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host = await web("running")
        monkeypatch.setattr(host.memory_zfs, "_rename", lambda *args: 1 / 0)
        before = host.picture()
        assert await outcome(host, DetachDisk(id_of("web"), "vdb"))
        assert host.picture() == before
        assert Device("disk", "vdb").in_(host.guest("web").live)

    @in_loop
    async def test_a_disk_that_another_attached_under_the_target_stays_and_no_volume_is_left(self) -> None:
        host = await web()
        guest = host.guest("web")
        request = AttachDisk(id_of("web"), MIB, "vdc")
        world = World()
        world.inventory = host.inventory
        made = request.plan(world.view())
        other = '<disk type="block"><source dev="/dev/sdx"/><target dev="vdc"/></disk>'
        guest.xml = guest.xml.replace("</devices>", f"{other}</devices>")
        job = Engine(host, MemoryJournal()).start(made, 0)
        await job.finished.wait()
        assert job.error
        assert "already has" in job.error.why
        assert "rpool/vms/web.vdc" not in host.memory_zfs.sets
        assert Device("disk", "vdc", "/dev/sdx").in_(guest.xml)

    @in_loop
    async def test_a_vm_that_went_off_meanwhile_gets_its_disk_not_at_all(self) -> None:
        host = await web("running")
        world = World()
        world.inventory = host.inventory
        made = AttachDisk(id_of("web"), MIB).plan(world.view())
        host.memory_virt.put(host.guest("web"), "shutoff")
        before = host.picture()
        job = Engine(host, MemoryJournal()).start(made, 0)
        await job.finished.wait()
        assert isinstance(job.error, WrongState)
        assert host.picture() == before

    @in_loop
    async def test_a_running_guest_gets_a_disk_only_once_its_device_is_there(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host = await web("running")

        async def never(dataset: str) -> str:
            raise TimedOut(f"the device of volume {dataset} did not appear")

        monkeypatch.setattr(host.devices, "wait", never)
        before = host.picture()
        error = await outcome(host, AttachDisk(id_of("web"), MIB))
        assert error
        assert error.what == "the device of volume rpool/vms/web.vdc did not appear"
        assert host.picture() == before

    @in_loop
    async def test_a_volume_that_another_grew_further_meanwhile_is_never_made_smaller(self) -> None:
        host = await web()
        world = World()
        world.inventory = host.inventory
        made = Resize(id_of("web"), "vda", 2 * MIB).plan(world.view())
        await host.zfs.set("rpool/vms/web", {"volsize": str(4 * MIB)})
        job = Engine(host, MemoryJournal()).start(made, 0)
        await job.finished.wait()
        assert isinstance(job.error, WrongState)
        assert host.memory_zfs.sets["rpool/vms/web"].size == 4 * MIB

    @in_loop
    async def test_a_volume_that_was_replaced_meanwhile_is_not_grown(self) -> None:
        host = await web()
        world = World()
        world.inventory = host.inventory
        made = Resize(id_of("web"), "vda", 2 * MIB).plan(world.view())
        host.memory_zfs.sets["rpool/vms/web"].guid += 1
        job = Engine(host, MemoryJournal()).start(made, 0)
        await job.finished.wait()
        assert isinstance(job.error, NotFound)
        assert host.memory_zfs.sets["rpool/vms/web"].size == MIB

    @in_loop
    async def test_a_guest_that_is_not_told_is_named_and_the_volume_stays_grown(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host = await web("running")

        async def nothing(*args: object) -> None:
            return None

        monkeypatch.setattr(host.virt, "resize_disk", nothing)
        error = await outcome(host, Resize(id_of("web"), "vda", 2 * MIB))
        assert isinstance(error, GuestFailed)
        assert "this was done and stays: grow rpool/vms/web from 1M to 2M" in error.hint
        assert host.inventory.datasets["rpool/vms/web"].size == 2 * MIB
