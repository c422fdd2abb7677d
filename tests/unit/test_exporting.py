"""Exports: the bytes in the file, whatever it is, held against qemu-img; and what becomes of trouble."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kldload_kvm.images.exporting import CHUNK, Format, check_target, write_disk
from kldload_kvm.model.errors import Cancelled, InvalidArgument, KvmError, NoSpace, NotFound, ZfsFailed
from kldload_kvm.model.qcow2 import virtual_size
from kldload_kvm.model.qcow2_layout import CLUSTER, PER_TABLE, Layout
from kldload_kvm.waiting import until
from kldload_kvm.zfs.commands import Zfs
from loops import in_loop

MIB = 1 << 20


def disk(path: Path, size: int, parts: dict[int, bytes]) -> Path:
    """A disk that is zeroes but for these parts, by where they begin."""
    with path.open("wb") as file:
        for at, contents in parts.items():
            file.seek(at)
            file.write(contents)
        file.truncate(size)
    return path


def noise(count: int) -> bytes:
    return random.Random(7).randbytes(count)


DISKS: dict[str, tuple[int, dict[int, bytes]]] = {
    "blank": (64 * MIB, {}),
    "full": (5 * MIB, {0: noise(5 * MIB)}),
    "at both ends": (600 * MIB, {0: b"first", 600 * MIB - 4: b"last"}),
    "a part of a cluster at the end": (9 * MIB + 512, {9 * MIB: b"x" * 512}),
    "here and there": (40 * MIB, {each * 3 * MIB + 70_000: noise(90_000) for each in range(12)}),
    "across tables": (1100 * MIB, {512 * MIB - 100: noise(200), 1024 * MIB: b"third table"}),
}


@pytest.fixture(params=DISKS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    size, parts = DISKS[request.param]
    return disk(tmp_path / "disk", size, parts)


async def write(source: Path, target: int, format_: Format) -> int:
    reports: list[tuple[int, int]] = []
    written = await write_disk(
        os.open(source, os.O_RDONLY), target, format_, lambda *report: reports.append(report)
    )  # fmt: skip
    assert all(done <= total for done, total in reports)
    assert reports[-1][0] == reports[-1][1] > 0
    return written


def same(image: Path, format_: str, source: Path) -> None:
    subprocess.run(
        ["qemu-img", "compare", "-f", format_, "-F", "raw", str(image), str(source)], check=True, capture_output=True
    )


def checked(image: Path) -> dict[str, int]:
    command = ["qemu-img", "check", "--output=json", "-f", "qcow2", str(image)]
    found: dict[str, int] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def length(path: Path) -> int:
    return path.stat().st_size


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


class TestQcow2:
    @in_loop
    async def test_is_the_disk_and_whole_by_qemu_s_own_judgement(self, source: Path, tmp_path: Path) -> None:
        image = tmp_path / "image.qcow2"
        with image.open("xb") as file:
            written = await write(source, file.fileno(), "qcow2")
        same(image, "qcow2", source)
        found = checked(image)
        assert (found["check-errors"], found.get("leaks", 0), found.get("corruptions", 0)) == (0, 0, 0)
        assert written == length(image)
        assert virtual_size(image.read_bytes()[:CLUSTER], written) == length(source)

    @in_loop
    async def test_a_pipe_gets_the_same_bytes(self, tmp_path: Path) -> None:
        size, parts = DISKS["here and there"]
        source, image = disk(tmp_path / "disk", size, parts), tmp_path / "image"
        with image.open("xb") as file:
            await write(source, file.fileno(), "qcow2")
        assert await piped(source, "qcow2") == image.read_bytes()

    @in_loop
    async def test_holes_are_left_out(self, tmp_path: Path) -> None:
        source, image = disk(tmp_path / "disk", 600 * MIB, {0: b"first"}), tmp_path / "image"
        with image.open("xb") as file:
            assert await write(source, file.fileno(), "qcow2") < 10 * CLUSTER


class TestLayout:
    @given(
        st.integers(1, 1 << 20).map(lambda blocks: blocks * 512),
        st.dictionaries(st.integers(0, 3), st.lists(st.integers(0, PER_TABLE - 1), min_size=1, max_size=20)),
    )
    def test_has_the_length_that_it_says(self, size: int, tables: dict[int, list[int]]) -> None:
        layout = Layout(size, tables)
        metadata = b"".join(layout.metadata())
        assert len(metadata) + layout.data_clusters * CLUSTER == layout.length
        assert len(list(layout.data())) == layout.data_clusters

    def test_counts_the_clusters_of_an_image_that_needs_several_blocks_of_counts(self) -> None:
        tables = {each: range(PER_TABLE) for each in range(9)}
        layout = Layout(9 * PER_TABLE * CLUSTER, tables)
        clusters = layout.length // CLUSTER
        metadata = b"".join(layout.metadata())
        assert len(metadata) == (clusters - layout.data_clusters) * CLUSTER
        assert metadata.count(b"\0\1" * 100) > 0
        blocks = [metadata[at : at + CLUSTER] for at in range(0, len(metadata), CLUSTER)]
        assert sum(block.count(b"\0\1") for block in blocks[3:6]) == clusters


class TestRaw:
    @in_loop
    async def test_is_the_disk_with_holes_where_it_has_zeroes(self, source: Path, tmp_path: Path) -> None:
        image = tmp_path / "image.raw"
        with image.open("xb") as file:
            assert await write(source, file.fileno(), "raw") == length(source)
        same(image, "raw", source)
        assert allocated(image) <= allocated(source) + 40 * CHUNK

    @pytest.mark.parametrize("name", ["blank", "a part of a cluster at the end", "here and there"])
    @in_loop
    async def test_a_pipe_gets_every_byte(self, name: str, tmp_path: Path) -> None:
        size, parts = DISKS[name]
        source = disk(tmp_path / "disk", size, parts)
        assert await piped(source, "raw") == source.read_bytes()

    @in_loop
    async def test_a_file_that_only_grows_at_its_end_gets_every_byte(self, tmp_path: Path) -> None:
        source, image = disk(tmp_path / "disk", 9 * MIB, {5 * MIB: b"x"}), tmp_path / "image"
        with image.open("ab") as file:
            await write(source, file.fileno(), "raw")
        assert image.read_bytes() == source.read_bytes()


async def piped(source: Path, format_: Format) -> bytes:
    reader, writer = os.pipe()

    def read() -> bytes:
        with os.fdopen(reader, "rb") as file:
            return file.read()

    reading = asyncio.ensure_future(asyncio.to_thread(read))
    await write(source, writer, format_)
    os.close(writer)
    return await reading


class TestTargets:
    def refused(self, fd: int) -> str:
        with pytest.raises(InvalidArgument) as caught:
            check_target(fd)
        assert caught.value.hint
        return caught.value.why

    def test_files_that_cannot_be_written_or_would_be_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"precious")
        with path.open("rb") as file:
            assert self.refused(file.fileno()) == "the file was not opened for writing"
        with path.open("r+b") as file:
            assert self.refused(file.fileno()).startswith("the file has something in it already")
        for flags, target in ((os.O_PATH, path), (os.O_RDONLY | os.O_DIRECTORY, tmp_path)):
            fd = os.open(target, flags)
            assert self.refused(fd) == "the file was not opened for writing"
            os.close(fd)
        assert path.read_bytes() == b"precious"

    def test_devices(self) -> None:
        with Path("/dev/null").open("wb") as file:
            assert "neither a regular file nor a pipe" in self.refused(file.fileno())

    @in_loop
    async def test_a_reader_that_goes_away_ends_it(self, tmp_path: Path) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        with pytest.raises(Cancelled, match="whoever was to read it has gone"):
            await write(disk(tmp_path / "disk", MIB, {}), writer, "raw")
        os.close(writer)

    @in_loop
    async def test_a_file_system_that_becomes_full_is_said(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def full(*args: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        with (tmp_path / "image").open("xb") as file, pytest.raises(NoSpace):
            await write(disk(tmp_path / "disk", MIB, {0: b"x"}), file.fileno(), "raw")

    @in_loop
    async def test_a_volume_that_cannot_be_read_is_said(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(os, "pread", lambda *args: b"")
        with (tmp_path / "image").open("xb") as file, pytest.raises(ZfsFailed):
            await write(disk(tmp_path / "disk", MIB, {0: b"x"}), file.fileno(), "raw")

    @in_loop
    async def test_a_cancelled_one_lets_go_of_the_volume_though_nobody_reads(self, tmp_path: Path) -> None:
        reader, writer = os.pipe()
        source = os.open(disk(tmp_path / "disk", 64 * MIB, {}), os.O_RDONLY)
        task = asyncio.ensure_future(write_disk(source, writer, "raw", lambda done, total: None))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(OSError):
            os.fstat(source)
        os.close(reader)
        os.close(writer)


def written(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


ZFS = """#!/bin/sh
printf 'full\\trpool/a@s\\t3000\\nsize\\t3000\\n' >&2
{}
"""


class TestStreams:
    """zfs send, pretended: what it prints, and how it ends."""

    def program(self, tmp_path: Path, script: str) -> Zfs:
        path = tmp_path / "zfs"
        path.write_text(ZFS.format(script))
        path.chmod(0o755)
        return Zfs(str(path))

    @in_loop
    async def test_goes_straight_into_the_file_and_says_how_far_it_is(self, tmp_path: Path) -> None:
        zfs = self.program(tmp_path, 'echo "$@"; printf "10:00:01\\t1500\\trpool/a@s\\n" >&2')
        reports = []
        with (tmp_path / "out").open("xb") as file:
            assert await zfs.send("rpool/a@s", file.fileno(), lambda *each: reports.append(each)) == 3000
        assert (tmp_path / "out").read_text() == "send -w -P -v rpool/a@s\n"
        assert reports == [(0, 3000), (1500, 3000)]

    @pytest.mark.parametrize(
        ("script", "kind"),
        [
            ("echo \"cannot open 'rpool/a@s': dataset does not exist\" >&2; exit 1", NotFound),
            ("echo 'warning: cannot send: No space left on device' >&2; exit 1", NoSpace),
            ("echo 'warning: cannot send: Broken pipe' >&2; exit 1", Cancelled),
            ("kill -PIPE $$", Cancelled),
            ("kill -KILL $$", ZfsFailed),
        ],
    )
    @in_loop
    async def test_an_end_that_is_none_is_told(self, script: str, kind: type[KvmError], tmp_path: Path) -> None:
        with (tmp_path / "out").open("xb") as file, pytest.raises(kind):
            await self.program(tmp_path, script).send("rpool/a@s", file.fileno(), lambda done, total: None)

    @in_loop
    async def test_a_cancelled_one_ends_its_process(self, tmp_path: Path) -> None:
        zfs = self.program(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")
        with (tmp_path / "out").open("xb") as file:
            task = asyncio.ensure_future(zfs.send("rpool/a@s", file.fileno(), lambda done, total: None))
            pid = await until(lambda: asyncio.to_thread(written, tmp_path / "pid"), 10, 0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid or 0), 0)
