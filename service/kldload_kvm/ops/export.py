"""Export: one disk, as of a snapshot, into a file that the client has open.

Raw bytes and qcow2 images are read from a clone of the snapshot, for a snapshot has no device of its own. Clone and
snapshot carry the job's tag, and nothing of them is left, whatever happens. The VM goes on meanwhile and is not locked,
for an export may take hours.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Guard, Plan, Step
from ..images.exporting import FORMATS, Format
from ..model import names
from ..model.errors import InvalidArgument, NotFound
from ..model.inventory import Dataset, Vm
from ..steps.exporting import DropTemporary, ExportDisk, ExportStream
from ..steps.snapshots import TakeSnapshot
from ..steps.volumes import CloneVolume
from .disks import disk_of
from .request import View, VmRequest, taken_names
from .trash import check_fits

CLONE = {"volmode": "dev", "readonly": "on", "syncoid:sync": "false"}


@dataclass(frozen=True)
class Export(VmRequest):
    """fd: our own descriptor of the client's file; snapshot: a name, or empty to take one now; target: the disk, as
    the guest has it."""

    operation = "vm.export"
    fd: int = -1
    format: Format = "qcow2"
    snapshot: str = ""
    target: str = "vda"

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        wanted = options.get("format", "qcow2")
        format_ = next((each for each in FORMATS if each == wanted), None)
        if format_ is None:
            why = f"{names.shown(wanted)} is no format of an export"
            raise InvalidArgument("nothing was exported", why, f"known are {', '.join(FORMATS)}")
        snapshot = names.snapshot_name(options["snapshot"]) if "snapshot" in options else ""
        return cls(target, args[0], format_, snapshot, options.get("target", "vda"))

    def release(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.fd)

    def subject(self, view: View) -> dict[str, str]:
        return {**super().subject(view), "target": f"{self.target}@{self.snapshot}" if self.snapshot else self.target}

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        disk = disk_of(vm, self.target)
        parent = disk.name.rpartition("/")[0]
        prepare: list[Step] = []
        guards: tuple[Guard, ...] = (Guard("guid", disk.name, disk.guid),)
        result: dict[str, Any] = {"target": self.target, "format": self.format, "size": disk.size}
        if self.snapshot:
            name, consistency = self._existing(view, vm, disk)
            guards += (Guard("guid", f"{disk.name}@{name}", view.inventory.snapshots[disk.name][name].guid),)
            result["consistency"] = consistency
        else:
            view.check_room(parent, f"{vm.name} was not exported")
            name = names.unused(names.timestamp(view.now, "clone"), taken_names(view, vm))
            check_fits(f"{vm.name} was not exported", parent, vm.name, name)
            prepare.append(TakeSnapshot((disk.name,), name, "clone", vm.domain.uuid if vm.domain else ""))
        snapshot = f"{disk.name}@{name}"
        clone = ""
        if self.format != "zfs":
            clone = f"{parent}/.export-{view.uuid()[:8]}"
            prepare.append(CloneVolume(snapshot, clone, CLONE))
            guards += (Guard("absent", clone),)
            prepare.append(ExportDisk(self.fd, clone, self.format, snapshot))
        else:
            prepare.append(ExportStream(self.fd, snapshot))
        made = [index for index, step in enumerate(prepare) if isinstance(step, CloneVolume)]
        drop = DropTemporary(clone, snapshot, made[0] if made else -1, -1 if self.snapshot else 0)
        temporary = bool(made) or not self.snapshot
        return Plan(
            operation=self.operation,
            description=f"export {self.target} of {vm.name}@{name} as {self.format}",
            prepare=tuple(prepare),
            finish=(drop,) if temporary else (),
            locks=frozenset({f"export:{clone or snapshot}"}) if temporary else frozenset(),
            guards=guards,
            objects=(vm.id,),
            result={**result, "snapshot": name},
        )

    def _existing(self, view: View, vm: Vm, disk: Dataset) -> tuple[str, str]:
        """The snapshot that was asked for, and how consistent it is. Raises NotFound."""
        point = view.snapshot(vm, self.snapshot)
        if disk.name not in point.parts:
            raise NotFound(f"{self.target} of {vm.name} has no snapshot @{self.snapshot}", "the disk came after it", "")
        return point.name, point.consistency
