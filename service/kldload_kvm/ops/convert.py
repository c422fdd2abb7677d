"""The plan by which a domain of others that is off becomes a VM on volumes: each of its disks is copied into a new one,
and then its definition is pointed at these. What they are copied from stays, untouched.

It may have some of its disks on volumes of ours already: these are only noted to be its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..engine.plan import Guard, Plan, Step
from ..images.disk_files import Look
from ..model import foreign, names, properties
from ..model.domain_xml import digest
from ..model.errors import AlreadyExists, BadImage, Busy, InvalidArgument, NoSpace, WrongState
from ..model.inventory import Dataset, Domain, Inventory, device
from ..model.sizes import KIB, format_size
from ..model.source_disks import NVRAM, Kept, SourceDisk, elements, on_volumes, order, source_disks
from ..model.space import floor
from ..model.volume_settings import LARGEST_DISK
from ..steps.adopting import NoteOwner
from ..steps.converting import CopyDisk, PointAtVolumes
from ..steps.volumes import CreateVolume, NoteWritten
from .blocks import block_size
from .disks import promises
from .request import View
from .trash import check_fits, spare_steps

SMALLEST_BLOCK, LARGEST_SMALL_BLOCK = 512, 16 * KIB


@dataclass(frozen=True)
class Looked:
    """What a look at the host has told of a domain. disks: by path."""

    kept: Kept
    disks: Mapping[str, Look]


def to_copy(inventory: Inventory, domain: Domain) -> list[SourceDisk]:
    """The disks that are on no volume of ours. Raises CannotBeCopied."""
    return [disk for disk in source_disks(domain.xml) if not inventory.volume_at(disk.path)]


def plan(view: View, operation: str, domain: Domain, disks: list[SourceDisk], looked: Looked, storage: str) -> Plan:
    """The plan. disks: those to be copied. Raises KvmError for every refusal."""
    what = f"{domain.name} was not adopted"
    check_kept(domain, looked.kept, what)
    unborn = [disk.path for disk in disks if disk.path not in looked.disks]
    disks = [disk for disk in disks if disk.path in looked.disks]
    warnings = [
        f"its UEFI variables will be the file {path}, which is not there yet, and in no snapshot" for path in unborn
    ]
    warnings += others(view.inventory, domain, disks, what)
    there = noted(view, domain)
    parent = _parent(view, storage, there, what)
    name = _name(view, domain, there, disks, what)
    check_fits(what, parent, name)
    first = min([*there, *(disk.target for disk in disks)], key=order)
    places = {disk.target: f"{parent}/{name}{'' if disk.target == first else f'.{disk.target}'}" for disk in disks}
    view.check_name_free(name, domain.uuid, frozenset(each.name for each in there.values()))
    if taken := sorted(place for place in places.values() if place in view.inventory.datasets):
        raise AlreadyExists(what, f"there is a dataset {', '.join(taken)}", "rename it, or the domain: virsh domrename")
    vm_id = view.uuid()
    create: list[Step] = []
    copy: list[Step] = []
    for disk in disks:
        look, place = looked.disks[disk.path], places[disk.target]
        volume, said = _volume(view, parent, disk, look, place, owner(vm_id, domain, disk.target), what)
        create.append(volume)
        warnings += said
        copy.append(CopyDisk(
            domain.name, disk.target, disk.kind, disk.path, disk.format, look.size, look.identity, place
        ))  # fmt: skip
    _check_room(view, parent, [looked.disks[disk.path] for disk in disks], what)
    notes = [NoteOwner(each.name, owner(vm_id, domain, target)) for target, each in there.items()]
    devices = {target: device(place) for target, place in places.items()}
    point = PointAtVolumes(
        domain.uuid, domain.name, elements(domain.xml, devices), on_volumes(domain.xml, devices),
        tuple(devices.values()), digest(domain.xml),
        {disk.path: f"{disk.kind} {looked.disks[disk.path].identity}" for disk in disks},
    )  # fmt: skip
    left = tuple(disk.path for disk in disks)
    made = tuple(places.values())
    return Plan(
        operation=operation,
        description=f"copy the disks of {domain.name} into volumes, and adopt it",
        prepare=(*create, *notes, *copy, NoteWritten(made), point),
        finish=tuple(spare_steps(view, parent)),
        locks=frozenset({f"VM:{name}", f"VM:{domain.name}"}),
        guards=(
            Guard("guid", parent, view.inventory.datasets[parent].guid),
            *(Guard("absent", place) for place in made),
            *(Guard("guid", each.name, each.guid) for each in there.values()),
            Guard("state", domain.uuid, domain.state),
            Guard("definition", domain.uuid, digest(domain.xml)),
            *(Guard(disk.kind, disk.path, looked.disks[disk.path].identity) for disk in disks),
        ),
        objects=(vm_id,),
        warnings=(*warnings, *(f"left: {path}" for path in left)),
        result={
            "vm": vm_id, "name": name, "volumes": (*(each.name for each in there.values()), *made), "left": left,
        },
    )  # fmt: skip


def owner(vm_id: str, domain: Domain, target: str) -> dict[str, str]:
    """What is noted on a volume that it is one of this VM's. target: "nvram" for that of its UEFI variables."""
    variables = target == NVRAM
    ours = {
        properties.VM: vm_id, properties.UUID: domain.uuid, properties.ROLE: "nvram" if variables else "disk",
        properties.TARGET: "" if variables else target,
    }  # fmt: skip
    return {key: value for key, value in ours.items() if value}


