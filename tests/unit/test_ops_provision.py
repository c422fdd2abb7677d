"""Provision: given this domain and host, exactly these volumes, or this refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kldload_kvm.engine.plan import Guard, Plan
from kldload_kvm.model import properties
from kldload_kvm.model.errors import AlreadyExists, InvalidArgument, KvmError, NoSpace, NotFound, WrongState
from kldload_kvm.model.sizes import GIB
from kldload_kvm.ops.provision import Provision
from kldload_kvm.steps.images import ConvertImage
from kldload_kvm.steps.volumes import CloneVolume, CreateVolume, NoteWritten
from unit.test_intent import asking
from world import World, filesystem, id_of, snapshot, uuid_of, volume

UUID = uuid_of("new")


@pytest.fixture
def host() -> World:
    return World()


def domain(*volumes: str, **disks: str) -> str:
    """A domain that asks for these, and has disks on these paths."""
    have = "".join(
        f'<disk type="block"><source dev="{path}"/><target dev="{target}"/></disk>' for target, path in disks.items()
    )
    return asking(*volumes).replace("</domain>", f"<devices>{have}</devices></domain>")


def request(xml: str, seen: frozenset[str] = frozenset()) -> Provision:
    return Provision(UUID, "new", xml, seen)


def plan(host: World, xml: str, seen: frozenset[str] = frozenset()) -> Plan:
    return request(xml, seen).plan(host.view())


def refusal(host: World, xml: str, seen: frozenset[str] = frozenset()) -> KvmError:
    with pytest.raises(KvmError) as caught:
        plan(host, xml, seen)
    return caught.value


PLACE = "/dev/zvol/rpool/vms/new"


def test_blank_volumes_of_one_new_vm(host: World) -> None:
    made = plan(host, domain('target="vda" size="20G"', 'target="vdb" size="1G"', vda=PLACE, vdb=f"{PLACE}.vdb"))
    first, second, noted = made.steps
    assert noted == NoteWritten(("rpool/vms/new", "rpool/vms/new.vdb"))  # a guest may have them from now on
    assert isinstance(first, CreateVolume) and isinstance(second, CreateVolume)
    assert (first.dataset, first.size) == ("rpool/vms/new", 20 * GIB)
    assert (second.dataset, second.size) == ("rpool/vms/new.vdb", GIB)
    assert first.properties[properties.VM] == second.properties[properties.VM] == made.objects[0]
    assert first.properties[properties.UUID] == UUID
    assert (first.properties[properties.TARGET], second.properties[properties.TARGET]) == ("vda", "vdb")
    assert made.commit is None
    assert made.locks == {"VM:new"}
    assert Guard("absent", "rpool/vms/new") in made.guards


def test_from_an_image_which_says_how_large_it_is(host: World) -> None:
    made = plan(host, domain('target="vda" image="debian.qcow2"', vda=PLACE))
    create, _, convert, noted = made.steps
    assert noted == NoteWritten(("rpool/vms/new",))
    assert isinstance(create, CreateVolume) and isinstance(convert, ConvertImage)
    assert (create.size, convert.dataset) == (3 * GIB, "rpool/vms/new")


def test_a_clone_of_a_vm_s_snapshot_or_of_its_newest(host: World) -> None:
    host.vm("base")
    for txg, name in ((30, "old"), (40, "golden"), (50, "clone-1")):
        kind = "clone" if name.startswith("clone") else "manual"
        host.inventory.put_snapshot(snapshot("rpool/vms/base", name, txg, kind))
    for asked, taken in (("base@old", "old"), ("base", "golden")):
        made = plan(host, domain(f'target="vda" clone-of="{asked}"', vda=PLACE))
        step = made.steps[0]
        assert isinstance(step, CloneVolume)
        assert (step.snapshot, step.dataset) == (f"rpool/vms/base@{taken}", "rpool/vms/new")
        assert "VM:base" in made.locks


def test_what_is_there_already_is_left_alone_and_the_rest_is_of_the_same_vm(host: World) -> None:
    host.inventory.put_dataset(volume("rpool/vms/new", target="vda"))
    xml = domain('target="vda" size="20G"', 'target="vdb" size="1G"', vda=PLACE, vdb=f"{PLACE}.vdb")
    made = plan(host, xml)
    step = made.steps[0]
    assert isinstance(step, CreateVolume) and step.dataset == "rpool/vms/new.vdb"
    assert made.objects == (id_of("new"),)


def test_the_first_disk_comes_back_under_its_own_name_if_the_others_stayed(host: World) -> None:
    """As for a transient domain whose first volume goes with it."""
    host.inventory.put_dataset(volume("rpool/vms/new.vdb", target="vdb"))
    made = plan(host, domain('target="vda" size="20G"', 'target="vdb" size="1G"', vda=PLACE, vdb=f"{PLACE}.vdb"))
    step = made.steps[0]
    assert isinstance(step, CreateVolume) and step.dataset == "rpool/vms/new"
    assert (made.objects, made.locks) == ((id_of("new"),), {"VM:new", "VM:new.vdb"})


def test_a_further_disk_never_takes_the_first_one_s_name(host: World) -> None:
    host.inventory.put_dataset(volume("rpool/vms/new.vdb", target="vdb"))
    error = refusal(host, domain('target="vdc" size="1G"', vdb=f"{PLACE}.vdb", vdc=PLACE))
    assert isinstance(error, InvalidArgument)
    assert "the source of its vdc is /dev/zvol/rpool/vms/new, and" in error.why


def test_a_fate_alone_asks_for_no_volume(host: World) -> None:
    assert request(domain('target="vda" undefine="keep"', vda="/some/file.qcow2")).missing(host.view()) == {}


def test_what_was_there_once_is_never_made_anew(host: World) -> None:
    error = refusal(host, domain('target="vda" size="20G"', vda=PLACE), frozenset({"vda"}))
    assert isinstance(error, WrongState)
    assert "was there once: rpool/vms/new" in error.why


@pytest.mark.parametrize(
    ("asked", "path", "kind", "words"),
    [
        ('size="1G"', "/dev/zvol/rpool/vms/images", InvalidArgument, "keeps that name for itself"),
        ('size="1G"', "/dev/zvol/rpool/vms/new.vda", InvalidArgument, "the ending of one of a VM's further volumes"),
        ('size="1G"', "/dev/zvol/rpool/vms/-x", InvalidArgument, "begins with '-'"),
        ('image="nothing.qcow2"', PLACE, NotFound, "no image store has 'nothing.qcow2'"),
        ('image="debian.qcow2" size="1G"', PLACE, InvalidArgument, "too small"),
        ('clone-of="nobody"', PLACE, NotFound, "no such VM"),
        ('clone-of="base@gone"', PLACE, NotFound, "no snapshot @gone"),
        ('clone-of="empty"', PLACE, NotFound, "nothing to be rolled back to"),
        ('clone-of="far@s"', PLACE, InvalidArgument, "two storages"),
    ],
)
def test_what_cannot_be(host: World, asked: str, path: str, kind: type[KvmError], words: str) -> None:
    for name, parent in (("base", "rpool/vms"), ("empty", "rpool/vms"), ("far", "vmpool/vms")):
        host.vm(name, parent=parent)
    host.inventory.put_snapshot(snapshot("vmpool/vms/far", "s", 30))
    host.inventory.put_snapshot(snapshot("rpool/vms/base", "s", 30))
    error = refusal(host, domain(f'target="vda" {asked}', vda=path))
    assert isinstance(error, kind), error
    assert words in str(error)


@pytest.mark.parametrize(
    "path", ["/var/lib/x.qcow2", "/dev/zvol/other/new", "/dev/zvol/rpool/vms/a/b", "/dev/zvol/rpool/vms/isos"]
)
def test_a_disk_elsewhere_is_none_of_ours(host: World, path: str) -> None:
    assert request(domain('target="vda" size="1G"', vda=path)).missing(host.view()) == {}


def test_a_disk_that_was_taken_from_the_domain_is_not_asked_for(host: World) -> None:
    host.inventory.put_dataset(volume("rpool/vms/new", target="vda"))
    xml = domain('target="vda" size="20G"', 'target="vdb" size="1G"', vda=PLACE)
    assert request(xml).missing(host.view()) == {}


def test_with_a_volume_of_another_s_vm_nothing_is_made(host: World) -> None:
    """Else the new volume would be that VM's, and go the way of it."""
    host.vm("victim", disks=2)
    error = refusal(host, domain('target="vda" size="1G"', vda=PLACE, vdb="/dev/zvol/rpool/vms/victim.vdb"))
    assert isinstance(error, WrongState)
    assert "victim" in error.why


