"""The host as data: datasets, snapshots and domains, and the VMs they make up.

Filled by watch/ and by the engine's settling, read by bus/ and ops/. Records are frozen; the inventory keeps the few
indexes that make each answer cheap, and remembers which VMs a change concerns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from . import properties

TRASH = ".trash"
SPARE = ".spare"
"""An empty trash entry, made while there is room: in a pool that is full, none can be made."""

ORDER = {"disk": 0, "nvram": 1}
"""Of a VM's volumes, by role; all others come after these."""

DEPARTED = 200
"""How many domains that went are remembered: an event may tell of one that a look has missed already."""

NO_SPACE, IO_ERROR = "no-space", "io-error"
"""Why QEMU itself paused a guest."""


OFF = ("shutoff", "crashed")
"""The states of a domain that is not active."""


@dataclass(frozen=True)
class Bookmark:
    """What is left of a snapshot that an incremental send can begin from; `name` is the part after the '#'."""

    name: str
    guid: str
    createtxg: int


@dataclass(frozen=True)
class Dataset:
    """A filesystem or volume; sizes in bytes. properties: those of ours that are set on it; bookmarks: as of when it
    was last read with its snapshots."""

    name: str
    guid: str
    createtxg: int
    kind: str
    size: int = 0
    used: int = 0
    available: int = 0
    volblocksize: int = 0
    origin: str = ""
    mountpoint: str = ""
    compression: str = ""
    volmode: str = ""
    properties: dict[str, str] = field(default_factory=dict)
    bookmarks: tuple[Bookmark, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """A snapshot of one volume; `name` is the part after the '@', creation in seconds since 1970; excludes: what of the
    VM is not in it; holds: how many there are on it (zfs-hold(8))."""

    dataset: str
    name: str
    guid: str
    createtxg: int
    creation: int
    kind: str = "foreign"
    consistency: str = ""
    used: int = 0
    excludes: str = ""
    holds: int = 0


@dataclass(frozen=True)
class Domain:
    """A libvirt domain. state as in the Vm interface; disks: target -> source device or file; networks: libvirt's;
    fault: why QEMU itself paused it, NO_SPACE or IO_ERROR, or empty."""

    uuid: str
    name: str
    state: str
    xml: str
    autostart: bool = False
    persistent: bool = True
    memory: int = 0
    vcpus: int = 0
    os: str = ""
    disks: dict[str, str] = field(default_factory=dict)
    cdroms: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    fault: str = ""

    @property
    def active(self) -> bool:
        return self.state not in OFF


@dataclass(frozen=True)
class Vm:
    """A VM as it is now. volumes: first disk first; domain is None for an orphan."""

    id: str
    name: str
    storage: str
    volumes: tuple[Dataset, ...]
    domain: Domain | None

    @property
    def disks(self) -> tuple[Dataset, ...]:
        return tuple(each for each in self.volumes if role(each) == "disk")

    @property
    def first(self) -> Dataset:
        return self.volumes[0]

    @property
    def state(self) -> str:
        return self.domain.state if self.domain else "orphan"

    @property
    def template(self) -> bool:
        """Whether it is marked as a template, which does not start."""
        return self.first.properties.get(properties.TEMPLATE) == "yes"

    @property
    def has_seed(self) -> bool:
        return any(role(each) == "seed" for each in self.volumes)

    def disk(self, target: str) -> Dataset | None:
        """The disk that the guest has as that target, such as vdb."""
        paths = self.domain.disks if self.domain else {}
        if target in paths:  # others may have changed what is which since it was noted on the volumes
            return next((each for each in self.disks if paths[target] == device(each.name)), None)
        used = {*paths.values()}
        noted = (each for each in self.disks if each.properties.get(properties.TARGET, "") == target)
        return next((each for each in noted if device(each.name) not in used), None)

    def volume(self, wanted: str) -> Dataset | None:
        """The volume of that role, for nvram and seed."""
        return next((each for each in self.volumes if role(each) == wanted), None)


@dataclass(frozen=True)
class SnapshotSet:
    """One snapshot name over the volumes of a VM; parts by dataset name, clones: datasets cloned from any of them."""

    name: str
    kind: str
    creation: int
    createtxg: int
    consistency: str
    used: int
    parts: dict[str, Snapshot]
    clones: tuple[str, ...]

    @property
    def excludes(self) -> str:
        return next((part.excludes for part in self.parts.values() if part.excludes), "")

    @property
    def held(self) -> bool:
        return any(part.holds for part in self.parts.values())


def role(dataset: Dataset) -> str:
    return dataset.properties.get(properties.ROLE, "")


def device(dataset: str) -> str:
    """Where udev links a volume's device node."""
    return f"/dev/zvol/{dataset}"


class Inventory:
    """parents: the storages' parent datasets by storage name, the default one first."""

    def __init__(self, parents: dict[str, str]) -> None:
        self.parents = parents
        self.datasets: dict[str, Dataset] = {}
        self.snapshots: dict[str, dict[str, Snapshot]] = defaultdict(dict)
        self.domains: dict[str, Domain] = {}
        self.used_at = 0  # when everything was read, in seconds since 1970
        self.stores_at = 0  # when the storages alone were read again
        self._used_at: dict[str, int] = {}  # when one VM was read again since
        self.departed: dict[str, Domain] = {}  # domains that went, as they were, the last DEPARTED of them
        self.dirty: set[str] = set()
        self._volumes = _Index()  # by the id of the VM that they are of
        self._recorded = _Index()  # datasets by the libvirt UUID that stands on them
        self._children = _Index()  # datasets by their parent
        self._clones = _Index()  # datasets by their origin
        self._users = _Index()  # domains by the sources of their disks
        self._domain_names: dict[str, str] = {}
        self._notes: list[set[str]] = []

    # -- changes -------------------------------------------------------------------------------------------------------

    @contextmanager
    def noting(self) -> Iterator[set[str]]:
        """Collects what is written here meanwhile: names of datasets and snapshots, and "domain:UUID".

        For whoever reads the host at length: of these, what was read is old by now.
        """
        noted: set[str] = set()
        self._notes.append(noted)
        try:
            yield noted
        finally:
            self._notes = [each for each in self._notes if each is not noted]

    def put_dataset(self, dataset: Dataset) -> None:
        self._note(dataset.name)
        if self.datasets.get(dataset.name) == dataset:
            return
        self.remove_dataset(dataset.name, snapshots=False)
        self.datasets[dataset.name] = dataset
        self._children.add(_parent(dataset.name), dataset.name)
        if dataset.origin:
            self._clones.add(dataset.origin, dataset.name)
            self._touch(dataset.origin.partition("@")[0])
        if (vm := self._owner(dataset)) is not None:
            self._volumes.add(vm, dataset.name)
        if uuid := dataset.properties.get(properties.UUID):
            self._recorded.add(uuid, dataset.name)
        self._touch(dataset.name)

    def remove_dataset(self, name: str, snapshots: bool = True) -> None:
        self._note(name)
        old = self.datasets.get(name)
        if old is not None:
            self._touch(name)
            self._children.discard(_parent(name), name)
            if old.origin:
                self._clones.discard(old.origin, name)
                self._touch(old.origin.partition("@")[0])
            if (vm := self._owner(old)) is not None:
                self._volumes.discard(vm, name)
            self._recorded.discard(old.properties.get(properties.UUID, ""), name)
            del self.datasets[name]
        if snapshots:
            self.snapshots.pop(name, None)

    def put_snapshot(self, snapshot: Snapshot) -> None:
        self._note(f"{snapshot.dataset}@{snapshot.name}")
        self.snapshots[snapshot.dataset][snapshot.name] = snapshot
        self._touch(snapshot.dataset)

    def remove_snapshot(self, dataset: str, name: str) -> None:
        self._note(f"{dataset}@{name}")
        if self.snapshots.get(dataset, {}).pop(name, None) is not None:
            self._touch(dataset)

    def put_domain(self, domain: Domain) -> None:
        self._note(f"domain:{domain.uuid}")
        if self.domains.get(domain.uuid) == domain:
            self.domains[domain.uuid] = domain  # the newer one, by which others see that it was read
            return
        self.remove_domain(domain.uuid)
        self.domains[domain.uuid] = domain
        self._domain_names[domain.name] = domain.uuid
        for source in domain.disks.values():
            self._users.add(source, domain.uuid)
        self._touch_domain(domain)

    def remove_domain(self, uuid: str) -> None:
        self._note(f"domain:{uuid}")
        old = self.domains.pop(uuid, None)
        if old is not None:
            if self._domain_names.get(old.name) == uuid:
                del self._domain_names[old.name]
            for source in old.disks.values():
                self._users.discard(source, uuid)
            self._touch_domain(old)
            self.departed.pop(uuid, None)
            self.departed[uuid] = old
            while len(self.departed) > DEPARTED:
                del self.departed[next(iter(self.departed))]

    def replace_zfs(
        self, datasets: Iterable[Dataset], snapshots: Iterable[Snapshot], newer: Collection[str] = ()
    ) -> None:
        """Everything read anew: what is not among these is gone. newer: names of what is known better than by these.

        These do not say what a snapshot uses, so what is known of that stays.
        """
        newer = frozenset(newer)
        fresh = {each.name: each for each in datasets if each.name not in newer}
        for name in self.datasets.keys() - fresh.keys() - newer:
            self.remove_dataset(name)
        for dataset in fresh.values():
            self.put_dataset(dataset)
        wanted: dict[str, dict[str, Snapshot]] = defaultdict(dict)
        for snapshot in snapshots:
            if snapshot.dataset in self.datasets and f"{snapshot.dataset}@{snapshot.name}" not in newer:
                old = self.snapshots.get(snapshot.dataset, {}).get(snapshot.name)
                used = old.used if old and old.guid == snapshot.guid else snapshot.used
                same = used == snapshot.used
                wanted[snapshot.dataset][snapshot.name] = snapshot if same else replace(snapshot, used=used)
        for dataset_name, _, name in (each.partition("@") for each in newer if "@" in each):
            if known := self.snapshots.get(dataset_name, {}).get(name):
                wanted[dataset_name][name] = known
        for dataset_name in self.snapshots.keys() | wanted.keys():
            if self.snapshots.get(dataset_name, {}) != wanted.get(dataset_name, {}):
                self._touch(dataset_name)
        self.snapshots = wanted

    def replace_domains(self, domains: Iterable[Domain], newer: Collection[str] = ()) -> None:
        """All domains read anew. newer: "domain:UUID" of those that are known better than by these."""
        known = {each.removeprefix("domain:") for each in newer}
        fresh = {each.uuid: each for each in domains if each.uuid not in known}
        for uuid in self.domains.keys() - fresh.keys() - known:
            self.remove_domain(uuid)
        for domain in fresh.values():
            self.put_domain(domain)

    def usage_read(self, when: int, datasets: Iterable[str] | None = None) -> None:
        """What these datasets use was read again (None: all of them)."""
        if datasets is None:
            self.used_at, self._used_at = when, {}
        for record in filter(None, map(self.datasets.get, datasets or ())):
            if (owner := self._owner(record)) is not None:
                self._used_at[owner] = when
                self.dirty.add(owner)

    def take_dirty(self) -> set[str]:
        """Ids of the VMs that changed since the last call."""
        dirty, self.dirty = self.dirty, set()
        return dirty

    # -- answers -------------------------------------------------------------------------------------------------------

    def vm_ids(self) -> list[str]:
        return sorted(self._volumes)

    def vm(self, id_: str) -> Vm | None:
        """The VM of that id, or None."""
        names = self._volumes.get(id_)
        if not names:
            return None
        volumes = self._own(names)
        parent = _parent(volumes[0].name)
        storage = next((s for s, p in self.parents.items() if p == parent), "")
        return Vm(id_, _vm_name(volumes[0]), storage, tuple(volumes), self._domain_of(volumes))

    def used_at_of(self, id_: str) -> int:
        """When the space that this VM uses was read."""
        return self._used_at.get(id_, self.used_at)

    def find(self, text: str) -> Vm | None:
        """The VM of that name, id or libvirt UUID, or None."""
        if text in self._volumes:
            return self.vm(text)
        for parent in self.parents.values():
            if vm := self.vm_with(f"{parent}/{text}"):
                return vm
        return self.vm_of_domain(text)

    def vm_with(self, dataset: str) -> Vm | None:
        """The VM that a dataset is a volume of, or None."""
        record = self.datasets.get(dataset)
        vm = self.vm(owner) if record and (owner := self._owner(record)) is not None else None
        return vm if vm and record in vm.volumes else None

    def vm_of_domain(self, uuid: str) -> Vm | None:
        """The VM whose domain has that libvirt UUID, or None."""
        domain = self.domains.get(uuid)
        if domain is None:
            return None
        found = map(self.vm, sorted(self._owners_of(domain)))
        return next((vm for vm in found if vm and vm.domain and vm.domain.uuid == uuid), None)

    def volume_at(self, path: str) -> str:
        """The name of the volume right below a storage whose device that path is, there or not; or the empty string."""
        name = path.removeprefix(device(""))
        return name if path == device(name) and _parent(name) in self.parents.values() else ""

    def domains_on(self, volume: str) -> list[Domain]:
        """The domains that have that volume's device among their disks and UEFI variables."""
        return [self.domains[uuid] for uuid in sorted(self._users.get(device(volume)))]

    def vms_of(self, domain: Domain) -> list[Vm]:
        """The VMs whose volumes a domain uses or used, whether it is there or not."""
        return [vm for vm in map(self.vm, sorted(self._owners_of(domain))) if vm]

    def names(self) -> list[str]:
        return sorted(vm.name for vm in map(self.vm, self._volumes) if vm)

    def domain_named(self, name: str) -> Domain | None:
        return self.domains.get(self._domain_names.get(name, ""))

    def with_medium(self, path: str) -> list[str]:
        """The names of the domains that have a file in a CD drive."""
        return sorted(each.name for each in self.domains.values() if path in each.cdroms)

    def with_disk(self, path: str) -> list[str]:
        """The names of the domains that have a file or a device as a disk."""
        return sorted(each.name for each in self.domains.values() if path in each.disks.values())

    def snapshot_sets(self, vm: Vm) -> list[SnapshotSet]:
        """The VM's snapshots, oldest first. Those of its clones' making are told by their kind."""
        parts: dict[str, dict[str, Snapshot]] = defaultdict(dict)
        for volume in vm.volumes:
            for snapshot in self.snapshots.get(volume.name, {}).values():
                parts[snapshot.name][volume.name] = snapshot
        return sorted((self._set(name, found) for name, found in parts.items()), key=lambda s: (s.createtxg, s.name))

    def clones_of(self, dataset: str, snapshot: str) -> list[str]:
        """Datasets whose origin is that snapshot."""
        return sorted(self._clones.get(f"{dataset}@{snapshot}"))

    def dependents(self, vm: Vm) -> list[str]:
        """Datasets, outside the VM itself, whose origin is a snapshot of one of its volumes."""
        own = {volume.name for volume in vm.volumes}
        found = {
            clone
            for volume in vm.volumes
            for snapshot in self.snapshots.get(volume.name, {})
            for clone in self._clones.get(f"{volume.name}@{snapshot}")
        }
        return sorted(found - own)

    def vm_named_by(self, dataset: str) -> str:
        """How to call what a dataset belongs to: the VM's name, the trash entry, or the dataset's own name."""
        if is_trash(dataset):
            return f"trash entry {dataset.partition(f'/{TRASH}/')[2].partition('/')[0]}"
        vm = self.vm_with(dataset)
        return vm.name if vm else dataset

    def trash_entries(self) -> list[Dataset]:
        """The container dataset of each trash entry, newest first."""
        found = [
            d
            for d in self.datasets.values()
            if d.kind == "filesystem" and d.properties.get(properties.REASON) and is_trash(d.name)
            if not d.name.endswith(f"/{SPARE}")
        ]
        return sorted(found, key=lambda d: (d.properties.get(properties.SINCE, ""), d.name), reverse=True)

    def children(self, parent: str) -> list[Dataset]:
        return [self.datasets[name] for name in sorted(self._children.get(parent))]

    # -- inside --------------------------------------------------------------------------------------------------------

    def _owner(self, dataset: Dataset) -> str | None:
        """The id of the VM that a volume belongs to, if it stands right under a storage's parent."""
        if dataset.kind != "volume" or _parent(dataset.name) not in self.parents.values():
            return None
        return dataset.properties.get(properties.VM)

    def _own(self, names: Iterable[str]) -> list[Dataset]:
        """A VM's volumes among those that carry its id, the first disk first.

        What `zfs send -p` copies carries all that stands on its origin. Of several that claim to be the same disk one
        is: that which a domain has, or else the first on the first storage. The others are nobody's.
        """
        found = sorted((self.datasets[name] for name in names), key=_volume_order)
        if len({_place(each) for each in found}) == len(found):
            return found
        own: dict[tuple[str, str], Dataset] = {}
        for each in sorted(found, key=self._claim):
            own.setdefault(_place(each), each)
        return sorted(own.values(), key=_volume_order)

    def _claim(self, volume: Dataset) -> tuple[bool, int, int, str]:
        storage = list(self.parents.values()).index(_parent(volume.name))
        return not self._users.get(device(volume.name)), storage, volume.createtxg, volume.name

    def _domain_of(self, volumes: list[Dataset]) -> Domain | None:
        recorded = next((v.properties[properties.UUID] for v in volumes if properties.UUID in v.properties), "")
        if recorded in self.domains:
            return self.domains[recorded]
        users = self._users.get(device(volumes[0].name))
        return self.domains[min(users)] if users else None

    def _set(self, name: str, parts: dict[str, Snapshot]) -> SnapshotSet:
        newest = max(parts.values(), key=lambda s: s.createtxg)
        clones = sorted({c for part in parts for c in self._clones.get(f"{part}@{name}")})
        return SnapshotSet(
            name, newest.kind, newest.creation, newest.createtxg, newest.consistency,
            sum(s.used for s in parts.values()), parts, tuple(clones),
        )  # fmt: skip

    def _touch(self, name: str) -> None:
        dataset = self.datasets.get(name)
        owner = self._owner(dataset) if dataset else None
        if owner is not None:
            self.dirty.add(owner)

    def _touch_domain(self, domain: Domain) -> None:
        self.dirty |= self._owners_of(domain)

    def _owners_of(self, domain: Domain) -> set[str]:
        """Ids of the VMs that a domain concerns: by its disks, and by its UUID on volumes."""
        names = {source.removeprefix("/dev/zvol/") for source in domain.disks.values()}
        records = (self.datasets.get(name) for name in names | self._recorded.get(domain.uuid))
        return {owner for record in records if record and (owner := self._owner(record)) is not None}

    def _note(self, name: str) -> None:
        for noted in self._notes:
            noted.add(name)


class _Index:
    """Names by a key; iterating gives the keys that have any."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def add(self, key: str, name: str) -> None:
        self._names.setdefault(key, set()).add(name)

    def discard(self, key: str, name: str) -> None:
        names = self._names.get(key, set())
        names.discard(name)
        if not names:
            self._names.pop(key, None)

    def get(self, key: str) -> Set[str]:
        return self._names.get(key, frozenset())

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, key: str) -> bool:
        return key in self._names


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def is_trash(dataset: str) -> bool:
    return f"/{TRASH}/" in dataset


def _place(volume: Dataset) -> tuple[str, str]:
    """What it is in its VM."""
    return role(volume), volume.properties.get(properties.TARGET, "")


def _volume_order(volume: Dataset) -> tuple[int, int, str]:
    target = volume.properties.get(properties.TARGET, "")
    return (ORDER.get(role(volume), 2), len(target), target)


def _vm_name(first: Dataset) -> str:
    """A VM's name, from the first of its volumes."""
    name = first.name.rpartition("/")[2]
    return name if role(first) == "disk" else name.rpartition(".")[0] or name
