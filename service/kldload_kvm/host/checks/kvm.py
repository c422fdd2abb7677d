"""The processor: KVM, nested guests, the IOMMU. Each only where somebody wants it."""

from __future__ import annotations

from collections.abc import Iterator

from ...model.finding import Finding
from ...model.host_facts import HostFacts
from ..sources import NESTED


def check(facts: HostFacts) -> Iterator[Finding]:
    if facts.system_fault:
        return
    if not facts.kvm and facts.settings.accelerator != "qemu":
        yield Finding("kvm-missing", "warning", "/dev/kvm", "there is no /dev/kvm")
    groups = facts.system.names.get("iommu", ())
    nested = [facts.system.files[path].strip() for path in NESTED if path in facts.system.files]
    for guest in facts.guests:
        if guest.wants.devices and not groups:
            found = f"{guest.name} is to have {guest.wants.devices} PCI devices, and there are no IOMMU groups"
            yield Finding("iommu-off", "error", guest.name, found)
        if guest.wants.nested and nested and nested[0] not in ("Y", "1"):
            yield Finding("nested-off", "error", guest.name, f"{guest.name} needs it, and nested is {nested[0]}")
        if guest.wants.accelerator == "kvm" and not facts.kvm:
            yield Finding("guest-kvm-missing", "error", guest.name, "its type is kvm, and there is no /dev/kvm")
