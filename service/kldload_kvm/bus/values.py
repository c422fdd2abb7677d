"""Plain values in, D-Bus variants out, and back."""

from __future__ import annotations

from typing import Any

from dbus_next import Variant

from ..model.constants import ROOT

HOOK_PATH = f"{ROOT}/hook"
HOST_PATH = f"{ROOT}/host"


class ObjectPath(str):
    """A string that is an object path."""


class UInt32(int):
    """An integer that is a 'u'; all others are 't'."""


def variant(value: Any) -> Variant:
    """A variant by the value's own type: str s, bool b, int t, float d, ObjectPath o, UInt32 u, and lists of them."""
    return Variant(_signature(value), value if not isinstance(value, tuple) else list(value))


def dictionary(values: dict[str, Any]) -> dict[str, Variant]:
    """An a{sv}."""
    return {key: variant(value) for key, value in values.items()}


def plain(value: Any) -> Any:
    """A received value without its variants."""
    if isinstance(value, Variant):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value


def vm_path(id_: str) -> ObjectPath:
    return ObjectPath(f"{ROOT}/vm/{id_.replace('-', '_')}")


def storage_path(name: str) -> ObjectPath:
    """Other characters than letters and digits are escaped as systemd does, '_' included."""
    return ObjectPath(
        f"{ROOT}/storage/" + "".join(c if c.isalnum() and c.isascii() else f"_{ord(c):02x}" for c in name)
    )


def job_path(id_: str) -> ObjectPath:
    return ObjectPath(f"{ROOT}/job/{id_}")


def _signature(value: Any) -> str:
    match value:
        case ObjectPath():
            return "o"
        case str():
            return "s"
        case bool():
            return "b"
        case UInt32():
            return "u"
        case int():
            return "t"
        case float():
            return "d"
        case dict():
            return "a{sv}"
        case list() | tuple():
            return "a" + (_signature(value[0]) if value else "s")
    raise TypeError(f"no D-Bus type for {type(value).__name__}")
