"""End: what becomes of the volumes of a transient domain that has ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kldload_kvm.engine.plan import Plan
from kldload_kvm.model import properties
from kldload_kvm.model.domain_xml import build
from kldload_kvm.model.errors import WrongState
from kldload_kvm.model.inventory import Domain
from kldload_kvm.ops.end import End, fates
from kldload_kvm.steps.trash import DestroyVolume
from kldload_kvm.steps.volumes import RenameVolume
from world import World, asking, domain, id_of, snapshot, spec, uuid_of

DESTROY, TRASH = 'target="vda" size="1G" ephemeral="destroy"', 'target="vda" size="1G" ephemeral="trash"'


@pytest.fixture
def host() -> World:
    return World()


def ended(host: World, *asked: str, disks: int = 1, **marks: str) -> Domain:
    """The transient domain web has ended, which had asked for this; marks: what stands on its disks, by target."""
    for each in host.vm("web", "orphan", disks=disks).volumes:
        if mark := marks.get(each.properties.get(properties.TARGET, "")):
            host.inventory.put_dataset(replace(each, properties={**each.properties, properties.EPHEMERAL: mark}))
    paths = {"vda": "rpool/vms/web", **({"vdb": "rpool/vms/web.vdb"} if disks > 1 else {})}
    return domain("web", xml=asking(build(spec("web", disks=paths)), *asked), persistent=False)


def plan(host: World, was: Domain) -> Plan:
    return End(id_of("web"), was).plan(host.view())


def names(made: Plan) -> tuple[list[str], list[str]]:
    """What is moved to the trash, and what is destroyed."""
    moved = [step.old for step in made.steps if isinstance(step, RenameVolume)]
    return moved, [step.dataset for step in made.steps if isinstance(step, DestroyVolume)]


def test_what_was_made_to_be_destroyed_is_with_its_snapshots_and_nothing_else(host: World) -> None:
    was = ended(host, DESTROY, disks=2, vda="destroy")
    host.inventory.put_snapshot(snapshot("rpool/vms/web", "s1", 30))
    made = plan(host, was)
    assert names(made) == ([], ["rpool/vms/web"])
    assert "rpool/vms/web@s1" in made.destroys
    assert (made.operation, made.result["_uuid"], made.result["_ended"]) == ("vm.end", uuid_of("web"), ("vda",))


def test_what_was_made_for_the_trash_waits_there(host: World) -> None:
    made = plan(host, ended(host, TRASH, vda="trash"))
    assert names(made) == (["rpool/vms/web"], [])
    assert made.destroys == ()


@pytest.mark.parametrize(
    ("asked", "marks"),
    [
        ((), {"vda": "destroy"}),  # it does not ask for it
        ((DESTROY,), {}),  # it was not made so: it was there before
        ((DESTROY,), {"vda": "trash"}),  # made for something else
        (('target="vda" undefine="destroy"',), {"vda": "destroy"}),
        ((DESTROY, 'target="vdb" sudo="yes"'), {"vda": "destroy"}),  # it cannot be understood
        (('target="vdb" ephemeral="destroy"',), {"vda": "destroy"}),  # a disk that it has not
    ],
)
def test_all_else_stays(host: World, asked: tuple[str, ...], marks: dict[str, str]) -> None:
    was = ended(host, *asked, **marks)
    with pytest.raises(WrongState):
        plan(host, was)


def test_a_disk_elsewhere_is_not_the_one_that_was_made(host: World) -> None:
    was = ended(host, DESTROY, vda="destroy")
    with pytest.raises(WrongState):
        plan(host, replace(was, disks={"vda": "/dev/zvol/rpool/vms/other"}))
    assert fates(replace(was, disks={})) == {"": "destroy"}


def test_what_another_domain_has_stays(host: World) -> None:
    was = ended(host, DESTROY, vda="destroy")
    host.inventory.put_domain(domain("rescue", xml=build(spec("rescue", disks={"vda": "rpool/vms/web"}))))
    with pytest.raises(WrongState, match="stay where they are"):
        plan(host, was)


def test_of_another_domain_s_vm_nothing_goes(host: World) -> None:
    was = ended(host, DESTROY, vda="destroy")
    with pytest.raises(WrongState) as caught:
        plan(host, replace(was, uuid=uuid_of("other")))
    assert "the domain that has ended had only borrowed them" in caught.value.why
