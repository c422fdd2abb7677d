"""The files that domains of others have as disks: what is in them, and whether they can be read now."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import image_files as files
from kldload_kvm.images import disk_files
from kldload_kvm.images.disk_files import Look, identity, look, open_unused
from kldload_kvm.model.errors import BadImage, Busy, KvmError, NotFound, WrongState
from kldload_kvm.model.source_disks import SourceDisk

MIB = 1 << 20
WHAT = "old was not adopted"


def qcow2(path: Path, target: str = "vda") -> SourceDisk:
    return SourceDisk(target, "file", str(path), "qcow2")


def raw(path: Path) -> SourceDisk:
    return SourceDisk("vdb", "file", str(path), "raw")


def refusal(disk: SourceDisk) -> KvmError:
    with pytest.raises(KvmError) as caught:
        look(disk, "old", WHAT)
    assert caught.value.what == WHAT
    assert disk.path in f"{caught.value.why}{caught.value.hint}"
    return caught.value


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return files.converted(files.disk(tmp_path / "a.raw"), tmp_path / "old.qcow2")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def program(script: str, *args: str) -> Iterator[None]:
    """A program that does something with a file and waits."""
    waits = f"import fcntl, os, struct, sys, time\n{script}\nprint(flush=True)\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", waits, *args], stdout=subprocess.PIPE)
    try:
        assert process.stdout and process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


class TestLooking:
    def test_a_qcow2_file(self, image: Path) -> None:
        found = look(qcow2(image), "old", WHAT)
        assert (found.size, found.snapshots) == (8 * MIB, 0)
        assert 0 < found.occupied <= 2 * MIB
        assert found.identity == identity("file", str(image))

    def test_its_snapshots_are_counted(self, image: Path) -> None:
        for name in ("a", "b"):
            files.qemu_img("snapshot", "-c", name, str(image))
        assert look(qcow2(image), "old", WHAT).snapshots == 2

    def test_a_raw_one_is_as_large_as_it_is_in_whole_sectors_whatever_is_in_it(self, image: Path) -> None:
        files.cut(image, image.stat().st_size - 100)
        assert look(raw(image), "old", WHAT).size == -(-image.stat().st_size // 512) * 512

    def test_a_domain_that_is_called_as_if_it_were_a_format(self, image: Path) -> None:
        assert look(qcow2(image), "old.raw", WHAT).size == 8 * MIB

    def test_an_overlay_is_refused_with_what_makes_it_whole(self, image: Path) -> None:
        over = files.create(image.with_name("o'ver.qcow2"), backing_file=str(image), backing_fmt="qcow2")
        error = refusal(qcow2(over))
        assert isinstance(error, BadImage)
        assert f"is an overlay of another file, '{image}'" in error.why
        command = error.hint.partition(": ")[2]
        subprocess.run(command, shell=True, check=True)
        assert look(qcow2(over), "old", WHAT).size == 64 * MIB

    def test_what_is_no_qcow2_image_or_refuses_itself(self, tmp_path: Path) -> None:
        assert "is no qcow2 image, as its definition says" in refusal(qcow2(files.disk(tmp_path / "a"))).why
        assert "data in another file" in refusal(qcow2(files.create(tmp_path / "x", data_file=str(tmp_path / "d")))).why
        (tmp_path / "empty").touch()
        assert "is empty" in refusal(raw(tmp_path / "empty")).why

    def test_what_is_no_file(self, tmp_path: Path, image: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "link").symlink_to(image)
        for name, why in (("pipe", "is a pipe"), ("link", "is a symbolic link"), ("", "is a directory")):
            error = refusal(raw(tmp_path / name))
            assert (type(error), why in error.why) == (WrongState, True), name
        assert str(image) in refusal(raw(tmp_path / "link")).hint
        assert isinstance(refusal(raw(tmp_path / "gone")), NotFound)
        assert "is a device" in refusal(raw(Path("/dev/null"))).why

    def test_what_the_sandbox_hides_is_said_to_be_hidden(self) -> None:
        error = refusal(raw(Path("/home/nobody-at-all/old.img")))
        assert "sandbox" in error.why
        assert "/var/lib/libvirt/images" in error.hint

    @pytest.mark.parametrize("byte", disk_files.WRITING)
    def test_one_that_qemu_writes_to_is_told_by_its_lock(self, image: Path, byte: int) -> None:
        lock = "fd = os.open(sys.argv[1], os.O_RDWR)\n"
        lock += f"fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, {byte}, 1, 0))"
        with program(lock, str(image)):
            assert isinstance(refusal(qcow2(image)), Busy)

    def test_one_that_qemu_reads_is_not(self, image: Path) -> None:
        lock = "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        lock += "fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 100, 1, 0))"
        with program(lock, str(image)):
            assert look(qcow2(image), "old", WHAT).size == 8 * MIB

    def test_the_lock_is_as_the_kernel_has_it(self) -> None:
        assert disk_files._LOCK.size == struct.calcsize("hhqqi4x") == 32


class TestOpening:
    def planned(self, image: Path) -> str:
        return look(qcow2(image), "old", WHAT).identity

    def test_gives_a_path_to_the_very_file(self, image: Path) -> None:
        opened = open_unused(qcow2(image), self.planned(image), WHAT)
        other = files.disk(image.with_name("other"))
        other.rename(image)  # whatever is at that name by now
        with opened.path.open("rb") as file:
            assert file.read(4) == b"QFI\xfb"
        opened.close()
        with pytest.raises(OSError):
            opened.path.stat()

    def test_not_once_it_has_changed(self, image: Path) -> None:
        planned = self.planned(image)
        os.utime(image, ns=(0, image.stat().st_mtime_ns + 1))
        with pytest.raises(WrongState, match="was not adopted") as caught:
            open_unused(qcow2(image), planned, WHAT)
        assert "changed or replaced" in caught.value.why

    def test_not_while_it_is_open_for_writing(self, image: Path) -> None:
        planned = self.planned(image)
        with program("file = open(sys.argv[1], 'r+b')", str(image)), pytest.raises(Busy) as caught:
            open_unused(qcow2(image), planned, WHAT)
        assert "python" in caught.value.why
        with program("file = open(sys.argv[1], 'rb')", str(image)):
            open_unused(qcow2(image), planned, WHAT).close()

    def test_leaves_no_descriptor_when_it_refuses(self, image: Path) -> None:
        before = open_files()
        for _ in range(3):
            with pytest.raises(WrongState):
                open_unused(qcow2(image), "other", WHAT)
            open_unused(qcow2(image), self.planned(image), WHAT)  # forgotten
        assert open_files() == before


class TestDevices:
    def device(self, path: Path) -> SourceDisk:
        return SourceDisk("vda", "block", str(path), "raw")

    def test_only_below_dev(self, image: Path) -> None:
        assert "no device below /dev" in refusal(self.device(image)).why

    def test_only_a_block_device_that_is_there(self) -> None:
        assert "not a disk" in refusal(self.device(Path("/dev/null"))).why
        assert isinstance(refusal(self.device(Path("/dev/none-of-that-name"))), NotFound)

    def test_by_number_and_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(disk_files, "_device", lambda disk, what: (os.makedev(253, 3), 5 * MIB))
        monkeypatch.setattr(disk_files, "holders", lambda path: [])
        disk = self.device(Path("/dev/null"))
        assert look(disk, "old", WHAT) == Look("253:3:5242880", 5 * MIB)
        opened = open_unused(disk, "253:3:5242880", WHAT)
        assert (opened.path, opened.device, opened.file) == (Path("/dev/null"), "253:3", None)
        with pytest.raises(WrongState):
            open_unused(disk, "253:3:1", WHAT)
        monkeypatch.setattr(disk_files, "holders", lambda path: ["vg-old (device mapper or RAID)"])
        with pytest.raises(Busy) as caught:
            open_unused(disk, "253:3:5242880", WHAT)
        assert "vg-old" in caught.value.why


def test_identity_of_what_is_not_there() -> None:
    assert identity("file", "/none/of/that/name") == ""
    assert identity("block", "/dev/none-of-that-name") == ""
