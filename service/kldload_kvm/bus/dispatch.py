"""Every method call that arrives: checked against the XML, authorized, answered. Never unanswered, never a traceback.

The order is fixed: the object and the method exist; the arguments fit; their values can be (a pure parse); polkit
allows it for this caller and this VM; and only then anything is done, with the VM looked up again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbus_next import ErrorType, Message, MessageFlag, MessageType, Variant
from dbus_next.aio import MessageBus

from ..model.constants import PREFIX, ROOT
from ..model.contract import Interface, Method
from ..model.errors import Failed, InvalidArgument, KvmError, LimitsExceeded
from .tree import OBJECT_MANAGER, PROPERTIES, Tree
from .values import plain

log = logging.getLogger(__name__)

MOST_PENDING = 100
"""Calls of one caller that wait. dbus-daemon lets 128 wait for an answer, and any number that want none."""
PEER, INTROSPECTABLE = "org.freedesktop.DBus.Peer", "org.freedesktop.DBus.Introspectable"
STANDARD = {
    PEER: {"Ping": "", "GetMachineId": ""},
    INTROSPECTABLE: {"Introspect": ""},
    OBJECT_MANAGER: {"GetManagedObjects": ""},
    PROPERTIES: {"Get": "ss", "GetAll": "s", "Set": "ssv"},
}
"""The methods of the D-Bus specification, and what each takes."""


@dataclass(frozen=True)
class Call:
    """A method call of ours, with its arguments checked. options: those of the a{sv}, unwrapped; fds: received ones."""

    sender: str
    path: str
    interface: Interface
    method: Method
    args: list[Any]
    options: dict[str, Any]
    fds: list[int]
    interactive: bool


@dataclass(frozen=True)
class Answer:
    """What a handler gives: the out arguments, and fds that are closed once sent."""

    body: tuple[Any, ...] = ()
    fds: tuple[int, ...] = ()


Handler = Callable[[Call], Awaitable[Answer]]


class BusFault(Exception):
    """An error with a name of the D-Bus specification's."""

    def __init__(self, name: ErrorType, text: str) -> None:
        super().__init__(text)
        self.name = name.value


