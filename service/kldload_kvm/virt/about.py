"""What the checks of the host ask of libvirt itself: its version, what confines guests, and its networks."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import libvirt

from ..model.host_facts import Libvirt, Network
from .connection import Connection, version_of


async def about(connection: Connection) -> Libvirt:
    """Raises KvmError."""
    return await connection.call("libvirt was not asked about the host", _read)


def _read(conn: libvirt.virConnect) -> Libvirt:
    models = ET.fromstring(conn.getCapabilities()).findall("host/secmodel/model")
    return Libvirt(
        version=version_of(conn),
        security=tuple(model.text or "" for model in models),
        networks=tuple(_network(each) for each in conn.listAllNetworks()),
    )


def _network(network: libvirt.virNetwork) -> Network:
    root = ET.fromstring(network.XMLDesc(0))
    forward, bridge = root.find("forward"), root.find("bridge")
    return Network(
        name=network.name(),
        active=bool(network.isActive()),
        autostart=bool(network.autostart()) if network.isPersistent() else True,
        forward=forward.get("mode", "nat") if forward is not None else "",
        bridge=bridge.get("name", "") if bridge is not None else "",
    )
