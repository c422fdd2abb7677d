"""The sizes that volumes have, for no event tells of `zfs set volsize`: with volmode=dev neither ZFS nor udev says
anything. The kernel knows the size of each device node, and is asked without a process and without opening any."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..model.inventory import Inventory
from ..zfs.devices import sizes

PERIOD = 60.0  # seconds


class SizeWatch:
    """changed(dataset) is called for each volume of a storage whose node has another size than is known."""

    def __init__(self, inventory: Inventory, changed: Callable[[str], None]) -> None:
        self._inventory, self._changed = inventory, changed

    async def keep(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            await self.look()

    async def look(self) -> None:
        known = {
            each.name: each.size
            for parent in self._inventory.parents.values()
            for each in self._inventory.children(parent)
            if each.kind == "volume"
        }
        for name, size in (await asyncio.to_thread(sizes, list(known))).items():
            if size != known[name]:
                self._changed(name)
