"""Carries the calls of aio.py over the system bus, on dbus-next: transport.py for programs with an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self, TypeVar

from dbus_next import BusType, Message, MessageFlag, MessageType, Variant
from dbus_next.aio import MessageBus
from dbus_next.errors import AuthError, InvalidAddressError

from ..model.constants import PREFIX, ROOT
from ..model.errors import NotAuthorizedCanObtain
from .faults import from_dbus, no_answer, no_bus

T = TypeVar("T", bound="Object")

ANSWER_TIME = 25.0
"""Seconds for an answer, as everywhere on D-Bus."""
PROMPT_TIME = 300.0
"""Seconds for a person to give a password."""
LONGEST = 86_400.0 + ANSWER_TIME
"""Seconds for a call that waits for a job: the longest that Job.Wait itself waits."""

_PROPERTIES = "org.freedesktop.DBus.Properties"


class Connection:
    """A connection to the service, made by `await Connection.open()` or by `async with Connection()`.

    interactive: whether polkit may ask the user for a password. agent: gives the context in which it does.
    """

    def __init__(
        self, *, interactive: bool = True, agent: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> None:
        self.interactive = interactive
        self.agent = agent
        self.bus: MessageBus | None = None

    @classmethod
    async def open(cls, *, interactive: bool = True) -> Self:
        return await cls(interactive=interactive).__aenter__()

    async def __aenter__(self) -> Self:
        try:
            self.bus = MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True)
            await asyncio.wait_for(self.bus.connect(), ANSWER_TIME)
        except (OSError, AuthError, InvalidAddressError, EOFError, TimeoutError) as error:
            raise no_bus(error) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.bus is not None:
            self.bus.disconnect()
            self.bus = None

    async def call(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        args: tuple[Any, ...] = (),
        *,
        asks: bool = False,
        timeout: float = ANSWER_TIME,
    ) -> tuple[Any, ...]:
        """Call a method and give its answer's values, with variants unwrapped and descriptors as numbers.

        In `args` a variant is a Variant. asks: polkit may want a password for it. Raises KvmError.
        """

        def message(flags: MessageFlag) -> Message:
            # dbus-next takes descriptors beside the body. Ours always come first, and alone.
            fds, body = ([args[0]], [0, *args[1:]]) if signature.startswith("h") else ([], list(args))
            return Message(PREFIX, path, interface, member, flags=flags, signature=signature, body=body, unix_fds=fds)

        try:
            return await self._exchange(message(MessageFlag.NONE), timeout)
        except NotAuthorizedCanObtain:
            if not (asks and self.interactive):
                raise
        with self.agent():
            return await self._exchange(message(MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION), max(timeout, PROMPT_TIME))

    async def objects(self, *kinds: type[Object]) -> Objects:
        """The objects of these kinds with their properties, or all but the Manager, in one call."""
        if kinds:
            wanted = [kind.INTERFACE for kind in kinds]
            (found,) = await self.call(ROOT, f"{PREFIX}.Manager", "ListObjects", "as", (wanted,))
        else:
            (found,) = await self.call(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
        return Objects(self, found)

    async def bus_call(self, member: str, rule: str) -> None:
        """Ask the bus itself to add or remove a match rule."""
        bus, path = "org.freedesktop.DBus", "/org/freedesktop/DBus"
        await self._exchange(Message(bus, path, bus, member, signature="s", body=[rule]), ANSWER_TIME)

    async def _exchange(self, message: Message, timeout: float) -> tuple[Any, ...]:
        if self.bus is None or not self.bus.connected:
            raise no_bus(ConnectionError("not connected"))
        try:
            reply = await asyncio.wait_for(self.bus.call(message), timeout)
        except TimeoutError as error:
            raise no_answer(message.member, timeout) from error
        except (OSError, EOFError) as error:
            raise no_bus(error) from error
        assert reply is not None  # a call that wants an answer
        if reply.message_type is MessageType.ERROR:
            text = reply.body[0] if reply.body and isinstance(reply.body[0], str) else ""
            raise from_dbus(reply.error_name, text)
        if reply.signature == "h":
            return tuple(reply.unix_fds)
        return tuple(_unwrap(each) for each in reply.body)


class Objects:
    """The objects as they were at one moment."""

    def __init__(self, connection: Connection, found: dict[str, dict[str, dict[str, Any]]]) -> None:
        self._connection = connection
        self._found = found

    def of(self, kind: type[T]) -> list[T]:
        """Those with that interface: `(await connection.objects(Vm)).of(Vm)`."""
        return [
            kind(self._connection, path, interfaces[kind.INTERFACE])
            for path, interfaces in self._found.items()
            if kind.INTERFACE in interfaces
        ]


class Watch:
    """Signals of one object from the moment the `async with` is entered."""

    def __init__(self, connection: Connection, path: str) -> None:
        self._connection = connection
        self._path = path
        self._rule = f"type='signal',sender='{PREFIX}',path='{path}'"
        self._queue: asyncio.Queue[tuple[str, tuple[Any, ...]]] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        await self._connection.bus_call("AddMatch", self._rule)
        if self._connection.bus is not None:
            self._connection.bus.add_message_handler(self._take)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._connection.bus is not None:
            self._connection.bus.remove_message_handler(self._take)
        if kind is None:
            await self._connection.bus_call("RemoveMatch", self._rule)

    async def next(self, timeout: float) -> tuple[str, tuple[Any, ...]] | None:
        """The next signal as its name and its arguments, or None if none came in so many seconds."""
        try:
            return await asyncio.wait_for(self._queue.get(), timeout)
        except TimeoutError:
            return None

    def _take(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.path == self._path:
            self._queue.put_nowait((message.member, tuple(_unwrap(each) for each in message.body)))


class Object:
    """An object of the service. Its properties are as of the last `await reload()`."""

    INTERFACE = ""

    def __init__(self, connection: Connection, path: str, properties: dict[str, Any] | None = None) -> None:
        self.connection = connection
        self.path = path
        self._kept = properties

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Object) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    async def reload(self) -> Self:
        """Read the properties anew."""
        (self._kept,) = await self.connection.call(self.path, _PROPERTIES, "GetAll", "s", (self.INTERFACE,))
        return self

    def properties(self) -> dict[str, Any]:
        """All properties, by their names on the bus. Raises RuntimeError before the first reload."""
        if self._kept is None:
            raise RuntimeError(f"await reload() before the properties of {self!r} are read")
        return self._kept

    def take(self, signal: tuple[str, tuple[Any, ...]]) -> None:
        """Keep what a PropertiesChanged signal tells of this object."""
        if signal[0] == "PropertiesChanged" and signal[1][0] == self.INTERFACE and self._kept is not None:
            self._kept |= signal[1][1]

    def watch(self) -> Watch:
        """This object's signals, PropertiesChanged among them; see Watch."""
        return Watch(self.connection, self.path)

    async def _call(
        self, member: str, signature: str, *args: Any, asks: bool = False, timeout: float = ANSWER_TIME
    ) -> tuple[Any, ...]:
        return await self.connection.call(
            self.path, self.INTERFACE, member, signature, args, asks=asks, timeout=timeout
        )


def given(*options: tuple[str, str, Any]) -> dict[str, Variant]:
    """The a{sv} of those options that are not None; each is its name on the bus, its type and its value."""
    return {name: Variant(type_, value) for name, type_, value in options if value is not None}


def _unwrap(value: Any) -> Any:
    if isinstance(value, Variant):
        return _unwrap(value.value)
    if isinstance(value, dict):
        return {key: _unwrap(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_unwrap(each) for each in value]
    return value
