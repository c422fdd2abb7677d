"""Asking polkit. Default deny: no polkit, no sender or no such action is a no.

The subject is the caller's unique bus name, which cannot be taken over by another process as a PID can.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Mapping

from dbus_next import Message, MessageType, Variant
from dbus_next.aio import MessageBus

from ..model.errors import KvmError, NotAuthorized, NotAuthorizedCanObtain, NotAuthorizedDismissed

log = logging.getLogger(__name__)

NAME, PATH, INTERFACE = (
    "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority",
)  # fmt: skip
ALLOW_USER_INTERACTION = 1
ASK_SECONDS, PROMPT_SECONDS = 25.0, 300.0


class Polkit:
    """The authority, over the service's own connection."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._numbers = itertools.count(1)

    async def check(self, sender: str, action: str, details: Mapping[str, str], interactive: bool) -> None:
        """Return if the caller may do it. Raises one of the three NotAuthorized errors."""
        answer = await self.ask(sender, action, details, interactive)
        if answer == "yes":
            return
        raise refusal(answer, action)

    async def ask(self, sender: str, action: str, details: Mapping[str, str], interactive: bool) -> str:
        """ "yes", "no", "auth" (a password would do), "dismissed", or "unanswered" (polkit is not there)."""
        cancellation = f"kldload-kvm-{next(self._numbers)}" if interactive else ""
        subject = ["system-bus-name", {"name": Variant("s", sender)}]
        flags = ALLOW_USER_INTERACTION if interactive else 0
        known = {key: value for key, value in details.items() if value}
        call = Message(NAME, PATH, INTERFACE, "CheckAuthorization", signature="(sa{sv})sa{ss}us",
                       body=[subject, action, known, flags, cancellation])  # fmt: skip
        try:
            timeout = PROMPT_SECONDS if interactive else ASK_SECONDS
            reply = await asyncio.wait_for(self._bus.call(call), timeout)
        except TimeoutError:
            self._cancel(cancellation)
            return "dismissed" if interactive else "unanswered"
        except asyncio.CancelledError:
            # The caller is gone: take the prompt off the screen.
            self._cancel(cancellation)
            raise
        if reply is None or reply.message_type is MessageType.ERROR:
            log.warning(
                "polkit did not answer for %s: %s", action, reply.body[0] if reply and reply.body else "no reply"
            )
            return "unanswered"
        authorized, challenge, result = reply.body[0]
        if authorized:
            return "yes"
        if "polkit.dismissed" in result:
            return "dismissed"
        return "auth" if challenge else "no"

    def _cancel(self, cancellation: str) -> None:
        if cancellation:
            self._bus.send(
                Message(NAME, PATH, INTERFACE, "CancelCheckAuthorization", signature="s", body=[cancellation])
            )


def refusal(answer: str, action: str) -> KvmError:
    """The error for each answer that is not yes."""
    if answer == "dismissed":
        return NotAuthorizedDismissed("nothing was changed", "the password prompt was dismissed or not answered", "")
    if answer == "auth":
        return NotAuthorizedCanObtain(
            "nothing was changed", f"{action} needs an administrator's password, and none was asked for",
            "run it in a terminal or a desktop session with a polkit agent, or as root",
        )  # fmt: skip
    if answer == "unanswered":
        return NotAuthorized(
            "nothing was changed", f"polkit did not answer whether you may {action}, and nobody may without its yes",
            "is it installed and running? systemctl status polkit",
        )  # fmt: skip
    return NotAuthorized(
        "nothing was changed", f"polkit does not allow you {action}",
        "an administrator can allow it: see the example rules in /usr/share/doc/kldload-kvm/examples",
    )  # fmt: skip
