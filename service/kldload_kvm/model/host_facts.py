"""What the host is, as data: read by watch/host_state.py, judged by host/checks.

Sizes are in bytes, times in seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .domain_wants import Wants
from .firmware import FirmwarePair
from .inventory import Domain, Vm
from .wiring import Wiring


@dataclass(frozen=True)
class Pool:
    """A pool that is imported. health: as zpool tells it; capacity, fragmentation: in percent; ashift: the least of its
    devices, 0 if not known; trims: whether a device of it can; scrubbed: when it was last scrubbed whole, 0 for never;
    scanning: whether a scrub or resilver is under way; errors: what is damaged for good, as zpool status names it."""

    name: str
    health: str = "ONLINE"
    size: int = 0
    free: int = 0
    capacity: int = 0
    fragmentation: int = 0
    read_only: bool = False
    autotrim: bool = True
    trims: bool = False
    ashift: int = 12
    created: int = 0
    scrubbed: int = 0
    scanning: bool = False
    errors: tuple[str, ...] = ()
    status: str = ""


@dataclass(frozen=True)
class Store:
    """A dataset below a storage's parent, or that itself, with what the checks ask of it. values: native properties by
    name, "" for one that it has not."""

    name: str
    kind: str
    values: Mapping[str, str]

    def __getitem__(self, key: str) -> str:
        return self.values.get(key, "")


@dataclass(frozen=True)
class Network:
    """A network of libvirt's. forward: nat, route, bridge … or empty."""

    name: str
    active: bool
    autostart: bool = True
    forward: str = "nat"
    bridge: str = ""


@dataclass(frozen=True)
class Libvirt:
    """version: such as (11, 3, 0); security: the models that confine its guests, such as apparmor and dac."""

    version: tuple[int, ...] = ()
    security: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()


@dataclass(frozen=True)
class Node:
    """A file, followed to where its links lead. kind: file, dir, block, char or other; mode: permission bits."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int = 0
    closed: str = ""
    """The directory on the way to it that not everybody may search, or empty."""


@dataclass(frozen=True)
class System:
    """What the collector has seen. files: contents by path, of those that are there; nodes: files that were asked for,
    None for one that is not there; names: directories' entries; qemu: settings of /etc/libvirt/qemu.conf; denials: what
    AppArmor or SELinux has denied to guests lately, as the kernel told it; complaints: libvirt's own lately; wiring:
    the network, and which tool has what of it."""

    files: Mapping[str, str] = field(default_factory=dict)
    nodes: Mapping[str, Node | None] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    qemu: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    denials: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()
    wiring: Wiring = field(default_factory=Wiring)

    def number(self, path: str) -> int | None:
        """The number that a file of the kernel's holds; None where it is not there or holds none."""
        text = self.files.get(path, "").strip()
        return int(text) if text.isascii() and text.isdecimal() else None

    def field(self, path: str, key: str) -> int | None:
        """A number in a file of lines such as "MemTotal: 16 kB" or "c_max 4 8589934592": the last one of its line, in
        bytes where kB stands behind it."""
        for line in self.files.get(path, "").splitlines():
            words = line.replace(":", " ").split()
            if words and words[0] == key:
                scale = 1024 if words[-1] == "kB" else 1
                number = words[-2] if scale > 1 else words[-1]
                return int(number) * scale if number.isdecimal() else None
        return None

    @property
    def mounts(self) -> frozenset[tuple[str, str]]:
        """What is mounted where; not as the daemon sees it, whose own mounts may outlive the host's."""
        rows = (line.split() for line in self.files.get("/proc/self/mounts", "").splitlines())
        return frozenset((row[0], row[1]) for row in rows if len(row) > 2)

    def there(self, path: str) -> bool:
        return self.nodes.get(path) is not None


@dataclass(frozen=True)
class Settings:
    """Of our own configuration, what the checks look at. parents: dataset by storage, the default one first."""

    parents: Mapping[str, str]
    accelerator: str = "auto"
    network: str = "auto"
    bridge: str = "br0"
    vnc_listen: str = "127.0.0.1"
    floor: float = 0.05


@dataclass(frozen=True)
class Guest:
    """A domain, with what it asks of the host. vm: ours that it belongs to, or None."""

    domain: Domain
    wants: Wants
    vm: Vm | None = None

    @property
    def name(self) -> str:
        return self.domain.name


@dataclass(frozen=True)
class HostFacts:
    """Everything. the faults: why the one or the other could not be read, or empty; units:
    whether each is active; orphans: VMs that have no domain; unheard: domains that libvirt started without asking our
    hook."""

    now: int
    settings: Settings
    zfs_version: tuple[int, ...] = ()
    zfs_fault: str = ""
    pools: tuple[Pool, ...] = ()
    pools_fault: str = ""
    stores_fault: str = ""
    stores: Mapping[str, Store] = field(default_factory=dict)
    libvirt: Libvirt | None = None
    libvirt_fault: str = ""
    system: System = field(default_factory=System)
    system_fault: str = ""
    units: Mapping[str, bool] = field(default_factory=dict)
    guests: tuple[Guest, ...] = ()
    orphans: tuple[Vm, ...] = ()
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Names of all volumes on storages, and whose VM's each is ("" for nobody's)."""
    firmware: FirmwarePair | None = None
    kvm: bool = False
    unheard: tuple[str, ...] = ()

    @property
    def memory(self) -> int:
        """Of the host, in bytes; 0 if not known."""
        return self.system.field("/proc/meminfo", "MemTotal") or 0

    @property
    def bridges(self) -> dict[str, bool]:
        """The bridges, and whether each is up."""
        flags = {
            n: self.system.files.get(f"/sys/class/net/{n}/flags", "0x0") for n in self.system.names.get("bridges", ())
        }
        return {name: bool(int(text.strip() or "0", 16) & 1) for name, text in flags.items()}

    def pool(self, dataset: str) -> Pool | None:
        """The pool that a dataset is on."""
        return next((each for each in self.pools if each.name == dataset.partition("/")[0]), None)
