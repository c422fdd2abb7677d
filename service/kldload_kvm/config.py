"""The configuration: /etc/kldload-kvm/kvm.conf and its drop-ins, read once at start, made valid at the door.

A later file's setting replaces an earlier one's: /usr/lib/kldload-kvm/kvm.conf.d/*.conf, then
/etc/kldload-kvm/kvm.conf, then /etc/kldload-kvm/kvm.conf.d/*.conf, each folder in the order of the names.
"""

from __future__ import annotations

import configparser
import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .model import names
from .model.errors import InvalidArgument
from .model.intent import KEEP, TRASH
from .model.sizes import GIB, MIB, TIB, format_size, parse_size
from .model.volume_settings import LARGEST_DISK, compression, volblocksize

VENDOR = Path("/usr/lib/kldload-kvm/kvm.conf.d")
ADMIN = Path("/etc/kldload-kvm/kvm.conf")
DROP_INS = Path("/etc/kldload-kvm/kvm.conf.d")
DAY = 86400
MOVE = "move"


@dataclass(frozen=True)
class StorageConfig:
    """One [storage NAME]."""

    name: str
    dataset: str
    default: bool = False


@dataclass(frozen=True)
class Config:
    """All settings. Sizes in bytes; accelerator: auto, kvm or qemu; network: auto, none, bridge=NAME or network=NAME;
    volblocksize: 0 for what suits the pool; floor: share of a pool, from 0 to 1, that stays free for what must always
    work: deleting, and the guests' writes; grace: seconds that what is in the trash waits there; keep: seconds for
    which the timer's snapshots stay; undefine: what becomes of a VM's volumes when others undefine its domain; rename:
    MOVE or KEEP, whether they take its new name when others rename it; pool: whether libvirt gets a storage pool of the
    devices of each storage."""

    storages: tuple[StorageConfig, ...] = (StorageConfig("rpool", "rpool/vms", default=True),)
    accelerator: str = "auto"
    network: str = "auto"
    bridge: str = "br0"
    vnc_listen: str = "127.0.0.1"
    memory: int = 2 * GIB
    vcpus: int = 2
    disk: int = 20 * GIB
    volblocksize: int = 0
    compression: str = "lz4"
    floor: float = 0.05
    grace: int = 7 * DAY
    keep: int = 2 * DAY
    undefine: str = TRASH
    rename: str = KEEP
    pool: bool = False
    jobs_per_user: int = 16
    jobs_kept: int = 500

    @property
    def parents(self) -> dict[str, str]:
        """The storages' parent datasets by name, the default one first."""
        return {s.name: s.dataset for s in sorted(self.storages, key=lambda s: not s.default)}


class Misconfigured(InvalidArgument):
    """A section, or a setting in it, is not valid."""

    def __init__(self, section: str, key: str, why: str, hint: str) -> None:
        self.section, self.key = section, key
        self.where = f"{key} in [{section}]" if key else f"[{section}]"
        super().__init__(f"the configuration is not valid: {self.where}", why, hint)


def files() -> list[Path]:
    """The files that make up the configuration, in the order they are read."""
    return [*sorted(VENDOR.glob("*.conf")), ADMIN, *sorted(DROP_INS.glob("*.conf"))]


def load(paths: Iterable[Path]) -> Config:
    """Raises InvalidArgument, naming file, section and setting."""
    parser = _parser()
    where: dict[tuple[str, str], Path] = {}
    for path in paths:
        each = _parser()
        try:
            each.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as fault:
            hint = "see kvm.conf(5)"
            raise InvalidArgument(f"{path} cannot be read", str(fault).replace("\n", " "), hint) from None
        parser.read_dict(each)
        where |= {(section, key): path for section in each.sections() for key in ("", *each[section])}
    try:
        return read(parser)
    except Misconfigured as fault:
        file = where.get((fault.section, fault.key)) or where.get((fault.section, ""))
        if file is None:  # of several together
            raise
        raise InvalidArgument(f"{file} is not valid: {fault.where}", fault.why, fault.hint) from None


def _parser() -> configparser.ConfigParser:
    return configparser.ConfigParser(interpolation=None, default_section="")  # [DEFAULT] is a section like others


def read(parser: configparser.ConfigParser) -> Config:
    """A configuration from its parsed sections. Raises Misconfigured."""
    storages = []
    values: dict[str, Any] = {}
    for section in parser.sections():
        if section.startswith("storage "):
            storages.append(_storage(dict(parser[section]), section))
        elif section in SETTINGS:
            values |= _values(section, dict(parser[section]), SETTINGS[section])
        else:
            hint = f"known are {', '.join(sorted(SETTINGS))} and storage NAME"
            raise _bad(section, "", f"there is no section [{section}]", hint)
    if storages:
        values["storages"] = _checked(storages)
    return Config(**values)


def _values(section: str, given: dict[str, str], known: dict[str, Callable[[str], Any]]) -> dict[str, Any]:
    found = {}
    for key, text in given.items():
        if key not in known:
            raise _bad(section, key, "there is no such setting", f"known here are {', '.join(known)}")
        try:
            found[key] = known[key](text)
        except InvalidArgument as fault:
            raise _bad(section, key, ": ".join(filter(None, (fault.what, fault.why))), fault.hint) from None
    return found


