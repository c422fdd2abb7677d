"""The connection to the system bus: made, given its name, and written to."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable

from dbus_next import BusType, Message, NameFlag, RequestNameReply
from dbus_next.aio import MessageBus
from dbus_next.aio.message_bus import _MessageWriter

log = logging.getLogger(__name__)

__all__ = ["Message", "MessageBus", "PatientWriter", "close_all", "connect", "sender", "take_name"]


class PatientWriter(_MessageWriter):  # type: ignore[misc]
    """Waits when the socket is full. dbus-next's own takes that for the end of the connection, and then neither reads
    nor writes any more: a busy bus and a hundred signals in a row are enough."""

    buf: memoryview | None
    unix_fds: list[int] | None
    fut: asyncio.Future[None] | None

    def write_callback(self) -> None:
        try:
            while self.buf is not None or not self.messages.empty():
                if self.buf is None:
                    data, self.unix_fds, self.fut = self.messages.get_nowait()
                    self.buf, self.offset = memoryview(data), 0
                self.offset += self._send(self.buf[self.offset :])
                if self.offset < len(self.buf):
                    return  # the rest when there is room again
                self.buf = None
                if self.fut is not None and not self.fut.done():
                    self.fut.set_result(None)
            self.loop.remove_writer(self.fd)
        except (BlockingIOError, InterruptedError):
            return  # nothing was sent; the loop calls again when there is room
        except Exception as fault:
            if self.fut is not None and not self.fut.done():
                self.fut.set_exception(fault)
            self.bus._finalize(fault)

    def _send(self, rest: memoryview) -> int:
        if not self.unix_fds:
            return int(self.sock.send(rest))
        sent = socket.send_fds(self.sock, [rest], self.unix_fds)
        self.unix_fds = None
        return sent


async def connect() -> MessageBus:
    """A connection of our own to the system bus, on which file descriptors can travel."""
    bus = MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True)
    bus._writer = PatientWriter(bus)
    return await bus.connect()


async def take_name(bus: MessageBus, name: str) -> bool:
    """Whether the name is ours now; it is not if another has it."""
    return await bus.request_name(name, NameFlag.DO_NOT_QUEUE) is RequestNameReply.PRIMARY_OWNER


def sender(bus: MessageBus) -> Callable[[Message], None]:
    """What puts a message on the bus, and drops it once the bus is gone."""

    def send(message: Message) -> None:
        if bus.connected:
            bus.send(message)

    return send


def close_all(fds: Iterable[int] | None) -> None:
    """Close descriptors that came with a message."""
    for fd in fds or ():
        try:
            os.close(fd)
        except OSError:
            log.warning("a received file descriptor was closed already")
