"""The device nodes of volumes: waited for, and written only when the kernel says that they are that volume's."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from kldload_kvm.model.errors import Busy, TimedOut, ZfsFailed
from kldload_kvm.zfs import devices
from kldload_kvm.zfs.devices import Devices, is_node_of
from loops import in_loop, turns

WEB = "rpool/vms/web"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file for the volume's node, which the kernel says is that volume's."""
    path = tmp_path / "zd16"
    path.write_bytes(bytes(4096))
    monkeypatch.setattr(devices, "device", lambda dataset: str(path))
    monkeypatch.setattr(devices, "_name_of", lambda fd: WEB)
    monkeypatch.setattr(devices, "RELINKING", 0.2)
    return path


def contents(node: Path) -> bytes:
    return node.read_bytes()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class TestWhoseNodeItIs:
    def test_what_is_no_volume_s_node_is_nobody_s(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x")
        os.mkfifo(tmp_path / "fifo")
        for path in (tmp_path / "file", tmp_path / "none", tmp_path, tmp_path / "fifo", Path("/dev/null")):
            assert not is_node_of(str(path), WEB)

    def test_the_request_to_the_kernel_is_the_whole_one(self) -> None:
        """_IOR(0x12, 125, char[256]); the number alone, 0x127d, would discard blocks."""
        assert devices.BLKZNAME == (2 << 30) | (256 << 16) | (0x12 << 8) | 125


class TestWaiting:
    @in_loop
    async def test_for_one_that_is_there_takes_no_time(self, node: Path) -> None:
        assert await Devices().wait(WEB, 0) == str(node)

    @in_loop
    async def test_ends_with_udev_s_news_of_the_link(self, node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        there = False
        monkeypatch.setattr(devices, "is_node_of", lambda path, dataset: there)
        made = Devices()
        task = asyncio.ensure_future(made.wait(WEB, 30))
        await asyncio.sleep(0.05)
        assert not task.done()
        there = True
        made.appeared("rpool/vms/other")
        made.appeared(WEB)
        assert await asyncio.wait_for(task, 0.9) == str(node)

    @in_loop
    async def test_several_may_wait_for_one(self, node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        there = False
        monkeypatch.setattr(devices, "is_node_of", lambda path, dataset: there)
        made = Devices()
        tasks = [asyncio.ensure_future(made.wait(WEB, 30)) for _ in range(3)]
        await asyncio.sleep(0.05)
        there = True
        made.appeared(WEB)
        await asyncio.wait_for(asyncio.gather(*tasks), 0.9)
        assert not made._waiting

    @in_loop
    async def test_has_a_bound_and_leaves_nothing_behind(self, node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(devices, "is_node_of", lambda path, dataset: False)
        made = Devices()
        with pytest.raises(TimedOut, match="the device of volume rpool/vms/web did not appear"):
            await made.wait(WEB, 0.05)
        assert not made._waiting

    @in_loop
    async def test_that_is_given_up_leaves_nothing_behind(self, node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(devices, "is_node_of", lambda path, dataset: False)
        made = Devices()
        task = asyncio.ensure_future(made.wait(WEB, 30))
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not made._waiting


class TestContents:
    @in_loop
    async def test_are_written_to_the_beginning_and_read_from_there(self, node: Path) -> None:
        made = Devices()
        await made.write(WEB, b"seed" * 100)
        assert contents(node)[:404] == b"seed" * 100 + bytes(4)
        assert await made.read(WEB, 4) == b"seed"
        assert len(await made.read(WEB, 1 << 20)) == 4096

    @in_loop
    async def test_are_never_written_to_another_volume(self, node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The link may be stale: between the look at it and the opening of it, or all the time."""
        monkeypatch.setattr(devices, "is_node_of", lambda path, dataset: True)
        monkeypatch.setattr(devices, "_name_of", lambda fd: "rpool/vms/precious")
        with pytest.raises(ZfsFailed, match="rpool/vms/web was not written"):
            await Devices().write(WEB, b"x")
        assert contents(node) == bytes(4096)

    @in_loop
    async def test_are_written_once_udev_has_made_its_link_anew(
        self, node: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = iter(["rpool/vms/precious", WEB, WEB, WEB])
        monkeypatch.setattr(devices, "is_node_of", lambda path, dataset: True)
        monkeypatch.setattr(devices, "_name_of", lambda fd: next(answers))
        await Devices().write(WEB, b"x")
        assert contents(node)[:1] == b"x"

    @pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
    @in_loop
    async def test_an_error_of_the_device_is_told(
        self, node: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        def fails(fd: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fails)
        with pytest.raises(ZfsFailed) as caught:
            await Devices().write(WEB, b"x")
        assert caught.value.why == os.strerror(number)

    @in_loop
    async def test_no_file_is_left_open(self, node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = open_files()
        made = Devices()
        for _ in range(20):
            await made.write(WEB, b"x")
            await made.read(WEB, 1)
        monkeypatch.setattr(devices, "_name_of", lambda fd: "another")
        monkeypatch.setattr(devices, "is_node_of", lambda path, dataset: True)
        with pytest.raises(ZfsFailed):
            await made.write(WEB, b"x")
        assert open_files() <= before + 1


class TestHolders:
    @in_loop
    async def test_a_node_that_is_not_there_is_held_by_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(devices, "device", lambda dataset: "/dev/zvol/none")
        await Devices().check_closed(WEB)

    @in_loop
    async def test_whoever_has_it_open_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(devices, "holders", lambda path: ["qemu-system-x86 (77)", "dm-0 (device mapper or RAID)"])
        with pytest.raises(Busy) as caught:
            await Devices().check_closed(WEB)
        assert caught.value.why == "its device is held by qemu-system-x86 (77), dm-0 (device mapper or RAID)"

    def test_where_the_host_has_it_mounted_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "mountinfo").write_text(
            "24 1 254:1 / / rw - ext4 /dev/vda1 rw\n36 24 230:16 / /mnt rw,relatime - ext4 /dev/zd16 rw\n"
        )
        real = Path
        monkeypatch.setattr(devices, "Path", lambda text: real(str(text).replace("/proc", str(tmp_path))))
        assert devices._mounted("230:16") == ["/mnt"]
        assert devices._mounted("230:32") == []

    def test_processes_that_end_meanwhile_are_passed_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """/proc is looked through while processes come and go."""
        proc = tmp_path / "proc"
        for number, comm in ((100, None), (200, "qemu\n")):
            (proc / str(number)).mkdir(parents=True)
            if comm:
                (proc / str(number) / "comm").write_text(comm)
        real = Path

        def path(text: str) -> Path:
            return proc if text == "/proc" else real(text)

        monkeypatch.setattr(devices, "Path", path)
        monkeypatch.setattr(devices, "_has_open", lambda process, is_it, writing: True)
        assert devices.holders("/dev/null") == ["qemu (200)"]