def _storage(given: dict[str, str], section: str) -> StorageConfig:
    name = section.removeprefix("storage ").strip()
    if not names.COMPONENT.fullmatch(name):
        raise _bad(section, "", f"{names.shown(name)} is no name for a storage", "use letters, digits and '_'")
    values = _values(section, given, {"dataset": names.dataset_name, "default": _yes_or_no})
    if "dataset" not in values:
        raise _bad(section, "dataset", "it is missing", "name the parent dataset, such as rpool/vms")
    return StorageConfig(name, **values)


def _checked(storages: list[StorageConfig]) -> tuple[StorageConfig, ...]:
    """Several storages: one of them is the default one, and each has a dataset of its own."""
    if len(storages) == 1:
        return (replace(storages[0], default=True),)
    datasets: dict[str, str] = {}
    for each in storages:
        if each.dataset in datasets:
            why = f"it is that of [storage {datasets[each.dataset]}] already"
            raise _bad(f"storage {each.name}", "dataset", why, "give each storage a dataset of its own")
        datasets[each.dataset] = each.name
    defaults = [each.name for each in storages if each.default]
    if len(defaults) != 1:
        why = f"{', '.join(defaults)} say yes" if defaults else "no storage says yes"
        raise _bad(f"storage {(defaults or [each.name for each in storages])[-1]}", "default", why,
                   "of several storages, exactly one says default = yes")  # fmt: skip
    return tuple(storages)


def _yes_or_no(text: str) -> bool:
    known = configparser.ConfigParser.BOOLEAN_STATES
    if text.lower() not in known:
        raise InvalidArgument(f"{names.shown(text)} is neither yes nor no")
    return known[text.lower()]


def _one_of(*allowed: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in allowed:
            raise InvalidArgument(f"{names.shown(text)} is not one of {', '.join(allowed)}")
        return text

    return check


def _size(unit: int, least: int, most: int, multiple: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        size = parse_size(text, unit)
        if not least <= size <= most or size % multiple:
            shown = f"from {format_size(least)} to {format_size(most)}, in steps of {format_size(multiple)}"
            raise InvalidArgument(f"{names.shown(text)} is not {shown}")
        return size

    return check


def _number(most: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and 0 < int(text) <= most):
            raise InvalidArgument(f"{names.shown(text)} is not a number from 1 to {most}")
        return int(text)

    return check


def _share(text: str) -> float:
    number = text.removesuffix("%").strip()
    if not (text.endswith("%") and number.isascii() and number.isdecimal() and len(number) < 4 and int(number) <= 50):
        raise InvalidArgument(f"{names.shown(text)} is not a share from 0% to 50%")
    return int(number) / 100


def _duration(text: str) -> int:
    """Seconds of a time such as 48h or 14d."""
    number, unit = text[:-1].strip(), text[-1:]
    if unit not in ("h", "d", "w") or not (number.isascii() and number.isdecimal() and 0 < len(number) < 6):
        raise InvalidArgument(f"{names.shown(text)} is no length of time", "", "write it as 48h, 14d or 4w")
    seconds = int(number) * {"h": 1, "d": 24, "w": 168}[unit] * 3600
    if not 0 < seconds <= 87600 * 3600:
        raise InvalidArgument(f"{names.shown(text)} is not from 1h to ten years")
    return seconds


def _network(text: str) -> str:
    kind, _, name = text.partition("=")
    if text not in ("auto", "none") and not (kind in ("bridge", "network") and name):
        raise InvalidArgument(f"{names.shown(text)} is no network", "", "write auto, bridge=NAME, network=NAME or none")
    return text


def _bridge(text: str) -> str:
    if not 0 < len(text) <= 15 or "/" in text or " " in text:  # IFNAMSIZ
        raise InvalidArgument(f"{names.shown(text)} is no name of a bridge")
    return text


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise InvalidArgument(f"{names.shown(text)} is no IP address") from None


def _block(text: str) -> int:
    return 0 if text == "auto" else volblocksize(parse_size(text, 1), "")


SETTINGS: dict[str, dict[str, Callable[[str], Any]]] = {
    "guests": {
        "accelerator": _one_of("auto", "kvm", "qemu"),
        "network": _network,
        "bridge": _bridge,
        "vnc_listen": _address,
    },
    "defaults": {
        "memory": _size(MIB, 64 * MIB, 16 * TIB, MIB),
        "vcpus": _number(255),
        "disk": _size(GIB, MIB, LARGEST_DISK, 512),
        "volblocksize": _block,
        "compression": lambda text: compression(text, ""),
    },
    "pool": {"floor": _share},
    "trash": {"grace": _duration},
    "snapshots": {"keep": _duration},
    "libvirt": {"undefine": _one_of(TRASH, KEEP), "rename": _one_of(KEEP, MOVE), "pool": _yes_or_no},
    "limits": {"jobs_per_user": _number(999_999), "jobs_kept": _number(999_999)},
}
"""The settings by their sections, each with what makes a value of its text or raises InvalidArgument."""


def _bad(section: str, key: str, why: str, hint: str) -> Misconfigured:
    return Misconfigured(section, key, why, hint or "see kvm.conf(5)")
