"""Running zfs: how it is started, what becomes of its answer, and that nobody leaves it halfway."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any, ClassVar

import pytest

from kldload_kvm.model.errors import NotFound, TimedOut, ZfsFailed, ZfsUnavailable
from kldload_kvm.zfs import commands, events, listing
from kldload_kvm.zfs.commands import Zfs
from kldload_kvm.zfs.events import Event, follow
from loops import in_loop
from memory_zfs import MemoryZfs


def program(folder: Path, script: str, name: str = "zfs") -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


class TestProcess:
    @in_loop
    async def test_its_output_is_the_answer(self, tmp_path: Path) -> None:
        zfs = Zfs(program(tmp_path, 'echo "$@"; echo "$LC_ALL $HOME"; cat'))
        assert await zfs.run("nothing", "list", "-Hp", "a b") == "list -Hp a b\nC.UTF-8 \n"
        assert zfs.started == 1

    @in_loop
    async def test_its_complaint_is_an_error(self, tmp_path: Path) -> None:
        zfs = Zfs(program(tmp_path, "echo 'cannot open: dataset does not exist' >&2; exit 1"))
        with pytest.raises(NotFound, match="it was not read"):
            await zfs.run("it was not read", "list")

    @pytest.mark.parametrize(
        ("said", "answered"),
        [
            ("cannot open 'a': dataset does not exist", True),
            ("cannot open 'a': dataset does not exist\ncannot open 'b': dataset does not exist", True),
            ("cannot open 'a': dataset does not exist\ncannot open 'b': pool I/O is currently suspended", False),
            ("cannot open 'b': pool I/O is currently suspended", False),
            ("", False),
        ],
    )
    @in_loop
    async def test_part_of_an_answer_counts_only_if_the_rest_is_not_there(
        self, tmp_path: Path, said: str, answered: bool
    ) -> None:
        (tmp_path / "said").write_text(said)
        zfs = Zfs(program(tmp_path, f"echo part; cat {tmp_path}/said >&2; exit 1"))
        if answered:
            assert await zfs.run("it was not read", "list", partial=True) == "part\n"
        else:
            with pytest.raises((ZfsFailed, NotFound)):
                await zfs.run("it was not read", "list", partial=True)

    @in_loop
    async def test_that_is_not_installed(self, tmp_path: Path) -> None:
        with pytest.raises(ZfsUnavailable) as caught:
            await Zfs(str(tmp_path / "none")).version()
        assert "zfsutils-linux" in caught.value.hint

    @in_loop
    async def test_that_cannot_be_started_is_an_error_of_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def no_more(*args: object, **more: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(asyncio, "create_subprocess_exec", no_more)
        with pytest.raises(ZfsUnavailable, match="Too many open files"):
            await Zfs().version()

    @in_loop
    async def test_that_does_not_end_is_not_waited_for_for_ever(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(commands, "BOUND", 0.05)
        with pytest.raises(TimedOut, match="it was not made") as caught:
            await Zfs(program(tmp_path, "exec sleep 0.2")).run("it was not made", "create")
        assert caught.value.hint
        await asyncio.sleep(0.3)  # the program goes on by itself; only this test wants it to have ended

    @in_loop
    async def test_a_cancelled_caller_waits_for_its_end(self, tmp_path: Path) -> None:
        fifo = tmp_path / "go"
        os.mkfifo(fifo)
        zfs = Zfs(program(tmp_path, f"cat {fifo} > /dev/null; touch {tmp_path}/ended"))
        task = asyncio.ensure_future(zfs.run("x", "create"))
        for _ in range(3):
            await asyncio.sleep(0.02)
            task.cancel()
        assert not task.done()
        fd = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)
        os.close(fd)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (tmp_path / "ended").exists()

    @in_loop
    async def test_what_is_no_text_does_no_harm(self, tmp_path: Path) -> None:
        zfs = Zfs(program(tmp_path, r"printf 'a\377b\n'"))
        assert (await zfs.run("x", "list")).encode("utf-8", "surrogateescape") == b"a\xffb\n"

    @in_loop
    async def test_version(self, tmp_path: Path) -> None:
        zfs = Zfs(program(tmp_path, "echo zfs-2.3.9-1; echo zfs-kmod-2.3.9-1"))
        assert await zfs.version() == "2.3.9"


class TestCommandLines:
    """Options before names, each value one word: no name and no property can become an option."""

    @in_loop
    async def test_each(self) -> None:
        zfs, said = Zfs(), list[tuple[str, ...]]()

        async def run(what: str, *args: str, partial: bool = False) -> str:
            said.append(args)
            return "primarycache\tmetadata\nx:y\ta b\nodd\n"

        zfs.run = run  # type: ignore[method-assign]
        await zfs.create_volume("p/v", 1024, {"volmode": "dev", "x:y": "-o z=1"})
        await zfs.create_container("p/t", {"syncoid:sync": "false"})
        await zfs.clone("p/v@s", "p/c", {"a": "b"})
        await zfs.snapshot(["p/v@s", "p/w@s"], {"a": "b"})
        await zfs.rename("p/v", "p/w")
        await zfs.promote("p/v")
        await zfs.destroy("p/v")
        await zfs.destroy_snapshots("p/v", ["s1", "s2"])
        await zfs.set("p/v", {"x:y": "1"})
        await zfs.inherit("p/v", "x:y")
        assert await zfs.local_properties("p/v") == {"primarycache": "metadata", "x:y": "a b"}
        assert said == [
            ("create", "-s", "-V", "1024", "-o", "volmode=dev", "-o", "x:y=-o z=1", "p/v"),
            ("create", "-p", "-u", "-o", "canmount=off", "-o", "syncoid:sync=false", "p/t"),
            ("clone", "-o", "a=b", "p/v@s", "p/c"),
            ("snapshot", "-o", "a=b", "p/v@s", "p/w@s"),
            ("rename", "p/v", "p/w"),
            ("promote", "p/v"),
            ("destroy", "p/v"),
            ("destroy", "p/v@s1,s2"),
            ("set", "x:y=1", "p/v"),
            ("inherit", "x:y", "p/v"),
            ("get", "-Hp", "-s", "local,received", "-o", "property,value", "all", "p/v"),
        ]


class TestListing:
    LINE: ClassVar[dict[str, str]] = {
        "name": "p/v", "type": "volume", "guid": "17000000000000000001", "createtxg": "7", "creation": "9",
        "volsize": "1024", "used": "5", "available": "6", "volblocksize": "65536", "origin": "p/o@s",
        "compression": "lz4", "org.kldload.kvm:vm": "1", "org.kldload.kvm:role": "disk",
    }  # fmt: skip

    def line(self, **values: str) -> str:
        given = {**self.LINE, **values}
        return "\t".join(given.get(column, "-") for column in listing.NATIVE + listing.OURS) + "\n"

    def test_a_volume(self) -> None:
        (dataset,), snapshots = listing.parse(self.line())
        assert (dataset.name, dataset.guid, dataset.kind, dataset.size, dataset.origin) == (
            "p/v", "17000000000000000001", "volume", 1024, "p/o@s",
        )  # fmt: skip
        assert (dataset.mountpoint, dataset.used, dataset.available, dataset.volblocksize) == ("", 5, 6, 65536)
        assert dataset.properties == {"org.kldload.kvm:vm": "1", "org.kldload.kvm:role": "disk"}
        assert snapshots == []

    def test_a_snapshot_of_ours_and_another_s(self) -> None:
        ours = self.line(**{"type": "snapshot", "name": "p/v@s", "org.kldload.kvm:snapshot": "auto:app"})  # fmt: skip
        _, (mine, theirs) = listing.parse(ours + self.line(type="snapshot", name="p/v@t", used="-"))
        assert (mine.dataset, mine.name, mine.kind, mine.consistency, mine.used) == ("p/v", "s", "auto", "app", 5)
        assert (theirs.kind, theirs.consistency, theirs.used, theirs.creation) == ("foreign", "", 0, 9)

    @pytest.mark.parametrize("value", ["a\tb", "a\nb", "a\n", "\t"])
    def test_a_tab_or_a_line_break_in_a_property_is_not_believed(self, value: str) -> None:
        with pytest.raises(ZfsFailed, match="cannot be listed") as caught:
            listing.parse(self.line(**{"org.kldload.kvm:name": value}))
        assert "zfs get all" in caught.value.hint

    @pytest.mark.parametrize("value", ["a\x0bb", "a\x0cb", "a\x1cb", "a\u2028b", "a\u0085b", "a b"])
    def test_other_characters_in_a_property_are_only_that(self, value: str) -> None:
        (dataset,), _ = listing.parse(self.line(**{"org.kldload.kvm:name": value}))
        assert dataset.properties["org.kldload.kvm:name"] == value

    @in_loop
    async def test_everything_takes_two_commands_however_many_there_are(self) -> None:
        zfs = MemoryZfs("rpool", "vmpool")
        for parent in ("rpool/vms", "vmpool/vms"):
            await zfs.create_container(parent, {})
        for number in range(50):
            await zfs.create_volume(f"rpool/vms/v{number}", 65536, {})
        await zfs.snapshot([f"rpool/vms/v{number}@s" for number in range(50)], {})
        zfs.started = 0
        datasets, snapshots = await listing.everything(zfs, ["rpool/vms", "vmpool/vms", "gone/vms"])
        assert (len(datasets), len(snapshots), zfs.started) == (52, 50, 2)

    @in_loop
    async def test_no_parent_at_all(self) -> None:
        zfs = MemoryZfs("rpool")
        assert await listing.everything(zfs, ["rpool/vms"]) == ([], [])

    @in_loop
    async def test_of_those_named_the_ones_that_are_there(self) -> None:
        zfs = MemoryZfs("rpool")
        await zfs.create_volume("rpool/v", 65536, {})
        await zfs.snapshot(["rpool/v@s"], {})
        datasets, snapshots = await listing.named(zfs, ["rpool/v", "rpool/v@s", "rpool/none", "rpool/v@none"])
        assert ([d.name for d in datasets], [s.name for s in snapshots]) == (["rpool/v"], ["s"])
        zfs.started = 0
        assert await listing.named(zfs, []) == ([], [])
        assert zfs.started == 0

    @in_loop
    async def test_with_their_snapshots(self) -> None:
        zfs = MemoryZfs("rpool")
        for name in ("rpool/v", "rpool/w"):
            await zfs.create_volume(name, 65536, {})
            await zfs.snapshot([f"{name}@s1"], {})
        datasets, snapshots = await listing.with_snapshots(zfs, ["rpool/v", "rpool/none"])
        assert ([d.name for d in datasets], [f"{s.dataset}@{s.name}" for s in snapshots]) == (
            ["rpool/v"], ["rpool/v@s1"],
        )  # fmt: skip


EVENTS = """\
Jan  1 2026 10:00:00.000000000	sysevent.fs.zfs.history_event
	version = 0x0
	class = "sysevent.fs.zfs.history_event"
	pool = "rpool"
	history_dsname = "rpool/vms/web@s1"
	history_internal_name = "snapshot"
	history_time = 0x3
	time = 0x1 0x2
	eid = 0x1f

