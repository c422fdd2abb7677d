"""A domain's memory and virtual CPUs: what its XML says, what it would say, and what its running guest can take. Pure.

Up to what a guest began with, its balloon takes memory and gives it back; more is plugged in as modules, into the room
that its maximum leaves. CPUs can be plugged up to theirs.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Literal

from .domain_xml import MOST_MEMORY, MOST_VCPUS, Q35_VCPUS, UNITS
from .errors import InvalidArgument
from .sizes import MIB, format_size

PARTS = ("maxMemory", "memory", "currentMemory", "vcpu", "vcpus", "cpu")
MODULE = 128 * MIB
"""What Linux and Windows take memory in by: a part of one would not be used."""


@dataclass(frozen=True)
class Live:
    """How a running guest gets what was asked for. how: what is to be done; amount: bytes or CPUs; why: for later."""

    how: Literal["nothing", "balloon", "plug", "later"]
    amount: int = 0
    why: str = ""


def parts(xml: str) -> str:
    """Of a domain's XML what its memory and CPUs are made of, as a domain that has nothing else."""
    return _serial([each for each in ET.fromstring(xml) if each.tag in PARTS])


def with_parts(xml: str, given: str) -> str:
    """A domain's XML with those parts of another in the place of its own."""
    domain = ET.fromstring(xml)
    for each in [each for each in domain if each.tag in PARTS]:
        domain.remove(each)
    domain.extend(ET.fromstring(given))
    return ET.tostring(domain, encoding="unicode")


def amounts(xml: str) -> tuple[int, int]:
    """Memory in bytes, and CPUs, as they are now or at the next start."""
    domain = ET.fromstring(xml)
    return _current(domain), _vcpus(domain)[0]


def with_memory(xml: str, size: int) -> str:
    """The parts for a start with `size` bytes, with room for more. Raises InvalidArgument for a layout made by hand."""
    domain = ET.fromstring(xml)
    if domain.find("devices/memory") is not None:
        raise _by_hand("its memory was not changed", "its definition has memory modules")
    kib = str(size // 1024)
    for cell in _cells(domain, "its memory was not changed"):
        cell.attrib.update(memory=kib, unit="KiB")
    most = domain.find("maxMemory")
    if most is not None and _bytes(most) < size:
        most.text = str(size // 1024 * MOST_MEMORY)
        most.set("unit", "KiB")
    for tag in ("memory", "currentMemory"):
        element = domain.find(tag)
        element = ET.SubElement(domain, tag) if element is None else element
        element.text = kib
        element.set("unit", "KiB")
    return parts(ET.tostring(domain, encoding="unicode"))


def with_vcpus(xml: str, count: int) -> str:
    """The parts for a start with so many CPUs, with room for more. Raises InvalidArgument for a layout made by hand."""
    domain = ET.fromstring(xml)
    _, most = _vcpus(domain)
    vcpu = domain.find("vcpu")
    vcpu = ET.SubElement(domain, "vcpu") if vcpu is None else vcpu
    if count > most:
        most = max(count, min(count * MOST_VCPUS, Q35_VCPUS))
        for cell in _cells(domain, "its CPUs were not changed"):
            cell.set("cpus", f"0-{most - 1}")
        if (cpu := domain.find("cpu")) is not None:
            for topology in cpu.findall("topology"):  # its product would have to be the new maximum
                cpu.remove(topology)
    vcpu.text = str(most)
    vcpu.set("current", str(count))
    for each in domain.findall("vcpus"):  # which of them are plugged in: libvirt's own to say
        domain.remove(each)
    return parts(ET.tostring(domain, encoding="unicode"))


def memory_change(live_xml: str, size: int) -> Live:
    """How a running guest comes to `size` bytes."""
    domain = ET.fromstring(live_xml)
    total, current = _bytes(domain.find("memory")), _current(domain)
    most = domain.find("maxMemory")
    if size == current:
        return Live("nothing")
    balloon = domain.find("devices/memballoon")
    if size <= total:
        if balloon is None or balloon.get("model") == "none":
            return Live("later", why="it has no memory balloon")
        return Live("balloon", size)
    if most is None:
        return Live("later", why=f"its memory can be {format_size(total)} at most while it runs")
    if size > _bytes(most):
        return Live("later", why=f"its memory can be {format_size(_bytes(most))} at most while it runs")
    if len(domain.findall("devices/memory")) >= int(most.get("slots", "0")):
        return Live("later", why="all its slots for memory are taken")
    if (size - total) % MODULE:
        why = f"it has {format_size(total)}, and more is plugged in by {format_size(MODULE)}"
        return Live("later", why=why)
    return Live("plug", size - total)


def vcpus_change(live_xml: str, count: int) -> Live:
    """How a running guest comes to so many CPUs."""
    current, most = _vcpus(ET.fromstring(live_xml))
    if count == current:
        return Live("nothing")
    if count > most:
        return Live("later", why=f"it can have {most} CPUs at most while it runs")
    return Live("plug", count)


def module_xml(size: int) -> str:
    """The element of a memory module of `size` bytes."""
    module = ET.Element("memory", model="dimm")
    target = ET.SubElement(module, "target")
    ET.SubElement(target, "size", unit="KiB").text = str(size // 1024)
    ET.SubElement(target, "node").text = "0"
    return ET.tostring(module, encoding="unicode")


def _cells(domain: ET.Element, what: str) -> list[ET.Element]:
    cells = domain.findall("cpu/numa/cell")
    if len(cells) > 1:
        raise _by_hand(what, f"it has {len(cells)} NUMA nodes")
    return cells


def _by_hand(what: str, why: str) -> InvalidArgument:
    return InvalidArgument(what, f"{why}, and nobody knows here how to share it among them", "use virsh edit")


def _vcpus(domain: ET.Element) -> tuple[int, int]:
    """So many, and so many at most."""
    vcpu = domain.find("vcpu")
    if vcpu is None:
        return 1, 1
    most = int(vcpu.text or 1)
    return int(vcpu.get("current") or most), most


def _current(domain: ET.Element) -> int:
    current = domain.find("currentMemory")
    return _bytes(domain.find("memory") if current is None else current)


def _bytes(element: ET.Element | None) -> int:
    return int(element.text or 0) * UNITS.get(element.get("unit", "KiB"), 1024) if element is not None else 0


def _serial(elements: list[ET.Element]) -> str:
    made = ET.Element("domain")
    made.extend(elements)
    for each in made.iter():
        each.tail = None
        each.text = each.text if (each.text or "").strip() else None
    return ET.tostring(made, encoding="unicode")
