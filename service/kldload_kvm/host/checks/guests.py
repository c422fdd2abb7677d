"""Guests: settings that hurt, and what each names that is not there."""

from __future__ import annotations

from collections.abc import Iterator

from ...model.domain_wants import Disk
from ...model.finding import Finding
from ...model.host_facts import Guest, HostFacts
from ...model.sizes import format_size
from .libvirt import LOOPBACK

ZVOL = "/dev/zvol/"
GOOD_CACHES = ("none", "directsync")


def check(facts: HostFacts) -> Iterator[Finding]:
    for vm in facts.orphans:
        yield Finding("guest-orphan", "warning", vm.name, "no libvirt domain uses its volumes")
    for guest in facts.guests:
        yield from settings(guest, facts)
        yield from missing(guest, facts)


def settings(guest: Guest, facts: HostFacts) -> Iterator[Finding]:
    """What it is slower or less safe by."""
    for disk in (each for each in guest.wants.disks if each.device == "disk"):
        yield from _disk(guest, disk, facts)
    for screen in guest.wants.graphics:
        if wide := [address for address in screen.listen if not address.startswith(LOOPBACK)]:
            yield Finding("guest-screen-open", "warning", guest.name, f"{screen.kind} listens on {', '.join(wide)}")


def _disk(guest: Guest, disk: Disk, facts: HostFacts) -> Iterator[Finding]:
    if disk.source.startswith(ZVOL):
        if disk.cache not in GOOD_CACHES:
            severity = "error" if disk.cache == "unsafe" else "notice"
            yield Finding("guest-cache", severity, guest.name, f"{disk.target} has cache={disk.cache or 'writeback'}")
        if disk.discard != "unmap":
            yield Finding("guest-discard", "notice", guest.name, f"{disk.target} has no discard=unmap")
        if disk.bus in ("ide", "sata"):
            yield Finding("guest-bus", "notice", guest.name, f"{disk.target} is on {disk.bus}")
    elif disk.format == "qcow2" and any(disk.source.startswith(f"{m}/") for m in _mounts(facts)):
        yield Finding("guest-qcow2", "notice", guest.name, f"{disk.target} is {disk.source}")


def _mounts(facts: HostFacts) -> list[str]:
    return [s["mountpoint"] for s in facts.stores.values() if (s.name, s["mountpoint"]) in facts.system.mounts]


def missing(guest: Guest, facts: HostFacts) -> Iterator[Finding]:
    """What it cannot start without, and which is not there or out of reach."""
    wants, name = guest.wants, guest.name
    if facts.memory and wants.memory > facts.memory:
        found = f"it asks for {format_size(wants.memory)}, and the host has {format_size(facts.memory)}"
        yield Finding("guest-memory", "error", name, found)
    if not (facts.zfs_fault or facts.stores_fault):
        for path in wants.paths:
            if path.startswith(ZVOL):
                yield from _volume(guest, path.removeprefix(ZVOL), facts)
    if not facts.system_fault:
        yield from _files(guest, facts)
    yield from _networks(guest, facts)


def _volume(guest: Guest, volume: str, facts: HostFacts) -> Iterator[Finding]:
    if volume not in facts.stores and _is_ours(volume, facts):
        where = next((v for v in facts.stores if "/.trash/" in v and v.endswith(f"/{volume.rpartition('/')[2]}")), "")
        also = f"; one of that name waits in the trash, as {where.split('/')[-2]}" if where else ""
        yield Finding("guest-volume-missing", "error", guest.name, f"there is no volume {volume}{also}")
    elif not facts.system_fault and not facts.system.there(f"{ZVOL}{volume}"):
        yield Finding("guest-node-missing", "error", guest.name, f"there is no {ZVOL}{volume}")


def _is_ours(volume: str, facts: HostFacts) -> bool:
    return any(volume.startswith(f"{parent}/") for parent in facts.settings.parents.values())


def _files(guest: Guest, facts: HostFacts) -> Iterator[Finding]:
    wants, system, name = guest.wants, facts.system, guest.name
    if wants.loader and not system.there(wants.loader):
        yield Finding("guest-firmware-missing", "error", name, f"there is no {wants.loader}")
    variables = wants.nvram and not wants.nvram.startswith(ZVOL) and not system.there(wants.nvram)
    if variables and not (wants.template and system.there(wants.template)) and facts.firmware is None:
        yield Finding("guest-nvram-missing", "error", name, f"there is neither {wants.nvram} nor a template for it")
    elif variables and wants.template and not system.there(wants.template):
        yield Finding("guest-nvram-missing", "error", name, f"there is neither {wants.nvram} nor {wants.template}")
    sources = [disk.source for disk in wants.disks if not disk.source.startswith(ZVOL)]
    for path in filter(None, (wants.emulator, *wants.files, *sources)):
        node = system.nodes.get(path)
        if not path.startswith("/") or path not in system.nodes:
            continue
        if node is None:
            yield Finding("guest-file-missing", "error", name, f"there is no {path}")
        elif node.closed and path in sources:
            yield Finding(
                "guest-file-closed", "error", name, f"{path} is behind {node.closed}, which QEMU may not search"
            )
    if system.qemu.get("dynamic_ownership") == "0" and not guest.domain.active:
        yield from _owned(guest, facts)


def _owned(guest: Guest, facts: HostFacts) -> Iterator[Finding]:
    """libvirt leaves owners as they are: may QEMU's user open its disks?"""
    users = {uid for user, (uid, _) in facts.system.users.items() if user != "kvm"}
    groups = {gid for _, gid in facts.system.users.values()}
    for disk in guest.wants.disks:
        node = facts.system.nodes.get(disk.source)
        if node is None:
            continue
        need = 0o6 if disk.device == "disk" else 0o4
        allowed = node.mode & 0o7
        allowed |= (node.mode >> 3) & 0o7 if node.gid in groups else 0
        allowed |= (node.mode >> 6) & 0o7 if node.uid in users else 0
        if allowed & need != need and facts.system.qemu.get("user", "").lstrip("+") not in ("root", "0"):
            found = f"{disk.source} belongs to {node.uid}:{node.gid}, mode {node.mode:04o}"
            yield Finding("guest-file-owned", "error", guest.name, found)


def _networks(guest: Guest, facts: HostFacts) -> Iterator[Finding]:
    known = {each.name for each in facts.libvirt.networks} if facts.libvirt else None
    for kind, name in guest.wants.networks:
        if kind == "network" and known is not None and name not in known:
            yield Finding("guest-network-missing", "error", guest.name, f"libvirt has no network {name}")
        elif kind == "bridge" and not facts.system_fault and name not in facts.bridges:
            yield Finding("guest-network-missing", "error", guest.name, f"there is no bridge {name}")
