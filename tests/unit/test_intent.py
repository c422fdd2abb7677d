"""What a domain's metadata asks for: read, or refused with the reason."""

from __future__ import annotations

import pytest

import world
from kldload_kvm.model.errors import InvalidArgument
from kldload_kvm.model.intent import Wanted, wanted
from kldload_kvm.model.sizes import GIB


def asking(*volumes: str) -> str:
    """A domain's XML with these <volume> elements."""
    return world.asking("<domain><name>web</name></domain>", *volumes)


def test_a_domain_without_our_element_asks_for_nothing() -> None:
    assert wanted("<domain><name>web</name></domain>") == {}
    assert wanted('<domain><metadata><volumes><volume target="vda" size="1G"/></volumes></metadata></domain>') == {}


def test_each_kind_of_volume() -> None:
    found = wanted(asking(
        'target="vda" size="20"', 'target="vdb" clone-of="base@golden" undefine="keep"',
        'target="vdc" image="debian.qcow2" size="30G"', 'target="vdd" undefine="destroy" ephemeral="trash"',
    ))  # fmt: skip
    assert found == {
        "vda": Wanted("vda", 20 * GIB),
        "vdb": Wanted("vdb", 0, "base@golden", "", "keep"),
        "vdc": Wanted("vdc", 30 * GIB, "", "debian.qcow2"),
        "vdd": Wanted("vdd", fate="destroy", end="trash"),
    }
    assert [each.can_be_made for each in found.values()] == [True, True, True, False]


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        ('size="1G"', "the target ''"),
        ('target="../x" size="1G"', "the target '../x'"),
        ('target="vda" size="-1"', "-1"),
        ('target="vda" size="much"', "much"),
        ('target="vda" sice="1G"', "'sice', which is not known"),
        ('target="vda" undefine="burn"', "undefine='burn'"),
        ('target="vda" ephemeral="yes"', "ephemeral='yes'"),
        ('target="vda" ephemeral="keep"', "ephemeral='keep'"),
        ('target="vda" image="a" clone-of="b"', "asks for clone-of and image"),
        ('target="vda" size="1G" clone-of="b"', "asks for clone-of and size"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_reason(volume: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        wanted(asking(volume))
    assert words in str(caught.value)
