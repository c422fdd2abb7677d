"""Every operation by its name, as the XML's Operation annotations give it."""

from __future__ import annotations

from .clone import Clone
from .create import Create
from .delete import Delete
from .delete_snapshot import DeleteVmSnapshot
from .identity import RenewVmIdentity
from .images import AddImage, RemoveImage
from .power import Autostart, Pause, PowerOff, Reboot, Resume, Shutdown, Start
from .purge import PurgeTrash
from .request import Request
from .restore import RestoreTrash
from .rollback import Rollback
from .snapshot import TakeVmSnapshot
from .template import SetTemplate

REQUESTS: dict[str, type[Request]] = {
    each.operation: each
    for each in (
        AddImage, Autostart, Clone, Create, Delete, DeleteVmSnapshot, Pause, PowerOff, PurgeTrash, Reboot,
        RemoveImage, RenewVmIdentity, RestoreTrash, Resume, Rollback, SetTemplate, Shutdown, Start, TakeVmSnapshot,
    )
}  # fmt: skip
