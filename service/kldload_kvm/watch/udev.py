"""udev's news: the links below /dev/zvol that appear, and bridges that come and go. No polling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pyudev

PREFIX = "/dev/zvol/"


class UdevWatch:
    """On the event loop appeared(dataset) is called for each link that udev has made, and bridged() for each bridge
    that has come or gone."""

    def __init__(self, appeared: Callable[[str], None], bridged: Callable[[], None]) -> None:
        self._appeared, self._bridged = appeared, bridged
        self._monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="udev")
        self._monitor.filter_by("block")
        self._monitor.filter_by("net", "bridge")

    def start(self) -> None:
        """Begin to listen; events from now on are seen."""
        self._monitor.start()
        asyncio.get_running_loop().add_reader(self._monitor.fileno(), self._read)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._monitor.fileno())

    def _read(self) -> None:
        while (device := self._monitor.poll(timeout=0)) is not None:
            if device.subsystem == "net":
                self._bridged()
            elif device.action != "remove":
                for link in device.device_links:
                    if link.startswith(PREFIX):
                        self._appeared(link.removeprefix(PREFIX))