Jan  1 2026 10:00:01.000000000	sysevent.fs.zfs.config_sync
	class = "sysevent.fs.zfs.config_sync"
	eid = 0x20

"""


class TestEvents:
    async def read(self, folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> list[Event]:
        program(folder, script, "zpool")
        monkeypatch.setitem(events.ENVIRONMENT, "PATH", f"{folder}:/usr/bin:/bin")
        return [event async for event in follow()]

    @in_loop
    async def test_each_with_what_it_is_about(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "events").write_text(EVENTS)
        found = await self.read(tmp_path, f"cat {tmp_path}/events", monkeypatch)
        assert found == [
            Event(31, "rpool/vms/web@s1", "snapshot", "history_event", 1 + 2e-9),
            Event(32, "", "", "config_sync"),
        ]

    @in_loop
    async def test_a_long_line_is_only_long(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "events").write_text(EVENTS.replace("time = ", "long = " + "x" * 200_000 + "\n\ttime = "))
        assert len(await self.read(tmp_path, f"cat {tmp_path}/events", monkeypatch)) == 2

    @in_loop
    async def test_the_program_ends_with_whoever_reads(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "events").write_text(EVENTS)
        program(tmp_path, f"echo $$ > {tmp_path}/pid; cat {tmp_path}/events; exec sleep 60", "zpool")
        monkeypatch.setitem(events.ENVIRONMENT, "PATH", f"{tmp_path}:/usr/bin:/bin")
        reading: Any = follow()
        assert (await anext(reading)).dataset == "rpool/vms/web@s1"
        await reading.aclose()
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)

    @in_loop
    async def test_no_zpool_is_an_error_of_the_system(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(events.ENVIRONMENT, "PATH", "/nowhere")
        with pytest.raises(OSError):
            await anext(follow())
