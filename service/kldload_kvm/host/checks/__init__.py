"""What is judged: one file a topic, each with pure functions from the facts to findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ...model.finding import Finding, by_severity
from ...model.host_facts import HostFacts
from . import confinement, datasets, firmware, guests, isolation, kernel, kvm, libvirt, memory, network, pools, timers

Check = Callable[[HostFacts], Iterable[Finding]]

CHECKS: tuple[Check, ...] = (
    pools.check, datasets.check, memory.check, kernel.check, kvm.check, firmware.check, libvirt.check, network.check,
    confinement.check, isolation.check, timers.check, guests.check,
)  # fmt: skip


def judge(facts: HostFacts) -> list[Finding]:
    """All findings, the worst first."""
    return by_severity([found for check in CHECKS for found in check(facts)])
