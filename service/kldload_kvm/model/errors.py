"""What can go wrong, as classes that say what happened, why, and what to do.

The class's name is the last part of its D-Bus error name. On the bus the message is those three as lines; `why` and
`hint` may be empty. Nothing else may reach a caller: see bus/answers.py.
"""

from __future__ import annotations

from .constants import PREFIX


class KvmError(Exception):
    """The root of our errors. what: what was not done; why: the cause; hint: what the reader can do."""

    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(what, why, hint)
        self.what, self.why, self.hint = what, why, hint

    @property
    def dbus_name(self) -> str:
        return f"{PREFIX}.Error.{type(self).__name__}"

    def __str__(self) -> str:
        return "\n".join((self.what, self.why, self.hint)).rstrip("\n")

    def in_one_line(self) -> str:
        """For a log, or a property: "what: why; hint"."""
        told = ": ".join(filter(None, (self.what, self.why)))
        return f"{told}; {self.hint}" if self.hint else told


def is_own_fault(fault: BaseException) -> bool:
    """Whether a failure is one of the program, which is logged with its traceback, and none of the host."""
    return not isinstance(fault, KvmError)


class InvalidArgument(KvmError):
    """What was asked for can not be: a bad name, size, option or combination. Nothing was changed."""


class NotFound(KvmError):
    """A VM, snapshot, storage, image or job of that name is not there."""


class AlreadyExists(KvmError):
    """The name is taken."""


class WrongState(KvmError):
    """The VM or job is not in a state in which this can be done."""


class Busy(KvmError):
    """Another job, or another program, holds what this needs."""


class HasClones(KvmError):
    """Others depend on it."""


class NoSpace(KvmError):
    """The pool has not enough room."""


class Stale(KvmError):
    """The plan no longer fits the host."""


class InconsistentSnapshot(KvmError):
    """The consistency asked for could not be reached."""


class BadImage(KvmError):
    """The file is no image that can be taken safely."""


class GuestFailed(KvmError):
    """The guest, or its agent, did not do what it was asked."""


class LibvirtUnavailable(KvmError):
    """libvirt cannot be reached."""


class LibvirtFailed(KvmError):
    """libvirt refused; `why` is its own message."""


class ZfsUnavailable(KvmError):
    """ZFS is not installed or not loaded."""


class ZfsFailed(KvmError):
    """ZFS refused; `why` is its own message."""


class Cancelled(KvmError):
    """The job was cancelled and undone."""


class Interrupted(KvmError):
    """The service itself was stopped in the middle of the job. What had been done was undone."""


class TimedOut(KvmError):
    """Something did not happen in its time."""


class NotAuthorized(KvmError):
    """polkit said no."""


class NotAuthorizedCanObtain(KvmError):
    """polkit would ask for a password, and may not or cannot."""


class NotAuthorizedDismissed(KvmError):
    """The user dismissed the prompt."""


class LimitsExceeded(KvmError):
    """The caller has asked for too much at once."""


class Failed(KvmError):
    """A fault of our own: it is in the journal with its traceback."""


def by_dbus_name(name: str, message: str) -> KvmError:
    """The error that a D-Bus error name and message stand for; a name that is not ours gives Failed."""
    what, _, rest = message.partition("\n")
    why, _, hint = rest.partition("\n")
    prefix, _, short = name.rpartition(".")
    kind = (
        {each.__name__: each for each in KvmError.__subclasses__()}.get(short) if prefix == f"{PREFIX}.Error" else None
    )
    return (kind or Failed)(what or name, why, hint)
