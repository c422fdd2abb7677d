"""The connection to the system bus: made, given its name, and written to."""

from __future__ import annotations

from collections.abc import Callable

from dbus_next import BusType, Message, NameFlag, RequestNameReply
from dbus_next.aio import MessageBus

__all__ = ["MessageBus", "connect", "sender", "take_name"]


async def connect() -> MessageBus:
    """A connection of our own to the system bus, on which file descriptors can travel."""
    return await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()


async def take_name(bus: MessageBus, name: str) -> bool:
    """Whether the name is ours now; it is not if another has it."""
    return await bus.request_name(name, NameFlag.DO_NOT_QUEUE) is RequestNameReply.PRIMARY_OWNER


def sender(bus: MessageBus) -> Callable[[Message], None]:
    """What puts a message on the bus, and drops it once the bus is gone."""

    def send(message: Message) -> None:
        if bus.connected:
            bus.send(message)

    return send
