"""Why each finding, error and journal entry matters, where that is written, and what can be done: one entry each.

The single source for the bus, `kvm-host explain`, `kvm-explain`, man pages, docs/host.md and the journal catalog.
"""

from __future__ import annotations

from .text import Text

__all__ = ["Text", "everything", "findings"]


def findings() -> dict[str, Text]:
    """The entries of findings, by id, in the order of the documentation."""
    from . import guests, host, pools

    return {each.id: each for each in (*pools.TEXTS, *host.TEXTS, *guests.TEXTS)}


def everything() -> dict[str, Text]:
    """All entries: findings by id, errors by the last part of their name, entries of the journal by MESSAGE_ID."""
    from . import errors, messages

    return findings() | {each.id: each for each in (*errors.TEXTS, *messages.TEXTS)}
