"""The disks that a domain of others has, wherever they are: which of them can be copied into volumes, and the domain's
elements for these afterwards. Pure.

CD and floppy drives stay as they are. The UEFI variables are a disk with the target "nvram".
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from .domain_xml import nvram_source
from .errors import WrongState
from .image_name import Format

NVRAM = "nvram"
DRIVES = ("cdrom", "floppy")
FILE, BLOCK = "file", "block"
CONVERT = "make it a qcow2 or raw image (qemu-img convert), and name that in the definition: virsh edit"


@dataclass(frozen=True)
class SourceDisk:
    """target: as the guest has it, such as vda; kind: file or block; format: qcow2 or raw, as its definition says,
    never guessed."""

    target: str
    kind: str
    path: str
    format: Format


@dataclass(frozen=True)
class Kept:
    """What libvirt keeps of a domain that is off, and that is only good with the disks that it has: its memory, and
    the names of snapshots and checkpoints."""

    saved: bool = False
    snapshots: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ()

    def check_unsaved(self, name: str, what: str) -> None:
        """Raises WrongState if its memory is saved. name: the domain's; what: was not done."""
        if self.saved:
            hint = f"start it and shut it down first, or forget that: virsh managedsave-remove {name}"
            raise WrongState(what, "its memory is saved, and goes with the disks as they are", hint)


class CannotBeCopied(Exception):
    """A disk that no volume can be made of: why, and what its owner can do."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why, hint)
        self.why, self.hint = why, hint


def source_disks(xml: str) -> tuple[SourceDisk, ...]:
    """All of them, in the order of their targets, the variables last. Raises CannotBeCopied, naming the first such."""
    domain = ET.fromstring(xml)
    found = [_disk(each) for each in domain.findall("devices/disk") if each.get("device", "disk") not in DRIVES]
    if variables := _variables(domain):
        found.append(variables)
    return tuple(sorted(found, key=lambda disk: order(disk.target)))


def order(target: str) -> tuple[bool, int, str]:
    """What sorts targets: the first disk first, the variables last."""
    return target == NVRAM, len(target), target


def elements(xml: str, targets: Iterable[str]) -> dict[str, str]:
    """The elements of these, by their targets."""
    domain, wanted = ET.fromstring(xml), set(targets)
    return {target: _text(each) for target, each in _elements(domain).items() if target in wanted}


def on_volumes(xml: str, devices: Mapping[str, str]) -> dict[str, str]:
    """What the elements of these become on volumes, by their targets. devices: the path of each volume's node. What the
    guest sees of a disk, its bus and serial number, stays; how QEMU uses it is as with all our VMs."""
    domain, found = ET.fromstring(xml), {}
    for target, element in _elements(domain).items():
        if target == NVRAM and target in devices:
            _move_variables(element, devices[target], _names_formats(domain))
        elif target in devices:
            _move_disk(element, devices[target])
        if target in devices:
            found[target] = _text(element)
    return found


def with_elements(xml: str, changed: Mapping[str, str]) -> str:
    """The domain with these elements in the place of those that have their targets."""
    domain = ET.fromstring(xml)
    for target, old in _elements(domain).items():
        if target in changed:
            new = ET.fromstring(changed[target])
            tail = old.tail
            old.clear()
            old.tag, old.text, old.tail = new.tag, new.text, tail
            old.attrib.update(new.attrib)
            old.extend(new)
    return ET.tostring(domain, encoding="unicode")


def _elements(domain: ET.Element) -> dict[str, ET.Element]:
    found = {_target(each): each for each in domain.findall("devices/disk")}
    if (variables := domain.find("os/nvram")) is not None:
        found[NVRAM] = variables
    return found


def _disk(disk: ET.Element) -> SourceDisk:
    target, kind = _target(disk), disk.get("type", "")
    what = f"its disk {target}"
    if kind == "volume":
        raise CannotBeCopied(f"{what} is named by a storage pool", "name its file itself: virsh vol-path, virsh edit")
    if kind not in (FILE, BLOCK):
        raise CannotBeCopied(f"{what} is of the type {kind}", "a file or a device of this host can be copied")
    if disk.get("device") == "lun":
        raise CannotBeCopied(f"{what} is a SCSI device that is passed through", "")
    if disk.find("transient") is not None:
        raise CannotBeCopied(f"{what} is transient: what is written to it is thrown away", "virsh edit can change that")
    if disk.find(".//encryption") is not None:
        raise CannotBeCopied(f"{what} is encrypted by libvirt", "decrypt it first: qemu-img convert --object secret,…")
    if disk.find("source/slices") is not None:
        raise CannotBeCopied(f"{what} is a part of its file", CONVERT)
    source, driver = disk.find("source"), disk.find("driver")
    path = source.get("file" if kind == FILE else "dev", "") if source is not None else ""
    return _checked(what, SourceDisk(target, kind, path, cast(Format, _format(driver, "type"))))


def _variables(domain: ET.Element) -> SourceDisk | None:
    path, element = nvram_source(domain), domain.find("os/nvram")
    if not path or element is None:
        return None
    kind = element.get("type", FILE)
    if kind not in (FILE, BLOCK):
        raise CannotBeCopied(f"its UEFI variables are of the type {kind}", "a file of this host can be copied")
    disk = SourceDisk(NVRAM, kind, path, cast(Format, _format(element, "format")))
    return _checked("the store of its UEFI variables", disk)


def _checked(what: str, disk: SourceDisk) -> SourceDisk:
    if not disk.path.startswith("/"):
        raise CannotBeCopied(f"{what} names no file or device", "virsh edit can change that")
    if disk.format not in ("qcow2", "raw"):
        raise CannotBeCopied(f"{what} is a {disk.format} image", CONVERT)
    if disk.kind == BLOCK and disk.format != "raw":
        raise CannotBeCopied(f"{what} is a {disk.format} image on a device", CONVERT)
    return disk


def _format(element: ET.Element | None, attribute: str) -> str:
    """libvirt takes for raw what is not said to be anything else."""
    return element.get(attribute, "raw") if element is not None else "raw"


def _move_disk(disk: ET.Element, path: str) -> None:
    disk.set("type", "block")
    if disk.get("snapshot") == "internal":  # which only qcow2 has
        del disk.attrib["snapshot"]
    driver = disk.find("driver")
    if driver is None:
        driver = ET.Element("driver")
        disk.insert(0, driver)
    driver.attrib.pop("copy_on_read", None)
    driver.attrib.update(name="qemu", type="raw", cache="none", io="native", discard="unmap")
    _remove(driver, "metadata_cache")
    _remove(disk, "source", "backingStore", "mirror")
    ET.SubElement(disk, "source", dev=path)


def _names_formats(domain: ET.Element) -> bool:
    """Whether this libvirt names the formats of firmware, as since 9.2; before, its schema knows no such word."""
    return any("format" in each.attrib for each in (*domain.findall("os/loader"), *domain.findall("os/nvram")))


def _move_variables(variables: ET.Element, path: str, named: bool) -> None:
    variables.clear()
    variables.attrib.update(type="block", **({"format": "raw"} if named else {}))
    ET.SubElement(variables, "source", dev=path)


def _remove(parent: ET.Element, *tags: str) -> None:
    for tag in tags:
        for child in parent.findall(tag):
            parent.remove(child)


def _target(disk: ET.Element) -> str:
    target = disk.find("target")
    return target.get("dev", "") if target is not None else ""


def _text(element: ET.Element) -> str:
    element.tail = None
    return ET.tostring(element, encoding="unicode")
