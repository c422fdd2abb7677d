"""What is on the host and is no whole VM of ours: domains of others, and volumes and domains that have lost each other.

Shown with what can be done about it, and never cleaned up.
"""

from __future__ import annotations

from dataclasses import dataclass

from .inventory import Dataset, Domain, Inventory
from .source_disks import NVRAM, CannotBeCopied, source_disks

ADOPTABLE, FILES, MISSING, SHARED, ORPHAN = "adoptable", "files", "missing", "shared", "orphan"


@dataclass(frozen=True)
class Foreign:
    """kind: adoptable, files, missing, shared or orphan; volumes: on our storages; why, hint: for a person."""

    name: str
    uuid: str
    state: str
    kind: str
    volumes: tuple[str, ...]
    why: str
    hint: str


def foreign(inventory: Inventory, libvirt: bool) -> list[Foreign]:
    """By name. libvirt: whether its domains are known: while they are not, no VM is called an orphan."""
    found = [each for domain in inventory.domains.values() if (each := of_domain(inventory, domain))]
    if libvirt:
        orphans = (vm for vm in map(inventory.vm, inventory.vm_ids()) if vm and vm.domain is None)
        found += [
            Foreign(
                vm.name, "", "orphan", ORPHAN, tuple(volume.name for volume in vm.volumes),
                "no libvirt domain uses its volumes",
                f"define it again as its snapshots keep it: kvm-adopt {vm.name}; or delete it: kvm-delete {vm.name}",
            )
            for vm in orphans
        ]  # fmt: skip
    return sorted(found, key=lambda each: (each.name, each.uuid))


def of_domain(inventory: Inventory, domain: Domain) -> Foreign | None:
    """What a domain is, if it is none of a VM's."""
    if inventory.vm_of_domain(domain.uuid) is not None:
        return None
    there = volumes_of(inventory, domain)

    def made(kind: str, why: str, hint: str) -> Foreign:
        return Foreign(domain.name, domain.uuid, domain.state, kind, tuple(each.name for each in there), why, hint)

    if gone := missing(inventory, domain):
        why = f"its volumes are not there: {', '.join(gone)}"
        return made(MISSING, why, "is their pool imported? kvm-trash list shows what was deleted")
    owners = {inventory.vm_named_by(each.name) for each in there} - {each.name for each in there}
    if owners:
        why = f"its volumes are those of {', '.join(sorted(owners))}"
        return made(SHARED, why, "detach them there, or undefine one of the two")
    outside = sorted(path for path in domain.disks.values() if not inventory.volume_at(path))
    if not there or any(target != "nvram" and path in outside for target, path in domain.disks.items()):
        return made(FILES, *_elsewhere(domain, outside))
    return made(ADOPTABLE, "others have made it on volumes of ours", f"take it in: kvm-adopt {domain.name}")


def _elsewhere(domain: Domain, outside: list[str]) -> tuple[str, str]:
    """Why a domain is none on volumes of ours, and what can be done about it."""
    try:
        disks = source_disks(domain.xml)
    except CannotBeCopied as cannot:
        return cannot.why, cannot.hint
    if all(disk.target == NVRAM for disk in disks):
        return "it has no disk", ""
    why = f"its disks are no volumes right below a storage: {', '.join(outside)}"
    shut_down = "shut it down, and " if domain.active else ""
    return why, f"{shut_down}have its disks copied into volumes: kvm-adopt {domain.name}"


def volumes_of(inventory: Inventory, domain: Domain) -> list[Dataset]:
    """The volumes right below a storage that a domain uses, each once, by its targets."""
    names = dict.fromkeys(inventory.volume_at(path) for _, path in sorted(domain.disks.items()))
    return [inventory.datasets[name] for name in names if name in inventory.datasets]


def missing(inventory: Inventory, domain: Domain) -> list[str]:
    """The volumes right below a storage that a domain uses and that are not there."""
    names = {inventory.volume_at(path) for path in domain.disks.values()} - {""}
    return sorted(name for name in names if name not in inventory.datasets)
