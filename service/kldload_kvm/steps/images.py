"""Steps on images: into the store and out of it, and from it into a new volume."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.plan import Run, Step, step_kind
from ..images import adding, conversion, store
from ..model.errors import Busy, NotFound
from ..model.image_name import Format
from ..zfs.devices import programs_with_file
from .host import Host

STORES = "images:"
"""What a step touches that changes a store."""


@step_kind
@dataclass(frozen=True)
class AddImage(Step):
    """Copy a file into a store. fd: our own descriptor of the client's file, which the request closes when the job has
    ended; floor: bytes that must stay free."""

    kind = "image.add"
    reversible = False
    fd: int
    directory: str
    name: str
    format: Format | None
    sha256: str
    floor: int

    def describe(self) -> str:
        return f"copy the file into {self.directory} as {self.name}"

    def touches(self) -> tuple[str, ...]:
        return (STORES,)

    async def do(self, host: Host, run: Run) -> dict[str, Any]:
        async def inspect(path: Path, format_: Format) -> None:
            if format_ != "iso":
                await conversion.inspect(host.units, path, self.name, format_)

        added = await adding.add_from_fd(
            self.fd, Path(self.directory), self.name, self.format, self.sha256, run.report, inspect, self.floor
        )
        return {
            "name": added.name,
            "format": added.format,
            "size": added.size,
            "virtual-size": added.virtual_size,
            "sha256": added.sha256,
        }

    async def done(self, host: Host, run: Run) -> bool:
        return (Path(self.directory) / self.name).exists()


@step_kind
@dataclass(frozen=True)
class RemoveImage(Step):
    """Remove a file from a store."""

    kind = "image.remove"
    reversible = False
    directory: str
    name: str

    def describe(self) -> str:
        return f"remove {self.name} from {self.directory}"

    def destroys(self) -> tuple[str, ...]:
        return (f"{self.directory}/{self.name}",)

    def touches(self) -> tuple[str, ...]:
        return (STORES,)

    async def do(self, host: Host, run: Run) -> None:
        with contextlib.suppress(NotFound):
            await asyncio.to_thread(self._remove)

    def _remove(self) -> None:
        """Blocks. A medium that was inserted only for as long as a guest runs, and what an overlay lies on, stand in no
        definition that we read: QEMU has them open."""
        with contextlib.suppress(FileNotFoundError):
            if users := programs_with_file((Path(self.directory) / self.name).stat()):
                why = f"it is open in {', '.join(users)}"
                raise Busy(f"{self.name} was not removed", why, "end that first, or eject it: virsh change-media")
        store.remove(Path(self.directory), self.name)

    async def done(self, host: Host, run: Run) -> bool:
        return not (Path(self.directory) / self.name).exists()


@step_kind
@dataclass(frozen=True)
class ConvertImage(Step):
    """Write an image of a store into a volume that a step before created; undo leaves it to that step."""

    kind = "image.convert"
    early = True
    path: str
    format: Format
    virtual_size: int
    dataset: str

    def describe(self) -> str:
        return f"write the image {Path(self.path).name} to {self.dataset}"

    async def do(self, host: Host, run: Run) -> None:
        source = Path(self.path)
        # Looked at again: the store's listing is only as good as the file was when it was read.
        disk = await conversion.inspect(host.units, source, source.name, self.format)
        tag = run.tag.replace("/", "x")
        kernel = await host.devices.kernel_name(self.dataset)
        await conversion.convert(host.units, source, source.name, disk, self.dataset, kernel, tag, run.report)

    async def done(self, host: Host, run: Run) -> bool:
        return False  # the volume is new: writing it again does no harm

    async def undo(self, host: Host, run: Run) -> None:
        return None
