"""Every operation by its name, as the XML's Operation annotations give it."""

from __future__ import annotations

from .adopt import Adopt
from .attach_disk import AttachDisk
from .bridge import Bridge
from .clone import Clone
from .create import Create
from .delete import Delete
from .delete_snapshot import DeleteVmSnapshot
from .detach_disk import DetachDisk
from .export import Export
from .host_fix import Fix, Setup
from .identity import RenewVmIdentity
from .images import AddImage, RemoveImage
from .nics import AttachNic, DetachNic
from .power import Autostart, Pause, PowerOff, Reboot, Resume, Shutdown, Start
from .prune_snapshots import PruneSnapshots
from .purge import PurgeTrash
from .rename import Rename
from .request import Request
from .resize import Resize
from .resources import SetMemory, SetVcpus
from .restore import RestoreTrash
from .rollback import Rollback
from .snapshot import TakeVmSnapshot
from .snapshot_all import SnapshotAll
from .storage_options import SetStorageOptions
from .template import SetTemplate

REQUESTS: dict[str, type[Request]] = {
    each.operation: each
    for each in (
        AddImage, Adopt, AttachDisk, AttachNic, Autostart, Bridge, Clone, Create, Delete, DeleteVmSnapshot, DetachDisk,
        DetachNic, Export, Fix, Pause, PowerOff, PruneSnapshots, PurgeTrash, Reboot, RemoveImage, Rename,
        RenewVmIdentity, Resize, RestoreTrash, Resume, Rollback, SetMemory, SetStorageOptions, SetTemplate, SetVcpus,
        Setup, Shutdown, SnapshotAll, Start, TakeVmSnapshot,
    )
}  # fmt: skip
