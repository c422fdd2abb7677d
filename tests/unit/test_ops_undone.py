"""Every operation, run on a host in memory through the real commands, with trouble at every single change of the host.

Whatever fails, before or after its effect, and whenever somebody cancels: the host is then as it was before, or as it
is after, volumes with their contents and guids, snapshots, domains and guests held still included.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.job import Job, State
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.engine.plan import Run, revive, written
from kldload_kvm.images import disk_files
from kldload_kvm.images.answer import Disk
from kldload_kvm.images.disk_files import Look
from kldload_kvm.images.seed import read_seed
from kldload_kvm.images.store import Image
from kldload_kvm.model import cloud_init, properties, trash
from kldload_kvm.model.domain_devices import macs
from kldload_kvm.model.domain_xml import build, unpack
from kldload_kvm.model.errors import Busy, LibvirtUnavailable, NoSpace, WrongState
from kldload_kvm.model.firmware import FirmwarePair
from kldload_kvm.model.inventory import Vm
from kldload_kvm.model.source_disks import Kept
from kldload_kvm.ops.adopt import Adopt
from kldload_kvm.ops.attach_disk import AttachDisk
from kldload_kvm.ops.clone import Clone
from kldload_kvm.ops.convert import Looked
from kldload_kvm.ops.create import Create
from kldload_kvm.ops.delete import Delete
from kldload_kvm.ops.delete_snapshot import DeleteVmSnapshot
from kldload_kvm.ops.detach_disk import DetachDisk
from kldload_kvm.ops.end import End
from kldload_kvm.ops.export import Export
from kldload_kvm.ops.identity import RenewVmIdentity
from kldload_kvm.ops.images import RemoveImage
from kldload_kvm.ops.nics import AttachNic, DetachNic
from kldload_kvm.ops.pool import Pool
from kldload_kvm.ops.power import Autostart, Pause, PowerOff, Reboot, Resume, Shutdown, Start
from kldload_kvm.ops.provision import Provision
from kldload_kvm.ops.prune_snapshots import PruneSnapshots
from kldload_kvm.ops.purge import PurgeTrash
from kldload_kvm.ops.rename import Rename
from kldload_kvm.ops.request import Request, View
from kldload_kvm.ops.resize import Resize
from kldload_kvm.ops.resources import SetMemory, SetVcpus
from kldload_kvm.ops.restore import RestoreTrash
from kldload_kvm.ops.retire import Retire
from kldload_kvm.ops.rollback import Rollback
from kldload_kvm.ops.snapshot import TakeVmSnapshot
from kldload_kvm.ops.snapshot_all import SnapshotAll
from kldload_kvm.ops.storage_options import SetStorageOptions
from kldload_kvm.ops.template import SetTemplate
from kldload_kvm.steps import guests
from kldload_kvm.steps import host as host_room
from kldload_kvm.steps import images as image_steps
from kldload_kvm.steps.domains import ForceOff
from loops import in_loop
from memory_host import Guest, MemoryHost
from memory_zfs import Set
from world import FACTS, NOW, asking, spec, uuid_of, volumes_of

VARIABLES = b"uefi variables"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests, "PAUSE", 0.0)


@pytest.fixture(autouse=True)
def firmware(tmp_path: Path) -> Path:
    path = tmp_path / "vars.fd"
    path.write_bytes(VARIABLES)
    global FIRMWARE
    FIRMWARE = FirmwarePair("/fw/code.fd", str(path))
    return path


FIRMWARE = FirmwarePair("", "")


@pytest.fixture(autouse=True)
def conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image helper, which needs qemu-img and a device, writes a word instead."""

    async def inspect(units: object, path: object, name: str, format_: object) -> Disk:
        return Disk("qcow2", 3 << 30)

    async def convert(units: Any, source: Path, name: str, disk: Disk, dataset: str, *more: Any, **how: Any) -> None:
        host = units
        await host.devices.write(dataset, b"contents of the image")

    monkeypatch.setattr(image_steps.conversion, "inspect", inspect)
    monkeypatch.setattr(image_steps.conversion, "convert", convert)


@pytest.fixture(autouse=True)
def files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disks of domains of others, which are no files here."""
    monkeypatch.setattr(disk_files, "open_unused", lambda disk, planned, what: disk_files.Opened(Path(disk.path)))
    monkeypatch.setattr(host_room, "identity", lambda kind, path: LOOKED.disks[path].identity)


def view(host: MemoryHost) -> View:
    facts = replace(FACTS, firmware=FIRMWARE, networks=dict(host.memory_virt.nets))
    ids = random.Random(" ".join(host.memory_zfs.names()))  # the same on the same host, and others on any other
    return View(host.inventory, host.config, facts, NOW, 0, ids)


async def done(host: MemoryHost, request: Request, meanwhile: Callable[[Engine, Job], None] = lambda e, j: None) -> Job:
    """The job of a request, once it has ended."""
    engine = Engine(host, MemoryJournal(), at_once=2)
    job = engine.start(request.plan(view(host)), 0)
    meanwhile(engine, job)
    await asyncio.wait_for(job.finished.wait(), 20)
    return job


def vm(host: MemoryHost, name: str) -> Vm:
    found = host.inventory.find(name)
    assert found, name
    return found


def write(host: MemoryHost, name: str, contents: bytes) -> None:
    """As a guest would."""
    host.memory_zfs.sets[f"rpool/vms/{name}"].contents = contents


async def web(host: MemoryHost, image: bool = False, **guest: Any) -> Guest:
    """A VM with two snapshots, whose disk has changed after each."""
    job = await done(host, Create(name="web", **({"image": "debian.qcow2", "user_data": SEED} if image else {})))
    assert job.error is None
    for contents, snapshot in ((b"first", "s1"), (b"second", "s2")):
        write(host, "web", contents)
        assert (await done(host, TakeVmSnapshot(vm(host, "web").id, snapshot))).error is None
    write(host, "web", b"third")
    found = host.guest("web")
    for key, value in guest.items():
        setattr(found, key, value)
    if found.state != "shutoff":
        host.memory_virt.put(found, found.state)
    await host.known()
    return found


SEED = cloud_init.user_data("admin")
Setup = Callable[[MemoryHost], Awaitable[Any]]
Make = Callable[[MemoryHost], Request]


async def nothing(host: MemoryHost) -> None:
    return None


async def plain(host: MemoryHost) -> None:
    await web(host)


async def from_image(host: MemoryHost) -> None:
    await web(host, image=True)


async def running(host: MemoryHost) -> None:
    await web(host, state="running")


async def with_agent(host: MemoryHost) -> None:
    await web(host, state="running", agent=True)


async def with_deaf_agent(host: MemoryHost) -> None:
    await web(host, state="running", agent=True, freezes=False)


async def paused(host: MemoryHost) -> None:
    await web(host, state="paused")


async def crashed(host: MemoryHost) -> None:
    host.memory_virt.put(await web(host), "crashed")
    await host.known()


async def orphaned(host: MemoryHost) -> None:
    guest = await web(host)
    await host.virt.undefine(guest.uuid)
    await host.known()


async def with_another_on_its_volumes(host: MemoryHost) -> None:
    """web is off, and a domain that is not its own runs on its disk."""
    guest = await web(host)
    xml = guest.xml.replace(guest.uuid, "6f5d3a53-9a1c-4e5b-8d3e-0c7f6f1c2a11").replace("<name>web<", "<name>thief<")
    await host.virt.define(xml)
    host.memory_virt.put(host.guest("thief"), "running")
    await host.known()


async def cloned(host: MemoryHost) -> None:
    """A clone of a clone, with a snapshot of its own, whose origin has another clone of a later snapshot."""
    await web(host)
    await done(host, Clone(vm(host, "web").id, ("copy",), "s1"))
    await done(host, TakeVmSnapshot(vm(host, "copy").id, "s3"))
    write(host, "copy", b"changed")
    await done(host, Clone(vm(host, "copy").id, ("third",), "s3"))
    await done(host, Clone(vm(host, "web").id, ("late",), "s2"))
    await host.known()


async def redefined(host: MemoryHost) -> None:
    """A VM whose definition has changed since its snapshot s1."""
    await web(host)
    xml = host.guest("web").xml
    await host.virt.define(xml.replace("<vcpu ", "<title>new</title><vcpu "))
    await host.known()


async def hourly(host: MemoryHost) -> None:
    """Two VMs with snapshots of the timer's, of long ago: one is cloned, another held."""
    host.config = replace(host.config, keep=3600)
    await web(host)
    for each in volumes_of("two"):
        await host.zfs.create_volume(each.name, each.size, each.properties)
    for name in ("auto-1", "auto-2", "auto-3"):
        for vm in ("web", "two"):
            await host.zfs.snapshot(
                [f"rpool/vms/{vm}@{name}", f"rpool/vms/{vm}.nvram@{name}"], {properties.SNAPSHOT: "auto:off"}
            )
    await host.zfs.clone("rpool/vms/two@auto-1", "rpool/vms/other", {})
    next(each for each in host.memory_zfs.of("rpool/vms/web") if each.name == "auto-2").holds.add("mine")
    await host.known()


