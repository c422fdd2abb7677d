"""Two guests that write to one volume ruin what is on it. No lock of libvirt's or QEMU's is relied on to keep them from
it: which volumes a domain would share with one that runs is told here, before it starts."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from .domain_xml import nvram_source
from .errors import WrongState
from .inventory import Domain, Inventory


def written(xml: str) -> set[str]:
    """The paths of the disks and UEFI variables that a domain writes to and shares with nobody: neither read-only nor
    said to be <shareable/>."""
    domain = ET.fromstring(xml)
    found = {nvram_source(domain) or ""}
    for disk in domain.findall("devices/disk"):
        source = disk.find("source")
        if source is not None and disk.find("readonly") is None and disk.find("shareable") is None:
            found.add(source.get("dev", ""))
    return found - {""}


def taken(inventory: Inventory, uuid: str, xml: str) -> dict[str, Domain]:
    """The volumes that the domain would write to while another that is running does, each with that one."""
    found = {}
    for path in sorted(written(xml)):
        if volume := inventory.volume_at(path):
            for other in others_on(inventory, uuid, volume):
                if path in written(other.xml):
                    found[volume] = other
    return found


def others_on(inventory: Inventory, uuid: str, volume: str) -> list[Domain]:
    """The domains but that one that run with the volume: libvirt defines any number on it."""
    return [each for each in inventory.domains_on(volume) if each.active and each.uuid != uuid]


def refuse(what: str, volume: str, other: Domain) -> WrongState:
    """Why a domain must not start."""
    why = f"its volume {volume} is in use by {other.name}, which is {other.state}"
    return WrongState(what, why, f"shut that down first: virsh shutdown {other.name}")
