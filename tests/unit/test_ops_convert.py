"""Copying the disks of a domain of others into volumes: which steps, what is refused, and what is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.job import Job, State
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.engine.plan import Guard, Plan
from kldload_kvm.images import disk_files
from kldload_kvm.images.disk_files import Look
from kldload_kvm.model import properties
from kldload_kvm.model.domain_xml import digest, facts
from kldload_kvm.model.errors import (
    AlreadyExists,
    BadImage,
    Busy,
    InvalidArgument,
    KvmError,
    NoSpace,
    NotFound,
    Stale,
    WrongState,
)
from kldload_kvm.model.foreign import FILES, SHARED, foreign
from kldload_kvm.model.inventory import Dataset
from kldload_kvm.model.source_disks import Kept
from kldload_kvm.ops import adopt
from kldload_kvm.ops.adopt import Adopt
from kldload_kvm.ops.convert import Looked
from kldload_kvm.steps import converting
from kldload_kvm.steps import host as host_room
from kldload_kvm.steps.adopting import NoteOwner
from kldload_kvm.steps.converting import CopyDisk, PointAtVolumes
from kldload_kvm.steps.volumes import CreateVolume, NoteWritten
from loops import in_loop
from memory_host import Guest, MemoryHost
from unit.test_ops_undone import view
from world import World, domain, guid_of, uuid_of

QCOW2, RAW, LVM, VARIABLES = "/img/old.qcow2", "/img/data.img", "/dev/vg/old", "/img/old_VARS.fd"
DISK = """<disk type='file' device='disk'><driver name='qemu' type='{}'/>
  <source file='{}'/><target dev='{}' bus='virtio'/></disk>"""
LOOKED = Looked(
    Kept(),
    {
        QCOW2: Look("q", (3 << 30) + 512, 1 << 30),
        RAW: Look("r", 1 << 30, 1 << 20),
        LVM: Look("l", 2 << 30),
        VARIABLES: Look("v", 528 << 10, 528 << 10),
    },
)


def xml(*disks: str, name: str = "old", nvram: str = VARIABLES) -> str:
    variables = f"<nvram>{nvram}</nvram>" if nvram else ""
    devices = "".join(disks or [DISK.format("qcow2", QCOW2, "vda")])
    return f"""<domain type='qemu'><name>{name}</name><uuid>{uuid_of(name)}</uuid><memory>1048576</memory>
      <os><type>hvm</type>{variables}</os><devices>{devices}</devices></domain>"""


@pytest.fixture
def host() -> World:
    return World()


def theirs(host: World, text: str = "", state: str = "shutoff", name: str = "old") -> None:
    host.inventory.put_domain(domain(name, state, xml=text or xml(name=name)))


def plan(host: World, looked: Looked | None = LOOKED, **options: Any) -> Plan:
    return replace(Adopt.parse("", ["old"], options), looked=looked).plan(host.view())


def refusal(host: World, looked: Looked | None = LOOKED, **options: Any) -> KvmError:
    with pytest.raises(KvmError) as caught:
        plan(host, looked, **options)
    assert caught.value.what == "old was not adopted" or isinstance(caught.value, AlreadyExists | NoSpace)
    return caught.value


def steps(made: Plan, kind: type) -> list[Any]:
    return [each for each in made.steps if isinstance(each, kind)]


class TestThePlan:
    def test_each_disk_is_copied_into_a_volume_of_one_new_vm(self, host: World) -> None:
        theirs(host, xml(DISK.format("raw", RAW, "vdb"), DISK.format("qcow2", QCOW2, "vda")))
        made = plan(host)
        block = 64 << 10
        assert [(each.dataset, each.size) for each in steps(made, CreateVolume)] == [
            ("rpool/vms/old", (3 << 30) + block),  # rounded up to whole blocks
            ("rpool/vms/old.vdb", 1 << 30),
            ("rpool/vms/old.nvram", 528 << 10),
        ]
        first, _, variables = (each.properties for each in steps(made, CreateVolume))
        assert first == {
            "volmode": "dev", properties.VM: made.objects[0], properties.UUID: uuid_of("old"), properties.ROLE: "disk",
            properties.TARGET: "vda", "volblocksize": str(block), "compression": "lz4",
        }  # fmt: skip
        assert (variables[properties.ROLE], variables["volblocksize"]) == ("nvram", str(16 << 10))
        assert properties.TARGET not in variables
        assert [(each.path, each.format, each.dataset, each.identity) for each in steps(made, CopyDisk)] == [
            (QCOW2, "qcow2", "rpool/vms/old", "q"),
            (RAW, "raw", "rpool/vms/old.vdb", "r"),
            (VARIABLES, "raw", "rpool/vms/old.nvram", "v"),
        ]
        assert made.commit is None
        assert isinstance(made.prepare[-1], PointAtVolumes), "it can be taken back, and is the last"
        assert isinstance(made.prepare[-2], NoteWritten), "a guest could write from here on"

    def test_the_old_files_are_named_and_never_destroyed(self, host: World) -> None:
        theirs(host)
        made = plan(host)
        assert made.destroys == ()
        assert [each for each in made.warnings if each.startswith("left: ")] == [f"left: {QCOW2}", f"left: {VARIABLES}"]
        assert made.result["left"] == (QCOW2, VARIABLES)
        assert (made.result["name"], made.result["volumes"]) == ("old", ("rpool/vms/old", "rpool/vms/old.nvram"))

    def test_it_depends_on_the_files_and_the_definition(self, host: World) -> None:
        theirs(host)
        assert set(plan(host).guards) == {
            Guard("guid", "rpool/vms", guid_of("rpool/vms")),
            Guard("absent", "rpool/vms/old"),
            Guard("absent", "rpool/vms/old.nvram"),
            Guard("state", uuid_of("old"), "shutoff"),
            Guard("definition", uuid_of("old"), digest(xml())),
            Guard("file", QCOW2, "q"),
            Guard("file", VARIABLES, "v"),
        }

    def test_a_device_beside_a_volume_that_is_ours_already(self, host: World) -> None:
        host.inventory.put_dataset(Dataset("rpool/vms/data", guid_of("x"), 1, "volume", size=1 << 30))
        lvm = f"<disk type='block' device='disk'><source dev='{LVM}'/><target dev='vda'/></disk>"
        ours = "<disk type='block' device='disk'><source dev='/dev/zvol/rpool/vms/data'/><target dev='vdb'/></disk>"
        theirs(host, xml(ours, lvm, nvram=""))
        made = plan(host)
        assert [each.dataset for each in steps(made, CreateVolume)] == ["rpool/vms/old"]
        (note,) = steps(made, NoteOwner)
        assert (note.dataset, note.values[properties.TARGET]) == ("rpool/vms/data", "vdb")
        assert made.result["volumes"] == ("rpool/vms/data", "rpool/vms/old")
        assert Guard("block", LVM, "l") in made.guards
        point = steps(made, PointAtVolumes)[0]
        assert set(point.new) == {"vda"}

    def test_to_another_storage(self, host: World) -> None:
        theirs(host)
        assert steps(plan(host, storage="fast"), CreateVolume)[0].dataset == "vmpool/vms/old"

    def test_variables_that_no_file_keeps_yet_stay_where_libvirt_will_make_them(self, host: World) -> None:
        theirs(host)
        made = plan(host, Looked(Kept(), {QCOW2: LOOKED.disks[QCOW2]}))
        assert [each.path for each in steps(made, CopyDisk)] == [QCOW2]
        assert any(VARIABLES in each and "in no snapshot" in each for each in made.warnings)

    @pytest.mark.parametrize(("size", "block"), [(128 << 10, 16 << 10), (4096 + 512, 512), (84 << 10, 4 << 10)])
    def test_variables_keep_their_size(self, host: World, size: int, block: int) -> None:
        theirs(host)
        made = plan(host, Looked(Kept(), {**LOOKED.disks, VARIABLES: Look("v", size)}))
        volume = steps(made, CreateVolume)[1]
        assert (volume.size, volume.properties["volblocksize"]) == (size, str(block))

    def test_snapshots_inside_of_a_file_are_told(self, host: World) -> None:
        theirs(host)
        made = plan(host, Looked(Kept(), {**LOOKED.disks, QCOW2: Look("q", 1 << 30, 0, 2)}))
        assert f"{QCOW2} has 2 snapshots inside, which stay there and are not copied" in made.warnings

    def test_another_domain_that_is_off_keeps_the_file(self, host: World) -> None:
        theirs(host)
        theirs(host, xml(name="twin"), name="twin")
        assert f"the domain twin has {QCOW2}, {VARIABLES}, too, and keeps that" in {
            each.replace(f"{VARIABLES}, {QCOW2}", f"{QCOW2}, {VARIABLES}") for each in plan(host).warnings
        }


class TestRefusals:
    @pytest.mark.parametrize("state", ["running", "paused", "suspended"])
    def test_a_domain_that_runs(self, host: World, state: str) -> None:
        theirs(host, state=state)
        error = refusal(host, None)
        assert (type(error), error.hint) == (WrongState, "shut it down first: virsh shutdown old")

    def test_another_that_runs_with_the_same_file(self, host: World) -> None:
        theirs(host)
        theirs(host, xml(name="twin"), "running", "twin")
        error = refusal(host)
        assert (type(error), "the domain twin, which is running" in error.why) == (Busy, True)

    @pytest.mark.parametrize(
        ("kept", "hint"),
        [
            (Kept(saved=True), "virsh managedsave-remove old"),
            (Kept(snapshots=("a", "b")), "virsh snapshot-delete old NAME --metadata"),
            (Kept(checkpoints=("a",)), "virsh checkpoint-delete old NAME --metadata"),
        ],
    )
    def test_what_is_only_good_with_the_old_disks(self, host: World, kept: Kept, hint: str) -> None:
        theirs(host)
        error = refusal(host, Looked(kept, LOOKED.disks))
        assert (type(error), hint in error.hint) == (WrongState, True)

    def test_a_disk_that_cannot_be_copied(self, host: World) -> None:
        theirs(host, xml(DISK.format("vmdk", QCOW2, "vda")))
        error = refusal(host)
        assert (type(error), "its disk vda is a vmdk image" in error.why) == (WrongState, True)
        (listed,) = foreign(host.inventory, True)
        assert (listed.kind, listed.why, listed.hint) == (FILES, error.why, error.hint)

    def test_names_that_cannot_be_or_are_taken(self, host: World) -> None:
        text = xml().replace("<name>old</name>", "<name>my old one</name>")
        host.inventory.put_domain(domain("old", name="my old one", xml=text))
        with pytest.raises(InvalidArgument) as caught:
            replace(Adopt("my old one"), looked=LOOKED).plan(host.view())
        assert "virsh domrename" in caught.value.hint
        host = World()
        theirs(host)
        host.inventory.put_dataset(Dataset("vmpool/vms/old", "7", 1, "volume"))
        assert isinstance(refusal(host), AlreadyExists)

    def test_no_room_for_what_is_in_the_files(self, host: World) -> None:
        theirs(host)
        error = refusal(host, Looked(Kept(), {**LOOKED.disks, QCOW2: Look("q", 100 << 30, 76 << 30)}))
        assert isinstance(error, NoSpace)

    def test_what_is_too_large_for_any_volume(self, host: World) -> None:
        theirs(host)
        assert isinstance(refusal(host, Looked(Kept(), {**LOOKED.disks, QCOW2: Look("q", 1 << 51)})), BadImage)

    def test_storages(self, host: World) -> None:
        theirs(host)
        assert isinstance(refusal(host, storage="none"), NotFound)
        host.inventory.put_dataset(Dataset("rpool/vms/data", guid_of("x"), 1, "volume", size=1 << 30))
        ours = "<disk type='block' device='disk'><source dev='/dev/zvol/rpool/vms/data'/><target dev='vdb'/></disk>"
        theirs(host, xml(DISK.format("qcow2", QCOW2, "vda"), ours))
        assert isinstance(refusal(host, storage="fast"), InvalidArgument)
        theirs(host, xml(ours))
        assert "none of its disks is to be copied" in refusal(host, storage="fast").why

    def test_a_volume_of_a_vm_beside_a_file(self, host: World) -> None:
        host.vm("web")
        web = "<disk type='block' device='disk'><source dev='/dev/zvol/rpool/vms/web'/><target dev='vdb'/></disk>"
        theirs(host, xml(DISK.format("qcow2", QCOW2, "vda"), web))
        assert "its volumes are those of web" in refusal(host).why
        assert SHARED in {each.kind for each in foreign(host.inventory, True)}

    def test_a_definition_that_changed_since_it_was_looked_at(self, host: World) -> None:
        theirs(host, xml(DISK.format("qcow2", "/img/other.qcow2", "vda")))
        assert isinstance(refusal(host), Stale)

    def test_the_list_tells_what_can_be_done(self, host: World) -> None:
        theirs(host, state="running")
        (listed,) = foreign(host.inventory, True)
        assert listed.hint == "shut it down, and have its disks copied into volumes: kvm-adopt old"


# -- on a host in memory -----------------------------------------------------------------------------------------------


class Files:
    """Stands for the files: their identities, and what happens meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.identities = {path: each.identity for path, each in LOOKED.disks.items()}
        self.meanwhile: Callable[[], Any] = lambda: None
        self.closed = 0
        monkeypatch.setattr(host_room, "identity", lambda kind, path: self.identities[path])
        monkeypatch.setattr(disk_files, "open_unused", self.opened)
        monkeypatch.setattr(adopt, "_look", lambda disk, name, what: LOOKED.disks[disk.path])
        monkeypatch.setattr(converting.conversion, "inspect", self.inspect)
        monkeypatch.setattr(converting.conversion, "convert", self.convert)
        self.copied: list[tuple[str, str, bool, str]] = []

    def opened(self, disk: Any, planned: str, what: str) -> Any:
        files = self

        class Opened(disk_files.Opened):
            def close(self) -> None:
                files.closed += 1

        return Opened(disk.path, "253:3" if disk.kind == "block" else "")

    async def inspect(self, units: Any, path: Any, name: str, format_: str) -> Any:
        return converting.Disk("qcow2", LOOKED.disks[path].size)

    async def convert(
        self, units: Any, path: Any, name: str, disk: Any, dataset: str, kernel: str, tag: str, report: Any, **how: Any
    ) -> None:
        self.copied.append((path, dataset, how["raw"], how["device"]))
        report(disk.virtual_size, disk.virtual_size)
        self.meanwhile()


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Files:
    return Files(monkeypatch)