async def several(host: MemoryHost) -> None:
    """VMs on two pools: running with an agent, with one that cannot freeze, without any, paused, off, and an orphan."""
    for name in ("froz", "deaf", "plain", "still", "fast", "off", "orphan"):
        parent = "vmpool/vms" if name == "fast" else "rpool/vms"
        for each in volumes_of(name, parent):
            await host.zfs.create_volume(each.name, each.size, each.properties)
        if name != "orphan":
            await host.virt.define(build(spec(name, parent)))
    for name, state in (("froz", "running"), ("deaf", "running"), ("plain", "running"), ("still", "paused")):
        guest = host.guest(name)
        guest.agent, guest.freezes = name in ("froz", "deaf"), name != "deaf"
        host.memory_virt.put(guest, state)
    await host.known()


async def pending(host: MemoryHost) -> None:
    await web(host)
    await done(host, Clone(vm(host, "web").id, ("copy",)))
    guest = host.guest("copy")
    guest.agent = True
    host.memory_virt.put(guest, "running")
    await host.known()


async def deleted(host: MemoryHost) -> None:
    await web(host)
    await done(host, Delete(vm(host, "web").id))


async def deleted_and_uuid_taken(host: MemoryHost) -> None:
    await web(host)
    xml = host.guest("web").xml.replace("<name>web</name>", "<name>other</name>")
    await done(host, Delete(vm(host, "web").id))
    await host.virt.define(xml)
    await host.known()


async def deleted_with_autostart(host: MemoryHost) -> None:
    await web(host, autostart=True)
    await done(host, Delete(vm(host, "web").id))


async def rolled_back(host: MemoryHost) -> None:
    await web(host)
    await done(host, Rollback(vm(host, "web").id, "s1"))
    await done(host, TakeVmSnapshot(vm(host, "web").id, "s4"))
    write(host, "web", b"fourth")


async def rolled_back_and_running(host: MemoryHost) -> None:
    await rolled_back(host)
    host.memory_virt.put(host.guest("web"), "running")
    await host.known()


async def rolled_back_twice(host: MemoryHost) -> None:
    """The first state that was given up descends from the second."""
    await web(host)
    await done(host, Rollback(vm(host, "web").id, "s2"))
    await done(host, TakeVmSnapshot(vm(host, "web").id, "s4"))
    await done(host, Rollback(vm(host, "web").id, "s1"))


async def all_deleted(host: MemoryHost) -> None:
    """An origin, its clone, and the clone's clone, with a state that was given up."""
    await cloned(host)
    await done(host, Rollback(vm(host, "copy").id, "s3"))
    for name in ("web", "copy", "third", "late"):
        await done(host, Delete(vm(host, name).id))


async def last_clone_deleted(host: MemoryHost) -> None:
    await web(host)
    await done(host, Clone(vm(host, "web").id, ("copy",)))
    await done(host, Delete(vm(host, "copy").id))


async def template(host: MemoryHost) -> None:
    await web(host)
    await done(host, SetTemplate(vm(host, "web").id, True))


async def with_autostart(host: MemoryHost) -> None:
    await web(host, autostart=True)


def restore(number: int = 0, **more: Any) -> Make:
    """Of the trash's entries, oldest first."""
    return lambda host: RestoreTrash(oldest_first(host)[number], **more)


def oldest_first(host: MemoryHost) -> list[str]:
    return [each.id for each in sorted(trash.entries(host.inventory), key=lambda each: each.container.createtxg)]


def purge(host: MemoryHost) -> Request:
    return PurgeTrash(tuple(oldest_first(host)))


@dataclass(frozen=True)
class Case:
    """setup: the host before; make: the request."""

    name: str
    setup: Setup
    make: Make


def of(name: str, kind: Callable[..., Request], *args: Any, **more: Any) -> Make:
    return lambda host: kind(vm(host, name).id, *args, **more)


async def with_disk(host: MemoryHost) -> None:
    """A VM with a second disk, which a snapshot has, too."""
    await web(host)
    assert (await done(host, AttachDisk(vm(host, "web").id, 1 << 30))).error is None
    write(host, "web.vdb", b"on the second disk")
    assert (await done(host, TakeVmSnapshot(vm(host, "web").id, "both"))).error is None


async def running_with_disk(host: MemoryHost) -> None:
    await with_disk(host)
    host.memory_virt.put(host.guest("web"), "running")
    await host.known()


async def disk_taken_out(host: MemoryHost) -> None:
    await with_disk(host)
    assert (await done(host, DetachDisk(vm(host, "web").id, "vdb"))).error is None


async def disk_taken_out_of_a_running_one(host: MemoryHost) -> None:
    await disk_taken_out(host)
    host.memory_virt.put(host.guest("web"), "running")
    await host.known()


async def theirs(host: MemoryHost) -> None:
    """A domain that virsh made on two volumes of nobody's, one of which was another VM's once."""
    await web(host)
    for name, more in (("old", {}), ("old.vdb", {properties.ROLE: "disk"})):
        await host.zfs.create_volume(f"rpool/vms/{name}", 1 << 30, more)
    disks = {"vda": "rpool/vms/old", "vdb": "rpool/vms/old.vdb"}
    await host.virt.define(build(spec("old", disks=disks)).replace("/dev/zvol/rpool/vms/old.nvram", "/var/lib/old.fd"))
    await host.known()


async def on_files(host: MemoryHost) -> None:
    """A domain that virsh made on a qcow2 file, a device and a volume, with its UEFI variables in a file."""
    await web(host)
    await host.zfs.create_volume("rpool/vms/old.vdc", 1 << 30, {})
    disks = {"vda": "rpool/vms/a", "vdb": "rpool/vms/b", "vdc": "rpool/vms/old.vdc"}
    xml = build(spec("old", disks=disks)).replace("/dev/zvol/rpool/vms/old.nvram", "/img/old.fd")
    qcow2 = f'file="{QCOW2}"'
    xml = xml.replace('type="raw"', 'type="qcow2"', 1).replace(
        'type="block" device="disk"', 'type="file" device="disk"', 1
    )
    xml = xml.replace('dev="/dev/zvol/rpool/vms/a"', qcow2).replace("/dev/zvol/rpool/vms/b", "/dev/vg/old")
    await host.virt.define(xml.replace('<nvram type="block"', '<nvram type="file"').replace('dev="/img', 'file="/img'))
    await host.known()


QCOW2 = "/img/old.qcow2"
LOOKED = Looked(
    Kept(),
    {
        QCOW2: Look("qcow2 as it was", 3 << 30),
        "/dev/vg/old": Look("253:3", 1 << 30),
        "/img/old.fd": Look("vars", 528 << 10),
    },
)


async def undefined(host: MemoryHost) -> None:
    await with_disk(host)
    await host.virt.undefine(host.guest("web").uuid)
    await host.known()


