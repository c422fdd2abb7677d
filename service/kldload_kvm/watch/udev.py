"""udev's news of block devices: the links below /dev/zvol that come and go. No polling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pyudev

PREFIX = "/dev/zvol/"


class UdevWatch:
    """appeared(dataset) is called on the event loop for each link that udev has made."""

    def __init__(self, appeared: Callable[[str], None]) -> None:
        self._appeared = appeared
        self._monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="udev")
        self._monitor.filter_by("block")

    def start(self) -> None:
        """Begin to listen; events from now on are seen."""
        self._monitor.start()
        asyncio.get_running_loop().add_reader(self._monitor.fileno(), self._read)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._monitor.fileno())

    def _read(self) -> None:
        while (device := self._monitor.poll(timeout=0)) is not None:
            if device.action != "remove":
                for link in device.device_links:
                    if link.startswith(PREFIX):
                        self._appeared(link.removeprefix(PREFIX))