async def memory() -> tuple[MemoryHost, Guest]:
    host = MemoryHost()
    await host.prepare()
    await host.virt.define(xml())
    await host.known()
    return host, host.guest("old")


async def adopted(host: MemoryHost) -> Job:
    request = await Adopt("old").look(host)
    job = Engine(host, MemoryJournal()).start(request.plan(view(host)), 0)
    await asyncio.wait_for(job.finished.wait(), 20)
    return job


class TestTheSteps:
    @in_loop
    async def test_the_domain_becomes_a_vm_on_volumes(self, files: Files) -> None:
        host, guest = await memory()
        job = await adopted(host)
        assert job.state is State.SUCCEEDED
        assert facts(guest.xml).disks == {"vda": "/dev/zvol/rpool/vms/old", "nvram": "/dev/zvol/rpool/vms/old.nvram"}
        assert files.copied == [(QCOW2, "rpool/vms/old", False, ""), (VARIABLES, "rpool/vms/old.nvram", True, "")]
        assert files.closed == 2
        found = host.inventory.find("old")
        assert found and found.domain and found.domain.uuid == guest.uuid
        assert foreign(host.inventory, True) == []

    @pytest.mark.parametrize("what", ["started", "changed", "saved", "edited", "undefined", "snapshotted"])
    @in_loop
    async def test_what_happens_meanwhile_undoes_it(self, files: Files, what: str) -> None:
        host, guest = await memory()
        was = guest.xml

        def meanwhile() -> None:
            match what:
                case "started":
                    host.memory_virt.put(guest, "running")
                case "changed":
                    files.identities[QCOW2] = "other"
                case "saved":
                    guest.kept = Kept(saved=True)
                case "snapshotted":
                    guest.kept = Kept(snapshots=("now",))
                case "edited":
                    guest.xml = was.replace("1048576", "2097152")
                case "undefined":
                    host.memory_virt.guests.pop(guest.uuid, None)

        files.meanwhile = meanwhile
        job = await adopted(host)
        assert job.state is State.FAILED
        assert isinstance(job.error, WrongState) and "not undone" not in job.error.hint
        assert [name for name in host.memory_zfs.sets if name.startswith("rpool/vms/old")] == []
        assert facts(guest.xml).disks == facts(was).disks

    @in_loop
    async def test_one_that_was_started_a_moment_before_it_is_pointed_at_the_volumes_is_pointed_back(
        self, files: Files, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its guest writes to the files: what is on the volumes is not what it has."""
        host, guest = await memory()
        was, edit = guest.xml, host.memory_virt.edit

        async def started_first(uuid: str, change: Callable[[str], str]) -> None:
            if guest.state == "shutoff":
                host.memory_virt.put(guest, "running")
            await edit(uuid, change)

        monkeypatch.setattr(host.memory_virt, "edit", started_first)
        job = await adopted(host)
        assert isinstance(job.error, WrongState)
        assert facts(guest.xml).disks == facts(was).disks
        assert [name for name in host.memory_zfs.sets if name.startswith("rpool/vms/old")] == []

    @in_loop
    async def test_one_that_runs_on_the_volumes_is_not_pointed_back(self, files: Files) -> None:
        host, guest = await memory()
        made = (await Adopt("old").look(host)).plan(view(host))
        job = Engine(host, MemoryJournal()).start(made, 0)
        await asyncio.wait_for(job.finished.wait(), 20)
        host.memory_virt.put(guest, "running")
        (point,) = steps(made, PointAtVolumes)
        run = Engine(host, MemoryJournal()).run_of(job, made.steps.index(point))
        assert await point.done(host, run)
        with pytest.raises(WrongState, match="was not pointed back"):
            await point.undo(host, run)
        assert "/dev/zvol/rpool/vms/old" in guest.xml

    @in_loop
    async def test_a_plan_is_stale_once_a_file_or_the_definition_has_changed(self, files: Files) -> None:
        host, _ = await memory()
        made = (await Adopt("old").look(host)).plan(view(host))
        assert await host.moved(made.guards) == []
        files.identities[QCOW2] = "other"
        assert await host.moved(made.guards) == [f"{QCOW2} has been changed"]
        files.identities[QCOW2] = ""
        assert await host.moved(made.guards) == [f"{QCOW2} is gone"]

    @in_loop
    async def test_a_look_is_taken_only_where_something_is_to_be_copied(self, files: Files) -> None:
        host, guest = await memory()
        assert (await Adopt("old").look(host)).looked == LOOKED.__class__(
            Kept(), {each: LOOKED.disks[each] for each in (QCOW2, VARIABLES)}
        )
        host.memory_virt.put(guest, "running")
        await host.known()
        for name in ("old", "nobody"):
            assert (await Adopt(name).look(host)).looked is None
