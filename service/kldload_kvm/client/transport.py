"""Carries the calls of api.py over the system bus, on jeepney.

A command's start depends on what is imported here, so this and what it imports stay small. Every wait has a bound. A
call that polkit would ask a password for is sent first without the leave to ask, and only if that is what it needs
again with it, so that a text agent is started for those who are asked, not for everybody.
"""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext

from jeepney import DBusAddress, HeaderFields, MatchRule, MessageFlag, MessageType, new_method_call
from jeepney.bus import get_bus
from jeepney.io.blocking import DBusConnection, prep_socket

from ..model.constants import PREFIX, ROOT
from ..model.errors import NotAuthorizedCanObtain
from .faults import from_dbus, no_answer, no_bus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import Any, Self, TypeVar

    T = TypeVar("T", bound="Object")

ANSWER_TIME = 25.0
"""Seconds for an answer, as everywhere on D-Bus."""
PROMPT_TIME = 300.0
"""Seconds for a person to give a password."""
LONGEST = 86_400.0 + ANSWER_TIME
"""Seconds for a call that waits for a job: the longest that Job.Wait itself waits."""

_PROPERTIES = "org.freedesktop.DBus.Properties"
_BUS = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")


class Connection:
    """A connection to the service. Use it in a `with`, or close it.

    interactive: whether polkit may ask the user for a password. agent: gives the context in which it does. start:
    whether a call starts a service that is not running.
    """

    def __init__(
        self,
        *,
        interactive: bool = True,
        agent: Callable[[], AbstractContextManager[object]] = nullcontext,
        start: bool = True,
    ) -> None:
        self.interactive = interactive
        self.agent = agent
        self.start = start
        try:
            self._bus = _BoundedConnection(prep_socket(get_bus("SYSTEM"), True, ANSWER_TIME), True)
        except (OSError, RuntimeError, ValueError, StopIteration) as error:
            raise no_bus(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._bus.close()

    def call(
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

        In `args` a variant is a pair of signature and value. asks: polkit may want a password for it. Raises KvmError.
        """
        address = DBusAddress(path, PREFIX, interface)
        try:
            return self._exchange(new_method_call(address, member, signature, args), timeout)
        except NotAuthorizedCanObtain:
            if not (asks and self.interactive):
                raise
        message = new_method_call(address, member, signature, args)
        message.header.flags |= MessageFlag.allow_interactive_authorization
        with self.agent():
            return self._exchange(message, max(timeout, PROMPT_TIME))

    def objects(self, *kinds: type[Object]) -> Objects:
        """The objects of these kinds with their properties, or all but the Manager, in one call."""
        if kinds:
            wanted = [kind.INTERFACE for kind in kinds]
            (found,) = self.call(ROOT, f"{PREFIX}.Manager", "ListObjects", "as", (wanted,))
        else:
            (found,) = self.call(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
        return Objects(self, found)

    def watch(self, path: str) -> Watch:
        """The signals of one object, in a `with`."""
        return Watch(self, self._bus, path)

    def bus_call(self, member: str, rule: str) -> None:
        """Ask the bus itself to add or remove a match rule."""
        self._exchange(new_method_call(_BUS, member, "s", (rule,)), ANSWER_TIME)

    def _exchange(self, message: Any, timeout: float) -> tuple[Any, ...]:
        if not self.start:
            message.header.flags |= MessageFlag.no_auto_start
        try:
            reply = self._bus.send_and_get_reply(message, timeout=timeout)
        except TimeoutError as error:
            raise no_answer(message.header.fields[HeaderFields.member], timeout) from error
        except OSError as error:
            raise no_bus(error) from error
        fields = reply.header.fields
        if reply.header.message_type is MessageType.error:
            text = reply.body[0] if reply.body and isinstance(reply.body[0], str) else ""
            raise from_dbus(fields[HeaderFields.error_name], text)
        return unwrap_all(fields.get(HeaderFields.signature, ""), reply.body)


class Objects:
    """The objects as they were at one moment."""

    def __init__(self, connection: Connection, found: dict[str, dict[str, dict[str, Any]]]) -> None:
        self._connection = connection
        self._found = found

    def of(self, kind: type[T]) -> list[T]:
        """Those with that interface: `connection.objects(Vm).of(Vm)`."""
        return [
            kind(self._connection, path, interfaces[kind.INTERFACE])
            for path, interfaces in self._found.items()
            if kind.INTERFACE in interfaces
        ]


class Watch:
    """Signals of one object from the moment the `with` is entered; what was kept before that may be old by then."""

    def __init__(self, connection: Connection, bus: DBusConnection, path: str) -> None:
        self._connection = connection
        self._bus = bus
        self._match = MatchRule(type="signal", sender=PREFIX, path=path)
        self._queue: deque[Any] = deque()
        self._filter = bus.filter(MatchRule(type="signal", path=path), queue=self._queue)

    def __enter__(self) -> Self:
        self._connection.bus_call("AddMatch", self._match.serialise())
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._filter.close()
        if kind is None:
            self._connection.bus_call("RemoveMatch", self._match.serialise())

    def next(self, timeout: float) -> tuple[str, tuple[Any, ...]] | None:
        """The next signal as its name and its arguments, or None if none came in so many seconds."""
        try:
            message = self._bus.recv_until_filtered(self._queue, timeout=timeout)
        except TimeoutError:
            return None
        except OSError as error:
            raise no_bus(error) from error
        fields = message.header.fields
        return fields[HeaderFields.member], unwrap_all(fields.get(HeaderFields.signature, ""), message.body)


class Object:
    """An object of the service. Its properties are read all at once when the first is asked for, and then kept."""

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

    def reload(self) -> Self:
        """Read the properties anew."""
        (self._kept,) = self.connection.call(self.path, _PROPERTIES, "GetAll", "s", (self.INTERFACE,))
        return self

    def properties(self) -> dict[str, Any]:
        """All properties, by their names on the bus."""
        if self._kept is None:
            self.reload()
        return self._kept or {}

    def take(self, signal: tuple[str, tuple[Any, ...]]) -> None:
        """Keep what a PropertiesChanged signal tells of this object."""
        if signal[0] == "PropertiesChanged" and signal[1][0] == self.INTERFACE and self._kept is not None:
            self._kept |= signal[1][1]

    def watch(self) -> Watch:
        """This object's signals, PropertiesChanged among them; see Watch."""
        return self.connection.watch(self.path)

    def _call(
        self, member: str, signature: str, *args: Any, asks: bool = False, timeout: float = ANSWER_TIME
    ) -> tuple[Any, ...]:
        return self.connection.call(self.path, self.INTERFACE, member, signature, args, asks=asks, timeout=timeout)


def given(*options: tuple[str, str, Any]) -> dict[str, tuple[str, Any]]:
    """The a{sv} of those options that are not None; each is its name on the bus, its type and its value."""
    return {name: (type_, value) for name, type_, value in options if value is not None}


def unwrap_all(signature: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values of a message as plain Python. Structures are not used in our contract, and are left as they are."""
    return tuple(_unwrap(type_, value) for type_, value in zip(_split(signature), values, strict=True))


def _unwrap(type_: str, value: Any) -> Any:
    if type_ == "h":
        return value.to_raw_fd()
    if "v" not in type_ or type_[0] == "(":
        return value
    if type_ == "v":
        return _unwrap(*value)
    if type_[1] == "{":
        return {key: _unwrap(type_[3:-1], each) for key, each in value.items()}
    return [_unwrap(type_[1:], each) for each in value]


def _split(signature: str) -> Iterator[str]:
    """The complete types in a signature: "sa{sv}h" gives "s", "a{sv}" and "h"."""
    start = depth = 0
    for position, letter in enumerate(signature):
        depth += (letter in "{(") - (letter in "})")
        if depth == 0 and letter != "a":
            yield signature[start : position + 1]
            start = position + 1


class _BoundedConnection(DBusConnection):  # type: ignore[misc]  # jeepney has no types
    """Bounds the calls that jeepney makes itself, such as Hello."""

    def send_and_get_reply(self, message: Any, *, timeout: float | None = None, **_: object) -> Any:
        return super().send_and_get_reply(message, timeout=ANSWER_TIME if timeout is None else timeout)
