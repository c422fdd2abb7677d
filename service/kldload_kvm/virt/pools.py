"""libvirt's storage pools, as far as the service has one made: so that virt-manager and Cockpit see the volumes.

Of the type "dir", never "zfs": that one destroys for good what is deleted in it, takes a volume in the trash for the
one of that name, and destroys the storage's dataset with all that is in it when the pool is deleted (docs/libvirt.md).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from contextlib import suppress
from html import escape
from pathlib import Path

import libvirt

from ..model.domain_devices import by_device
from .connection import Connection

FILES = Path("/run/libvirt/storage"), Path("/etc/libvirt/storage")
"""Where libvirt keeps what it knows of active pools, and of those that are defined."""
XML = "<pool type='dir'><name>{}</name><target><path>{}</path></target></pool>"


class Pools:
    """The calls, over one connection."""

    def __init__(self, connection: Connection, files: tuple[Path, ...] = FILES) -> None:
        self.connection = connection
        self._files = files

    def by_device(self, xml: str) -> str:
        """A domain's XML with the devices of disks that it names by a storage pool. Reads files: from a thread.

        Where that pool is, libvirt's files tell, of an active one and of one that is only defined: libvirt itself must
        not be asked from its hook, and answers late while such a pool is being refreshed."""
        return by_device(xml, self._path)

    def _path(self, pool: str) -> str:
        if "/" in pool:
            return ""
        for folder in self._files:
            with suppress(OSError, ET.ParseError):
                if path := ET.parse(folder / f"{pool}.xml").findtext(".//target/path"):
                    return path
        return ""

    async def all(self) -> Mapping[str, bool]:
        """libvirt's storage pools, and whether each is active."""
        return await self.connection.call(
            "the storage pools cannot be listed",
            lambda c: {each.name(): bool(each.isActive()) for each in c.listAllStoragePools()},
        )

    async def define(self, name: str, path: str) -> None:
        """A pool of what is in a directory, which is started with libvirt from now on."""

        def work(conn: libvirt.virConnect) -> None:
            conn.storagePoolDefineXML(XML.format(escape(name), escape(path))).setAutostart(1)

        await self.connection.call(f"the storage pool {name} was not defined", work)

    async def start(self, name: str) -> None:
        """Start a pool that is not active."""
        await self.connection.call(
            f"the storage pool {name} was not started", lambda c: c.storagePoolLookupByName(name).create()
        )

    async def undefine(self, name: str) -> None:
        """Forget a pool; what is in it stays."""

        def work(conn: libvirt.virConnect) -> None:
            pool = conn.storagePoolLookupByName(name)
            if pool.isActive():
                pool.destroy()  # which only makes it inactive
            pool.undefine()

        await self.connection.call(f"the storage pool {name} was not undefined", work)
