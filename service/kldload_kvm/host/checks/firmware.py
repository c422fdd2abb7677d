"""UEFI firmware, without which no VM is made."""

from __future__ import annotations

from collections.abc import Iterator

from ...model.finding import Finding
from ...model.host_facts import HostFacts


def check(facts: HostFacts) -> Iterator[Finding]:
    if facts.firmware is None:
        yield Finding(
            "firmware-missing", "error", "OVMF", "neither a descriptor in /usr/share/qemu/firmware nor OVMF is there"
        )
