"""How a command ends: its exit status, and its errors in three lines, what happened, why, and what to do."""

from __future__ import annotations

import os
import sys

from ..client.faults import ServiceUnavailable
from ..model import errors
from ..model.errors import KvmError

INTERRUPTED = 130

STATUSES = (
    (0, "It was done."),
    (1, "It failed, and was undone as far as it had gone."),
    (2, "The command was not understood, or what was asked for can not be; nothing was changed."),
    (3, "Not authorized."),
    (4, "There is no VM, snapshot, image, storage or job of that name."),
    (5, "Busy: another job or program holds what this needs. It may be tried again."),
    (6, "The state of things forbids it: the name is taken, the VM runs or has clones, or a plan is out of date."),
    (7, "No room: the pool is too full, or too much was asked at once."),
    (8, "The service, libvirt or ZFS cannot be reached, or did not answer in time."),
    (INTERRUPTED, "Interrupted with Ctrl-C."),
)
"""The exit statuses and what they mean, for every command. The man pages print this."""

_STATUS_OF: dict[type[KvmError], int] = {
    errors.InvalidArgument: 2,
    errors.BadImage: 2,
    errors.NotAuthorized: 3,
    errors.NotAuthorizedCanObtain: 3,
    errors.NotAuthorizedDismissed: 3,
    errors.NotFound: 4,
    errors.Busy: 5,
    errors.AlreadyExists: 6,
    errors.WrongState: 6,
    errors.HasClones: 6,
    errors.Stale: 6,
    errors.InconsistentSnapshot: 6,
    errors.NoSpace: 7,
    errors.LimitsExceeded: 7,
    errors.LibvirtUnavailable: 8,
    errors.ZfsUnavailable: 8,
    errors.TimedOut: 8,
    ServiceUnavailable: 8,
}


def status(error: KvmError) -> int:
    """The exit status for an error."""
    return _STATUS_OF.get(type(error), 1)


def lines(prog: str, error: KvmError, *, colour: bool) -> str:
    """The error as text, an empty why or hint left out.

    kvm-snap: there is no VM 'wbe-1'
      why:  it is neither a name, an id nor a UUID
      hint: did you mean web-1?
    """
    strong, plain = ("\033[1;31m", "\033[0m") if colour else ("", "")
    text = [f"{prog}: {strong}{error.what}{plain}"]
    text += [f"  {label} {line}" for label, line in (("why: ", error.why), ("hint:", error.hint)) if line]
    return "\n".join(text)


def report(prog: str, error: KvmError) -> int:
    """Print an error, and give the exit status."""
    print(lines(prog, error, colour=in_colour()), file=sys.stderr)
    return status(error)


def in_colour() -> bool:
    """Whether standard error takes colour: a terminal that can, and no NO_COLOR (no-color.org)."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
