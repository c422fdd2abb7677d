"""libvirt's storage pools, as far as the service has one made: so that virt-manager and Cockpit see the volumes.

Of the type "dir", never "zfs": that one destroys for good what is deleted in it, takes a volume in the trash for the
one of that name, and destroys the storage's dataset with all that is in it when the pool is deleted (docs/libvirt.md).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from contextlib import suppress
from html import escape

import libvirt

from ..model.domain_devices import by_device
from .connection import Connection

XML = "<pool type='dir'><name>{}</name><target><path>{}</path></target></pool>"


class Pools:
    """The calls, over one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._paths: dict[str, str] = {}  # where a pool's volumes are, by its name; of those that domains have named

    def by_device(self, xml: str, conn: libvirt.virConnect | None = None) -> str:
        """A domain's XML with the devices of disks that it names by a storage pool. conn: whom to ask where those pools
        are, in a thread of its; else as it was when last asked."""

        def path_of(pool: str) -> str:
            with suppress(libvirt.libvirtError):  # there is none of that name any more, or no storage driver at all
                if conn:
                    self._paths[pool] = _path(conn.storagePoolLookupByName(pool).XMLDesc())
            return self._paths.get(pool, "")

        return by_device(xml, path_of)

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


def _path(xml: str) -> str:
    return ET.fromstring(xml).findtext("target/path", "")