async def ended(host: MemoryHost) -> None:
    """A VM without a domain, of whose disks one was made to be destroyed with it, and one to be thrown away."""
    await undefined(host)
    for name, fate in (("web", "destroy"), ("web.vdb", "trash")):
        await host.zfs.set(f"rpool/vms/{name}", {properties.EPHEMERAL: fate})
    await host.known()


def end(host: MemoryHost) -> Request:
    """As its domain had asked for."""
    (was,) = host.inventory.departed.values()
    asked = ('target="vda" ephemeral="destroy"', 'target="vdb" ephemeral="trash"')
    return End(vm(host, "web").id, replace(was, xml=asking(was.xml, *asked), persistent=False))


def retire(*volumes: str) -> Make:
    """As its domain had asked for."""

    def make(host: MemoryHost) -> Request:
        (was,) = host.inventory.departed.values()
        return Retire(vm(host, "web").id, replace(was, xml=asking(was.xml, *volumes)))

    return make


def provision(*volumes: str) -> Make:
    disks = {"vda": "rpool/vms/new", "vdb": "rpool/vms/new.vdb"}
    xml = asking(build(spec("new", disks=disks)), *volumes)
    return lambda host: Provision(uuid_of("new"), "new", xml)


IMAGE_OF_VDB = 'target="vdb" image="debian.qcow2"'


async def small(host: MemoryHost) -> None:
    """A VM whose disk can be read in no time."""
    assert (await done(host, Create(name="web", disk=1 << 20))).error is None
    write(host, "web", b"first")
    assert (await done(host, TakeVmSnapshot(vm(host, "web").id, "s1"))).error is None


ALL_SETTINGS = {"compression": "gzip-6", "primarycache": "metadata", "refreservation": "auto"}


async def reserved(host: MemoryHost) -> None:
    await web(host)
    assert (await done(host, SetStorageOptions(vm(host, "web").id, ALL_SETTINGS))).error is None


def exporting(**options: Any) -> Make:
    def make(host: MemoryHost) -> Request:
        return Export(vm(host, "web").id, os.open("/tmp", os.O_TMPFILE | os.O_RDWR), **options)

    return make


def of_nic(host: MemoryHost) -> Request:
    return DetachNic(vm(host, "web").id, macs(host.guest("web").xml)[0])


CASES = [
    Case("create", nothing, lambda host: Create(name="new")),
    Case("create with autostart", nothing, lambda host: Create(name="new", autostart=True)),
    Case("create from an image", nothing, lambda host: Create(name="new", image="debian.qcow2", user_data=SEED)),
    Case("snapshot", plain, of("web", TakeVmSnapshot)),
    Case("snapshot of a running VM", running, of("web", TakeVmSnapshot, "x")),
    Case("snapshot of a running VM with an agent", with_agent, of("web", TakeVmSnapshot, "x")),
    Case("snapshot of a paused VM", paused, of("web", TakeVmSnapshot, "x")),
    Case("snapshot-all", several, lambda host: SnapshotAll("x")),
    Case("snapshot-all of the timer", plain, lambda host: SnapshotAll(kind="auto")),
    Case("prune-snapshots", hourly, lambda host: PruneSnapshots()),
    Case("clone", plain, of("web", Clone, ("a", "b"))),
    Case("clone of a snapshot", plain, of("web", Clone, ("a", "b", "c"), "s1")),
    Case("copy in full", plain, of("web", Clone, ("a", "b"), full=True)),
    Case("copy in full of a snapshot", plain, of("web", Clone, ("a",), "s1", full=True)),
    Case("copy in full of a running VM with a seed", from_image, of("web", Clone, ("a",), full=True)),
    Case("clone of a template", template, of("web", Clone, ("a",))),
    Case("template on", plain, of("web", SetTemplate, True)),
    Case("template on, with autostart", with_autostart, of("web", SetTemplate, True)),
    Case("template off", template, of("web", SetTemplate, False)),
    Case("template on, generalized", with_agent, of("web", SetTemplate, True, True)),
    Case("create a template", nothing, lambda host: Create(name="new", template=True)),
    Case("clone of a running VM", running, of("web", Clone, ("a",))),
    Case("clone of a running VM with an agent", with_agent, of("web", Clone, ("a", "b"))),
    Case("clone of a VM with a seed", from_image, of("web", Clone, ("a", "b"))),
    Case("rollback", plain, of("web", Rollback)),
    Case("rollback past a newer snapshot", plain, of("web", Rollback, "s1")),
    Case("rollback of a running VM", running, of("web", Rollback, "s1", True)),
    Case("rollback with the definition", redefined, of("web", Rollback, "s1", with_definition=True)),
    Case("rollback of a clone with clones", cloned, of("copy", Rollback, "s3")),
    Case("rollback of an origin with clones", cloned, of("web", Rollback, "s1")),
    Case("delete", plain, of("web", Delete)),
    Case("delete of a running VM", with_agent, of("web", Delete, True)),
    Case("delete of a clone", cloned, of("third", Delete)),
    Case("delete of an origin", cloned, of("web", Delete)),
    Case("delete with a promotion", cloned, of("web", Delete, promote=True)),
    Case("delete at once", plain, of("web", Delete, now=True)),
    Case("delete at once of a running VM", running, of("web", Delete, True, True)),
    Case("delete at once of a clone", cloned, of("third", Delete, now=True)),
    Case("restore", deleted, restore()),
    Case("restore under another name", deleted, restore(name="new")),
    Case("restore with autostart", deleted_with_autostart, restore()),
    Case("restore with its UUID taken", deleted_and_uuid_taken, restore()),
    Case("restore of a state given up", rolled_back, restore()),
    Case("restore of a state of a running VM", rolled_back_and_running, restore(force=True)),
    Case("restore of the first of two states given up", rolled_back_twice, restore(0)),
    Case("restore of the second of two states given up", rolled_back_twice, restore(1)),
    Case("restore of a disk that was taken out", disk_taken_out, restore()),
    Case("restore of a disk that was taken out of a running VM", disk_taken_out_of_a_running_one, restore()),
    Case("purge of a deleted VM", deleted, purge),
    Case("purge of a state given up", rolled_back, purge),
    Case("purge of a whole family", all_deleted, purge),
    Case("purge of the last clone", last_clone_deleted, purge),
    Case("delete-snapshot", plain, of("web", DeleteVmSnapshot, "s1")),
    Case("start", plain, of("web", Start)),
    Case("shutdown", running, of("web", Shutdown)),
    Case("force-off", running, of("web", PowerOff)),
    Case("reboot", running, of("web", Reboot)),
    Case("pause", running, of("web", Pause)),
    Case("resume", paused, of("web", Resume)),
    Case("autostart", plain, of("web", Autostart, True)),
    Case("renew-identity", pending, of("copy", RenewVmIdentity)),
    Case("resize", plain, of("web", Resize, "vda", 30 << 30)),
    Case("resize of a running VM", running, of("web", Resize, "vda", 30 << 30)),
    Case("attach-disk", plain, of("web", AttachDisk, 1 << 30)),
    Case("attach-disk to a running VM", running, of("web", AttachDisk, 1 << 30)),
    Case("detach-disk", with_disk, of("web", DetachDisk, "vdb")),
    Case("detach-disk from a running VM", running_with_disk, of("web", DetachDisk, "vdb")),
    Case("attach-nic", plain, of("web", AttachNic, "network=down")),
    Case("attach-nic to a running VM", running, of("web", AttachNic, "network=default")),
    Case("detach-nic", plain, of_nic),
    Case("detach-nic from a running VM", running, of_nic),
    Case("set-memory", plain, of("web", SetMemory, 4 << 30)),
    Case("set-memory of a running VM", running, of("web", SetMemory, 4 << 30)),
    Case("set-memory of a running VM to less", running, of("web", SetMemory, 1 << 30)),
    Case("set-vcpus", plain, of("web", SetVcpus, 16)),
    Case("set-vcpus of a running VM", running, of("web", SetVcpus, 1)),
    Case("export", small, exporting()),
    Case("export of a snapshot", small, exporting(snapshot="s1", format="raw")),
    Case("export of a stream", small, exporting(format="zfs")),
    Case("export of a snapshot's stream", small, exporting(format="zfs", snapshot="s1")),
    Case("set-storage-options", with_disk, of("web", SetStorageOptions, ALL_SETTINGS)),
    Case("set-storage-options back", reserved, of("web", SetStorageOptions, {"refreservation": "none"})),
    Case("adopt", theirs, lambda host: Adopt("old")),
    Case("adopt and copy", on_files, lambda host: Adopt("old", looked=LOOKED)),
    Case("adopt of a VM without a domain", undefined, lambda host: Adopt("web")),
    Case("retire", undefined, retire()),
    Case("retire and destroy", undefined, retire('target="vdb" undefine="destroy"', 'target="vda" undefine="keep"')),
    Case("end", ended, end),
    Case("provision", plain, provision('target="vda" size="1G"', 'target="vdb" size="2G"')),
    Case("provision of a clone and an image", plain, provision('target="vda" clone-of="web@s1"', IMAGE_OF_VDB)),
    Case("define-pool", nothing, lambda host: Pool("rpool")),
    Case("rename", with_disk, of("web", Rename, "shop")),
    Case("rename of a VM with a seed", from_image, of("web", Rename, "shop")),
    Case("rename of a clone with clones", cloned, of("copy", Rename, "shop")),
]


