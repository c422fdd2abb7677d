"""Who calls: the user and the login behind a unique bus name, and the news that a caller has left the bus."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from dbus_next import Message, MessageType
from dbus_next.aio import MessageBus

from ..engine.job import NO_LOGIN
from ..model.errors import NotAuthorized

DBUS, PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
KEPT = 1000
BOUND = 25.0


class Callers:
    """Unique names are never used again, so what the bus said of one stays true."""

    def __init__(self, bus: MessageBus, vanished: Callable[[str], None]) -> None:
        self._bus, self._vanished = bus, vanished
        self._uids: OrderedDict[str, int] = OrderedDict()
        self._logins: OrderedDict[str, int] = OrderedDict()

    async def watch(self) -> None:
        """Ask the bus to tell us of names that go."""
        rule = f"type='signal',sender='{DBUS}',interface='{DBUS}',member='NameOwnerChanged',arg2=''"
        await self._call("AddMatch", rule)
        self._bus.add_message_handler(self._received)

    async def uid(self, sender: str) -> int:
        """Raises NotAuthorized for a caller that the bus does not know."""
        if sender not in self._uids:
            reply = await self._call("GetConnectionUnixUser", sender)
            if reply is None or reply.message_type is MessageType.ERROR:
                raise NotAuthorized("nothing was changed", "the bus does not know who calls", "")
            _keep(self._uids, sender, reply.body[0])
        return self._uids[sender]

    async def login(self, sender: str) -> int:
        """The user who once logged in, whatever they have become since; NO_LOGIN where that is not known.

        For the history alone. Nothing is decided by it: a process may have ended, and its id be another's.
        """
        if sender not in self._logins:
            reply = await self._call("GetConnectionUnixProcessID", sender)
            known = reply is not None and reply.message_type is not MessageType.ERROR
            _keep(self._logins, sender, _login_of(reply.body[0]) if reply and known else NO_LOGIN)
        return self._logins[sender]

    async def _call(self, member: str, argument: str) -> Message | None:
        call = Message(DBUS, PATH, DBUS, member, signature="s", body=[argument])
        return await asyncio.wait_for(self._bus.call(call), BOUND)

    def _received(self, message: Message) -> None:
        if message.member == "NameOwnerChanged" and message.sender == DBUS and message.body[0].startswith(":"):
            self._uids.pop(message.body[0], None)
            self._logins.pop(message.body[0], None)
            self._vanished(message.body[0])


def _keep(known: OrderedDict[str, int], sender: str, value: int) -> None:
    known[sender] = value
    while len(known) > KEPT:
        known.popitem(last=False)


def _login_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/loginuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return NO_LOGIN
