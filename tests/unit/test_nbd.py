"""An open file handed to qemu-img through a socket, as one that it may not open itself."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import image_files as files
from kldload_kvm.images import helper, nbd, qemu_img
from kldload_kvm.model.errors import BadImage
from kldload_kvm.zfs import devices

MIB = 1 << 20


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where only root may open the image."""
    monkeypatch.setattr(qemu_img, "_may_open", lambda source: False)


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "zd16"
    path.touch()
    files.cut(path, 64 * MIB)
    monkeypatch.setattr(qemu_img, "TARGET_DRIVER", "file")
    monkeypatch.setattr(devices, "is_node_of", lambda node, dataset: True)
    return path


def convert(image: Path, volume: Path, size: int, **more: object) -> None:
    with image.open("rb") as file:
        request = {"name": image.name, "virtual_size": size, "dataset": "rpool/vms/web", **more}
        helper.convert(request, volume, file.fileno())


@pytest.mark.parametrize("args", [(), ("-c",)], ids=["plain", "compressed"])
def test_a_qcow2_image_is_inspected_and_converted(tmp_path: Path, volume: Path, args: tuple[str, ...]) -> None:
    raw = files.disk(tmp_path / "a.raw", filled=3 * MIB)
    image = files.converted(raw, tmp_path / "web.qcow2", "qcow2", *args)
    with image.open("rb") as file:
        found = helper.inspect({"name": image.name, "format": "qcow2"}, file.fileno())
    assert found == {"format": "qcow2", "virtual_size": 8 * MIB}
    convert(image, volume, 8 * MIB)
    assert volume.read_bytes()[: 8 * MIB] == raw.read_bytes()
    assert volume.stat().st_blocks * 512 < 5 * MIB, "zeroes were written"


def test_a_raw_disk_is_copied_whatever_is_in_it(tmp_path: Path, volume: Path) -> None:
    """A guest may write the header of another format to its disk: that is data."""
    raw = files.create(tmp_path / "web", size=32 * MIB, backing_file="/etc/shadow", backing_fmt="raw")
    size = -(-raw.stat().st_size // 512) * 512
    convert(raw, volume, size, format="raw", raw=True)
    assert volume.read_bytes()[: raw.stat().st_size] == raw.read_bytes()


def test_the_end_of_a_file_is_filled_up_to_a_sector(tmp_path: Path, volume: Path) -> None:
    raw = tmp_path / "web"
    raw.write_bytes(b"x" * 70_000)
    convert(raw, volume, 70_144, format="raw", raw=True)
    assert volume.read_bytes()[:70_144] == b"x" * 70_000 + bytes(144)


def test_a_damaged_one_is_still_told(tmp_path: Path) -> None:
    image = files.converted(files.disk(tmp_path / "a.raw"), tmp_path / "web.qcow2")
    l1 = int.from_bytes(image.read_bytes()[40:48], "big")
    files.patched(image, l1, b"\x80\0\0\x7f\xff\xff\0\0")
    with image.open("rb") as file, pytest.raises(BadImage):
        helper.inspect({"name": image.name}, file.fileno())


@pytest.fixture
def client(tmp_path: Path) -> Iterator[socket.socket]:
    """A client that has come past the greeting."""
    (tmp_path / "x").write_bytes(b"abcd" * 256)
    fd = os.open(tmp_path / "x", os.O_RDONLY)
    with nbd.served(fd) as number, socket.socket(fileno=os.dup(number)) as sock:
        sock.settimeout(10)
        assert sock.recv(18, socket.MSG_WAITALL) == nbd.GREETING
        sock.sendall(struct.pack(">I", 3))
        yield sock
    os.close(fd)


def option(client: socket.socket, number: int, data: bytes = b"") -> None:
    client.sendall(nbd.OPTION.pack(0x49484156454F5054, number, len(data)) + data)


def reply(client: socket.socket) -> tuple[int, bytes]:
    _, _, kind, length = nbd.REPLY.unpack(client.recv(nbd.REPLY.size, socket.MSG_WAITALL))
    return kind, client.recv(length, socket.MSG_WAITALL) if length else b""


def read(client: socket.socket, offset: int, length: int, kind: int = 0) -> tuple[int, bytes]:
    client.sendall(nbd.REQUEST.pack(0x25609513, 0, kind, 7, offset, length))
    magic, fault, cookie = nbd.ANSWER.unpack(client.recv(nbd.ANSWER.size, socket.MSG_WAITALL))
    assert (magic, cookie) == (nbd.ANSWER_MAGIC, 7)
    return fault, b"" if fault else client.recv(length, socket.MSG_WAITALL)


def test_what_is_asked_beside_the_size_is_not_supported(client: socket.socket) -> None:
    option(client, 8)
    assert reply(client) == (nbd.UNSUPPORTED, b"")
    option(client, nbd.GO, bytes(6))
    assert reply(client) == (nbd.INFORMATION, struct.pack(">HQH", 0, 1024, 3))
    assert reply(client) == (nbd.ACK, b"")
    assert read(client, 2, 4) == (0, b"cdab")


@pytest.mark.parametrize(("offset", "length", "kind"), [(0, 4, 1), (1020, 8, 0), (1 << 40, 1, 0), (0, 1 << 31, 0)])
def test_nothing_is_written_or_read_beyond_the_end(client: socket.socket, offset: int, length: int, kind: int) -> None:
    option(client, nbd.GO, bytes(6))
    assert [reply(client)[0] for _ in range(2)] == [nbd.INFORMATION, nbd.ACK]
    assert read(client, offset, length, kind)[0] == 22


def test_one_that_goes_away_is_let_go(client: socket.socket) -> None:
    option(client, nbd.ABORT)
    assert reply(client) == (nbd.ACK, b"")
    assert client.recv(1) == b""
