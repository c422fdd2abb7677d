"""Locks: each job takes all of its names at once, or is told who has one of them. Nobody waits, so nobody deadlocks."""

from __future__ import annotations

from collections.abc import Iterable

from ..model.errors import Busy


class LockTable:
    """Which job holds which name."""

    def __init__(self) -> None:
        self._holders: dict[str, tuple[str, str]] = {}

    def acquire(self, names: Iterable[str], job: str, description: str) -> None:
        """Take all the names for a job. Raises Busy, naming the job in the way, with nothing taken."""
        wanted = sorted(names)
        for name in wanted:
            if name in self._holders:
                other, doing = self._holders[name]
                kind, _, target = name.partition(":")
                raise Busy(
                    f"{kind} {target} is in use by job {other}",
                    f"that job is still at work: {doing}",
                    f"wait for it (kvm-job wait {other}) or cancel it (kvm-job cancel {other})",
                )
        for name in wanted:
            self._holders[name] = (job, description)

    def release(self, job: str) -> None:
        """Give back everything a job holds."""
        self._holders = {name: holder for name, holder in self._holders.items() if holder[0] != job}

    def holder(self, name: str) -> str:
        """The job that holds a name, or the empty string."""
        return self._holders.get(name, ("", ""))[0]
