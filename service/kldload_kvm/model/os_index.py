"""Operating systems by their short ids, as osinfo-db knows them. Pure."""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .errors import InvalidArgument
from .names import shown

_OS = re.compile(r'<os\s+id="([^"<>]{1,200})"')
_SHORT_ID = re.compile(r"<short-id>\s*([A-Za-z0-9_.+-]{1,64})\s*</short-id>")
_NAME = re.compile(r"<name>\s*([^<]{1,200}?)\s*</name>")


@dataclass(frozen=True)
class Os:
    """id: the URL that libosinfo metadata hold, such as http://debian.org/debian/13."""

    id: str
    name: str


def parse(text: str) -> dict[str, Os]:
    """The operating system in the beginning of one of osinfo-db's files, under each of its short ids.

    Its files are thousands of lines of translations and devices, so this reads the first lines, not the XML.

    >>> parse('<os id="http://debian.org/debian/13"><short-id>debian13</short-id><name>Debian 13</name>')
    {'debian13': Os(id='http://debian.org/debian/13', name='Debian 13')}
    """
    start = _OS.search(text)
    if not start:
        return {}
    shorts = [match[1] for match in _SHORT_ID.finditer(text, start.end())]
    name = _NAME.search(text, start.end())
    system = Os(html.unescape(start[1]), html.unescape(name[1]) if name else shorts[0] if shorts else "")
    return dict.fromkeys(shorts, system)


def index(texts: Iterable[str]) -> dict[str, Os]:
    """All of them; a later one of the same short id stands in place of an earlier one."""
    return {short: system for text in texts for short, system in parse(text).items()}


def find(systems: Mapping[str, Os], short_id: str) -> Os:
    """The operating system of that short id. Raises InvalidArgument, with those that come close."""
    if short_id in systems:
        return systems[short_id]
    what = f"{shown(short_id)} is no operating system that osinfo-db knows"
    if not systems:
        raise InvalidArgument(what, "osinfo-db is not installed", "apt install osinfo-db")
    close = difflib.get_close_matches(short_id.lower()[:64], systems, n=5, cutoff=0.6)
    hint = f"close to it: {', '.join(close)}" if close else "osinfo-query os lists them all (package libosinfo-bin)"
    raise InvalidArgument(what, "", hint)
