"""What a check of the host finds, and what keeps a VM from starting."""

from __future__ import annotations

from dataclasses import dataclass

SEVERITIES = ("error", "warning", "notice")
"""Something does not work or loses data; something will, or is open; something could be better."""

FIXED = (
    "storage-missing", "isos-missing", "isos-unmounted", "dataset-setting", "sync-disabled", "pool-autotrim",
    "scrub-unscheduled", "arc-unlimited", "arc-forgotten", "memory-promised", "swappiness", "txg-timeout",
    "network-inactive", "network-manual", "snapshots-off", "trash-off", "auto-snapshot-beside",
)  # fmt: skip
"""The findings that kvm-host fix does something about."""


@dataclass(frozen=True)
class Finding:
    """id: the entry of the catalogue that explains it; object: the pool, dataset, VM, unit or file; found: what was
    seen, with its figures."""

    id: str
    severity: str
    object: str
    found: str


def by_severity(findings: list[Finding]) -> list[Finding]:
    """The worst first; each kind together."""
    return sorted(findings, key=lambda each: (SEVERITIES.index(each.severity), each.id, each.object))
