"""Retire: what becomes of each volume of a VM whose domain others undefined."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kldload_kvm.engine.plan import Plan
from kldload_kvm.model import properties
from kldload_kvm.model.domain_xml import build
from kldload_kvm.model.errors import WrongState
from kldload_kvm.model.inventory import Domain
from kldload_kvm.model.trash import UNDEFINED
from kldload_kvm.ops.retire import Retire
from kldload_kvm.steps.trash import CheckClosed, CreateTrashEntry, DestroyVolume
from kldload_kvm.steps.volumes import RenameVolume
from world import CONFIG, World, asking, domain, id_of, snapshot, spec, volume


@pytest.fixture
def host() -> World:
    return World()


def undefined(host: World, *volumes: str, disks: int = 1) -> Domain:
    """The VM web lost its domain, which had said this of its volumes; the domain as it was."""
    host.vm("web", "orphan", disks=disks)
    paths = {"vda": "rpool/vms/web", **({"vdb": "rpool/vms/web.vdb"} if disks > 1 else {})}
    xml = build(spec("web", disks=paths))
    return domain("web", xml=asking(xml, *volumes) if volumes else xml)


def plan(host: World, was: Domain) -> Plan:
    return Retire(id_of("web"), was).plan(host.view())


def moved(made: Plan) -> list[str]:
    return [step.old for step in made.steps if isinstance(step, RenameVolume)]


def destroyed(made: Plan) -> list[str]:
    return [step.dataset for step in made.steps if isinstance(step, DestroyVolume)]


def test_without_a_word_all_go_to_the_trash_with_the_definition_as_it_was(host: World) -> None:
    made = plan(host, undefined(host))
    assert moved(made) == ["rpool/vms/web", "rpool/vms/web.nvram"]
    entry = made.steps[0]
    assert isinstance(entry, CreateTrashEntry)
    assert entry.properties[properties.REASON] == UNDEFINED
    assert entry.properties[properties.DOMAIN]
    assert made.commit is None and made.steps == made.prepare  # all of it can be undone
    assert made.destroys == ()


def test_configured_to_stay_they_stay(host: World) -> None:
    host.config = replace(CONFIG, undefine="keep")
    with pytest.raises(WrongState):
        plan(host, undefined(host))


def test_a_word_for_one_volume_counts_for_that_one(host: World) -> None:
    made = plan(host, undefined(host, 'target="vdb" undefine="keep"', disks=2))
    assert moved(made) == ["rpool/vms/web", "rpool/vms/web.nvram"]


def test_variables_go_the_way_of_the_first_disk(host: World) -> None:
    made = plan(host, undefined(host, 'target="vda" undefine="keep"', disks=2))
    assert moved(made) == ["rpool/vms/web.vdb"]


def test_what_is_to_be_destroyed_is_destroyed_last_with_its_snapshots_by_name(host: World) -> None:
    was = undefined(host, 'target="vdb" undefine="destroy"', disks=2)
    host.inventory.put_snapshot(snapshot("rpool/vms/web.vdb", "s1", 30))
    made = plan(host, was)
    assert destroyed(made) == ["rpool/vms/web.vdb"]
    assert moved(made) == ["rpool/vms/web", "rpool/vms/web.nvram"]
    assert "rpool/vms/web.vdb@s1" in made.destroys
    assert made.prepare[0] == CheckClosed(("rpool/vms/web.vdb",))
    assert made.prepare[-1] == made.steps[3]


def test_what_has_clones_is_not_destroyed_but_waits(host: World) -> None:
    was = undefined(host, 'target="vda" undefine="destroy"')
    host.inventory.put_snapshot(snapshot("rpool/vms/web", "s1", 30))
    host.inventory.put_dataset(volume("rpool/vms/copy", target="vda", origin="rpool/vms/web@s1"))
    made = plan(host, was)
    assert destroyed(made) == ["rpool/vms/web.nvram"]
    assert moved(made) == ["rpool/vms/web"]


def test_words_that_cannot_be_understood_destroy_nothing(host: World) -> None:
    made = plan(host, undefined(host, 'target="vda" undefine="destroy" sudo="yes"'))
    assert destroyed(made) == []
    assert moved(made) == ["rpool/vms/web", "rpool/vms/web.nvram"]


def test_a_word_counts_for_the_disk_that_is_there_and_not_for_one_that_was(host: World) -> None:
    """Its disk was taken from it to be kept, or another one is there now."""
    was = undefined(host, 'target="vdb" undefine="destroy"', disks=2)
    for disks in ({"vda": "/dev/zvol/rpool/vms/web"}, {**was.disks, "vdb": "/dev/zvol/rpool/vms/other"}):
        made = plan(host, replace(was, disks=disks))
        assert destroyed(made) == []
        assert "rpool/vms/web.vdb" in moved(made)


def test_what_another_domain_has_too_stays_with_all_the_rest(host: World) -> None:
    was = undefined(host, disks=2)
    xml = build(spec("rescue", disks={"vda": "rpool/vms/web.vdb"}))
    host.inventory.put_domain(domain("rescue", xml=xml))
    with pytest.raises(WrongState) as caught:
        plan(host, was)
    assert "rescue" in caught.value.why


def test_what_the_domain_had_only_borrowed_stays(host: World) -> None:
    undefined(host, disks=2)
    xml = build(spec("rescue", disks={"vda": "rpool/vms/web.vdb"}))
    with pytest.raises(WrongState):
        plan(host, domain("rescue", xml=xml))


def test_volumes_that_a_domain_uses_stay(host: World) -> None:
    was = undefined(host)
    host.vm("web")
    with pytest.raises(WrongState):
        plan(host, was)


def test_a_volume_that_the_domain_did_not_have_stays(host: World) -> None:
    """As one that was renamed aside to keep it, or a copy on another storage while the pool is away."""
    was = undefined(host)
    (disk,) = (each for each in host.get("web").disks)
    host.inventory.remove_dataset(disk.name)
    host.inventory.put_dataset(replace(disk, name="rpool/vms/web-keep-me"))
    with pytest.raises(WrongState, match="did not have rpool/vms/web-keep-me"):
        plan(host, was)


def test_what_is_to_be_destroyed_and_somebody_holds_goes_to_the_trash(host: World) -> None:
    was = undefined(host, 'target="vda" undefine="destroy"')
    host.inventory.put_snapshot(replace(snapshot("rpool/vms/web", "s1", 7), holds=1))
    made = plan(host, was)
    assert (moved(made)[:1], "rpool/vms/web" in destroyed(made)) == (["rpool/vms/web"], False)
