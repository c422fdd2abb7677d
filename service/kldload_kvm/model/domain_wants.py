"""What a domain asks of the host, read from its XML: emulator, firmware, disks, networks, memory. Pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

from .domain_xml import facts, nvram_source


@dataclass(frozen=True)
class Disk:
    """A disk or drive. device: disk, cdrom, floppy …; kind: block, file, network …; source: a path, "" for an empty
    drive."""

    target: str
    device: str
    kind: str
    source: str
    format: str = "raw"
    cache: str = ""
    discard: str = ""
    bus: str = ""


@dataclass(frozen=True)
class Graphics:
    """A screen. listen: the addresses it listens on; port: 0 for one that libvirt chooses."""

    kind: str
    listen: tuple[str, ...]
    port: int = 0


@dataclass(frozen=True)
class Wants:
    """accelerator: the domain's type; loader, nvram, template: firmware and its variables; files: others that it cannot
    start without; networks: ("network" or "bridge", its name); huge: whether its memory is to be huge pages; devices:
    of the host, passed through; nested: whether its guests may have guests."""

    accelerator: str = "kvm"
    emulator: str = ""
    loader: str = ""
    nvram: str = ""
    template: str = ""
    files: tuple[str, ...] = ()
    memory: int = 0
    huge: bool = False
    devices: int = 0
    nested: bool = False
    disks: tuple[Disk, ...] = ()
    networks: tuple[tuple[str, str], ...] = ()
    graphics: tuple[Graphics, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file and device that it names."""
        named = [self.emulator, self.loader, self.nvram, self.template, *self.files, *(d.source for d in self.disks)]
        return tuple(dict.fromkeys(path for path in named if path.startswith("/")))


def wants(xml: str) -> Wants:
    """Raises xml.etree.ElementTree.ParseError."""
    domain = ET.fromstring(xml)
    nvram = domain.find("os/nvram")
    nested = any(
        each.get("name") in ("vmx", "svm") and each.get("policy") == "require" for each in domain.findall("cpu/feature")
    )
    files = [domain.findtext(f"os/{tag}", "").strip() for tag in ("kernel", "initrd", "dtb")]
    return Wants(
        accelerator=domain.get("type", ""),
        emulator=domain.findtext("devices/emulator", "").strip(),
        loader=domain.findtext("os/loader", "").strip(),
        nvram=nvram_source(domain) or "",
        template=nvram.get("template", "") if nvram is not None else "",
        files=tuple(filter(None, files)),
        memory=facts(xml).memory,
        huge=domain.find("memoryBacking/hugepages") is not None,
        devices=len(domain.findall("devices/hostdev[@type='pci']")),
        nested=nested,
        disks=tuple(map(_disk, domain.findall("devices/disk"))),
        networks=tuple(filter(None, map(_network, domain.findall("devices/interface")))),
        graphics=tuple(map(_graphics, domain.findall("devices/graphics"))),
    )


def _disk(element: ET.Element) -> Disk:
    source, driver, target = (_attributes(element, tag) for tag in ("source", "driver", "target"))
    return Disk(
        target=target.get("dev", ""),
        device=element.get("device", "disk"),
        kind=element.get("type", ""),
        source=source.get("dev") or source.get("file") or source.get("dir") or "",
        format=driver.get("type", "raw"),
        cache=driver.get("cache", ""),
        discard=driver.get("discard", ""),
        bus=target.get("bus", ""),
    )


def _network(element: ET.Element) -> tuple[str, str] | None:
    kind = element.get("type", "")
    name = _attributes(element, "source").get(kind, "")
    return (kind, name) if kind in ("network", "bridge") and name else None


def _graphics(element: ET.Element) -> Graphics:
    listen = [each.get("address", "") for each in element.findall("listen") if each.get("type") == "address"]
    listen += [element.get("listen", "")]
    port = element.get("port", "-1") if element.get("autoport") != "yes" else "-1"
    return Graphics(
        element.get("type", ""), tuple(dict.fromkeys(filter(None, listen))), int(port) if port.isdecimal() else 0
    )


def _attributes(element: ET.Element, tag: str) -> dict[str, str]:
    found = element.find(tag)
    return found.attrib if found is not None else {}
