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
from .values import plain

DBUS, PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
KEPT = 1000
BOUND = 25.0


class Callers:
    """Unique names are never used again, so what the bus said of one stays true."""

    def __init__(self, bus: MessageBus, vanished: Callable[[str], None]) -> None:
        """vanished(name): is called for each unique name that leaves the bus, and for each other that nobody has any
        more."""
        self._bus, self._vanished = bus, vanished
        self._known: OrderedDict[str, tuple[int, int]] = OrderedDict()

    async def watch(self) -> None:
        """Ask the bus to tell us of names that go."""
        rule = f"type='signal',sender='{DBUS}',interface='{DBUS}',member='NameOwnerChanged',arg2=''"
        await self._call("AddMatch", rule)
        self._bus.add_message_handler(self._received)

    async def uid(self, sender: str) -> int:
        """Raises NotAuthorized for a caller that the bus does not know."""
        return (await self.who(sender))[0]

    async def who(self, sender: str) -> tuple[int, int]:
        """The user, and the one who once logged in, whatever they have become since; NO_LOGIN where that is not known.

        The login is for the history alone. Nothing is decided by it: a process may have ended, and its id be another's.
        Raises NotAuthorized for a caller that the bus does not know.
        """
        if sender not in self._known:
            # A newer bus sends a descriptor of the process, too. The dispatcher closes what comes with any reply.
            reply = await self._call("GetConnectionCredentials", sender)
            known = plain(reply.body[0]) if reply and reply.message_type is not MessageType.ERROR else {}
            if "UnixUserID" not in known:
                raise NotAuthorized("nothing was changed", "the bus does not know who calls", "")
            self._known[sender] = known["UnixUserID"], _login_of(known.get("ProcessID", 0))
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        return self._known[sender]

    async def _call(self, member: str, argument: str) -> Message | None:
        call = Message(DBUS, PATH, DBUS, member, signature="s", body=[argument])
        return await asyncio.wait_for(self._bus.call(call), BOUND)

    def _received(self, message: Message) -> None:
        if message.member == "NameOwnerChanged" and message.sender == DBUS and not message.body[2]:
            self._known.pop(message.body[0], None)
            self._vanished(message.body[0])


def _login_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/loginuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return NO_LOGIN