@pytest.mark.parametrize("path", ["/dev/zvol/vmpool/vms/new.vdb", "/dev/zvol/rpool/vms/data"])
def test_a_further_volume_on_another_storage_or_of_another_name(host: World, path: str) -> None:
    error = refusal(host, domain('target="vda" size="1G"', 'target="vdb" size="1G"', vda=PLACE, vdb=path))
    assert isinstance(error, InvalidArgument)
    assert "/dev/zvol/rpool/vms/new.vdb" in error.why


def test_a_name_that_another_vm_has(host: World) -> None:
    host.inventory.put_dataset(volume("vmpool/vms/new", target="vda", vm="other"))
    error = refusal(host, domain('target="vda" size="1G"', vda=PLACE))
    assert isinstance(error, AlreadyExists)


def test_a_pool_that_is_not_there(host: World) -> None:
    host.inventory.remove_dataset("rpool/vms")
    error = refusal(host, domain('target="vda" size="1G"', vda=PLACE))
    assert (type(error), error.hint) == (NotFound, "is its pool imported?")


def test_a_pool_below_its_floor(host: World) -> None:
    host.inventory.put_dataset(replace(filesystem("rpool/vms"), used=100 * GIB, available=GIB))
    assert isinstance(refusal(host, domain('target="vda" size="1G"', vda=PLACE)), NoSpace)
