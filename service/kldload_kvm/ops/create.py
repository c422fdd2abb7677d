"""Create: a new VM's volumes, UEFI variables, cloud-init seed and domain. Defining the domain is the commit point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Guard, Plan, Step
from ..images.store import Image
from ..model import cloud_init, names, os_index, properties
from ..model.domain_xml import Spec, build
from ..model.errors import InvalidArgument, NotFound
from ..model.inventory import Dataset
from ..model.sizes import KIB, MIB, format_size
from ..model.space import capacity
from ..model.volume_settings import LARGEST_DISK, compression, volblocksize
from ..steps.domains import DefineDomain, SetAutostart, StartDomain
from ..steps.images import ConvertImage
from ..steps.seeds import WriteSeed
from ..steps.volumes import CreateVolume, NoteWritten, WriteFirmwareVariables
from . import networks
from .blocks import block_size
from .images import image_of
from .request import Request, View
from .template import template_steps
from .trash import check_fits, spare_steps

NVRAM_SIZE, NVRAM_BLOCK = 528 * KIB, 16 * KIB
SEED_SIZE, SEED_BLOCK = 1 * MIB, 16 * KIB
GUEST_OPTIONS = ("hostname", "user", "ssh-keys", "password-hash")


@dataclass(frozen=True)
class Create(Request):
    """Zeros and empty strings stand for what was not given. Sizes in bytes."""

    operation = "vm.create"
    name: str
    memory: int = 0
    vcpus: int = 0
    disk: int = 0
    storage: str = ""
    iso: str = ""
    image: str = ""
    os: str = ""
    network: str = ""
    volblocksize: int = 0
    compression: str = ""
    user_data: str = ""
    hostname: str = ""
    start: bool = False
    autostart: bool = False
    template: bool = False

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        name = names.vm_name(args[0])
        what = f"{name} was not created"
        if "iso" in options and "image" in options:
            raise InvalidArgument(what, "both an ISO and a disk image were given", "give one of them")
        given = [each for each in GUEST_OPTIONS if each in options]
        if given and "image" not in options:
            why = f"{', '.join(given)} is for the guest of a disk image, and none was given"
            raise InvalidArgument(what, why, "give an image, or leave it out")
        if options.get("template") and (given := [e for e in ("iso", "start", "autostart") if options.get(e)]):
            why = f"a template does not start, and {', '.join(given)} was asked for"
            raise InvalidArgument(what, why, "install it first, and then: kvm-vm template NAME on")
        _check(what, "memory", options.get("memory"), 64 * MIB, 16 << 40, MIB)
        _check(what, "vcpus", options.get("vcpus"), 1, 255, 1)
        _check(what, "disk", options.get("disk"), 1 * MIB, LARGEST_DISK, 512)
        block = volblocksize(options["volblocksize"], what) if "volblocksize" in options else 0
        hostname = cloud_init.check_hostname(options["hostname"]) if "hostname" in options else ""
        user_data = ""
        if "image" in options:
            user_data = cloud_init.user_data(
                options.get("user", ""), options.get("ssh-keys", ()), options.get("password-hash", "")
            )
        return cls(
            name=name,
            memory=options.get("memory", 0),
            vcpus=options.get("vcpus", 0),
            disk=options.get("disk", 0),
            storage=options.get("storage", ""),
            iso=options.get("iso", ""),
            image=options.get("image", ""),
            os=options.get("os", ""),
            network=options.get("network", ""),
            volblocksize=block,
            compression=compression(options["compression"], what) if "compression" in options else "",
            user_data=user_data,
            hostname=hostname,
            start=options.get("start", False),
            autostart=options.get("autostart", False),
            template=options.get("template", False),
        )

    def subject(self, view: View) -> dict[str, str]:
        return {"vm": self.name, "dataset": f"{self._parent(view)}/{self.name}"}

    def plan(self, view: View) -> Plan:
        view.need_libvirt(self.name)
        parent = self._parent(view)
        store = view.store(parent, f"{self.name} was not created")
        view.check_name_free(self.name)
        check_fits(f"{self.name} was not created", parent, self.name)
        if view.facts.firmware is None:
            raise NotFound(f"{self.name} was not created", "no UEFI firmware is installed", "apt install ovmf")
        iso = self._image(view, self.iso, iso=True) if self.iso else None
        image = self._image(view, self.image, iso=False) if self.image else None
        chosen = block_size(view, parent, self.volblocksize)
        block = chosen.size
        size = self._size(view, image, block)
        view.check_room(parent, f"{self.name} was not created")
        warnings = [*self._check_space(store, size), *chosen.warnings]
        vm_id, uuid = view.uuid(), view.uuid()
        disk, nvram, seed = (f"{parent}/{self.name}{suffix}" for suffix in ("", ".nvram", ".seed"))
        common = {**view.volmode(parent), properties.VM: vm_id, properties.UUID: uuid}
        prepare: list[Step] = [
            CreateVolume(disk, size, {
                **common, "volblocksize": str(block), "compression": self.compression or view.config.compression,
                properties.ROLE: "disk", properties.TARGET: "vda",
            }),
            CreateVolume(nvram, NVRAM_SIZE, {
                **common, "volblocksize": str(NVRAM_BLOCK), "compression": "lz4", properties.ROLE: "nvram",
            }),
        ]  # fmt: skip
        if image:
            prepare.append(CreateVolume(seed, SEED_SIZE, {
                **common, "volblocksize": str(SEED_BLOCK), "compression": "lz4", properties.ROLE: "seed",
                properties.TARGET: "vdb",
            }))  # fmt: skip
        prepare.append(WriteFirmwareVariables(nvram, view.facts.firmware.vars_template))
        if image:
            host = self.hostname or cloud_init.hostname_from(self.name)
            prepare.append(WriteSeed(seed, cloud_init.meta_data(vm_id, host), self.user_data, SEED_SIZE))
            prepare.append(ConvertImage(image.path, image.format, image.virtual_size, disk))
        network = networks.choose(view, self.network, f"{self.name} was not created")
        xml = build(Spec(
            name=self.name,
            uuid=uuid,
            memory=self.memory or view.config.memory,
            vcpus=self.vcpus or view.config.vcpus,
            disks={"vda": disk},
            nvram=nvram,
            mac=view.mac(),
            firmware_code=view.facts.firmware.code,
            firmware_vars=view.facts.firmware.vars_template,
            secure_boot=view.facts.firmware.secure,
            accelerator=self._accelerator(view),
            network=network,
            seed=seed if image else "",
            iso=iso.path if iso else "",
            os=os_index.find(view.facts.os_index, self.os).id if self.os else "",
            vnc_listen=view.config.vnc_listen,
        ))  # fmt: skip
        volumes = (disk, nvram, seed) if image else (disk, nvram)
        prepare.append(NoteWritten((disk, nvram)))  # once it is defined, whoever starts it has it written to
        finish: list[Step] = [SetAutostart(uuid, self.name, True)] if self.autostart else []
        finish += template_steps([disk, nvram], disk, True) if self.template else []
        if self.start:
            finish += networks.started(view, network)
            finish.append(StartDomain(uuid, self.name, volumes))
        finish += spare_steps(view, parent)
        return Plan(
            operation=self.operation,
            description=f"create {'the template ' if self.template else ''}{self.name}",
            prepare=tuple(prepare),
            commit=DefineDomain(uuid, self.name, xml),
            finish=tuple(finish),
            locks=frozenset({f"VM:{self.name}"}),
            guards=(Guard("guid", parent, store.guid), *(Guard("absent", volume) for volume in volumes)),
            objects=(vm_id,),
            warnings=tuple(warnings),
            result={
                "vm": vm_id,
                "id": vm_id,
                "name": self.name,
                "uuid": uuid,
                "volblocksize": block,
                "volblocksize-reason": chosen.why,
            },
        )

    def _parent(self, view: View) -> str:
        return view.parent(self.storage, f"{self.name} was not created")

    def _image(self, view: View, name: str, iso: bool) -> Image:
        return image_of(view, self._parent(view), name, f"{self.name} was not created", iso=iso)

    def _size(self, view: View, image: Image | None, block: int) -> int:
        """The disk's size: as asked for, or the default, or the image's if that is larger."""
        size = self.disk or max(view.config.disk, image.virtual_size if image else 0)
        if image and size < image.virtual_size:
            raise InvalidArgument(
                f"{self.name} was not created",
                f"{format_size(size)} cannot hold {image.name}, which needs {format_size(image.virtual_size)}",
                "give a larger --disk, or none",
            )
        if self.disk and size % block:
            raise InvalidArgument(
                f"{self.name} was not created",
                f"the disk's size, {size} bytes, is no multiple of its block size, {block}",
                f"use {size + block - size % block}B",
            )
        return size + -size % block

    def _check_space(self, store: Dataset, size: int) -> list[str]:
        whole = capacity(store)
        if size > whole:
            return [
                f"the disk is thin: it promises {format_size(size)}, and the pool holds {format_size(whole)} in all"
            ]
        return []

    def _accelerator(self, view: View) -> str:
        if view.config.accelerator != "auto":
            return view.config.accelerator
        return "kvm" if view.facts.kvm else "qemu"


def _check(what: str, name: str, value: int | None, least: int, most: int, unit: int) -> None:
    if value is None:
        return
    shown = str if unit == 1 and most < KIB else format_size
    if not least <= value <= most:
        why = f"{name} is {shown(value)}, and must be from {shown(least)} to {shown(most)}"
        raise InvalidArgument(what, why, "give another size" if unit > 1 else "")
    if value % unit:
        raise InvalidArgument(
            what, f"{name} is {value}, and must be a multiple of {unit}", f"use {value - value % unit + unit}B"
        )
