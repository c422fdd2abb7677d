"""Writing to a bus that is slower than we are: nothing is lost, and the connection lives."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from types import SimpleNamespace
from typing import Any

from dbus_next import Message, Variant

from kldload_kvm.bus.connection import PatientWriter, Signal
from loops import in_loop

COUNT, TEXT = 400, "x" * 3000


def pair() -> tuple[SimpleNamespace, socket.socket, list[Any]]:
    """A bus as the writer knows it, the bus's own end, and the faults that ended the connection."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    faults: list[Any] = []
    bus = SimpleNamespace(
        _negotiate_unix_fd=True, _sock=ours, _loop=asyncio.get_running_loop(), _fd=ours.fileno(), unique_name=":1.1",
        _finalize=faults.append,
    )  # fmt: skip
    return bus, theirs, faults


def signal(number: int, fds: tuple[int, ...] = ()) -> Message:
    made = Message.new_signal("/a", "a.b", "C", "us", [number, TEXT], list(fds))
    made.serial = number + 1
    return made


async def received(theirs: socket.socket, size: int) -> int:
    found = 0
    while found < size:
        await asyncio.sleep(0.001)  # a bus that is busy with others
        found += len(await asyncio.get_running_loop().sock_recv(theirs, 5000))
    return found


@in_loop
async def test_a_full_socket_is_waited_for_and_not_taken_for_the_end() -> None:
    bus, theirs, faults = pair()
    writer = PatientWriter(bus)
    sent = [asyncio.get_running_loop().create_future() for _ in range(COUNT)]
    size = 0
    for number in range(COUNT):
        message = signal(number)
        size += len(message._marshall(negotiate_unix_fd=True))
        writer.schedule_write(message, sent[number])
    assert await asyncio.wait_for(received(theirs, size), 30) == size
    await asyncio.wait_for(asyncio.gather(*sent), 5)
    assert faults == []


@in_loop
async def test_files_travel_with_their_message() -> None:
    bus, theirs, faults = pair()
    writer = PatientWriter(bus)
    with tempfile.TemporaryFile() as file:
        file.write(b"inside")
        file.flush()
        writer.schedule_write(signal(0, (file.fileno(),)))
        await asyncio.sleep(0.05)
        _, fds, _, _ = socket.recv_fds(theirs, 10_000, 4)
    assert os.pread(fds[0], 10, 0) == b"inside"
    os.close(fds[0])
    assert faults == []


@in_loop
async def test_the_end_of_the_connection_is_told() -> None:
    bus, theirs, faults = pair()
    writer = PatientWriter(bus)
    theirs.close()
    done = asyncio.get_running_loop().create_future()
    writer.schedule_write(signal(0), done)
    await asyncio.wait([done], timeout=5)
    assert isinstance(done.exception(), BrokenPipeError)
    assert isinstance(faults[0], BrokenPipeError)
    bus._loop.remove_writer(bus._fd)


def test_a_signal_is_written_as_dbus_next_writes_it() -> None:
    cases: list[tuple[str, list[Any]]] = [
        ("", []),
        ("s", ["ä"]),
        ("sa{sv}as", ["org.kldload.Kvm1.Vm", {"Job": Variant("o", "/"), "Used": Variant("t", 1 << 40)}, []]),
        ("asas", [["a", "bb"], []]),
        ("bs", [True, ""]),
    ]
    for path in ("/", "/org/kldload/Kvm1/vm/x", "/a/bb"):
        for member in ("A", "SnapshotsChanged", "Abcdefg"):
            for signature, body in cases:
                ours = Signal(path, "org.kldload.Kvm1.Vm", member, signature, body)
                theirs = Message.new_signal(path, "org.kldload.Kvm1.Vm", member, signature, body)
                ours.serial = theirs.serial = 7
                assert ours._marshall(True) == bytes(theirs._marshall(True)), (path, member, signature)
