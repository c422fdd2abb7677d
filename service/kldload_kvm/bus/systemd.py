"""systemd over D-Bus: the units of fixed shape that do what the daemon's own sandbox forbids."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from dbus_next import Message, MessageType
from dbus_next.aio import MessageBus

from ..images.conversion import UnitState
from ..model.errors import Failed
from ..waiting import until

NAME, PATH, MANAGER = "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
UNIT, SERVICE = "org.freedesktop.systemd1.Unit", "org.freedesktop.systemd1.Service"
PROPERTIES = "org.freedesktop.DBus.Properties"
BOUND, STOP_BOUND = 30.0, 120.0


class Systemd:
    """Starting, watching and stopping units by name."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus

    async def start(self, unit: str) -> None:
        """Queue a start; a unit of the same name that runs already is left running. Raises Failed."""
        await self._call(unit, PATH, MANAGER, "StartUnit", "ss", [unit, "fail"])

    async def stop(self, unit: str) -> None:
        """Stop a unit, and return once nothing of it runs. Raises Failed if it does not end in its time."""
        try:
            # Also where nothing runs yet: a start that is still queued must not come after this.
            await self._call(unit, PATH, MANAGER, "StopUnit", "ss", [unit, "replace"])
        except Failed:
            if not await self._over(unit):
                raise
        if not await until(lambda: self._over(unit), STOP_BOUND, 0.1):
            raise Failed(f"{unit} was not stopped", "it has not ended in its time", f"systemctl status {unit}")

    async def state(self, unit: str) -> UnitState:
        path = (await self._call(unit, PATH, MANAGER, "LoadUnit", "s", [unit]))[0]
        active, result = [
            (await self._call(unit, path, PROPERTIES, "Get", "ss", [interface, name]))[0].value
            for interface, name in ((UNIT, "ActiveState"), (SERVICE, "Result"))
        ]
        return UnitState(active, result)

    async def active(self, units: Iterable[str]) -> dict[str, bool]:
        """Whether each is active, by one question. Raises Failed."""
        rows = (await self._call("systemd", PATH, MANAGER, "ListUnitsByNames", "as", [list(units)]))[0]
        return {row[0]: row[3] in ("active", "activating", "reloading") for row in rows}

    async def enabled(self, unit: str) -> bool:
        """Whether it is started at boot. Raises Failed for one that is not there."""
        return bool((await self._call(unit, PATH, MANAGER, "GetUnitFileState", "s", [unit]))[0] == "enabled")

    async def enable(self, unit: str) -> None:
        await self._call(unit, PATH, MANAGER, "EnableUnitFiles", "asbb", [[unit], False, False])
        await self._call(unit, PATH, MANAGER, "Reload", "", [])

    async def disable(self, unit: str) -> None:
        await self._call(unit, PATH, MANAGER, "DisableUnitFiles", "asb", [[unit], False])
        await self._call(unit, PATH, MANAGER, "Reload", "", [])

    async def _over(self, unit: str) -> bool:
        return (await self.state(unit)).active in ("inactive", "failed")

    async def _call(self, unit: str, path: str, interface: str, member: str, signature: str, body: list[Any]) -> list:  # type: ignore[type-arg]
        call = Message(NAME, path, interface, member, signature=signature, body=body)
        try:
            reply = await asyncio.wait_for(self._bus.call(call), BOUND)
        except TimeoutError:
            raise Failed(f"{unit} was not reached", "systemd does not answer", "systemctl status") from None
        if reply is None or reply.message_type is MessageType.ERROR:
            why = reply.body[0] if reply and reply.body else "no reply"
            raise Failed(f"{unit} was not reached", why, f"systemctl status {unit}")
        return list(reply.body)
