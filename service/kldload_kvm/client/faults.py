"""What a failed call is to the caller: a D-Bus error name becomes one of our error classes. For both transports."""

from __future__ import annotations

from ..model.constants import PREFIX
from ..model.errors import (
    Failed,
    InvalidArgument,
    KvmError,
    LimitsExceeded,
    NotAuthorized,
    NotFound,
    TimedOut,
    by_dbus_name,
)


class ServiceUnavailable(KvmError):
    """The bus, or kldload-kvmd on it, cannot be reached."""


_STANDARD = "org.freedesktop.DBus.Error."
_ABSENT = ("ServiceUnknown", "NameHasNoOwner", "Disconnected")
_LOOK = "see: systemctl status kldload-kvmd; journalctl -u kldload-kvmd"


def from_dbus(name: str, message: str) -> KvmError:
    """The error that an error answer stands for, ours or the bus's."""
    if name.startswith(f"{PREFIX}.Error."):
        return by_dbus_name(name, message)
    short = name.removeprefix(_STANDARD)
    if short in _ABSENT or short.startswith(("Spawn.", "org.freedesktop.systemd1.")):
        return no_service(message)
    if short == "NoReply" and "disconnected" in message:  # dbus-daemon's and dbus-broker's word for a peer that is gone
        what = "kldload-kvmd ended before it could answer"
        hint = "it brings to its end what it had begun when it starts again; what that was: kvm-job list"
        return ServiceUnavailable(what, message, hint)
    if short in ("NoReply", "Timeout", "TimedOut"):
        return TimedOut("kldload-kvmd did not answer in time", message, _LOOK)
    if short in ("UnknownObject", "UnknownMethod", "UnknownInterface", "UnknownProperty"):
        kind = NotFound if short == "UnknownObject" else Failed
        return kind("kldload-kvmd does not know what was asked of it", message, "is it as new as this program?")
    if short == "AccessDenied":
        return NotAuthorized("the system bus refused the call", message)
    if short in ("InvalidArgs", "InvalidSignature"):
        return InvalidArgument("kldload-kvmd refused the arguments", message)
    if short == "LimitsExceeded":
        return LimitsExceeded("the system bus refused the call", message)
    return by_dbus_name(name, message)


def no_service(why: str) -> ServiceUnavailable:
    """Nobody answers for our name."""
    hint = "is kldload-kvm installed? see: systemctl status kldload-kvmd"
    return ServiceUnavailable("kldload-kvmd cannot be reached", why, hint)


def no_bus(error: Exception) -> ServiceUnavailable:
    """The system bus itself is not there, or went away."""
    why = str(error) or type(error).__name__
    return ServiceUnavailable("the system bus cannot be reached", why, "see: systemctl status dbus")


def no_answer(member: str, seconds: float) -> TimedOut:
    """A call was not answered."""
    return TimedOut(f"kldload-kvmd did not answer {member} in {seconds:.0f} seconds", "", _LOOK)
