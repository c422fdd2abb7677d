"""What is no whole VM: told from the inventory, with the reason and what can be done; and taken in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kldload_kvm.engine.plan import Guard, Plan
from kldload_kvm.model import properties
from kldload_kvm.model.domain_xml import build
from kldload_kvm.model.errors import AlreadyExists, InvalidArgument, KvmError, NotFound, WrongState
from kldload_kvm.model.foreign import ADOPTABLE, FILES, MISSING, ORPHAN, SHARED, Foreign, foreign
from kldload_kvm.model.inventory import Dataset
from kldload_kvm.ops.adopt import Adopt
from kldload_kvm.steps.adopting import NoteOwner, RegisterDomain
from world import World, domain, guid_of, id_of, snapshot, spec, uuid_of


@pytest.fixture
def host() -> World:
    return World()


def plain(name: str, **more: str) -> Dataset:
    """A volume of nobody's."""
    return Dataset(name, guid_of(name), 10, "volume", size=1 << 30, **more)  # type: ignore[arg-type]


def theirs(host: World, name: str = "old", state: str = "shutoff", **disks: str) -> None:
    """A domain that virsh made, on these."""
    disks = disks or {"vda": f"rpool/vms/{name}"}
    xml = build(spec(name, disks=disks)).replace(f"/dev/zvol/rpool/vms/{name}.nvram", f"/var/lib/{name}.fd")
    host.inventory.put_domain(domain(name, state, xml=xml))


def found(host: World, libvirt: bool = True) -> list[Foreign]:
    return foreign(host.inventory, libvirt)


def test_a_host_of_whole_vms_has_nothing_foreign(host: World) -> None:
    host.vm("web")
    assert found(host) == []


def test_a_domain_on_volumes_of_ours_can_be_adopted(host: World) -> None:
    host.inventory.put_dataset(plain("rpool/vms/old"))
    theirs(host, state="running")
    (each,) = found(host)
    assert (each.name, each.state, each.kind, each.volumes) == ("old", "running", ADOPTABLE, ("rpool/vms/old",))
    assert each.hint == "take it in: kvm-adopt old"


def test_disks_elsewhere_are_named(host: World) -> None:
    host.inventory.put_dataset(plain("rpool/vms/old"))
    theirs(host, vda="rpool/vms/old", vdb="rpool/other/old")
    (each,) = found(host)
    assert (each.kind, "/dev/zvol/rpool/other/old" in each.why) == (FILES, True)


def test_volumes_that_are_not_there_are_named(host: World) -> None:
    theirs(host)
    (each,) = found(host)
    assert (each.kind, each.why) == (MISSING, "its volumes are not there: rpool/vms/old")


def test_the_volumes_of_another_s_vm(host: World) -> None:
    host.vm("web")
    theirs(host, vda="rpool/vms/web")
    (each,) = found(host)
    assert (each.kind, each.why) == (SHARED, "its volumes are those of web")


def test_a_vm_without_a_domain_is_an_orphan_unless_nobody_can_tell(host: World) -> None:
    host.vm("web", "orphan")
    (each,) = found(host)
    assert (each.name, each.kind) == ("web", ORPHAN)
    assert "kvm-adopt web" in each.hint
    assert found(host, libvirt=False) == []


def plan(host: World, name: str) -> Plan:
    return Adopt.parse("", [name], {}).plan(host.view())


def refusal(host: World, name: str) -> KvmError:
    with pytest.raises(KvmError) as caught:
        plan(host, name)
    return caught.value


