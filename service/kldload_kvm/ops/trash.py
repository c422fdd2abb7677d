"""What the trash remembers of what it holds."""

from __future__ import annotations

from ..engine.plan import Step
from ..model import properties
from ..model.domain_xml import pack
from ..model.errors import InvalidArgument
from ..model.inventory import SPARE, TRASH, Vm
from ..model.names import unused
from ..steps.volumes import KeepSpare
from .request import View

LONGEST_NAME = 255
"""What ZFS takes (zfs(8), Naming Conventions), for a volume or a snapshot, with its whole path."""
OUR_SNAPSHOTS = len("clone-20260401_120000-999")


def new_entry(view: View, vm: Vm) -> tuple[str, str]:
    """The id of a new trash entry, and its dataset, on the storage of the VM."""
    trash = f"{vm.first.name.rpartition('/')[0]}/{TRASH}"
    taken = {each.name.rpartition("/")[2] for each in view.inventory.children(trash)}
    entry = unused(f"{vm.name}-{view.now:%Y%m%dT%H%M%SZ}", taken)
    return entry, f"{trash}/{entry}"


def spare_steps(view: View, parent: str) -> list[Step]:
    """The step that makes the storage's spare trash entry, if it has none."""
    trash = f"{parent}/{TRASH}"
    return [] if f"{trash}/{SPARE}" in view.inventory.datasets else [KeepSpare(trash)]


def check_fits(what: str, parent: str, vm: str, snapshot: str = "") -> None:
    """Raises InvalidArgument for names so long that the VM could not be moved to the trash. what: was not done."""
    longest = len(f"{parent}/{TRASH}/{vm}-20260401T153022Z-9/{vm}.nvram@") + max(len(snapshot), OUR_SNAPSHOTS)
    if longest > LONGEST_NAME:
        why = f"with all its path a name would have {longest} characters in the trash, and ZFS takes {LONGEST_NAME}"
        less = longest - LONGEST_NAME if snapshot else -((LONGEST_NAME - longest) // 2)  # the VM's stands there twice
        raise InvalidArgument(what, why, f"choose a name that is {less} characters shorter")


def entry_properties(vm: Vm, reason: str, uid: int) -> dict[str, str]:
    """The properties of a trash entry. reason: deleted or rolled-back."""
    values = {
        properties.VM: vm.id,
        properties.NAME: vm.name,
        properties.UUID: vm.domain.uuid if vm.domain else "",
        properties.REASON: reason,
        properties.UID: str(uid),
        properties.DOMAIN: pack(vm.domain.xml) if vm.domain else "",
    }
    return {key: value for key, value in values.items() if value}
