"""The datasets of the storages: there, as the profile has them, reachable; and their volumes."""

from __future__ import annotations

from collections.abc import Iterator

from ...model.finding import Finding
from ...model.host_facts import HostFacts, Store

PARENT = {"compression": "off", "recordsize": "64K", "primarycache": "metadata", "atime": "off", "volmode": "dev"}
ISOS = {"compression": "zstd", "atime": "off"}
"""The seed page's properties, and volmode. docs/host.md says why."""
WANTED = {"primarycache": "metadata", "volmode": "dev"}
"""What of these a parent is asked for: volumes inherit it. The rest is for files, of which VMs have none."""


def check(facts: HostFacts) -> Iterator[Finding]:
    if facts.zfs_fault:
        return
    if facts.stores_fault:
        yield Finding("host-unseen", "error", "datasets", facts.stores_fault)
        return
    for storage, parent in facts.settings.parents.items():
        if facts.pool(parent) is None:
            continue
        found = facts.stores.get(parent)
        if found is None:
            yield Finding("storage-missing", "error", parent, f"storage {storage} has no dataset {parent}")
            continue
        others = [f"{key}={found[key]}" for key, value in WANTED.items() if found[key] not in (value, "none")]
        if others:
            wanted = ", ".join(f"{key}={WANTED[key]}" for key in (each.partition("=")[0] for each in others))
            yield Finding("dataset-setting", "notice", parent, f"it has {', '.join(others)}; the profile: {wanted}")
        yield from _isos(storage, parent, facts)
    for each in facts.stores.values():
        yield from _dataset(each, facts)


def _isos(storage: str, parent: str, facts: HostFacts) -> Iterator[Finding]:
    isos = facts.stores.get(f"{parent}/isos")
    first = next(iter(facts.settings.parents), "")
    if isos is None or not isos["mountpoint"].startswith("/"):
        if storage == first:
            yield Finding("isos-missing", "notice", f"{parent}/isos", f"storage {storage} has none")
        return
    if not facts.system_fault and (isos.name, isos["mountpoint"]) not in facts.system.mounts:
        yield Finding("isos-unmounted", "error", isos.name, f"it is not mounted at {isos['mountpoint']}")
        return
    node = facts.system.nodes.get(isos["mountpoint"])
    if node and (node.closed or not node.mode & 0o001):
        closed = node.closed or isos["mountpoint"]
        yield Finding("images-closed", "error", closed, f"only some may search {closed}, and QEMU's user may not")


def _dataset(each: Store, facts: HostFacts) -> Iterator[Finding]:
    if each["keystatus"] == "unavailable":
        yield Finding("key-missing", "error", each.name, "its key is not loaded")
    if each.kind != "volume" or "/.trash/" in each.name:
        return
    if each["sync"] == "disabled":
        yield Finding("sync-disabled", "error", each.name, "sync=disabled")
    if each["volmode"] not in ("dev", "none"):
        yield Finding("volume-exposed", "notice", each.name, f"volmode={each['volmode']}")
    used = any(f"/dev/zvol/{each.name}" in guest.wants.paths for guest in facts.guests)
    if not facts.volumes.get(each.name) and not used:
        yield Finding("foreign-volume", "notice", each.name, "no VM and no domain has it")
