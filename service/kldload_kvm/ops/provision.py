"""Provision: the volumes that a domain's own <metadata> asks for, made when it was defined by others, or at the latest
before it starts.

Only ZFS is asked, never libvirt, which may be waiting for this. The service starts it itself; it is no method on the
bus. Only what was never seen before is made: what was there once and is missing is somebody's data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Guard, Plan, Step
from ..model import intent, names, properties
from ..model.domain_xml import facts
from ..model.errors import AlreadyExists, InvalidArgument, NotFound, WrongState
from ..model.inventory import SnapshotSet, Vm, device
from ..model.sizes import format_size
from ..steps.images import ConvertImage
from ..steps.volumes import CloneVolume, CreateVolume, NoteWritten
from .blocks import block_size
from .disks import check_size
from .images import image_of
from .request import Request, View, default_restore_point, set_guards
from .trash import check_fits


@dataclass(frozen=True)
class Provision(Request):
    """uuid, name, xml: of the domain; seen: targets of its disks that were there once; transient: whether it is gone
    when it is off, as only then its volumes can be made to go with it."""

    operation = "vm.provision"
    uuid: str
    name: str
    xml: str
    seen: frozenset[str] = frozenset()
    transient: bool = False

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        return cls(target, *args)

    def subject(self, view: View) -> dict[str, str]:
        return {"vm": self.name, "uuid": self.uuid}

    @property
    def what(self) -> str:
        return f"no volume was made for {self.name}"

    def missing(self, view: View) -> dict[str, tuple[str, intent.Wanted]]:
        """What it asks for and has not got: the volume's name and what it is to be, by target. A disk that it has not,
        or has elsewhere than right below a storage, is none of ours. Raises InvalidArgument for what cannot be
        followed."""
        paths = facts(self.xml).disks
        found = {}
        for target, each in intent.wanted(self.xml).items():
            dataset = view.inventory.volume_at(paths.get(target, ""))
            if each.can_be_made and dataset and dataset not in view.inventory.datasets:
                found[target] = (dataset, each)
        return found

    def plan(self, view: View) -> Plan:
        missing = self.missing(view)
        if lost := sorted(missing.keys() & self.seen):
            why = f"its {', '.join(lost)} was there once: {', '.join(missing[each][0] for each in lost)}"
            raise WrongState(self.what, why, "is its pool imported? kvm-trash list shows what was deleted")
        if not missing:
            raise WrongState(self.what, "all that it asks for is there", "")
        vm = self._vm(view)
        vm_id = vm.id if vm else view.uuid()
        name, parent = self._place(view, vm, missing)
        view.check_room(parent, self.what)
        create: list[Step] = []
        fill: list[Step] = []
        guards: list[Guard] = []
        locks = {f"VM:{name}", f"VM:{vm.name if vm else name}"}
        for target, (dataset, each) in sorted(missing.items()):
            (first, *rest), more, held = self._volume(view, vm_id, target, dataset, each)
            create.append(first)
            fill += rest
            guards += more
            locks |= held
        # Its domain is there already, and can be given each volume as soon as that is: what a guest has written by the
        # time that this is undone is kept.
        made = tuple(dataset for dataset, _ in missing.values())
        filled = {step.dataset for step in fill if isinstance(step, ConvertImage)}
        noted = [NoteWritten(tuple(each for each in made if each not in filled)), *fill, NoteWritten(made)]
        return Plan(
            operation=self.operation,
            description=f"make the volumes that {self.name} asks for",
            prepare=(*create, *(noted if fill else noted[-1:])),
            locks=frozenset(locks),
            guards=(*guards, *(Guard("absent", dataset) for dataset in made)),
            objects=(vm_id,),
            result={"vm": vm_id, "name": self.name, "volumes": made},
        )

    def _vm(self, view: View) -> Vm | None:
        """The VM that the domain's other volumes are of, if that is its own. Raises WrongState if it is another's."""
        paths = facts(self.xml).disks.values()
        found = (view.inventory.vm_with(path.removeprefix(device(""))) for path in paths)
        vms = list({vm.id: vm for vm in found if vm}.values())
        for vm in vms:
            owner = vm.domain.uuid if vm.domain else vm.first.properties.get(properties.UUID, "")
            if owner != self.uuid:
                raise WrongState(self.what, f"it also has a volume of the VM {vm.name}, which is another domain's", "")
        if len(vms) > 1:
            raise InvalidArgument(self.what, f"it has volumes of {', '.join(vm.name for vm in vms)}", "")
        return vms[0] if vms else None

    def _place(self, view: View, vm: Vm | None, missing: Mapping[str, tuple[str, intent.Wanted]]) -> tuple[str, str]:
        """The VM's name, and the storage's parent that all its volumes are below. Raises KvmError."""
        first, (dataset, _) = min(missing.items())
        parent = vm.first.name.rpartition("/")[0] if vm else dataset.rpartition("/")[0]
        # Without its first disk a VM is called after the next one, which is no name for a first disk.
        leads = vm is None or not vm.disks or first < vm.disks[0].properties.get(properties.TARGET, "")
        name = vm.name if vm and not leads else names.vm_name(dataset.rpartition("/")[2])
        if vm is None and (other := view.inventory.find(name)):
            raise AlreadyExists(self.what, f"{other.first.name} is the VM {other.name} already", "name it otherwise")
        for target, (each, _) in missing.items():
            place = f"{parent}/{name}" if leads and target == first else f"{parent}/{name}.{target}"
            if each != place:
                why = f"the source of its {target} is {device(each)}, and that of the VM {name} is {device(place)}"
                raise InvalidArgument(self.what, why, "all volumes of a VM are on one storage, and named after it")
        if parent not in view.inventory.datasets:
            view.need_zfs(self.what)
            raise NotFound(self.what, f"there is no dataset {parent}", "is its pool imported?")
        check_fits(self.what, parent, name)
        return name, parent

    def _volume(
        self, view: View, vm_id: str, target: str, dataset: str, wanted: intent.Wanted
    ) -> tuple[list[Step], list[Guard], set[str]]:
        """The steps of one volume, what they depend on, and which VMs must not change meanwhile."""
        parent = dataset.rpartition("/")[0]
        end = wanted.end if self.transient else ""
        ours = {
            **view.volmode(parent), properties.VM: vm_id, properties.UUID: self.uuid, properties.ROLE: "disk",
            properties.TARGET: target, **({properties.EPHEMERAL: end} if end else {}),
        }  # fmt: skip
        if wanted.origin:
            vm, point = self._origin(view, wanted.origin)
            disk = vm.disk(target) or vm.first
            if disk.name not in point.parts:
                raise NotFound(self.what, f"@{point.name} of {vm.name} has no {disk.name}", "name another snapshot")
            if disk.name.rpartition("/")[0] != parent:
                why = f"{disk.name} and {dataset} are on two storages, and a clone is where its origin is"
                raise InvalidArgument(self.what, why, "put it on the same one")
            native = {"compression": disk.compression} if disk.compression else {}
            clone = CloneVolume(f"{disk.name}@{point.name}", dataset, {**native, **ours})
            return [clone], list(set_guards(point.parts)), {f"VM:{vm.name}"}
        block = block_size(view, parent, 0).size
        image = image_of(view, parent, wanted.image, self.what) if wanted.image else None
        size = wanted.size or (image.virtual_size if image else 0)
        if image and size < image.virtual_size:
            needs = f"{image.name} needs {format_size(image.virtual_size)}"
            raise InvalidArgument(self.what, f"{format_size(size)} is too small: {needs}", "leave the size out")
        size = check_size(size + -size % block, self.what)
        values = {**ours, "volblocksize": str(block), "compression": view.config.compression}
        steps: list[Step] = [CreateVolume(dataset, size, values, claimed=True)]
        if image:
            steps.append(ConvertImage(image.path, image.format, image.virtual_size, dataset))
        return steps, [], set()

    def _origin(self, view: View, text: str) -> tuple[Vm, SnapshotSet]:
        """VM@SNAPSHOT, or a VM's newest restore point: none is taken for this. Raises NotFound."""
        name, _, snapshot = text.partition("@")
        vm = view.inventory.find(names.vm_name(name))
        if vm is None:
            raise NotFound(self.what, f"it asks for a clone of {names.shown(name)}, and there is no such VM", "")
        if snapshot:
            return vm, view.snapshot(vm, names.snapshot_name(snapshot))
        return vm, default_restore_point(view, vm)