SEVERAL = (
    "restore", "purge", "delete at once", "retire and", "export", "prune-snapshots", "copy", "template on, gen",
    "create a template",
)  # fmt: skip
WITH_A_FINISH = {"create with autostart", "define-pool", "end", "delete-snapshot", "resize of a running VM"} | {
    case.name for case in CASES if case.name.startswith(SEVERAL)
}
"""Those that do several things past their commit point: they may come to half of them, and say so."""
REPEATED = {"renew-identity", "template on, generalized"}
"""Those that change something in a guest, which nobody outside can tell; they can be done once more."""


async def host_for(case: Case) -> MemoryHost:
    host = MemoryHost()
    host.units = host  # type: ignore[assignment]  # what the pretended conversion writes to
    await host.prepare()
    await case.setup(host)
    host.troubles.done.clear()
    return host


def text_of(value: Any) -> Any:
    """What stands in a seed: the image around it holds the time at which it was made."""
    return read_seed(value) if isinstance(value, bytes) and len(value) > 1 << 14 else value


def picture(host: MemoryHost) -> dict[str, Any]:
    """How consistent a snapshot is may differ: a guest that could not be frozen is paused."""

    def without(value: Any) -> Any:
        if isinstance(value, tuple):
            values = tuple((k, v.partition(":")[0] if k == properties.SNAPSHOT else v) for k, v in value[-1])
            return (*(text_of(each) for each in value[:-1]), values)
        return value

    return {name: without(value) for name, value in host.picture().items()}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