class TestTakingIn:
    @pytest.mark.parametrize("name", ["old", uuid_of("old")])
    def test_each_volume_is_noted_to_be_of_one_new_vm(self, host: World, name: str) -> None:
        for each in ("rpool/vms/old", "rpool/vms/data"):
            host.inventory.put_dataset(plain(each, volmode="dev"))
        theirs(host, vda="rpool/vms/old", vdb="rpool/vms/data")
        made = plan(host, name)
        first, second = made.steps
        assert isinstance(first, NoteOwner) and isinstance(second, NoteOwner)
        assert (first.dataset, second.dataset) == ("rpool/vms/old", "rpool/vms/data")
        assert first.values == {
            properties.VM: made.objects[0], properties.UUID: uuid_of("old"), properties.ROLE: "disk",
            properties.TARGET: "vda",
        }  # fmt: skip
        assert second.values[properties.VM] == made.objects[0]
        assert made.guards == (Guard("guid", "rpool/vms/old", guid_of("rpool/vms/old")),
                               Guard("guid", "rpool/vms/data", guid_of("rpool/vms/data")))  # fmt: skip
        assert made.result["name"] == "old"
        assert made.warnings == ("its UEFI variables are the file /var/lib/old.fd, and are in no snapshot",)

    def test_a_volume_that_the_host_looks_into_is_warned_of(self, host: World) -> None:
        host.inventory.put_dataset(plain("rpool/vms/old", volmode="full"))
        theirs(host)
        assert any("zfs set volmode=dev" in each for each in plan(host, "old").warnings)

    def test_it_is_called_as_its_first_volume_is(self, host: World) -> None:
        host.inventory.put_dataset(plain("rpool/vms/disk1"))
        theirs(host, vda="rpool/vms/disk1")
        assert plan(host, "old").locks == {"VM:disk1"}

    def test_a_name_that_a_vm_of_another_storage_has(self, host: World) -> None:
        host.vm("old")
        host.inventory.put_dataset(plain("vmpool/vms/old"))
        theirs(host, "theirs", vda="vmpool/vms/old")
        error = refusal(host, "theirs")
        assert (type(error), "rpool/vms/old is the VM of that name" in error.why) == (AlreadyExists, True)

    def test_what_cannot_be(self, host: World) -> None:
        assert isinstance(refusal(host, "nobody"), NotFound)
        host.vm("web")
        assert isinstance(refusal(host, "web"), AlreadyExists)
        theirs(host, "gone")
        assert isinstance(refusal(host, "gone"), WrongState)
        for each in ("rpool/vms/a", "vmpool/vms/b"):
            host.inventory.put_dataset(plain(each))
        theirs(host, "two", vda="rpool/vms/a", vdb="vmpool/vms/b")
        assert "several storages" in refusal(host, "two").why

    @pytest.mark.parametrize("name", ["", "x" * 256, "a\nb"])
    def test_what_is_no_name(self, name: str) -> None:
        with pytest.raises(InvalidArgument):
            Adopt.parse("", [name], {})


class TestDefiningAgain:
    def test_from_the_newest_of_our_snapshots_that_keeps_a_definition(self, host: World) -> None:
        host.vm("web", "orphan")
        for txg, name, kind in ((30, "s1", "manual"), (50, "s2", "auto"), (60, "autosnap", "foreign")):
            host.inventory.put_snapshot(snapshot("rpool/vms/web", name, txg, kind))
        made = plan(host, "web")
        assert made.commit == RegisterDomain(uuid_of("web"), "web", ("rpool/vms/web@s2", "rpool/vms/web@s1"))
        assert made.prepare == ()
        assert made.objects == (id_of("web"),)

    def test_under_a_new_uuid_if_none_is_known_which_is_noted_first(self, host: World) -> None:
        host.vm("web", "orphan")
        for each in ("rpool/vms/web", "rpool/vms/web.nvram"):
            known = host.inventory.datasets[each]
            without = {key: value for key, value in known.properties.items() if key != properties.UUID}
            host.inventory.put_dataset(replace(known, properties=without))
        host.inventory.put_snapshot(snapshot("rpool/vms/web", "s1", 30))
        made = plan(host, "web")
        assert isinstance(made.commit, RegisterDomain)
        uuid = made.commit.uuid
        assert made.prepare == tuple(
            NoteOwner(each, {properties.UUID: uuid}) for each in ("rpool/vms/web", "rpool/vms/web.nvram")
        )

    def test_without_a_snapshot_of_ours(self, host: World) -> None:
        host.vm("web", "orphan")
        assert "virsh define" in refusal(host, "web").hint
