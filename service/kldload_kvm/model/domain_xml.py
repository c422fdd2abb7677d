"""libvirt domain XML: building a VM's, telling the facts in one, and turning an origin's into a clone's.

Choices and their reasons: q35 for PCIe and hot-plug; cache=none because ZFS caches; discard=unmap so that trimmed space
comes back; io=native needs cache=none and spares threads; VNC on loopback only; SMM only where the firmware wants it
(OVMF without secure boot hung with it under nested virtualization).
"""

from __future__ import annotations

import base64
import hashlib
import re
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from .errors import InvalidArgument
from .inventory import device

LIBOSINFO = "http://libosinfo.org/xmlns/libvirt/domain/1.0"
OURS = "https://kldload.org/xmlns/kvm/1.0"
ET.register_namespace("libosinfo", LIBOSINFO)
ET.register_namespace("kldload", OURS)

LOOPBACK = ("127.0.0.1", "::1", "localhost")
SPARE_PORTS = 14  # as virt-install has it; six are used at first, and a running VM gets no more
MOST_VCPUS = 4  # times as many as at first can be plugged in, but no more than q35 has without an IOMMU
Q35_VCPUS = 255
MOST_MEMORY = 4
UNITS = {"b": 1, "bytes": 1, "KB": 1000, "k": 1024, "KiB": 1024, "MB": 10**6, "M": 1 << 20, "MiB": 1 << 20,
         "GB": 10**9, "G": 1 << 30, "GiB": 1 << 30, "T": 1 << 40, "TiB": 1 << 40}  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """All that a new VM's domain is made from. memory in bytes; disks: target -> dataset; network: ("bridge"|"network",
    name) or None; accelerator: kvm or qemu; os: an osinfo id such as http://debian.org/debian/13, or empty."""

    name: str
    uuid: str
    memory: int
    vcpus: int
    disks: Mapping[str, str]
    nvram: str
    mac: str
    firmware_code: str
    firmware_vars: str
    accelerator: str
    network: tuple[str, str] | None = None
    secure_boot: bool = False
    seed: str = ""
    iso: str = ""
    os: str = ""
    vnc_listen: str = "127.0.0.1"


@dataclass(frozen=True)
class Facts:
    """What the service needs to know of a domain it reads. memory in bytes."""

    memory: int = 0
    vcpus: int = 0
    os: str = ""
    disks: dict[str, str] = field(default_factory=dict)
    cdroms: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


def build(spec: Spec) -> str:
    """A new VM's domain XML."""
    kib = spec.memory // 1024
    domain = ET.Element("domain", type=spec.accelerator)
    _text(domain, "name", spec.name)
    _text(domain, "uuid", spec.uuid)
    if spec.os:
        info = ET.SubElement(ET.SubElement(domain, "metadata"), f"{{{LIBOSINFO}}}libosinfo")
        ET.SubElement(info, f"{{{LIBOSINFO}}}os", id=spec.os)
    _text(domain, "maxMemory", str(kib * MOST_MEMORY), slots="16", unit="KiB")
    _text(domain, "memory", str(kib), unit="KiB")
    most_vcpus = max(spec.vcpus, min(spec.vcpus * MOST_VCPUS, Q35_VCPUS))
    _text(domain, "vcpu", str(most_vcpus), placement="static", current=str(spec.vcpus))
    _firmware(domain, spec)
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    ET.SubElement(features, "smm", state="on" if spec.secure_boot else "off")
    # Memory can be plugged in only where the guest has a NUMA node to plug it into.
    # Under emulation every feature QEMU has is there anyway, and host-model means what the host's silicon has.
    cpu = ET.SubElement(domain, "cpu", mode="host-model" if spec.accelerator == "kvm" else "maximum")
    numa = ET.SubElement(cpu, "numa")
    ET.SubElement(numa, "cell", id="0", cpus=f"0-{most_vcpus - 1}", memory=str(kib), unit="KiB")
    clock = ET.SubElement(domain, "clock", offset="utc")
    ET.SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
    ET.SubElement(clock, "timer", name="pit", tickpolicy="delay")
    ET.SubElement(clock, "timer", name="hpet", present="no")
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        _text(domain, event, action)
    _devices(ET.SubElement(domain, "devices"), spec)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode")