@pytest.fixture(params=CASES, ids=lambda case: case.name.replace(" ", "-"))
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@in_loop
async def test_without_trouble_it_succeeds_and_the_inventory_is_as_the_host(case: Case) -> None:
    host = await host_for(case)
    job = await done(host, case.make(host))
    assert job.error is None
    known = set(host.inventory.datasets) | {f"{d}@{s}" for d, each in host.inventory.snapshots.items() for s in each}
    assert known == {name for name in host.memory_zfs.names() if name.startswith(("rpool/vms", "vmpool/vms"))}
    origins = {each.name: each.origin for each in host.inventory.datasets.values()}
    assert origins == {
        name: each.origin.full if (each := host.memory_zfs.sets[name]).origin else "" for name in origins
    }  # fmt: skip
    assert {each.uuid: each.state for each in host.inventory.domains.values()} == {
        each.uuid: each.state for each in host.memory_virt.guests.values()
    }
    assert not any(guest.frozen for guest in host.memory_virt.guests.values())


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("delete at once", "rpool/vms/web.nvram"),
        ("purge of a whole family", "/web.nvram"),
        ("retire and destroy", "rpool/vms/web.vdb"),
    ],
)
@in_loop
async def test_nothing_is_destroyed_if_the_last_volume_is_open(
    name: str, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kldload_kvm.steps.own.UDEV_LOOKS", 0.0)
    case = next(each for each in CASES if each.name == name)
    host = await host_for(case)
    host.memory_zfs.open.add(next(each for each in host.memory_zfs.names() if each.endswith(last)))
    before = picture(host)
    job = await done(host, case.make(host))
    assert isinstance(job.error, Busy)
    assert picture(host) == before


@pytest.mark.parametrize("when", ["before", "after", "cancel"])
@in_loop
async def test_with_trouble_at_any_change_the_host_is_as_before_or_as_after(case: Case, when: str) -> None:
    host = await host_for(case)
    before, guids = picture(host), host.memory_zfs.guids()
    await done(host, case.make(host))
    after, changes = picture(host), len(host.troubles.done)
    for number in range(changes):
        host = await host_for(case)
        assert picture(host) == before
        job, step = await troubled(host, case.make(host), number, when)
        found = picture(host)
        if found == before:
            assert {name: host.memory_zfs.guids()[name] for name in guids} == guids, step
        elif found != after and job.error is None and job.result.get("applied") == "at next boot":
            assert case.name.startswith("set-"), step  # what a guest does not take is no failure
        elif found != after and case.name not in REPEATED:  # past the commit point, which is told
            assert job.error and "this was done and stays: " in job.error.hint, (step, differences(found, after))
            assert case.name in WITH_A_FINISH, step


async def troubled(host: MemoryHost, request: Request, number: int, when: str) -> tuple[Job, str]:
    """The job of a request with trouble at that change, and which change it was."""
    if when != "cancel":
        host.troubles.at, host.troubles.when = number, when
        job = await done(host, request)
    else:

        def prepare(engine: Engine, job: Job) -> None:
            def cancel(at: int) -> None:
                if at == number:
                    with suppress(WrongState):
                        engine.cancel(job)

            host.troubles.meanwhile = cancel

        job = await done(host, request, prepare)
        assert job.state in (State.CANCELLED, State.SUCCEEDED)
    if job.error:
        assert "not undone" not in job.error.hint
    return job, f"{when} {host.troubles.done[number]}"


def disk(host: MemoryHost, name: str = "web") -> Set:
    return host.memory_zfs.sets[f"rpool/vms/{name}"]


NEVER_DONE = {
    "domain.check-unsaved",
    "volume.check-closed",
    "image.convert",
    "disk.copy",
    "seed.write",
    "seed.write-clone",
    "guest.generalize",
    "guest.renew-identity",
    "volume.read-settings",
    "volume.note-written",
    "snapshot.check-made-here",
    "export.disk",
    "export.stream",
}
"""Kinds of which the host cannot tell whether they were done, and which do no harm done twice."""


@in_loop
async def test_each_step_is_told_from_the_host_alone_to_be_done_and_to_be_undone(case: Case) -> None:
    """What the journal's recovery will ask: before a step it is not done, after it is, and after its undo it is not."""
    host = await host_for(case)
    plan = case.make(host).plan(view(host))
    before, results = picture(host), dict[str, Any]()
    runs = [Run("5f3a", index, results, lambda done, total: None) for index in range(len(plan.steps))]
    for step, run in zip(plan.steps, runs, strict=True):
        already = step.kind == "domain.power" and "reboot" in step.describe()
        assert await step.done(host, run) == already, step
        results.update(await step.do(host, run) or {})
        assert await step.done(host, run) == (step.kind not in NEVER_DONE), step
    if not all(step.reversible for step in plan.steps):
        return
    for step, run in reversed(list(zip(plan.steps, runs, strict=True))):
        await step.undo(host, run)
        await step.undo(host, run)  # harmless when it is undone already
        if step.kind not in ("guest.let-go", "guests.let-go", "volume.write-firmware-variables"):
            assert not await step.done(host, run), step
    assert differences(picture(host), before) == []


@in_loop
async def test_each_step_can_be_written_down_as_json_and_revived(case: Case) -> None:
    host = await host_for(case)
    for step in case.make(host).plan(view(host)).steps:
        assert revive(json.loads(json.dumps(written(step)))) == replace(step, **dict.fromkeys(step.secrets, ""))


AGAIN = ("volume.destroy", "snapshot.destroy-several", "snapshot.destroy", "snapshot.drop-taken", "trash.remove-entry",
         "domain.restore", "domain.undefine", "domain.shutdown", "domain.autostart", "volume.set-readonly",
         "volume.set-property")  # fmt: skip


@in_loop
async def test_what_follows_a_commit_point_can_be_done_twice(case: Case) -> None:
    """As after a crash between doing a step and writing down that it was done."""
    host = await host_for(case)
    plan = case.make(host).plan(view(host))
    results = dict[str, Any]()
    for index, step in enumerate(plan.steps):
        run = Run("5f3a", index, results, lambda done, total: None)
        results.update(await step.do(host, run) or {})
        if plan.part(index) != "prepare" and step.kind in AGAIN:
            before = picture(host)
            await step.do(host, run)
            assert differences(picture(host), before) == [], step


@in_loop
async def test_undoing_what_was_never_done_is_harmless(case: Case) -> None:
    host = await host_for(case)
    plan = case.make(host).plan(view(host))
    before = picture(host)
    for index, step in reversed(list(enumerate(plan.steps))):
        if step.reversible and step.kind not in ("domain.force-off", "volume.set-property", "domain.autostart"):
            await step.undo(host, Run("5f3a", index, {}, lambda done, total: None))
    assert differences(picture(host), before) == []


@in_loop
async def test_a_vm_that_was_forced_off_starts_again_though_a_volume_that_it_does_not_use_has_no_device() -> None:
    host = MemoryHost()
    await host.prepare()
    await web(host, state="running")
    (uuid,) = host.memory_virt.guests
    step = ForceOff(uuid, "web", ("rpool/vms/never", "rpool/vms/web"))
    run = Run("5f3a", 0, {}, lambda done, total: None)
    await step.do(host, run)
    assert await host.virt.state(uuid) == "shutoff"
    await step.undo(host, run)
    assert await host.virt.state(uuid) == "running"


class TestContents:
    """What the operations are for: the bytes."""

    @in_loop
    async def test_a_rollback_brings_the_contents_back_and_keeps_those_given_up_in_the_trash(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        job = await done(host, Rollback(vm(host, "web").id, "s1"))
        sets = host.memory_zfs.sets
        assert sets["rpool/vms/web"].contents == b"first"
        assert sets[f"rpool/vms/.trash/{job.result['trash']}/web"].contents == b"third"
        assert [each.name for each in host.memory_zfs.of("rpool/vms/web")] == ["s1"]
        assert [each.name for each in host.memory_zfs.of(f"rpool/vms/.trash/{job.result['trash']}/web")] == ["s2"]
        assert sets["rpool/vms/web.nvram"].contents == VARIABLES

    @in_loop
    async def test_a_rollback_that_comes_to_another_snapshot_than_was_meant_is_undone(self) -> None:
        """By its GUID: the name alone says nothing."""
        host = await host_for(Case("", plain, lambda host: None))  # type: ignore[arg-type, return-value]
        before = picture(host)
        plan = Rollback(vm(host, "web").id, "s1").plan(view(host))
        next(each for each in host.memory_zfs.of("rpool/vms/web.nvram") if each.name == "s1").guid = 7
        job = Engine(host, MemoryJournal()).start(plan, 0)
        await job.finished.wait()
        assert job.error and "@s1 has the guid 7, and " in job.error.why
        assert picture(host) == before

    @in_loop
    async def test_a_rollback_with_the_definition_brings_it_back_and_keeps_today_s_in_the_trash(self) -> None:
        host = await host_for(Case("", redefined, lambda host: None))  # type: ignore[arg-type, return-value]
        assert "<title>new</title>" in host.guest("web").xml
        uuid = host.guest("web").uuid
        job = await done(host, Rollback(vm(host, "web").id, "s1", with_definition=True))
        assert job.state is State.SUCCEEDED
        assert "<title>" not in host.guest("web").xml
        assert host.guest("web").uuid == uuid
        entry = host.memory_zfs.sets[f"rpool/vms/.trash/{job.result['trash']}"]
        assert "<title>new</title>" in unpack(entry.values[properties.DOMAIN])

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (
                lambda host: [s.values.pop(properties.DOMAIN, "") for s in host.memory_zfs.snaps],
                "no definition was kept",
            ),
            (
                lambda host: host.memory_zfs.sets.pop("rpool/vms/web.nvram"),
                "volumes that are not there now: rpool/vms/web",
            ),
        ],
    )
    @in_loop
    async def test_a_definition_that_cannot_be_had_undoes_the_rollback(
        self, change: Callable[[MemoryHost], Any], told: str
    ) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        await done(host, TakeVmSnapshot(vm(host, "web").id, "half"))
        if "volumes" in told:
            host.memory_zfs.snaps = [s for s in host.memory_zfs.snaps if s.dataset == "rpool/vms/web"]
        change(host)
        await host.known()
        before = picture(host)
        job = await done(host, Rollback(vm(host, "web").id, "half", with_definition=True))
        assert job.error and told in job.error.why
        assert picture(host) == before

    @in_loop
    async def test_a_rolled_back_volume_keeps_its_own_properties(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        values = host.memory_zfs.sets["rpool/vms/web"].values
        values |= {"primarycache": "metadata", "mine:note": "kept", "volsize": "7"}
        before = dict(values)
        await done(host, Rollback(vm(host, "web").id, "s1"))
        found = dict(host.memory_zfs.sets["rpool/vms/web"].values)
        for of_its_creation in ("volblocksize", "volsize", properties.JOB):
            before.pop(of_its_creation, None)
            found.pop(of_its_creation, None)
        assert found == before

    @in_loop
    async def test_a_rollback_and_its_opposite(self) -> None:
        """What was given up can be had again: nothing was destroyed."""
        host = MemoryHost()
        await host.prepare()
        await web(host)
        for snapshot, contents in (("s1", b"first"), ("s1", b"first")):
            await done(host, Rollback(vm(host, "web").id, snapshot))
            assert host.memory_zfs.sets["rpool/vms/web"].contents == contents
        everything = {each.contents for each in host.memory_zfs.sets.values()}
        assert {b"first", b"third"} <= everything

    @in_loop
    async def test_clones_begin_with_their_snapshot_s_contents_and_the_origin_goes_on(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        await done(host, Clone(vm(host, "web").id, ("a",), "s1"))
        await done(host, Clone(vm(host, "web").id, ("b",)))
        sets = host.memory_zfs.sets
        contents = [sets[f"rpool/vms/{name}"].contents for name in ("a", "b", "web")]
        assert contents == [b"first", b"third", b"third"]
        assert sets["rpool/vms/a.nvram"].contents == VARIABLES

    @in_loop
    async def test_a_clone_s_seed_is_its_origin_s_with_a_name_and_an_id_of_its_own(self) -> None:
        host = MemoryHost()
        host.units = host  # type: ignore[assignment]
        await host.prepare()
        await web(host, image=True)
        await done(host, Clone(vm(host, "web").id, ("a",)))
        found = host.memory_zfs.sets["rpool/vms/a.seed"].contents
        assert read_seed(found) == (cloud_init.meta_data(vm(host, "a").id, "a"), SEED)

    @in_loop
    async def test_ten_clones_share_one_snapshot(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        names = tuple(f"c{number}" for number in range(10))
        job = await done(host, Clone(vm(host, "web").id, names))
        assert len([line for line in host.memory_zfs.commands if line.startswith("program")]) == 3
        origins = {host.memory_zfs.sets[f"rpool/vms/{name}"].origin for name in names}
        assert [each and each.name for each in origins] == [job.result["snapshot"]]

    @in_loop
    async def test_a_deleted_vm_waits_in_the_trash_with_its_snapshots_and_is_nobody_s_any_more(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        job = await done(host, Delete(vm(host, "web").id))
        entry = f"rpool/vms/.trash/{job.result['trash']}"
        assert [each.name for each in host.inventory.trash_entries()] == [entry]
        assert [each.name for each in host.memory_zfs.of(f"{entry}/web")] == ["s1", "s2"]
        assert host.inventory.find("web") is None
        noted = host.memory_zfs.sets[entry].values
        assert (noted[properties.NAME], noted[properties.REASON]) == ("web", "deleted")
        assert "<name>web</name>" in unpack(noted[properties.DOMAIN])


class TestFullCopies:
    @in_loop
    async def test_share_nothing_and_leave_no_snapshot(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        job = await done(host, Clone(vm(host, "web").id, ("a",), full=True))
        assert job.error is None
        assert (disk(host, "a").contents, disk(host, "a").origin) == (b"third", None)
        assert host.memory_zfs.of("rpool/vms/a") == []
        assert [each.name for each in host.memory_zfs.of("rpool/vms/web")] == ["s1", "s2"]
        assert disk(host, "a").values[properties.VM] == vm(host, "a").id

    @in_loop
    async def test_one_that_is_not_whole_is_nobody_s_and_goes_with_its_undo(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        before = picture(host)
        plan = Clone(vm(host, "web").id, ("a",), "s1", full=True).plan(view(host))
        host.troubles.at, host.troubles.when = len(host.troubles.done) + 1, "before"  # received, and nothing more
        job = Engine(host, MemoryJournal()).start(plan, 0)
        await job.finished.wait()
        assert job.error
        assert any(line.startswith("receive") for line in host.memory_zfs.commands)
        assert differences(picture(host), before) == []


class TestTemplates:
    @in_loop
    async def test_a_clone_of_one_is_none(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await template(host)
        assert disk(host).values["readonly"] == "on"
        await done(host, Clone(vm(host, "web").id, ("a",)))
        assert (vm(host, "web").template, vm(host, "a").template) == (True, False)
        assert "readonly" not in disk(host, "a").values

    @in_loop
    async def test_a_vm_that_is_started_between_the_plan_and_its_steps_stays_writable(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        plan = SetTemplate(vm(host, "web").id, True).plan(view(host))
        host.memory_virt.put(host.guest("web"), "running")
        before = picture(host)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kldload_kvm.steps.templates.no_longer_busy", lambda work, dataset: work(dataset))
            job = Engine(host, MemoryJournal()).start(plan, 0)
            await job.finished.wait()
        assert isinstance(job.error, WrongState)
        assert differences(picture(host), before) == []

    @in_loop
    async def test_generalized_it_is_off_and_told_what_was_removed(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await with_agent(host)
        job = await done(host, SetTemplate(vm(host, "web").id, True, True))
        assert job.result["generalized"] == "cloud-init machine-id"
        assert (host.guest("web").state, vm(host, "web").template) == ("shutoff", True)


class TestTrash:
    @in_loop
    async def test_what_is_in_use_does_not_keep_the_rest_from_going_when_it_is_due(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await deleted(host)
        (entry,) = trash.entries(host.inventory)
        host.inventory.put_dataset(
            replace(entry.container, properties={**entry.container.properties, properties.SINCE: "1700000000"})
        )
        due = PurgeTrash().plan(view(host))
        assert due.result == {"purged": (entry.id,)}
        host.memory_zfs.open.add(entry.volumes[-1].name)
        request = await PurgeTrash().look(host)
        assert request.plan(view(host)).result == {"purged": ()}

    @in_loop
    async def test_the_undo_of_a_rollback_gives_everything_back_and_keeps_what_it_undoes(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        before, guids = picture(host), host.memory_zfs.guids()
        await done(host, Rollback(vm(host, "web").id, "s1"))
        write(host, "web", b"fourth")
        await done(host, TakeVmSnapshot(vm(host, "web").id, "s4"))
        job = await done(host, RestoreTrash(oldest_first(host)[0]))
        assert job.error is None
        after = picture(host)
        assert differences(before, {name: each for name, each in after.items() if "/.trash" not in name}) == []
        assert {name: host.memory_zfs.guids()[name] for name in guids} == guids
        entry = f"rpool/vms/.trash/{job.result['trash']}"
        assert host.memory_zfs.sets[f"{entry}/web"].contents == b"fourth"
        assert [each.name for each in host.memory_zfs.of(f"{entry}/web")] == ["s4"]
        assert [each.container.name for each in trash.entries(host.inventory)] == [entry]

    @in_loop
    async def test_and_back_and_forth_as_often_as_one_likes(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        await done(host, Rollback(vm(host, "web").id, "s1"))
        for contents in (b"third", b"first", b"third"):
            await done(host, RestoreTrash(oldest_first(host)[0]))
            assert disk(host).contents == contents
            assert len(trash.entries(host.inventory)) == 1

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    @in_loop
    async def test_states_given_up_one_after_the_other_come_back_in_any_order(self, order: tuple[int, int]) -> None:
        host = MemoryHost()
        await host.prepare()
        await rolled_back_twice(host)
        guids = {each.guid for each in host.memory_zfs.snaps}
        contents = (b"third", b"second")
        ids = oldest_first(host)
        for number in order:
            job = await done(host, RestoreTrash(ids[number]))
            assert job.error is None
            assert disk(host).contents == contents[number]
        assert {each.guid for each in host.memory_zfs.snaps} == guids

    @in_loop
    async def test_a_deleted_vm_comes_back_as_it_was(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host, autostart=True)
        before, guids, id_ = picture(host), host.memory_zfs.guids(), vm(host, "web").id
        await done(host, Delete(id_))
        assert host.inventory.find("web") is None
        job = await done(host, RestoreTrash(oldest_first(host)[0]))
        assert job.error is None
        xml = host.guest("web").xml
        assert 'dev="/dev/zvol/rpool/vms/web"' in xml
        after = picture(host)
        assert differences(before, after) == []
        assert {name: host.memory_zfs.guids()[name] for name in guids} == guids
        assert vm(host, "web").id == id_

    @in_loop
    async def test_under_another_name_it_uses_its_volumes_there(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await deleted(host)
        await done(host, Create(name="web"))
        await done(host, RestoreTrash(oldest_first(host)[0], "old"))
        assert disk(host, "old").contents == b"third"
        found = vm(host, "old")
        assert found.domain
        assert found.domain.disks == {
            "vda": "/dev/zvol/rpool/vms/old", "nvram": "/dev/zvol/rpool/vms/old.nvram",
        }  # fmt: skip

    @in_loop
    async def test_with_its_uuid_taken_it_has_one_and_addresses_of_its_own(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await deleted_and_uuid_taken(host)
        await done(host, RestoreTrash(oldest_first(host)[0]))
        one, other = host.guest("web"), host.guest("other")
        assert one.uuid != other.uuid
        assert one.xml.partition('mac address="')[2][:17] != other.xml.partition('mac address="')[2][:17]
        found = vm(host, "web")
        assert found.domain
        assert found.domain.uuid == one.uuid

    @in_loop
    async def test_a_purge_takes_what_it_named_and_leaves_the_rest(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        await done(host, Create(name="bystander"))
        before = picture(host)
        await done(host, Rollback(vm(host, "web").id, "s2"))
        request = purge(host)
        named = set(request.plan(view(host)).destroys)
        there = set(host.memory_zfs.names())
        assert (await done(host, request)).error is None
        assert there - set(host.memory_zfs.names()) == named
        left = {name: each for name, each in before.items() if not name.startswith("rpool/vms/web")}
        assert {name: picture(host)[name] for name in left} == left

    @in_loop
    async def test_a_snapshot_taken_meanwhile_is_not_destroyed_and_keeps_its_volume(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await deleted(host)
        plan = purge(host).plan(view(host))
        assert plan.commit
        entry = plan.commit.touches()[0].removesuffix("@*")
        await host.zfs.snapshot([f"{entry}@by-hand"], {})
        job = Engine(host, MemoryJournal()).start(plan, 0)
        await job.finished.wait()
        assert job.error
        assert f"{entry}@by-hand" in host.memory_zfs.names()

    @in_loop
    async def test_a_volume_replaced_by_another_of_its_name_is_not_destroyed(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await deleted(host)
        plan = purge(host).plan(view(host))
        for snap in host.memory_zfs.snaps:
            snap.guid += 100
        job = Engine(host, MemoryJournal()).start(plan, 0)
        await job.finished.wait()
        assert job.error and "others of the same name" in job.error.why
        assert len(host.memory_zfs.snaps) == 4

    @in_loop
    async def test_a_full_pool_has_no_room_for_the_trash_and_says_what_helps(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        await host.zfs.destroy("rpool/vms/.trash/.spare")

        async def full(name: str, values: dict[str, str]) -> None:
            raise NoSpace(f"{name} was not created", "cannot create: out of space", "")

        host.zfs.create_container = full  # type: ignore[method-assign,assignment]
        job = await done(host, Delete(vm(host, "web").id))
        assert job.error and "kvm-delete --now" in job.error.hint
        assert (await done(host, Delete(vm(host, "web").id, now=True))).error is None
        assert not [name for name in host.memory_zfs.names() if "web" in name]

    @in_loop
    async def test_the_last_clone_takes_the_snapshot_that_was_made_for_it_along(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await last_clone_deleted(host)
        assert [each.name for each in host.memory_zfs.of("rpool/vms/web")][-1].startswith("clone-")
        await done(host, purge(host))
        assert [each.name for each in host.memory_zfs.of("rpool/vms/web")] == ["s1", "s2"]

    @in_loop
    async def test_a_promoted_clone_has_the_snapshots_and_its_origin_can_go(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        await done(host, Clone(vm(host, "web").id, ("one",), "s1"))
        await done(host, Clone(vm(host, "web").id, ("two",), "s2"))
        assert (await done(host, Delete(vm(host, "web").id, promote=True))).error is None
        assert [each.name for each in host.memory_zfs.of("rpool/vms/two")] == ["s1", "s2"]
        assert (await done(host, purge(host))).error is None
        assert {name: disk(host, name).contents for name in ("one", "two")} == {"one": b"first", "two": b"second"}


class TestSavedMemory:
    """Of a VM that libvirt has saved (virsh managedsave): it would go on with whatever the disks are by then."""

    @pytest.mark.parametrize("name", ["rollback", "restore of a state given up", "detach-disk"])
    @in_loop
    async def test_its_disks_are_not_changed(self, name: str) -> None:
        case = next(each for each in CASES if each.name == name)
        host = await host_for(case)
        host.guest("web").kept = Kept(saved=True)
        before = picture(host)
        job = await done(host, case.make(host))
        assert job.error and "its memory is saved" in job.error.why
        assert "virsh managedsave-remove web" in job.error.hint
        assert differences(picture(host), before) == []

    @in_loop
    async def test_a_snapshot_is_not_called_off(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await plain(host)
        host.guest("web").kept = Kept(saved=True)
        assert (await done(host, TakeVmSnapshot(vm(host, "web").id, "x"))).result["consistency"] == "crash"
        taken = (await done(host, SnapshotAll("y"))).result["snapshots"]
        assert [each["consistency"] for each in taken] == ["crash"]

    @in_loop
    async def test_a_snapshot_of_which_nobody_knows_whether_it_is_saved_is_not_called_off(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await plain(host)

        async def unknown(uuid: str) -> Kept:
            raise LibvirtUnavailable("what libvirt keeps of the domain cannot be read", "it went away", "")

        host.virt.kept_of = unknown  # type: ignore[method-assign]
        assert (await done(host, TakeVmSnapshot(vm(host, "web").id, "x"))).result["consistency"] == "crash"


class TestConsistency:
    @pytest.mark.parametrize(
        ("setup", "consistency"),
        [
            (plain, "off"),
            (running, "paused"),
            (with_agent, "app"),
            (with_deaf_agent, "paused"),
            (paused, "paused"),
            (with_another_on_its_volumes, "crash"),
        ],
    )
    @in_loop
    async def test_is_told_and_recorded_and_the_guest_is_as_it_was(self, setup: Setup, consistency: str) -> None:
        host = MemoryHost()
        await host.prepare()
        await setup(host)
        state = host.guest("web").state
        job = await done(host, TakeVmSnapshot(vm(host, "web").id, "x"))
        assert job.result["consistency"] == consistency
        assert host.inventory.snapshots["rpool/vms/web"]["x"].consistency == consistency
        assert (host.guest("web").state, host.guest("web").frozen) == (state, False)
        assert ("held" in job.result) == (state == "running")

    @pytest.mark.parametrize("require", ["", "off", "app", "paused"])
    @pytest.mark.parametrize(
        ("setup", "enough"),
        [
            (plain, {"", "off", "app", "paused"}), (with_agent, {"", "app", "paused"}), (running, {"", "paused"}),
            (with_deaf_agent, {"", "paused"}), (paused, {"", "paused"}), (crashed, {""}),
            (orphaned, {"", "off", "app", "paused"}),
        ],
    )  # fmt: skip
    @in_loop
    async def test_that_was_asked_for_or_no_snapshot(self, setup: Setup, enough: set[str], require: str) -> None:
        taken = require in enough
        host = MemoryHost()
        await host.prepare()
        await setup(host)
        before = picture(host)
        job = await done(host, TakeVmSnapshot(vm(host, "web").id, "x", require))
        assert (job.error is None) == taken
        if not taken:
            assert picture(host) == before
            assert job.error and "was asked for" in job.error.why

    @in_loop
    async def test_of_an_orphan_while_libvirt_is_away_nobody_knows_whether_it_is_written(self) -> None:
        host = await host_for(Case("", orphaned, lambda host: None))  # type: ignore[arg-type, return-value]
        host.memory_virt.available = False
        assert (await done(host, TakeVmSnapshot(vm(host, "web").id, "x"))).result["consistency"] == "crash"

    @in_loop
    async def test_what_is_not_in_it_stands_on_each_part_and_the_definition_on_the_first(self) -> None:
        host = await host_for(Case("", plain, lambda host: None))  # type: ignore[arg-type, return-value]
        guest = host.guest("web")
        tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm></devices>"
        guest.xml = guest.xml.replace("</devices>", tpm).replace("<vcpu ", "<launchSecurity type='sev'/><vcpu ")
        await host.known()
        await done(host, TakeVmSnapshot(vm(host, "web").id, "x"))
        parts = [each for each in host.memory_zfs.snaps if each.name == "x"]
        assert [each.values[properties.EXCLUDES] for each in parts] == ["tpm", "tpm"]
        (first,) = [each for each in parts if properties.DOMAIN in each.values]
        assert first.dataset == "rpool/vms/web"
        assert "<tpm " in unpack(first.values[properties.DOMAIN])
        assert "launchSecurity" not in unpack(first.values[properties.DOMAIN])
        assert host.inventory.snapshot_sets(vm(host, "web"))[-1].excludes == "tpm"

    @in_loop
    async def test_a_vm_that_is_started_between_the_plan_and_the_snapshot_is_not_called_off(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        request = TakeVmSnapshot(vm(host, "web").id, "x")
        plan = request.plan(view(host))
        host.memory_virt.put(host.guest("web"), "running")
        engine = Engine(host, MemoryJournal())
        job = engine.start(plan, 0)
        await job.finished.wait()
        assert job.result["consistency"] == "crash"


class TestRaces:
    """What others do between a plan and its steps."""

    @in_loop
    async def test_a_vm_that_runs_after_all_is_not_rolled_back_under_its_guest(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        plan = Rollback(vm(host, "web").id, "s1").plan(view(host))
        host.memory_virt.put(host.guest("web"), "running")
        before = picture(host)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kldload_kvm.steps.volumes.no_longer_busy", lambda work, dataset: work(dataset))
            engine = Engine(host, MemoryJournal())
            job = engine.start(plan, 0)
            await job.finished.wait()
        assert job.state is State.FAILED
        assert differences(picture(host), before) == []

    @in_loop
    async def test_a_volume_replaced_by_another_of_its_name_is_not_moved(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        plan = Delete(vm(host, "web").id).plan(view(host))
        host.memory_zfs.sets["rpool/vms/web"].guid += 1
        engine = Engine(host, MemoryJournal())
        job = engine.start(plan, 0)
        await job.finished.wait()
        assert job.error and "it was replaced meanwhile" in job.error.why
        assert "rpool/vms/web" in host.memory_zfs.sets
        assert host.guest("web")

    @in_loop
    async def test_a_snapshot_replaced_by_another_of_its_name_is_not_destroyed(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        plan = DeleteVmSnapshot(vm(host, "web").id, "s1").plan(view(host))
        for snap in host.memory_zfs.snaps:
            if snap.name == "s1":
                snap.guid += 100
        engine = Engine(host, MemoryJournal())
        job = engine.start(plan, 0)
        await job.finished.wait()
        assert job.error and "it is another snapshot of the same name now" in job.error.why
        assert len(host.memory_zfs.of("rpool/vms/web")) == 2

    @in_loop
    async def test_a_dataset_that_another_made_under_a_clone_s_name_is_left_alone(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        plan = Clone(vm(host, "web").id, ("a",), "s1").plan(view(host))
        await host.zfs.create_volume("rpool/vms/a", 1 << 20, {})
        engine = Engine(host, MemoryJournal())
        job = engine.start(plan, 0)
        await job.finished.wait()
        assert job.error and "already exists" in job.error.why
        assert "rpool/vms/a" in host.memory_zfs.sets
        assert "rpool/vms/a.nvram" not in host.memory_zfs.sets


def with_cdrom(xml: str, file: Path) -> str:
    """A domain's XML with an image in its drive."""
    drive = f"<disk type='file' device='cdrom'><source file='{file}'/><target dev='sda'/></disk></devices>"
    return xml.replace("</devices>", drive)


class TestApplying:
    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda host: setattr(disk(host), "guid", 1), "rpool/vms/web is another one now"),
            (lambda host: host.memory_zfs.sets.pop("rpool/vms/web.nvram"), "rpool/vms/web.nvram is gone"),
            (lambda host: host.memory_virt.put(host.guest("web"), "running"), "the VM is running, and was shutoff"),
            (lambda host: host.memory_virt.guests.clear(), "the VM is gone, and was shutoff"),
            (lambda host: host.memory_zfs.snaps.pop(0), "rpool/vms/web@s1 is gone"),
            (lambda host: setattr(host.guest("web"), "xml", "<domain/>"), "the definition of the VM has changed"),
        ],
    )
    @in_loop
    async def test_a_plan_in_a_world_that_has_moved_is_refused_saying_what(
        self, change: Callable[[MemoryHost], Any], told: str
    ) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        engine = Engine(host, MemoryJournal())
        job = engine.propose(Rollback(vm(host, "web").id, "s1", with_definition=True).plan(view(host)), 0)
        change(host)
        before = picture(host)
        with pytest.raises(Exception, match="no longer fits this host") as caught:
            await engine.apply(job)
        assert told in caught.value.why  # type: ignore[attr-defined]
        assert picture(host) == before

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda host, file: file.write_bytes(b"longer than before"), "is another one now"),
            (lambda host, file: file.unlink(), "is gone"),
            (lambda host, file: setattr(host.guest("web"), "xml", with_cdrom(host.guest("web").xml, file)),
             "is in a drive of web now"),
        ],
    )  # fmt: skip
    @in_loop
    async def test_an_image_that_is_another_gone_or_in_use_by_now_is_not_removed(
        self, change: Callable[[MemoryHost, Path], Any], told: str, tmp_path: Path
    ) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        file = tmp_path / "netinst.iso"
        file.write_bytes(b"iso")
        facts = replace(FACTS, images={"rpool": (Image(file.name, "iso", 3, 3, str(file)),)})
        view = View(host.inventory, host.config, facts, NOW)
        plan = RemoveImage("rpool", file.name).plan(view)
        assert await host.moved(plan.guards) == []
        change(host, file)
        await host.known()
        (moved,) = await host.moved(plan.guards)
        assert moved == f"{file} {told}"

    @in_loop
    async def test_a_name_that_was_taken_meanwhile(self) -> None:
        host = MemoryHost()
        await host.prepare()
        engine = Engine(host, MemoryJournal())
        job = engine.propose(Create(name="new").plan(view(host)), 0)
        await host.zfs.create_volume("rpool/vms/new", 1 << 20, {})
        with pytest.raises(Exception, match="no longer fits") as caught:
            await engine.apply(job)
        assert caught.value.why == "rpool/vms/new is there now"  # type: ignore[attr-defined]

    @in_loop
    async def test_a_plan_in_the_same_world_is_carried_out(self) -> None:
        host = MemoryHost()
        await host.prepare()
        await web(host)
        engine = Engine(host, MemoryJournal())
        job = engine.propose(Rollback(vm(host, "web").id, "s1").plan(view(host)), 0)
        before = len(host.memory_zfs.commands)
        await engine.apply(job)
        assert host.memory_zfs.commands[before].startswith("list")
        await engine.wait(job, 10)
        assert host.memory_zfs.sets["rpool/vms/web"].contents == b"first"


class TestPruning:
    @in_loop
    async def test_what_cannot_go_by_now_stays_and_the_rest_goes(self) -> None:
        host = await host_for(Case("", hourly, lambda host: PruneSnapshots()))
        plan = PruneSnapshots().plan(view(host))
        assert plan.result["removed"] == ["two@auto-2", "web@auto-1"]
        await host.zfs.clone("rpool/vms/web@auto-1", "rpool/vms/late", {})
        next(each for each in host.memory_zfs.of("rpool/vms/two") if each.name == "auto-2").guid = 9
        job = Engine(host, MemoryJournal()).start(plan, 0)
        await job.finished.wait()
        assert job.state is State.SUCCEEDED
        left = {name for name in host.memory_zfs.names() if "@auto" in name}
        assert {"rpool/vms/web@auto-1", "rpool/vms/two@auto-2"} <= left
        assert not {"rpool/vms/web.nvram@auto-1", "rpool/vms/two.nvram@auto-2"} & left


@in_loop
async def test_what_came_from_another_host_with_its_name_and_properties_is_not_pruned() -> None:
    host = MemoryHost()
    await host.prepare()
    await hourly(host)
    plan = PruneSnapshots().plan(view(host))
    host.memory_zfs.received = {"rpool/vms/web@auto-1"}
    job = Engine(host, MemoryJournal()).start(plan, 0)
    await job.finished.wait()
    names = {each.full for each in host.memory_zfs.snaps}
    assert {"rpool/vms/web@auto-1", "rpool/vms/web.nvram@auto-1"} <= names
    assert "rpool/vms/two@auto-2" not in names
    assert job.result["removed"] == ["two@auto-2"]


@in_loop
async def test_what_is_held_since_the_plan_was_made_stays_whole() -> None:
    """A hold on one volume's part, that the service has not heard of yet, keeps the parts of the others too."""
    host = MemoryHost()
    await host.prepare()
    await hourly(host)
    plan = PruneSnapshots().plan(view(host))
    late = next(each for each in host.memory_zfs.of("rpool/vms/two.nvram") if each.name == "auto-2")
    assert "rpool/vms/two@auto-2" in plan.destroys
    late.holds.add("somebody")
    job = Engine(host, MemoryJournal()).start(plan, 0)
    await job.finished.wait()
    assert job.error is None
    names = {each.full for each in host.memory_zfs.snaps}
    assert {"rpool/vms/two@auto-2", "rpool/vms/two.nvram@auto-2"} <= names
