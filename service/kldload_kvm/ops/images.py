"""The image store: adding a file that a client has open, and removing one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Guard, Plan
from ..images.adding import check_sha256
from ..images.store import Image
from ..model.constants import DOCS
from ..model.errors import AlreadyExists, Busy, InvalidArgument, NotFound
from ..model.image_name import Format, image_name, new_image_name
from ..model.inventory import Dataset
from ..model.names import shown
from ..steps.images import AddImage as Add
from ..steps.images import RemoveImage as Remove
from .request import Request, View

FORMATS: tuple[Format, ...] = ("iso", "qcow2", "raw")


def image_of(view: View, parent: str, name: str, what: str, *, iso: bool = False) -> Image:
    """The image of that name, from the store of the storage with that parent if it is there, else from any other's.
    what: was not done. Raises NotFound, or InvalidArgument for the other kind."""
    stores = sorted(view.facts.images.items(), key=lambda item: view.inventory.parents.get(item[0]) != parent)
    found = next((each for _, images in stores for each in images if each.name == name), None)
    if found is None:
        hint = "kvm-image list lists them, kvm-image add adds one"
        raise NotFound(what, f"no image store has {shown(name)}", hint)
    if (found.format == "iso") != iso:
        hint = "use --iso for it" if found.format == "iso" else "use --image for it"
        kind = "ISO" if iso else "disk image"
        raise InvalidArgument(what, f"{name} is no {kind}: it is {found.format}", hint)
    return found


@dataclass(frozen=True)
class ImageRequest(Request):
    """An operation on one image of one storage."""

    storage: str
    name: str

    def subject(self, view: View) -> dict[str, str]:
        return {"dataset": f"{view.inventory.parents[self.storage]}/isos", "target": self.name}

    def isos(self, view: View) -> Dataset:
        """The dataset of the storage's image store. Raises NotFound."""
        parent = view.inventory.parents[self.storage]
        isos = view.inventory.datasets.get(f"{parent}/isos")
        if isos is None or not isos.mountpoint.startswith("/"):
            own = f"zfs create -o mountpoint=/{parent}/isos -o compression=zstd {parent}/isos"
            first = next(iter(view.inventory.parents.values()))
            hint = (
                "kvm-host fix isos-missing"
                if parent == first
                else f"{own}; and see ReadWritePaths= in {DOCS}/install.md"
            )
            what = f"the storage {self.storage} has no image store"
            raise NotFound(what, f"there is no dataset {parent}/isos that is mounted", f"create it: {hint}")
        return isos


@dataclass(frozen=True)
class AddImage(ImageRequest):
    """fd: our own descriptor of the client's file."""

    operation = "image.add"
    fd: int = -1
    format: Format | None = None
    sha256: str = ""

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        fd, name = args
        wanted = options.get("format")
        if wanted is not None and wanted not in FORMATS:
            why = f"{shown(wanted)} is no format of images"
            raise InvalidArgument(f"{shown(name)} was not added", why, f"known are {', '.join(FORMATS)}")
        return cls(target, new_image_name(name, wanted), fd, wanted, check_sha256(options.get("sha256", "")))

    def release(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.fd)

    def plan(self, view: View) -> Plan:
        isos = self.isos(view)
        if any(each.name == self.name for each in view.facts.images.get(self.storage, ())):
            hint = "choose another name, or remove that one: kvm-image remove " + self.name
            raise AlreadyExists(f"{self.name} was not added", "the store has an image of that name", hint)
        floor = int((isos.used + isos.available) * view.config.floor)
        return Plan(
            operation=self.operation,
            description=f"add the image {self.name} to {self.storage}",
            commit=Add(self.fd, isos.mountpoint, self.name, self.format, self.sha256, floor),
            locks=frozenset({f"image:{self.storage}/{self.name}"}),
        )


@dataclass(frozen=True)
class RemoveImage(ImageRequest):
    operation = "image.remove"

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        return cls(target, image_name(args[0]))

    def plan(self, view: View) -> Plan:
        isos = self.isos(view)
        image = next((each for each in view.facts.images.get(self.storage, ()) if each.name == self.name), None)
        if image is None:
            raise NotFound(f"there is no image {self.name}", f"the store of {self.storage} has none", "kvm-image list")
        what = f"{self.name} was not removed"
        if owners := view.inventory.with_disk(image.path):
            why = f"it is a disk of {', '.join(owners)}"
            raise Busy(what, why, "kvm-adopt makes a volume of it; or detach it first: virsh detach-disk")
        if users := view.inventory.with_medium(image.path):
            why = f"it is in the CD drive of {', '.join(users)}"
            raise Busy(what, why, "eject it first: virsh change-media NAME sda --eject")
        return Plan(
            operation=self.operation,
            description=f"remove the image {self.name} from {self.storage}",
            commit=Remove(isos.mountpoint, self.name),
            guards=(Guard("image", image.path, str(image.size)), Guard("in-no-drive", image.path)),
            locks=frozenset({f"image:{self.storage}/{self.name}"}),
            frees=True,
        )
