"""Steps and plans as data: every kind of step can be written down and revived, and says of itself what it must."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields, is_dataclass, replace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kldload_kvm.ops.registry
import toy_host
from kldload_kvm.engine.plan import KINDS, Guard, Plan, Run, Step, revive, step_kind, written
from kldload_kvm.ops.registry import REQUESTS
from kldload_kvm.steps.volumes import CreateVolume

OURS = {kind: cls for kind, cls in KINDS.items() if cls.__module__.startswith("kldload_kvm.")}
"""Every kind of step that any operation uses: importing the registry has registered them all."""


@pytest.fixture(params=sorted(OURS))
def kind(request: pytest.FixtureRequest) -> type[Step]:
    return OURS[request.param]


def test_all_kinds_are_known() -> None:
    assert {
        "volume.create",
        "domain.define",
        "snapshot.take",
        "image.add",
        "seed.write",
        "guest.quiesce",
    } <= OURS.keys()
    assert len(OURS) >= 20


@given(data=st.data())
def test_a_step_survives_being_written_down(data: st.DataObject) -> None:
    cls = OURS[data.draw(st.sampled_from(sorted(OURS)))]
    step = data.draw(st.builds(cls))
    text = json.dumps(written(step))
    found = revive(json.loads(text))
    assert type(found) is cls
    assert found == replace(step, **dict.fromkeys(cls.secrets, ""))


def test_a_step_is_frozen_plain_data(kind: type[Step]) -> None:
    assert is_dataclass(kind)
    plain = {"str", "int", "bool", "tuple[str, ...]", "dict[str, str]", "Format", "Format | None"}
    assert {str(field.type) for field in fields(kind)} <= plain
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]


@given(data=st.data())
def test_a_step_describes_itself_in_one_line_and_names_what_it_touches(data: st.DataObject) -> None:
    words = st.from_regex(r"[a-z0-9/]{1,20}", fullmatch=True)
    cls = OURS[data.draw(st.sampled_from(sorted(OURS)))]
    given = {field.name: words for field in fields(cls) if field.type == "str"}
    step = data.draw(st.builds(cls, **given))  # type: ignore[arg-type]
    assert step.describe() and "\n" not in step.describe()
    assert all(isinstance(name, str) for name in (*step.touches(), *step.destroys()))


def test_what_can_be_undone_says_how_and_what_cannot_says_so(kind: type[Step]) -> None:
    own = kind.undo is not Step.undo
    assert own == kind.reversible


def test_what_destroys_cannot_be_undone(kind: type[Step]) -> None:
    if kind.destroys is not Step.destroys:
        assert not kind.reversible


def test_what_is_not_reversible_refuses_to_be_undone() -> None:
    step = toy_host.Burn("a")
    with pytest.raises(NotImplementedError, match=r"toy\.burn is not reversible"):
        asyncio.run(Step.undo(step, None, Run("1", 0, {}, lambda done, total: None)))


@pytest.mark.parametrize(
    "data",
    [{}, {"kind": "no.such"}, {"kind": "volume.create"}, {"kind": "volume.create", "dataset": "a", "size": 1, "x": 2}],
)
def test_what_is_no_step_is_not_revived(data: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError)):
        revive(data)


def test_two_kinds_of_one_name_are_a_fault() -> None:
    class Other(CreateVolume):
        kind: ClassVar[str] = "volume.create"

    with pytest.raises(ValueError, match=r"two kinds of step are named volume\.create"):
        step_kind(Other)
    assert KINDS["volume.create"] is CreateVolume


def test_a_tag_names_the_job_and_the_step() -> None:
    assert Run("5f3a", 7, {}, lambda done, total: None).tag == "5f3a/7"


def test_every_operation_is_registered_under_its_name() -> None:
    assert all(each.operation == name for name, each in REQUESTS.items())
    assert kldload_kvm.ops.registry.REQUESTS is REQUESTS


def test_a_plan_destroys_what_its_steps_destroy() -> None:
    plan = Plan("toy", "play", commit=toy_host.Burn("a"), finish=(toy_host.Put("b"), toy_host.Burn("c")))
    assert plan.destroys == ("a", "c")
    assert Guard("guid", "a") == Guard("guid", "a", "")
