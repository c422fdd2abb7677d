"""What the operations on a VM's disks have in common: which one is meant, and what it may become."""

from __future__ import annotations

from ..model import names, properties
from ..model.domain_devices import TARGETS, disk_xml, targets
from ..model.errors import InvalidArgument, LimitsExceeded, NotFound
from ..model.inventory import Dataset, Domain, Vm, device
from ..model.sizes import MIB, format_size
from ..model.volume_settings import LARGEST_DISK
from ..steps.devices import AttachDevice
from .request import View


def disk_of(vm: Vm, target: str) -> Dataset:
    """The volume of a disk. Raises NotFound, naming those that there are."""
    if found := vm.disk(target):
        return found
    have = ", ".join(f"{target_of(vm, each)} ({format_size(each.size)})" for each in vm.disks)
    raise NotFound(f"{vm.name} has no disk {names.shown(target)}", f"its disks: {have or 'none'}", "")


def target_of(vm: Vm, disk: Dataset) -> str:
    """What the guest has a disk as, such as vda; of an adopted one that is used by nobody its name."""
    paths = vm.domain.disks if vm.domain else {}
    return next((each for each in paths if vm.disk(each) == disk), disk.name.rpartition("/")[2])


def check_size(size: int, what: str) -> int:
    """A disk's size in bytes. what: was not done. Raises InvalidArgument."""
    if not MIB <= size <= LARGEST_DISK:
        bounds = f"from {format_size(MIB)} to {format_size(LARGEST_DISK)}"
        raise InvalidArgument(what, f"its size is {format_size(size)}, and must be {bounds}", "give another size")
    return size


def check_multiple(size: int, block: int, what: str) -> None:
    """Raises InvalidArgument for a size that is no whole number of blocks. what: was not done."""
    if size % block:
        why = f"its size, {size} bytes, is no multiple of its block size, {block}"
        raise InvalidArgument(what, why, f"use {size + block - size % block}B")


def promises(view: View, parent: str, size: int) -> tuple[str, ...]:
    """The warning for a disk that is larger than the whole pool."""
    store = view.inventory.datasets[parent]
    capacity = store.used + store.available
    if size <= capacity:
        return ()
    held = f"the pool holds {format_size(capacity)} in all"
    return (f"the disk is thin: it promises {format_size(size)}, and {held}",)


def free_targets(view: View, vm: Vm, domain: Domain, what: str) -> list[str]:
    """What a further disk can be, as vdb: neither the domain nor a volume has it. what: was not done. Raises
    LimitsExceeded if there is none."""
    parent = vm.first.name.rpartition("/")[0]
    taken = targets(domain.xml) | {v.properties.get(properties.TARGET, "") for v in vm.disks}
    taken |= {each for each in TARGETS if f"{parent}/{vm.name}.{each}" in view.inventory.datasets}
    free = [each for each in TARGETS[1:] if each not in taken]
    if not free:
        raise LimitsExceeded(what, f"it has {len(vm.disks)} disks, up to vdz", "grow one: kvm-vm resize")
    return free


def attach_steps(vm: Vm, domain: Domain, dataset: str, target: str) -> list[AttachDevice]:
    """A volume as a further disk of a VM, wherever that is to be changed; at least one step."""
    xml = disk_xml(device(dataset), target, f"{vm.name[:16]}-{target}")
    return [AttachDevice(domain.uuid, vm.name, "disk", target, xml, each) for each in places(domain)]


def places(domain: Domain) -> tuple[str, ...]:
    """Where a device is to be changed, config and live: the definition first, for its change can always be undone."""
    config: tuple[str, ...] = ("config",) if domain.persistent else ()
    return (*config, "live") if domain.active else config
