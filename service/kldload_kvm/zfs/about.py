"""What the checks of the host ask of ZFS: four commands, however many pools and volumes there are."""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Sequence

from ..model.errors import ZfsFailed
from ..model.host_facts import Pool, Store
from .commands import Zfs
from .pools import zdb, zpool

WHAT = "the pools cannot be read"
COLUMNS = ("name", "type", "mountpoint", "compression", "recordsize", "primarycache", "atime",
           "volmode", "sync", "keystatus", "volblocksize", "volsize", "refreservation", "readonly",
           "com.sun:auto-snapshot")  # fmt: skip
PROPERTIES = ("health", "size", "free", "capacity", "fragmentation", "readonly", "autotrim")
SCRUBBED = re.compile(r"scrub repaired .* on (\w{3} \w{3} +\d+ [\d:]{8} \d{4})")
ASHIFT = re.compile(r"ashift: (\d+)")


async def pools(zfs: Zfs) -> tuple[Pool, ...]:
    """Every pool that is imported. Raises KvmError."""
    values, status, config, roots = await asyncio.gather(
        zpool(WHAT, "get", "-Hp", "-o", "name,property,value", ",".join(PROPERTIES)),
        zpool(WHAT, "status", "-vPt"),
        zdb("the devices' block sizes cannot be told", "-C"),
        zfs.run(WHAT, "list", "-Hp", "-d", "0", "-o", "name,creation"),
    )
    if roots and not values:
        raise ZfsFailed(WHAT, "zpool has said nothing of them", "zpool status -v")
    return parse(values, status, config, roots)


async def stores(zfs: Zfs, parents: Sequence[str]) -> dict[str, Store]:
    """Every dataset of the storages, by name. Parents that are not there are passed over. Raises KvmError."""
    what, kinds = "the datasets cannot be read", "filesystem,volume"
    text = await zfs.run(what, "list", "-Hp", "-r", "-t", kinds, "-o", ",".join(COLUMNS), *parents, partial=True)
    found = {}
    for values in (line.split("\t") for line in text.splitlines()):
        if len(values) == len(COLUMNS):
            row = {key: "" if value == "-" else value for key, value in zip(COLUMNS, values, strict=True)}
            found[row["name"]] = Store(row["name"], row["type"], row)
    return found


def parse(values: str, status: str, config: str, roots: str) -> tuple[Pool, ...]:
    """What the four commands print, as pools by name."""
    rows: dict[str, dict[str, str]] = defaultdict(dict)
    for line in values.splitlines():
        name, key, value = line.split("\t")
        rows[name][key] = value
    told, ashifts = _sections(status), _ashifts(config)
    created = dict(line.split("\t") for line in roots.splitlines())
    return tuple(
        Pool(
            name=name,
            health=row.get("health", ""),
            size=_number(row.get("size")),
            free=_number(row.get("free")),
            capacity=_number(row.get("capacity")),
            fragmentation=_number(row.get("fragmentation")),
            read_only=row.get("readonly") == "on",
            autotrim=row.get("autotrim") == "on",
            trims=bool(re.search(r"\((?:untrimmed|\d+% trimmed)", told.get(name, {}).get("config", ""))),
            ashift=ashifts.get(name, 0),
            created=_number(created.get(name)),
            scrubbed=_scrubbed(told.get(name, {}).get("scan", "")),
            scanning="in progress" in told.get(name, {}).get("scan", ""),
            errors=_errors(told.get(name, {}).get("errors", "")),
            status=" ".join(told.get(name, {}).get("status", "").split()),
        )
        for name, row in sorted(rows.items())
    )


def _sections(status: str) -> dict[str, dict[str, str]]:
    """What `zpool status` says of each pool, by its own headings; lines of one stay lines."""
    found: dict[str, dict[str, str]] = {}
    pool, heading = "", ""
    for line in status.splitlines():
        if begin := re.match(r" *(pool|state|status|action|see|scan|config|errors): ?(.*)", line):
            heading, text = begin.groups()
            pool = text.strip() if heading == "pool" else pool
            found.setdefault(pool, {})[heading] = text
        elif pool:
            found[pool][heading] += f"\n{line}"
    return found


def _errors(text: str) -> tuple[str, ...]:
    first, _, rest = text.partition("\n")
    return tuple(filter(None, (line.strip() for line in rest.splitlines()))) if "Permanent errors" in first else ()


def _scrubbed(scan: str) -> int:
    found = SCRUBBED.search(scan)
    return int(time.mktime(time.strptime(found[1], "%a %b %d %H:%M:%S %Y"))) if found else 0


def _ashifts(config: str) -> dict[str, int]:
    """The least ashift of each pool's devices, as zdb -C tells them."""
    found: dict[str, list[int]] = {}
    pool = ""
    for line in config.splitlines():
        if begin := re.fullmatch(r"(\S+):", line):
            pool = begin[1]
        elif pool and (ashift := ASHIFT.search(line)):
            found.setdefault(pool, []).append(int(ashift[1]))
    return {name: min(each) for name, each in found.items()}


def _number(text: str | None) -> int:
    digits = (text or "").removesuffix("%")
    return int(digits) if digits.isdecimal() else 0