def noted(view: View, domain: Domain) -> dict[str, Dataset]:
    """The domain's volumes right below a storage, by their targets."""
    have = {device(each.name): each for each in foreign.volumes_of(view.inventory, domain)}
    found = {target: have[path] for target, path in domain.disks.items() if path in have}
    return dict(sorted(found.items(), key=lambda each: order(each[0])))


def check_off(domain: Domain, what: str) -> None:
    """Raises WrongState for a domain that runs. what: was not done."""
    if domain.active:
        why = f"it is {domain.state}, and its disks are to be copied"
        raise WrongState(what, why, f"shut it down first: virsh shutdown {domain.name}")


def check_kept(domain: Domain, kept: Kept, what: str) -> None:
    """Raises WrongState for what would be lost, or would bring the old disks back. what: was not done."""
    kept.check_unsaved(domain.name, what)
    for kind, found in (("snapshot", kept.snapshots), ("checkpoint", kept.checkpoints)):
        if found:
            why = f"libvirt has {kind}s of it, which cannot be carried over: {', '.join(found)}"
            hint = f"have libvirt forget them, which leaves them in the file: virsh {kind}-delete {domain.name} NAME"
            raise WrongState(what, why, f"{hint} --metadata")


def others(inventory: Inventory, domain: Domain, disks: list[SourceDisk], what: str) -> list[str]:
    """A warning for each other domain that has one of the disks. Raises Busy if it runs. what: was not done."""
    paths = {disk.path for disk in disks}
    found = []
    for other in sorted(inventory.domains.values(), key=lambda each: each.name):
        if other.uuid != domain.uuid and (both := sorted(paths & {*other.disks.values()})):
            if other.active:
                why = f"the domain {other.name}, which is {other.state}, has {', '.join(both)}, too"
                raise Busy(what, why, f"shut it down first: virsh shutdown {other.name}")
            found.append(f"the domain {other.name} has {', '.join(both)}, too, and keeps that")
    return found


def _parent(view: View, storage: str, there: Mapping[str, Dataset], what: str) -> str:
    """The parent of the storage: the one asked for, or where its other volumes are, or the default one's."""
    have = sorted({each.name.rpartition("/")[0] for each in there.values()})
    if len(have) > 1:
        why = f"its volumes are on several storages: {', '.join(each.name for each in there.values())}"
        raise InvalidArgument(what, why, "a VM is on one: zfs send and receive them to where the others are")
    parent = view.parent(storage, what) if storage or not have else have[0]
    if have and parent != have[0]:
        raise InvalidArgument(what, f"its other volumes are below {have[0]}", "leave the storage out")
    view.store(parent, what)
    view.check_room(parent, what)
    return parent


def _name(
    view: View, domain: Domain, there: Mapping[str, Dataset], disks: list[SourceDisk], what: str
) -> str:  # fmt: skip
    """The VM's name: that of its first disk's volume, if that is there already, or the domain's."""
    first = min([*there, *(disk.target for disk in disks)], key=order)
    if first in there:
        return names.vm_name(there[first].name.rpartition("/")[2])
    try:
        return names.vm_name(domain.name)
    except InvalidArgument as error:
        hint = f"{error.hint}; virsh domrename gives it another name"
        raise InvalidArgument(what, f"{error.what}: {error.why}", hint) from None


def _volume(
    view: View, parent: str, disk: SourceDisk, look: Look, place: str, ours: Mapping[str, str], what: str
) -> tuple[CreateVolume, list[str]]:
    """The step that makes a disk's volume, and warnings."""
    said = []
    if look.snapshots:
        said.append(f"{disk.path} has {look.snapshots} snapshots inside, which stay there and are not copied")
    if disk.target == NVRAM:  # the firmware counts on its size
        block, compression = LARGEST_SMALL_BLOCK, "lz4"
        while look.size % block:
            block //= 2
        if block < SMALLEST_BLOCK:
            raise BadImage(what, f"{disk.path} has {look.size} bytes, no whole number of sectors", "")
        size = look.size
    else:
        chosen = block_size(view, parent, 0)
        block, compression = chosen.size, view.config.compression
        size = look.size + -look.size % block
        said += [*promises(view, parent, size), *chosen.warnings]
    if size > LARGEST_DISK:
        raise BadImage(what, f"{disk.path} would have {format_size(size)}, and {format_size(LARGEST_DISK)} is the most")
    values = {**view.volmode(parent), **ours, "volblocksize": str(block), "compression": compression}
    return CreateVolume(place, size, values), said


def _check_room(view: View, parent: str, looks: list[Look], what: str) -> None:
    """Raises NoSpace if what is in the files, as they are, would leave less than the floor."""
    store = view.inventory.datasets[parent]
    need, least = sum(look.occupied for look in looks), floor(store, view.config.floor)
    if store.available - need < least:
        why = f"{format_size(need)} are to be copied, and {parent} has {format_size(store.available)} left"
        hint = f"{format_size(least)} are kept free; make room, or name another storage"
        raise NoSpace(what, why, hint)
