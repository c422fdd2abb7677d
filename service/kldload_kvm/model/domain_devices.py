"""The disks and network cards in a domain's XML: found, made, and pointed at other volumes. Pure."""

from __future__ import annotations

import string
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .domain_xml import add_disk, nvram_source
from .inventory import device

TARGETS = tuple(f"vd{letter}" for letter in string.ascii_lowercase)


@dataclass(frozen=True)
class Device:
    """What a device is known by: kind "disk" and its target, such as vdb; or kind "interface" and its MAC address.

    source: the path of a disk; one of the same target on another path is another disk. Empty for any.
    """

    kind: str
    key: str
    source: str = ""

    def __str__(self) -> str:
        return f"the disk {self.key}" if self.kind == "disk" else f"the network card {self.key}"

    def in_(self, xml: str) -> str:
        """Its element in a domain's XML, or the empty string."""
        for element in ET.fromstring(xml).findall(f"devices/{self.kind}"):
            key = _attribute(element, "target", "dev") if self.kind == "disk" else _mac(element)
            if key == self.key and self.source in ("", _attribute(element, "source", "dev")):
                element.tail = None
                return ET.tostring(element, encoding="unicode")
        return ""


def device_of(kind: str, element: str) -> Device:
    """The device that an element describes."""
    found = ET.fromstring(element)
    if kind == "interface":
        return Device(kind, _mac(found))
    return Device(kind, _attribute(found, "target", "dev"), _attribute(found, "source", "dev"))


def disk_xml(path: str, target: str, serial: str) -> str:
    """The element of a further disk: as a VM's first one has it, but never booted from."""
    parent = ET.Element("devices")
    disk = add_disk(parent, path, target, 0)
    ET.SubElement(disk, "serial").text = serial
    return ET.tostring(disk, encoding="unicode")


def interface_xml(network: tuple[str, str], mac: str) -> str:
    """The element of a network card. network: ("bridge" or "network", its name)."""
    kind, name = network
    interface = ET.Element("interface", type=kind)
    ET.SubElement(interface, "mac", address=mac)
    ET.SubElement(interface, "source", {kind: name})
    ET.SubElement(interface, "model", type="virtio")
    return ET.tostring(interface, encoding="unicode")


def unplaced(element: str) -> str:
    """A device's element without its place on the guest's bus, which may be another's by now."""
    device = ET.fromstring(element)
    for tag in ("address", "alias"):
        for child in device.findall(tag):
            device.remove(child)
    return ET.tostring(device, encoding="unicode")


def targets(xml: str) -> set[str]:
    """The targets of all disks and drives."""
    return {_attribute(each, "target", "dev") for each in ET.fromstring(xml).findall("devices/disk")}


def macs(xml: str) -> list[str]:
    """The MAC addresses of all network cards, in their order."""
    return [_mac(each) for each in ET.fromstring(xml).findall("devices/interface")]


def sources(xml: str) -> set[str]:
    """The paths of all disks and drives, and of the UEFI variables."""
    domain = ET.fromstring(xml)
    found = {_attribute(each, "source", "dev") for each in domain.findall("devices/disk")}
    return {each for each in found | {nvram_source(domain) or ""} if each}


def files(xml: str) -> list[str]:
    """The paths of the disks and drives that are said to be files."""
    return [each.get("file", "") for each in ET.fromstring(xml).findall("devices/disk/source") if each.get("file")]


def with_sources(xml: str, moved: Mapping[str, str]) -> str:
    """The XML with disks and UEFI variables at other paths; all else, serial numbers included, stays as it is."""
    domain = ET.fromstring(xml)
    for source in [*domain.findall("devices/disk/source"), *domain.findall("os/nvram/source")]:
        if (path := source.get("dev", "")) in moved:
            source.set("dev", moved[path])
    nvram = domain.find("os/nvram")
    if nvram is not None and (nvram.text or "").strip() in moved:
        nvram.text = moved[(nvram.text or "").strip()]
    return ET.tostring(domain, encoding="unicode")


def by_device(xml: str, path_of: Callable[[str], str]) -> str:
    """With the devices of disks that are named by a storage pool, as Cockpit names them: libvirt finds the same ones
    when the domain starts. path_of: where a pool's volumes are, or the empty string. Disks elsewhere stay as they are,
    and so does what is no XML."""
    if "'volume'" not in xml and '"volume"' not in xml:
        return xml
    try:
        domain = ET.fromstring(xml)
    except ET.ParseError:
        return xml
    changed = False
    for disk in domain.findall("devices/disk[@type='volume']"):
        if (source := disk.find("source")) is None:
            continue
        parent, name = path_of(source.get("pool", "")), source.get("volume", "")
        if f"{parent}/".startswith(device("")) and name and "/" not in name:
            changed = True
            disk.set("type", "block")
            for key in ("pool", "volume", "mode"):
                source.attrib.pop(key, None)
            source.set("dev", f"{parent}/{name}")
    return ET.tostring(domain, encoding="unicode") if changed else xml


def _attribute(element: ET.Element, tag: str, name: str) -> str:
    child = element.find(tag)
    return child.get(name, "") if child is not None else ""


def _mac(element: ET.Element) -> str:
    return _attribute(element, "mac", "address").lower()
