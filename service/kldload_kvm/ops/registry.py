"""Every operation by its name, as the XML's Operation annotations give it."""

from __future__ import annotations

from .attach_disk import AttachDisk
from .clone import Clone
from .create import Create
from .delete import Delete
from .delete_snapshot import DeleteVmSnapshot
from .detach_disk import DetachDisk
from .export import Export
from .identity import RenewVmIdentity
from .images import AddImage, RemoveImage
from .nics import AttachNic, DetachNic
from .power import Autostart, Pause, PowerOff, Reboot, Resume, Shutdown, Start
from .rename import Rename
from .request import Request
from .resize import Resize
from .resources import SetMemory, SetVcpus
from .rollback import Rollback
from .snapshot import TakeVmSnapshot
from .storage_options import SetStorageOptions

REQUESTS: dict[str, type[Request]] = {
    each.operation: each
    for each in (
        AddImage, Autostart, Clone, Create, Delete, DeleteVmSnapshot, Pause, PowerOff, Reboot, RemoveImage,
        RenewVmIdentity, Resume, Rollback, Shutdown, Start, TakeVmSnapshot,
        AttachDisk, AttachNic, DetachDisk, DetachNic, Export, Rename, Resize, SetMemory, SetStorageOptions, SetVcpus,
    )
}  # fmt: skip
