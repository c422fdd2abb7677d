"""One entry of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """id: of a finding, an error or a journal entry; title: what it is, as a heading; why: why it matters; todo: what
    the reader can do, with {object} for what the finding is about; source: where that is written."""

    id: str
    title: str
    why: str
    todo: str
    source: str = ""
