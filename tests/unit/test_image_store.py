"""The image store: what it lists, what may be added to it, and that a failed or cancelled addition leaves nothing."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

import image_files as files
from kldload_kvm.images import adding, copying, store
from kldload_kvm.images.adding import Added, add_from_fd
from kldload_kvm.images.store import Image
from kldload_kvm.model.errors import AlreadyExists, BadImage, Failed, InvalidArgument, KvmError, NoSpace, NotFound
from kldload_kvm.model.image_name import Format

MIB = 1 << 20
T = TypeVar("T")
Inspect = Callable[[Path, Format], Coroutine[Any, Any, object]]


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """An empty store."""
    path = tmp_path / "isos"
    path.mkdir()
    return path


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def add(
    shelf: Path, source: Path | int, name: str = "web.qcow2", format_: Format | None = None, sha256: str = "",
    floor: int = 0, inspect: Inspect | None = None,
) -> Added:  # fmt: skip
    fd = source if isinstance(source, int) else os.open(source, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return run(add_from_fd(fd, shelf, name, format_, sha256, lambda done, total: None, inspect, floor))
    finally:
        os.close(fd)


def contents(shelf: Path) -> list[str]:
    return sorted(path.name for path in shelf.iterdir())


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class TestAdding:
    def test_an_image_is_there_whole_and_with_its_checksum(self, shelf: Path, tmp_path: Path) -> None:
        source = files.create(tmp_path / "a.qcow2")
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        added = add(shelf, source, sha256=digest.upper())
        assert added == Added("web.qcow2", "qcow2", source.stat().st_size, 64 * MIB, digest)
        assert (shelf / "web.qcow2").read_bytes() == source.read_bytes()
        assert contents(shelf) == ["web.qcow2"]
        assert (shelf / "web.qcow2").stat().st_mode & 0o7777 == 0o644
        assert (shelf / "web.qcow2").stat().st_nlink == 1

    def test_iso_and_raw(self, shelf: Path, tmp_path: Path) -> None:
        assert add(shelf, files.iso(tmp_path / "a"), "debian.iso").format == "iso"
        assert add(shelf, files.disk(tmp_path / "b"), "disk.raw").format == "raw"
        assert add(shelf, files.disk(tmp_path / "b"), "again.raw", "raw").format == "raw"

    def test_a_raw_disk_is_remembered_by_any_name(self, shelf: Path, tmp_path: Path) -> None:
        assert add(shelf, files.disk(tmp_path / "a"), "appliance", "raw").format == "raw"
        assert [(image.name, image.format) for image in store.list_images(shelf)] == [("appliance", "raw")]
        assert store.find_image(shelf, "appliance").virtual_size == 8 * MIB

    def test_a_raw_disk_that_cannot_be_remembered(
        self, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unknown(fd: int, name: str, value: bytes) -> None:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(os, "setxattr", unknown)
        with pytest.raises(InvalidArgument, match=r"appliance\.raw"):
            add(shelf, files.disk(tmp_path / "a"), "appliance", "raw")
        assert contents(shelf) == []
        assert add(shelf, files.disk(tmp_path / "a"), "appliance.raw", "raw").format == "raw"

    def test_the_caller_s_place_in_the_file_does_not_matter(self, shelf: Path, tmp_path: Path) -> None:
        fd = os.open(files.create(tmp_path / "a.qcow2"), os.O_RDWR)
        os.lseek(fd, 1000, os.SEEK_SET)
        size = os.fstat(fd).st_size
        assert add(shelf, os.dup(fd)).size == size
        assert os.lseek(fd, 0, os.SEEK_CUR) == 1000
        os.close(fd)

    def test_zeroes_take_no_room(self, shelf: Path, tmp_path: Path) -> None:
        add(shelf, files.disk(tmp_path / "a", size=256 * MIB, filled=5 * MIB), "disk.raw")
        assert (shelf / "disk.raw").stat().st_size == 256 * MIB
        assert (shelf / "disk.raw").stat().st_blocks * 512 <= 8 * MIB
        with (shelf / "disk.raw").open("rb") as copied, (tmp_path / "a").open("rb") as source:
            assert copied.read() == source.read()

    def test_no_descriptor_is_left_open(self, shelf: Path, tmp_path: Path) -> None:
        source = files.create(tmp_path / "a.qcow2")
        add(shelf, source, "first.qcow2")
        before = descriptors()
        for name in ("a.qcow2", "b.qcow2", "first.qcow2", "c.iso"):
            try:
                add(shelf, source, name)
            except KvmError:
                continue
        assert descriptors() == before

    def test_progress_ends_at_the_whole(self, shelf: Path, tmp_path: Path) -> None:
        said: list[tuple[int, int]] = []
        source = files.disk(tmp_path / "a")
        with source.open("rb") as file:
            run(add_from_fd(file.fileno(), shelf, "disk.raw", None, "", lambda *bytes_: said.append(bytes_)))
        assert said[-1] == (8 * MIB, 8 * MIB)

    def test_the_copy_is_inspected_not_the_original(self, shelf: Path, tmp_path: Path) -> None:
        looked: list[tuple[Path, str]] = []

        async def inspect(path: Path, format_: Format) -> None:
            assert path.parent == shelf
            assert path.stat().st_mode & 0o004
            assert contents(shelf) == [path.name]
            assert store.list_images(shelf) == ()
            looked.append((path, format_))

        add(shelf, files.create(tmp_path / "a"), inspect=inspect)
        assert [format_ for _, format_ in looked] == ["qcow2"]

    def test_what_the_inspection_refuses_is_gone(self, shelf: Path, tmp_path: Path) -> None:
        async def inspect(path: Path, format_: Format) -> None:
            raise BadImage("no", "", "")

        with pytest.raises(BadImage, match="no"):
            add(shelf, files.create(tmp_path / "a"), inspect=inspect)
        assert contents(shelf) == []


class TestRefusing:
    def refused(
        self, shelf: Path, kind: type[KvmError], said: str, source: Path | int, *args: Any, **kwargs: Any
    ) -> KvmError:
        before = contents(shelf)
        with pytest.raises(kind) as caught:
            add(shelf, source, *args, **kwargs)
        assert said in str(caught.value)
        assert contents(shelf) == before
        return caught.value

    def test_a_taken_name(self, shelf: Path, tmp_path: Path) -> None:
        source = files.create(tmp_path / "a")
        add(shelf, source)
        mtime = (shelf / "web.qcow2").stat().st_mtime_ns
        error = self.refused(shelf, AlreadyExists, "the store has an image of that name", source)
        assert "kvm-image remove web.qcow2" in error.hint
        assert (shelf / "web.qcow2").stat().st_mtime_ns == mtime

    def test_a_name_taken_by_something_else_meanwhile(self, shelf: Path, tmp_path: Path) -> None:
        async def inspect(path: Path, format_: Format) -> None:
            (shelf / "web.qcow2").symlink_to("/nowhere")

        with pytest.raises(AlreadyExists):
            add(shelf, files.create(tmp_path / "a"), inspect=inspect)
        assert contents(shelf) == ["web.qcow2"]
        assert (shelf / "web.qcow2").is_symlink()

    @pytest.mark.parametrize("name", ["", "../a", ".a", "-a", "a b", "a\0b", "ä", "x" * 129])
    def test_a_bad_name(self, shelf: Path, tmp_path: Path, name: str) -> None:
        self.refused(shelf, InvalidArgument, "cannot be the name of an image", files.create(tmp_path / "a"), name)

    def test_a_wrong_checksum(self, shelf: Path, tmp_path: Path) -> None:
        self.refused(shelf, BadImage, "its checksum is", files.create(tmp_path / "a"), sha256="0" * 64)

    @pytest.mark.parametrize("sha256", ["0", "z" * 64, "0" * 65])
    def test_no_checksum(self, shelf: Path, tmp_path: Path, sha256: str) -> None:
        self.refused(shelf, InvalidArgument, "no SHA-256", files.create(tmp_path / "a"), sha256=sha256)

    def test_a_pipe(self, shelf: Path, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a")
        self.refused(shelf, InvalidArgument, "a pipe", tmp_path / "a")

    def test_a_directory(self, shelf: Path, tmp_path: Path) -> None:
        self.refused(shelf, InvalidArgument, "a directory", tmp_path)

    def test_a_device(self, shelf: Path) -> None:
        self.refused(shelf, InvalidArgument, "a device", Path("/dev/zero"))

    def test_a_socket(self, shelf: Path) -> None:
        with socket.socket() as open_:
            self.refused(shelf, InvalidArgument, "a socket", os.dup(open_.fileno()))

    def test_a_memory_file_is_a_file(self, shelf: Path, tmp_path: Path) -> None:
        fd = os.memfd_create("image")
        os.write(fd, files.create(tmp_path / "a").read_bytes())
        assert add(shelf, fd).format == "qcow2"

    def test_a_path_only(self, shelf: Path, tmp_path: Path) -> None:
        fd = os.open(files.create(tmp_path / "a"), os.O_PATH)
        self.refused(shelf, InvalidArgument, "O_PATH", fd)

    def test_a_descriptor_for_writing_only(self, shelf: Path, tmp_path: Path) -> None:
        fd = os.open(files.create(tmp_path / "a"), os.O_WRONLY)
        self.refused(shelf, InvalidArgument, "writing only", fd)

    def test_an_empty_file(self, shelf: Path, tmp_path: Path) -> None:
        (tmp_path / "a").touch()
        self.refused(shelf, BadImage, "empty", tmp_path / "a")

    def test_what_is_no_image(self, shelf: Path, tmp_path: Path) -> None:
        self.refused(shelf, BadImage, "raw disk", files.disk(tmp_path / "a"), "web.img")
        (tmp_path / "c").write_bytes(b"noise" * 100_000)
        self.refused(shelf, BadImage, "not a qcow2", tmp_path / "c", "web.qcow2")
        self.refused(shelf, BadImage, "nothing known", tmp_path / "c", "web")
        self.refused(shelf, BadImage, "VDI", files.create(tmp_path / "b", "vdi"))

    def test_too_little_room(self, shelf: Path, tmp_path: Path) -> None:
        free = os.statvfs(shelf).f_bavail * os.statvfs(shelf).f_frsize
        self.refused(shelf, NoSpace, "stay free", files.create(tmp_path / "a"), floor=free)

    def test_a_store_that_becomes_full(self, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(fd: int, part: object, at: int) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        self.refused(shelf, NoSpace, "became full", files.disk(tmp_path / "a"), "disk.raw")

    def test_a_sparse_file_needs_only_what_it_holds(self, shelf: Path, tmp_path: Path) -> None:
        free = os.statvfs(shelf).f_bavail * os.statvfs(shelf).f_frsize
        source = files.disk(tmp_path / "a", size=64 * MIB, filled=MIB)
        assert add(shelf, source, "disk.raw", floor=free - 32 * MIB).size == 64 * MIB

    def test_no_store(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match="is not there"):
            add(tmp_path / "none", files.create(tmp_path / "a"))

    def test_a_store_that_cannot_be_written(self, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store, "sync", lambda path: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
        with pytest.raises(Failed, match="Read-only"):
            add(shelf, files.create(tmp_path / "a"))


class TestChangesUnderUs:
    def slow(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
        """Let `act` happen between the first read and the next."""
        monkeypatch.setattr(copying, "CHUNK", 64 << 10)
        monkeypatch.setattr(copying, "_ZEROES", bytes(64 << 10))
        read, acted = os.preadv, threading.Event()

        def reading(fd: int, buffers: list[memoryview], at: int) -> int:
            if at and not acted.is_set():
                acted.set()
                act()
            return read(fd, buffers, at)

        monkeypatch.setattr(os, "preadv", reading)

    @pytest.mark.parametrize("size", [100_000, 20 * MIB])
    def test_cut_or_grown(self, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
        source = files.disk(tmp_path / "a")
        self.slow(monkeypatch, lambda: os.truncate(source, size))
        with pytest.raises(BadImage, match="changed while it was copied"):
            add(shelf, source, "disk.raw")
        assert contents(shelf) == []

    def test_rewritten(self, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = files.disk(tmp_path / "a")
        self.slow(monkeypatch, lambda: files.patched(source, 0, b"QFI\xfb") and None)
        with pytest.raises(BadImage, match="changed while it was copied"):
            add(shelf, source, "disk.raw")

    def test_a_file_that_cannot_be_read(self, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken() -> None:
            raise OSError(5, "Input/output error")

        self.slow(monkeypatch, broken)
        with pytest.raises(BadImage, match="could not be read to its end"):
            add(shelf, files.disk(tmp_path / "a"), "disk.raw")
        assert contents(shelf) == []


class TestCancelling:
    def test_a_hanging_read_keeps_nobody(self, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        go_on, read = threading.Event(), os.preadv

        def hanging(fd: int, buffers: list[memoryview], at: int) -> int:
            go_on.wait(20)
            return read(fd, buffers, at)

        monkeypatch.setattr(os, "preadv", hanging)
        before = descriptors()

        async def main() -> float:
            with files.disk(tmp_path / "a").open("rb") as file:
                task = asyncio.create_task(
                    add_from_fd(file.fileno(), shelf, "disk.raw", None, "", lambda done, total: None)
                )
                await asyncio.sleep(0.5)
                began = time.monotonic()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            return time.monotonic() - began

        assert run(main()) < 1
        assert contents(shelf) == []
        go_on.set()
        for _ in range(100):
            if descriptors() == before:
                break
            time.sleep(0.05)
        assert descriptors() == before
        assert contents(shelf) == []

    def test_during_the_inspection(self, shelf: Path, tmp_path: Path) -> None:
        async def inspect(path: Path, format_: Format) -> None:
            await asyncio.sleep(60)

        async def main() -> None:
            with files.create(tmp_path / "a").open("rb") as file:
                work = add_from_fd(file.fileno(), shelf, "a.qcow2", None, "", lambda done, total: None, inspect)
                await asyncio.wait_for(work, 1)

        with pytest.raises(TimeoutError):
            run(main())
        assert contents(shelf) == []

    def test_the_loop_goes_on_during_a_copy(self, shelf: Path, tmp_path: Path) -> None:
        source = files.disk(tmp_path / "a", size=512 * MIB, filled=64 * MIB)

        async def main() -> float:
            with source.open("rb") as file:
                longest, last = 0.0, time.monotonic()
                task = asyncio.create_task(
                    add_from_fd(file.fileno(), shelf, "disk.raw", None, "", lambda done, total: None)
                )
                while not task.done():
                    await asyncio.sleep(0.005)
                    longest, last = max(longest, time.monotonic() - last), time.monotonic()
                await task
            return longest

        assert run(main()) < 0.5


class TestLeftovers:
    def test_are_removed_but_not_live_ones_nor_others(self, shelf: Path) -> None:
        dead, live, other = shelf / ".kldload-kvm-add-dead", shelf / ".kldload-kvm-add-live", shelf / ".something"
        for path in (dead, live, other):
            path.touch()
        (shelf / ".kldload-kvm-add-link").symlink_to(other)
        with live.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert adding.clean(shelf) == [dead.name]
        assert contents(shelf) == [".kldload-kvm-add-link", live.name, other.name]
        assert adding.clean(shelf / "none") == []


class TestListing:
    def test_images_of_every_format_by_name(self, shelf: Path) -> None:
        files.iso(shelf / "debian.iso")
        files.create(shelf / "a.img")
        files.disk(shelf / "disk.raw")
        assert store.list_images(shelf) == (
            Image("a.img", "qcow2", (shelf / "a.img").stat().st_size, 64 * MIB, str(shelf / "a.img")),
            Image("debian.iso", "iso", 128 << 10, 128 << 10, str(shelf / "debian.iso")),
            Image("disk.raw", "raw", 8 * MIB, 8 * MIB, str(shelf / "disk.raw")),
        )

    def test_without_what_is_none(self, shelf: Path) -> None:
        files.disk(shelf / "disk.img")
        files.create(shelf / "with space.qcow2")
        files.create(shelf / ".hidden.qcow2")
        (shelf / "link.qcow2").symlink_to(shelf / ".hidden.qcow2")
        (shelf / "directory.iso").mkdir()
        os.mkfifo(shelf / "pipe.iso")
        (shelf / "README").write_text("read me")
        assert store.list_images(shelf) == ()
        assert store.list_images(shelf / "none") == ()

    def test_again_without_reading(self, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files.create(shelf / "a.qcow2")
        files.create(shelf / "b.qcow2")
        first = store.list_images(shelf)
        read: list[str] = []
        look = store.read_header
        monkeypatch.setattr(store, "read_header", lambda path, name: (read.append(name), look(path, name))[1])
        assert store.list_images(shelf) == first
        assert read == []
        files.create(shelf / "b.qcow2", size=128 * MIB)
        assert [image.virtual_size for image in store.list_images(shelf)] == [64 * MIB, 128 * MIB]
        assert read == ["b.qcow2"]
        (shelf / "a.qcow2").rename(shelf / "c.iso")
        assert [image.name for image in store.list_images(shelf)] == ["b.qcow2"]

    def test_find_says_why_not(self, shelf: Path) -> None:
        files.create(shelf / "a.qcow2")
        assert store.find_image(shelf, "a.qcow2").virtual_size == 64 * MIB
        with pytest.raises(NotFound):
            store.find_image(shelf, "b.qcow2")
        files.disk(shelf / "disk.img")
        with pytest.raises(BadImage, match="raw disk"):
            store.find_image(shelf, "disk.img")
        (shelf / "link.qcow2").symlink_to(shelf / "a.qcow2")
        with pytest.raises(BadImage):
            store.find_image(shelf, "link.qcow2")
        with pytest.raises(InvalidArgument):
            store.find_image(shelf, "../a.qcow2")


class TestRemoving:
    def test_by_name_only(self, shelf: Path) -> None:
        files.create(shelf / "a.qcow2")
        store.remove(shelf, "a.qcow2")
        assert contents(shelf) == []
        with pytest.raises(NotFound):
            store.remove(shelf, "a.qcow2")
        with pytest.raises(InvalidArgument):
            store.remove(shelf, "../isos")
        (shelf / "directory").mkdir()
        with pytest.raises(BadImage):
            store.remove(shelf, "directory")
