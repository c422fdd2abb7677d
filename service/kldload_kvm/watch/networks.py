"""The networks that a VM can have: libvirt's and the host's bridges, read again whenever one comes, goes, starts or
stops, whoever did it. A plan goes by what is known here: whether a network has to be started before the VM."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ..model.errors import KvmError

log = logging.getLogger(__name__)

LINKS = Path("/sys/class/net")


class Networks:
    """ask() gives libvirt's networks, by name whether each is active; tell(networks=…) and tell(bridges=…) are told
    what was found."""

    def __init__(self, ask: Callable[[], Awaitable[dict[str, bool]]], tell: Callable[..., Any]) -> None:
        self._ask, self._tell = ask, tell

    async def read(self) -> None:
        """Of libvirt. While it is away the last known ones stay."""
        try:
            self._tell(networks=await self._ask())
        except KvmError as error:
            log.warning("%s: %s", error.what, error.why)

    def look(self) -> None:
        """For bridges, in the kernel's own list."""
        self._tell(bridges=bridges(LINKS))


def bridges(links: Path) -> frozenset[str]:
    return frozenset(path.parent.name for path in links.glob("*/bridge"))
