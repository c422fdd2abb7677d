"""The matrix of what others do: whole, and each of its rows says something that can be looked at."""

from __future__ import annotations

from collections import Counter

from matrix import NEW, STATES, Cell, cells, not_as_expected, plain
from neighbours import ACTIONS

BEFORE = {"rpool/vms/web-1": "1", "rpool/vms/web-1@stable": "2", "rpool/vms/web-1.nvram": "3", "rpool/vms/other": "4"}


def cell(datasets: str = "as before", disk: str = "B", virsh: str = "as before") -> Cell:
    return Cell("zfs", "off", "done", datasets, disk, virsh, "as before")


def test_there_are_enough_of_them_and_each_once() -> None:
    assert len(cells()) >= 150
    assert max(Counter((each.action, each.state) for each in cells()).values()) == 1
    assert {each.state for each in cells()} == set(STATES)


def test_each_action_has_its_rows() -> None:
    assert {each.action for each in cells()} == ACTIONS.keys()


def test_each_outcome_is_done_or_a_refusal_in_words() -> None:
    assert all(each.outcome == "done" or each.outcome.startswith("refused: ") for each in cells())


def test_what_is_expected_of_datasets() -> None:
    assert cell().after(BEFORE) == BEFORE
    assert cell("web-1>moved").after(BEFORE) == {
        "rpool/vms/moved": "1", "rpool/vms/moved@stable": "2", "rpool/vms/web-1.nvram": "3", "rpool/vms/other": "4",
    }  # fmt: skip
    assert cell("-web-1 -web-1@stable +web-2").after(BEFORE) == {
        "rpool/vms/web-1.nvram": "3", "rpool/vms/other": "4", "rpool/vms/web-2": NEW,
    }  # fmt: skip
    entry = "rpool/vms/.trash/web-1-TIME"
    assert cell("trash").after(BEFORE) == {
        entry: NEW, f"{entry}/web-1": "1", f"{entry}/web-1@stable": "2", f"{entry}/web-1.nvram": "3",
        "rpool/vms/other": "4",
    }  # fmt: skip


def test_what_is_expected_of_disks_and_domains() -> None:
    assert cell(disk="B, web-2 A, vmpool/copies/web-1 B").letters() == {
        "": "B", "rpool/vms/web-2": "A", "vmpool/copies/web-1": "B",
    }  # fmt: skip
    assert cell(disk="gone").letters() == {"": ""}
    before = {"web-1": "shut off"}
    assert cell(virsh="none").domains(before) == {}
    assert cell(virsh="as before, web-2 running").domains(before) == {"web-1": "shut off", "web-2": "running"}
    assert cell(virsh="none").domains({**before, "bystander": "running"}) == {"bystander": "running"}
    assert cell(virsh="shop shut off").domains(before) == {"shop": "shut off"}


def test_a_name_says_what_a_dataset_is_and_not_when() -> None:
    named = plain({
        "rpool/vms/.trash": "1", "rpool/vms/.trash/.spare": "2",
        "rpool/vms/.trash/web-1-20261125T201100Z/web-1@stable": "3",
        "rpool/vms/web-1@autosnap_2026-11-25_20:11:00_hourly": "4",
        "rpool/vms/web-1@syncoid_lab1_2026-11-25:20:11:00-GMT00:00": "5",
    })  # fmt: skip
    assert named == {
        "rpool/vms/.trash/web-1-TIME/web-1@stable": "3",
        "rpool/vms/web-1@autosnap": "4", "rpool/vms/web-1@syncoid": "5",
    }  # fmt: skip


def test_what_is_not_as_expected_is_named() -> None:
    then = {"kept": "1", "gone": "2", "changed": "3", "new": NEW}
    assert not_as_expected(then, {"kept": "1", "changed": "9", "more": "4", "new": "7"}) == [
        "changed: should be 3, is 9", "gone: should be 2, is not there", "more: should be not there, is 4",
    ]  # fmt: skip