def facts(xml: str) -> Facts:
    """What a domain's XML says."""
    domain = ET.fromstring(xml)
    vcpu = domain.find("vcpu")
    disks, cdroms = {}, []
    for disk in domain.findall("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        path = (source.get("dev") or source.get("file") or "") if source is not None else ""
        if disk.get("device") in ("cdrom", "floppy"):
            cdroms.append(path)
        elif target is not None and path:
            disks[target.get("dev", "")] = path
    if (nvram := nvram_source(domain)) is not None:
        disks["nvram"] = nvram
    os = domain.find(f"metadata/{{{LIBOSINFO}}}libosinfo/{{{LIBOSINFO}}}os")
    interfaces = domain.findall("devices/interface[@type='network']/source")
    return Facts(
        memory=_bytes(
            domain.find("currentMemory") if domain.find("currentMemory") is not None else domain.find("memory")
        ),
        vcpus=int(vcpu.get("current") or vcpu.text or 0) if vcpu is not None else 0,
        os=os.get("id", "") if os is not None else "",
        disks=disks,
        cdroms=tuple(each for each in cdroms if each),
        networks=tuple(each.get("network", "") for each in interfaces),
    )


def nvram_source(domain: ET.Element) -> str | None:
    """The path of the UEFI variables, whether block device or file."""
    nvram = domain.find("os/nvram")
    if nvram is None:
        return None
    source = nvram.find("source")
    return (source.get("dev") or source.get("file")) if source is not None else (nvram.text or None)


def for_clone(
    xml: str, *, name: str, uuid: str, sources: Mapping[str, str], macs: list[str], vnc_listen: str = "127.0.0.1"
) -> str:
    """An origin's XML as a clone's. sources: each path of the origin's volumes -> the clone's; macs: one an interface.

    A display that listens elsewhere than on loopback listens at vnc_listen: its password, if it has one, is not in the
    XML, so the clone has none. Raises InvalidArgument if the domain has a disk that can be written and is not among the
    sources: two VMs would share it.
    """
    domain = ET.fromstring(xml)
    _set_text(domain, "name", name)
    _set_text(domain, "uuid", uuid)
    for tag in ("title", "description", "genid"):
        for child in domain.findall(tag):
            domain.remove(child)
    for label in domain.findall("seclabel"):
        if label.get("type") == "static" or label.find("label") is not None:
            domain.remove(label)
    for disk in domain.findall("devices/disk"):
        _move_source(disk, sources, name)
    _move_nvram(domain, sources)
    for interface, mac in zip(domain.findall("devices/interface"), macs, strict=False):
        _without(interface, "target", "alias")
        element = interface.find("mac")
        (element if element is not None else ET.SubElement(interface, "mac")).set("address", mac)
    for graphics in domain.findall("devices/graphics"):
        _listen_safely(graphics, vnc_listen)
    for channel in domain.findall("devices/channel"):
        for source in channel.findall("source"):
            channel.remove(source)
    return ET.tostring(domain, encoding="unicode")


def for_restore(xml: str, *, name: str, uuid: str, sources: Mapping[str, str], macs: Iterable[str] = ()) -> str:
    """A kept domain's XML as it is defined again. sources: paths of its volumes -> where these are now; macs: new
    addresses, one an interface, if it must not have its old ones."""
    domain = ET.fromstring(xml)
    _set_text(domain, "name", name)
    _set_text(domain, "uuid", uuid)
    for source in (*domain.findall("devices/disk/source"), *domain.findall("os/nvram/source")):
        if (path := source.get("dev", "")) in sources:
            source.set("dev", sources[path])
    for interface, mac in zip(domain.findall("devices/interface"), macs, strict=False):
        element = interface.find("mac")
        (element if element is not None else ET.SubElement(interface, "mac")).set("address", mac)
    return ET.tostring(domain, encoding="unicode")


def macs_of(uuid: str, count: int) -> tuple[str, ...]:
    """Addresses in QEMU's own range that go with a UUID: the same each time they are asked for."""
    digests = (hashlib.sha256(f"{uuid}/{number}".encode()).hexdigest() for number in range(count))
    return tuple(f"52:54:00:{each[0:2]}:{each[2:4]}:{each[4:6]}" for each in digests)


def interface_count(xml: str) -> int:
    return len(ET.fromstring(xml).findall("devices/interface"))


SECRETS = ("secret", "auth", "encryption", "launchSecurity", "cookies", "oemStrings")


def without_secrets(xml: str) -> str:
    """The XML as it may be kept where everybody can read it: no VNC password, no secret of any kind.

    The strings of SMBIOS and fw_cfg, and QEMU's command line, are how credentials reach a guest.
    """
    domain = ET.fromstring(xml)
    _remove_secrets(domain)
    return ET.tostring(domain, encoding="unicode")


def _remove_secrets(domain: ET.Element) -> None:
    for graphics in domain.findall("devices/graphics"):
        for attribute in ("passwd", "passwdValidTo"):
            graphics.attrib.pop(attribute, None)
    for parent in list(domain.iter()):
        for child in list(parent):
            if _is_secret(child):
                parent.remove(child)


def secrets(xml: str) -> tuple[str, ...]:
    """What `without_secrets` takes out of a domain's XML, by the names of the elements. libvirt does not show the
    password of a display, so that it has one can be told by its validity at most."""
    domain = ET.fromstring(xml)
    found = [child.tag.rpartition("}")[2] for parent in domain.iter() for child in parent if _is_secret(child)]
    shown = any(each.get("passwd") or each.get("passwdValidTo") for each in domain.findall("devices/graphics"))
    return tuple(dict.fromkeys([*found, *(["graphics password"] if shown else [])]))


def restored(xml: str, *, name: str, uuid: str) -> str:
    """A VM's XML of an earlier moment as its XML of today: under the name that the VM and its volumes have now, and
    the UUID; MACs and all else as they were."""
    domain = ET.fromstring(xml)
    before = domain.findtext("name", "")
    _set_text(domain, "name", name)
    _set_text(domain, "uuid", uuid)
    if before and before != name:
        volume = re.compile(rf"(/dev/zvol/.*/){re.escape(before)}((?:\.(?:nvram|seed|[vsh]d[a-z]{{1,2}}))?)")
        for source in (*domain.findall("devices/disk/source"), *domain.findall("os/nvram/source")):
            if match := volume.fullmatch(source.get("dev", "")):
                source.set("dev", f"{match[1]}{name}{match[2]}")
    return ET.tostring(domain, encoding="unicode")


def digest(xml: str) -> str:
    """Tells one definition from another."""
    return hashlib.sha256(xml.encode()).hexdigest()


def left_out(xml: str) -> str:
    """What of a VM is not in its volumes, and so in no snapshot of them: "tpm" for an emulated TPM, whose state libvirt
    keeps in files; or the empty string."""
    return "tpm" if ET.fromstring(xml).find("devices/tpm/backend[@type='emulator']") is not None else ""


def _is_secret(element: ET.Element) -> bool:
    firmware_settings = element.tag == "sysinfo" and element.get("type") == "fwcfg"
    return element.tag in SECRETS or "commandline" in element.tag or firmware_settings


def console_path(live_xml: str) -> str:
    """The pseudo-terminal of a running domain's serial console, or the empty string."""
    source = ET.fromstring(live_xml).find("devices/serial[@type='pty']/source")
    return source.get("path", "") if source is not None else ""


def display_address(live_xml: str) -> str:
    """HOST:PORT of a running domain's graphical display, or the empty string."""
    graphics = ET.fromstring(live_xml).find("devices/graphics")
    if graphics is None or int(graphics.get("port") or -1) < 0:
        return ""
    return f"{graphics.get('listen') or '127.0.0.1'}:{graphics.get('port')}"


def _firmware(domain: ET.Element, spec: Spec) -> None:
    os = ET.SubElement(domain, "os")
    _text(os, "type", "hvm", arch="x86_64", machine="q35")
    secure = {"secure": "yes"} if spec.secure_boot else {}
    _text(os, "loader", spec.firmware_code, readonly="yes", type="pflash", **secure)
    nvram = ET.SubElement(os, "nvram", type="block", format="raw")
    ET.SubElement(nvram, "source", dev=device(spec.nvram))


def _devices(devices: ET.Element, spec: Spec) -> None:
    # The disk first: while it is blank the firmware falls through to the CD, and once installed it must win.
    order = 1
    for target, dataset in spec.disks.items():
        disk = add_disk(devices, device(dataset), target, order)
        ET.SubElement(disk, "serial").text = f"{spec.name[:16]}-{target}"
        order += 1
    if spec.seed:
        seed = add_disk(devices, device(spec.seed), f"vd{chr(ord('a') + len(spec.disks))}", 0)
        ET.SubElement(seed, "readonly")
    if spec.iso:
        drive = ET.SubElement(devices, "disk", type="file", device="cdrom")
        ET.SubElement(drive, "driver", name="qemu", type="raw")
        ET.SubElement(drive, "source", file=spec.iso)
        ET.SubElement(drive, "target", dev="sda", bus="sata")
        ET.SubElement(drive, "readonly")
        ET.SubElement(drive, "boot", order=str(order))
    ET.SubElement(devices, "controller", type="pci", model="pcie-root")
    for _ in range(SPARE_PORTS):
        ET.SubElement(devices, "controller", type="pci", model="pcie-root-port")
    if spec.network:
        kind, name = spec.network
        interface = ET.SubElement(devices, "interface", type=kind)
        ET.SubElement(interface, "mac", address=spec.mac)
        ET.SubElement(interface, "source", {kind: name})
        ET.SubElement(interface, "model", type="virtio")
    serial = ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(serial, "target", port="0")
    console = ET.SubElement(devices, "console", type="pty")
    ET.SubElement(console, "target", type="serial", port="0")
    channel = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    graphics = ET.SubElement(devices, "graphics", type="vnc", port="-1", autoport="yes", listen=spec.vnc_listen)
    ET.SubElement(graphics, "listen", type="address", address=spec.vnc_listen)
    video = ET.SubElement(devices, "video")
    ET.SubElement(video, "model", type="virtio")
    rng = ET.SubElement(devices, "rng", model="virtio")
    ET.SubElement(rng, "backend", model="random").text = "/dev/urandom"
    ET.SubElement(devices, "memballoon", model="virtio", freePageReporting="on")


def add_disk(devices: ET.Element, path: str, target: str, order: int) -> ET.Element:
    """A disk as all our VMs have them. order: among what is booted from; 0 for one that never is."""
    disk = ET.SubElement(devices, "disk", type="block", device="disk")
    ET.SubElement(disk, "driver", name="qemu", type="raw", cache="none", io="native", discard="unmap")
    ET.SubElement(disk, "source", dev=path)
    ET.SubElement(disk, "target", dev=target, bus="virtio")
    if order:
        ET.SubElement(disk, "boot", order=str(order))
    return disk


def _move_source(disk: ET.Element, sources: Mapping[str, str], name: str) -> None:
    source = disk.find("source")
    if source is None or not source.attrib:
        return  # a drive with nothing in it
    path = source.get("dev") or source.get("file") or " ".join(source.attrib.values())
    if path in sources:
        disk.set("type", "block")
        source.attrib.pop("file", None)
        source.set("dev", sources[path])
        if (serial := disk.find("serial")) is not None:
            target = disk.find("target")
            serial.text = f"{name[:16]}-{target.get('dev', '') if target is not None else ''}"
    elif disk.get("device") != "cdrom" and disk.find("readonly") is None:
        raise InvalidArgument(
            f"the clone {name} was not made", f"the VM has a disk that is no volume of it: {path}",
            "detach that disk first, or move it into a volume",
        )  # fmt: skip


def _move_nvram(domain: ET.Element, sources: Mapping[str, str]) -> None:
    nvram = domain.find("os/nvram")
    if nvram is None:
        return
    path = nvram_source(domain) or ""
    if path in sources:
        for child in nvram.findall("source"):
            nvram.remove(child)
        nvram.text = None
        nvram.set("type", "block")
        ET.SubElement(nvram, "source", dev=sources[path])
    else:
        # A file of libvirt's own: without a path, libvirt makes the clone one from the template.
        nvram.text = None
        for child in nvram.findall("source"):
            nvram.remove(child)
        nvram.attrib.pop("type", None)


def _listen_safely(graphics: ET.Element, vnc_listen: str) -> None:
    for attribute in ("port", "tlsPort", "websocket"):
        graphics.attrib.pop(attribute, None)
    graphics.set("autoport", "yes")
    if graphics.get("listen", "127.0.0.1") not in LOOPBACK:
        graphics.set("listen", vnc_listen)
    for listen in graphics.findall("listen"):
        if listen.get("type") == "network" or listen.get("address", "127.0.0.1") not in LOOPBACK:
            listen.attrib.clear()
            listen.attrib.update(type="address", address=vnc_listen)


def _without(element: ET.Element, *tags: str) -> None:
    for tag in tags:
        for child in element.findall(tag):
            element.remove(child)


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text


def _set_text(parent: ET.Element, tag: str, text: str) -> None:
    element = parent.find(tag)
    (element if element is not None else ET.SubElement(parent, tag)).text = text


def _bytes(element: ET.Element | None) -> int:
    if element is None:
        return 0
    return int(element.text or 0) * UNITS.get(element.get("unit", "KiB"), 1024)


MOST_PACKED = 8000  # what fits into a ZFS property is 8191 bytes
MOST_UNPACKED = 1 << 20


@lru_cache(maxsize=256)
def pack(xml: str) -> str:
    """The XML, without its secrets, as a ZFS property's value; the empty string if it is too long for one."""
    domain = ET.fromstring(xml)
    _remove_secrets(domain)
    for element in domain.iter():
        element.text = element.text if (element.text or "").strip() else None
        element.tail = None
    packed = base64.b85encode(zlib.compress(ET.tostring(domain), 9)).decode()
    return packed if len(packed) <= MOST_PACKED else ""


def unpack(value: str) -> str:
    """What `pack` packed. Raises ValueError for anything else."""
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(base64.b85decode(value), MOST_UNPACKED).decode()
    except (zlib.error, UnicodeDecodeError) as fault:
        raise ValueError(str(fault)) from None
    if not unpacker.eof:
        raise ValueError("it is not whole, or too long")
    return text
