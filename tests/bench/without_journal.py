"""The service with a journal that forgets: what its journal costs is the difference."""

from __future__ import annotations

from pathlib import Path

from kldload_kvm import daemon
from kldload_kvm.engine.journal import MemoryJournal


class Forgetful(MemoryJournal):
    """As much of the durable one as the service asks for."""

    problem = ""

    def __init__(self, directory: Path) -> None:
        super().__init__()

    def advance(self, number: int) -> None:
        return None


daemon.SqliteJournal = Forgetful  # type: ignore[misc,assignment]
daemon.main()
