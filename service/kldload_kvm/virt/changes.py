"""What the service changes of a domain: its devices, its sizes, its name and its definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import libvirt

from ..model.errors import WrongState
from .connection import Connection
from .pools import Pools

T = TypeVar("T")

FLAGS = {"live": libvirt.VIR_DOMAIN_AFFECT_LIVE, "config": libvirt.VIR_DOMAIN_AFFECT_CONFIG}
"""Where a change is made: in the running guest, or in the definition that counts from its next start on."""
WHOLE = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE


class Changes:
    """The calls, over one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.pools = Pools(connection)

    async def attach(self, uuid: str, xml: str, where: str) -> None:
        """Add a device. where: live or config. Raises WrongState where the VM is not running and it was to be live."""
        await self._on(uuid, "the device was not added", lambda d: d.attachDeviceFlags(xml, FLAGS[where]))

    async def detach(self, uuid: str, xml: str, where: str) -> None:
        """Remove a device; a running guest is only asked to let it go, and may take its time."""
        await self._on(uuid, "the device was not removed", lambda d: d.detachDeviceFlags(xml, FLAGS[where]))

    async def resize_disk(self, uuid: str, target: str, size: int) -> None:
        """Have a running guest see that its disk has `size` bytes now."""
        flags = libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES
        await self._on(uuid, f"the guest was not told the new size of {target}",
                       lambda d: d.blockResize(target, size, flags))  # fmt: skip

    async def disk_size(self, uuid: str, target: str) -> int:
        """The size in bytes that a running guest's disk has in its own eyes."""
        return await self._on(
            uuid, f"the size of {target} cannot be read", lambda d: int(d.blockInfo(target)[0])
        )  # fmt: skip

    async def edit(self, uuid: str, change: Callable[[str], str]) -> None:
        """Define a domain anew, as `change` makes it of its XML. It is read with its secrets, so that it keeps them."""

        def work(domain: libvirt.virDomain) -> None:
            xml = change(self.pools.by_device(domain.XMLDesc(WHOLE)))
            domain.connect().defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)

        await self._on(uuid, "the domain was not changed", work)

    async def rename(self, uuid: str, name: str) -> None:
        """Give a domain that is off another name. Raises WrongState for one whose memory is saved."""

        def work(domain: libvirt.virDomain) -> None:
            if domain.hasManagedSaveImage():
                raise WrongState(
                    "the domain was not renamed", "its memory is saved, with the old names of its disks in it",
                    "start it and shut it down first, or: virsh managedsave-remove NAME",
                )  # fmt: skip
            autostart = domain.autostart()
            domain.rename(name)
            if autostart:
                domain.connect().lookupByUUIDString(uuid).setAutostart(1)

        await self._on(uuid, "the domain was not renamed", work)

    async def set_balloon(self, uuid: str, memory: int) -> None:
        """Ask a running guest to keep `memory` bytes of what it has, a whole number of KiB."""
        kib, live = memory // 1024, libvirt.VIR_DOMAIN_AFFECT_LIVE
        await self._on(uuid, "the guest's memory was not changed", lambda d: d.setMemoryFlags(kib, live))

    async def set_vcpus(self, uuid: str, count: int) -> None:
        """Plug virtual CPUs into a running guest, or out of it."""
        live = libvirt.VIR_DOMAIN_AFFECT_LIVE
        await self._on(uuid, "the guest's CPUs were not changed", lambda d: d.setVcpusFlags(count, live))

    async def _on(self, uuid: str, what: str, work: Callable[[libvirt.virDomain], T]) -> T:
        return await self.connection.call(what, lambda c: work(c.lookupByUUIDString(uuid)))
