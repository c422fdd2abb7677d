"""An image handed to qemu-img by its descriptor, for one that the image helper has open and may not open by its name:
libvirt leaves the files of VMs that are off to root alone. The least of an NBD server, for one client, that only reads.

The protocol is doc/proto.md of NetworkBlockDevice/nbd: fixed newstyle negotiation, simple replies.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..model.foreign_image import SECTOR

GREETING = struct.pack(">QQH", 0x4E42444D41474943, 0x49484156454F5054, 0b11)  # fixed newstyle, no padding
FLAGS = 0b11  # that there are flags, and that it is read-only
OPTION, REPLY, INFO = struct.Struct(">QII"), struct.Struct(">QIII"), struct.Struct(">HQH")
REPLY_MAGIC, ACK, INFORMATION, UNSUPPORTED = 0x3E889045565A9, 1, 3, 0x80000001
ABORT, GO = 2, 7
REQUEST, ANSWER = struct.Struct(">IHHQQI"), struct.Struct(">IIQ")
ANSWER_MAGIC, READ, DISCONNECT = 0x67446698, 0, 2
MOST = 64 << 20
"""Bytes of an option, or of one read; qemu-img asks for half as much at the most."""


class _Over(Exception):
    """The client has gone, or said what it never says."""


@contextmanager
def served(source: int) -> Iterator[int]:
    """A descriptor for qemu-img (file.driver=nbd, file.server.type=fd): of a socket at which the open file or device
    `source` is served, its end filled up to a whole sector, until the block ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    thread = threading.Thread(target=_serve, args=(ours, source), name="nbd", daemon=True)
    thread.start()
    try:
        yield theirs.fileno()
    finally:
        theirs.close()
        with suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)
        thread.join()
        ours.close()


def size_of(source: int) -> int:
    """Bytes of an open file or device."""
    about = os.fstat(source)
    return about.st_size if stat.S_ISREG(about.st_mode) else os.lseek(source, 0, os.SEEK_END)


def _serve(client: socket.socket, source: int) -> None:
    with suppress(_Over, OSError):
        _talk(client, source)
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


def _talk(client: socket.socket, source: int) -> None:
    """Answer what is asked. Raises _Over or OSError once nobody asks any more."""
    size = -(-size_of(source) // SECTOR) * SECTOR
    _negotiate(client, size)
    while True:
        _, _, kind, cookie, offset, length = REQUEST.unpack(_received(client, REQUEST.size))
        if kind == DISCONNECT:
            return
        fault, data = 0, b""
        if kind != READ or length > MOST or offset + length > size:
            fault = errno.EINVAL
        else:
            try:
                data = _read(source, offset, length)
            except OSError:
                fault = errno.EIO
        client.sendall(ANSWER.pack(ANSWER_MAGIC, fault, cookie))
        client.sendall(data)


def _negotiate(client: socket.socket, size: int) -> None:
    client.sendall(GREETING)
    _received(client, 4)  # the client's flags
    while True:
        _, option, length = OPTION.unpack(_received(client, OPTION.size))
        if length > MOST:
            raise _Over
        _received(client, length)
        if option == GO:
            information = INFO.pack(0, size, FLAGS)
            client.sendall(REPLY.pack(REPLY_MAGIC, option, INFORMATION, len(information)) + information)
        supported = option in (GO, ABORT)
        client.sendall(REPLY.pack(REPLY_MAGIC, option, ACK if supported else UNSUPPORTED, 0))
        if option == ABORT:
            raise _Over
        if option == GO:
            return


def _read(source: int, offset: int, length: int) -> bytes:
    parts = []
    while length and (part := os.pread(source, length, offset)):
        parts.append(part)
        offset, length = offset + len(part), length - len(part)
    return b"".join((*parts, bytes(length)))


def _received(client: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = client.recv(min(length - len(parts), 1 << 20))
        if not part:
            raise _Over
        parts += part
    return bytes(parts)
