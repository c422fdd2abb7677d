"""Snapshots by a channel program: what it is given, and what its answers mean."""

from __future__ import annotations

from typing import Any

import pytest

from kldload_kvm.model import properties
from kldload_kvm.model.errors import AlreadyExists, KvmError, NoSpace, NotFound, ZfsFailed
from kldload_kvm.zfs import listing, snapshots
from kldload_kvm.zfs.commands import Zfs
from loops import in_loop
from memory_zfs import Mark, MemoryZfs


class Said(Zfs):
    """Answers each command with the next of these."""

    def __init__(self, *answers: str) -> None:
        super().__init__()
        self.answers, self.said = list(answers), list[tuple[str, ...]]()

    async def run(self, what: str, *args: str, partial: bool = False) -> str:
        self.said.append(args)
        return self.answers.pop(0)


class TestEach:
    @in_loop
    async def test_all_is_given_as_arguments_after_which_nothing_is_an_option(self) -> None:
        zfs = Said('{"return": {"p/a": "taken -1 7 1795000000", "p/b": "gone"}}')
        groups: list[Any] = [{"p/a": {"x:k": "-v --"}}, {"p/b": {}}]
        found = await snapshots.snapshot_each(zfs, "p", "s", "job/1", groups)
        assert found == {"p/a": "taken", "p/b": "gone"}
        told = zfs.learned.pop("p/a@s")
        assert (told.guid, told.createtxg, told.creation) == (str(2**64 - 1), 7, 1795000000)
        assert not zfs.learned
        (args,) = zfs.said
        end = args.index("--")
        assert args[end + 1 :] == (
            "p", str(snapshots.SCRIPT), "s", properties.SNAPSHOT, "job/1", "each",
            "p/a", "2", "x:k", "-v --", properties.SNAPSHOT, "::job/1", "p/b", "1", properties.SNAPSHOT, "::job/1",
        )  # fmt: skip
        assert snapshots.SCRIPT.read_text(encoding="utf-8").count("zfs.sync.snapshot") == 1

    @in_loop
    async def test_more_than_a_command_can_name_is_divided_between_vms(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(snapshots, "MOST_ARGUMENTS", 500)
        groups = [{f"p/v{n}": {"x:k": "y" * 50}, f"p/v{n}.nvram": {}} for n in range(7)]
        zfs = Said(*(['{"return": {}}'] * 7))
        await snapshots.snapshot_each(zfs, "p", "s", "job/1", groups)
        named = [[word for word in args[args.index("each") + 1 :] if word.startswith("p/")] for args in zfs.said]
        assert [name for each in named for name in each] == [name for group in groups for name in group]
        assert 1 < len(named) < 7
        assert all(len(each) % 2 == 0 for each in named), "a VM's volumes stay together"

    @pytest.mark.parametrize("answer", ["", "{}", "[]", '{"return": 7}', '{"return": ["p/a"]}'])
    @in_loop
    async def test_an_answer_that_makes_no_sense_is_an_error(self, answer: str) -> None:
        with pytest.raises(ZfsFailed, match="is not known"):
            await snapshots.snapshot_each(Said(answer), "p", "s", "job/1", [{"p/a": {}}])


class TestTogether:
    @pytest.mark.parametrize(
        ("outcome", "kind", "why"),
        [
            ("gone", NotFound, "no such volume"),
            ("exists", AlreadyExists, "one of that name by now"),
            ("failed: 28", NoSpace, "the pool is full"),
            ("failed: 5", ZfsFailed, "Input/output error"),
            ("failed: x", ZfsFailed, "failed: x"),
        ],
    )
    @in_loop
    async def test_one_that_was_not_taken_is_that_error(self, outcome: str, kind: type[KvmError], why: str) -> None:
        zfs = Said(f'{{"return": {{"p/a": "left", "p/b": "{outcome}"}}}}')
        with pytest.raises(kind) as caught:
            await snapshots.snapshot_together(zfs, "s", "job/1", {"p/a": {}, "p/b": {}})
        assert caught.value.what == "the snapshot p/b@s was not taken"
        assert why in caught.value.why
        assert caught.value.hint

    @in_loop
    async def test_again_with_the_same_tag_does_no_harm(self) -> None:
        zfs = MemoryZfs("p")
        await zfs.create_volume("p/a", 65536, {})
        for _ in range(2):
            await snapshots.snapshot_together(zfs, "s", "job/1", {"p/a": {"x:k": "v"}})
        assert zfs.names() == ["p", "p/a", "p/a@s"]
        with pytest.raises(AlreadyExists):
            await snapshots.snapshot_together(zfs, "s", "job/2", {"p/a": {}})


class TestBookmarks:
    @in_loop
    async def test_are_read_with_the_snapshots_and_with_no_command_more(self) -> None:
        zfs = MemoryZfs("p")
        for name in ("p/a", "p/b"):
            await zfs.create_volume(name, 65536, {})
        await zfs.snapshot(["p/a@s"], {})
        zfs.marks.append(Mark("p/a", "sent", 7, 1002))
        zfs.of("p/a")[0].holds.add("mine")
        zfs.started = 0
        datasets, found = await listing.everything(zfs, ["p"])
        assert zfs.started == 2
        assert {d.name: [(m.name, m.guid, m.createtxg) for m in d.bookmarks] for d in datasets} == {
            "p": [], "p/a": [("sent", "7", 1002)], "p/b": [],
        }  # fmt: skip
        assert [(s.name, s.holds) for s in found] == [("s", 1)]
        again, _ = await listing.with_snapshots(zfs, ["p/a"])
        assert [m.name for m in again[0].bookmarks] == ["sent"]