class Dispatcher:
    """handle: answers the calls of our own interfaces."""

    def __init__(self, bus: MessageBus, tree: Tree, handle: Handler) -> None:
        self.bus, self.tree, self.handle = bus, tree, handle
        self._tasks: dict[asyncio.Task[None], str] = {}
        bus.add_message_handler(self._received)

    def caller_vanished(self, sender: str) -> None:
        """Ends what still waits for this caller: a prompt, a wait. Jobs go on."""
        for task, whose in list(self._tasks.items()):
            if whose == sender:
                task.cancel()

    def _received(self, message: Message) -> Message | bool | None:
        if message.message_type is not MessageType.METHOD_CALL:
            _close(message.unix_fds)  # anybody can send us a signal with files in it, and we ask nobody for one
            return None
        pending = sum(whose == message.sender for whose in self._tasks.values())
        if pending >= MOST_PENDING:
            _close(message.unix_fds)
            error = LimitsExceeded(
                "not done", f"{pending} calls of yours are waiting for their answer", "wait for some"
            )
            if message.flags & MessageFlag.NO_REPLY_EXPECTED:
                return True
            return Message.new_error(message, error.dbus_name, str(error))
        self.spawn(self._answer(message), message.sender or "")
        return True

    def spawn(self, work: Coroutine[Any, Any, None], whose: str = "") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = whose
        task.add_done_callback(lambda t: self._tasks.pop(t, None))

    async def _answer(self, message: Message) -> None:
        answer: Answer | None = None
        try:
            answer, signature = await self._route(message)
            reply = Message.new_method_return(message, signature, list(answer.body), list(answer.fds))
        except KvmError as error:
            reply = Message.new_error(message, error.dbus_name, str(error))
        except BusFault as fault:
            reply = Message.new_error(message, fault.name, str(fault))
        except asyncio.CancelledError:
            return
        except Exception:
            log.exception("the call %s.%s failed by a fault of our own", message.interface, message.member)
            reply = _fault_of_ours(message)
        finally:
            _close(message.unix_fds)
        try:
            if not message.flags & MessageFlag.NO_REPLY_EXPECTED:
                await self._send(reply, message)
        finally:
            _close(answer.fds if answer else ())

    async def _send(self, reply: Message, message: Message) -> None:
        """Send an answer; one that cannot be written down is itself a fault that is answered."""
        for each in (reply, _fault_of_ours(message)):
            try:
                await self.bus.send(each)
                return
            except Exception:
                log.exception("the answer to %s.%s could not be sent", message.interface, message.member)
                if not self.bus.connected:
                    return

    async def _route(self, message: Message) -> tuple[Answer, str]:
        standard = self._standard(message)
        if standard is not None:
            return standard
        found = self.tree.objects.get(message.path)
        if found is None:
            raise BusFault(ErrorType.UNKNOWN_OBJECT, f"there is no object {message.path}")
        interface = found[0]
        if message.interface and message.interface != interface.name:
            raise BusFault(ErrorType.UNKNOWN_INTERFACE, f"{message.path} has no interface {message.interface}")
        method = interface.methods.get(message.member)
        if method is None:
            raise BusFault(ErrorType.UNKNOWN_METHOD, f"{interface.name} has no method {message.member}")
        if message.signature != method.in_signature:
            text = f"{method.name} takes ({method.in_signature}), and got ({message.signature})"
            raise BusFault(ErrorType.INVALID_ARGS, text)
        if "h" not in method.in_signature:  # and none are kept open while such a call waits
            _close(message.unix_fds)
            message.unix_fds = []
        args = list(message.body)
        options = checked_options(method, args.pop()) if method.in_signature.endswith("a{sv}") else {}
        flag = bool(message.flags & MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION)
        call = Call(
            sender=message.sender or "",
            path=message.path,
            interface=interface,
            method=method,
            args=args,
            options=options,
            fds=list(message.unix_fds),
            interactive=flag and not options.get("auth.no_user_interaction", False),
        )
        return await self.handle(call), method.out_signature

    def _standard(self, message: Message) -> tuple[Answer, str] | None:
        """The interfaces of the D-Bus specification; None for a call that is none of theirs."""
        interface = message.interface or (INTROSPECTABLE if message.member == "Introspect" else "")
        if interface not in STANDARD or (interface == OBJECT_MANAGER and message.path != ROOT):
            return None
        takes = STANDARD[interface].get(message.member)
        if takes is None:
            raise BusFault(ErrorType.UNKNOWN_METHOD, f"{interface} has no method {message.member}")
        if message.signature != takes:
            text = f"{message.member} takes ({takes}), and got ({message.signature})"
            raise BusFault(ErrorType.INVALID_ARGS, text)
        match message.member:
            case "Ping":
                return Answer(), ""
            case "GetMachineId":
                return Answer((Path("/etc/machine-id").read_text(encoding="ascii").strip(),)), "s"
            case "GetManagedObjects":
                return Answer((self.tree.managed(),)), "a{oa{sa{sv}}}"
            case "Introspect":
                xml = self.tree.introspect(message.path)
                if xml is None:
                    raise BusFault(ErrorType.UNKNOWN_OBJECT, f"there is no object {message.path}")
                return Answer((xml,)), "s"
        return self._properties(message)

    def _properties(self, message: Message) -> tuple[Answer, str]:
        found = self.tree.objects.get(message.path)
        if found is None:
            raise BusFault(ErrorType.UNKNOWN_OBJECT, f"there is no object {message.path}")
        interface, values = found
        if message.body[0] not in (interface.name, ""):
            if message.member == "GetAll" and not message.body[0].startswith(PREFIX):
                return Answer(({},)), "a{sv}"
            raise BusFault(ErrorType.UNKNOWN_INTERFACE, f"{message.path} has no interface {message.body[0]}")
        if message.member == "GetAll":
            return Answer((dict(values),)), "a{sv}"
        name = message.body[1]
        if name not in values:
            raise BusFault(ErrorType.UNKNOWN_PROPERTY, f"{interface.name} has no property {name}")
        if message.member == "Set":
            raise BusFault(ErrorType.PROPERTY_READ_ONLY, f"{name} cannot be set; what changes a VM is a method")
        return Answer((values[name],)), "v"


def checked_options(method: Method, received: dict[str, Variant]) -> dict[str, Any]:
    """The options of a call, unwrapped. Raises InvalidArgument for one that is unknown or of another type."""
    for name, value in received.items():
        expected = method.option_types.get(name)
        if expected is None:
            known = ", ".join(sorted(method.option_types)) or "none"
            raise InvalidArgument(f"{method.name} has no option '{name[:60]}'", "", f"its options are: {known}")
        if value.signature != expected:
            why = f"it has the type {expected}, and was given as {value.signature}"
            raise InvalidArgument(f"the option {name} of {method.name} is not valid", why, "")
    return {name: plain(value) for name, value in received.items()}


def _fault_of_ours(message: Message) -> Message:
    error = Failed("not done", "a fault in kldload-kvmd", "see journalctl -u kldload-kvmd, and report it")
    return Message.new_error(message, error.dbus_name, str(error))


def _close(fds: Any) -> None:
    for fd in fds or ():
        try:
            os.close(fd)
        except OSError:
            log.warning("a received file descriptor was closed already")
