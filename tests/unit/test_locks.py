"""Locks: all of a job's names at once, or none and the name of the job in the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kldload_kvm.engine.locks import LockTable
from kldload_kvm.model.errors import Busy

NAMES = st.frozensets(st.sampled_from(["VM:a", "VM:b", "VM:c", "image:rpool/x.iso"]), max_size=4)


def test_taken_and_given_back() -> None:
    table = LockTable()
    table.acquire({"VM:a", "VM:b"}, "1", "create a")
    assert (table.holder("VM:a"), table.holder("VM:b"), table.holder("VM:c")) == ("1", "1", "")
    table.release("1")
    assert table.holder("VM:a") == ""


def test_busy_names_the_first_in_the_way_the_job_and_what_it_does() -> None:
    table = LockTable()
    table.acquire({"VM:web"}, "5f3a", "clone web to c1, c2")
    with pytest.raises(Busy) as caught:
        table.acquire({"VM:zoo", "VM:web"}, "2", "delete web")
    assert str(caught.value) == (
        "VM web is in use by job 5f3a\n"
        "that job is still at work: clone web to c1, c2\n"
        "wait for it (kvm-job wait 5f3a) or cancel it (kvm-job cancel 5f3a)"
    )
    assert table.holder("VM:zoo") == ""


def test_a_name_with_a_colon_in_it_is_shown_whole() -> None:
    table = LockTable()
    table.acquire({"image:rpool/a:b.iso"}, "1", "")
    with pytest.raises(Busy, match=r"image rpool/a:b\.iso is in use"):
        table.acquire({"image:rpool/a:b.iso"}, "2", "")


def test_releasing_what_nobody_holds_is_nothing() -> None:
    table = LockTable()
    table.acquire({"VM:a"}, "1", "")
    table.release("2")
    assert table.holder("VM:a") == "1"


@given(st.lists(st.tuples(st.sampled_from("123"), NAMES | st.none()), max_size=30))
def test_a_name_never_has_two_holders_and_nothing_is_taken_by_halves(
    calls: list[tuple[str, frozenset[str] | None]],
) -> None:
    table, held = LockTable(), dict[str, str]()
    for job, names in calls:
        if names is None:
            table.release(job)
            held = {name: holder for name, holder in held.items() if holder != job}
        elif names & held.keys():
            with pytest.raises(Busy):
                table.acquire(names, job, "")
        else:
            table.acquire(names, job, "")
            held |= dict.fromkeys(names, job)
        assert {name: table.holder(name) for name in held} == held
