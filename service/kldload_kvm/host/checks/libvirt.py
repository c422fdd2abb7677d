"""libvirt: reachable, new enough, closed to the network, and calling our hook."""

from __future__ import annotations

from collections.abc import Iterator

from ...model.finding import Finding
from ...model.host_facts import HostFacts
from ..sources import HOOK, UNITS

LOOPBACK = ("127.", "::1", "localhost")


def check(facts: HostFacts) -> Iterator[Finding]:
    if facts.libvirt is None:
        yield Finding("libvirt-unreachable", "error", "libvirt", facts.libvirt_fault)
    elif facts.libvirt.version and facts.libvirt.version < (9,):
        version = ".".join(map(str, facts.libvirt.version))
        yield Finding("libvirt-old", "warning", "libvirt", f"libvirt is {version}")
    hook = facts.system.nodes.get(HOOK)
    if not facts.system_fault and (hook is None or not hook.mode & 0o100):
        yield Finding("hook-missing", "error", HOOK, "it cannot be run" if hook else "there is no such file")
    elif facts.unheard:
        yield Finding(
            "hook-unheard", "error", HOOK, f"libvirt did not ask before it started {', '.join(facts.unheard)}"
        )
    for unit in UNITS["libvirt-tcp"]:
        if facts.units.get(unit):
            yield Finding("libvirt-tcp", "error", unit, "it is active")
    if not facts.settings.vnc_listen.startswith(LOOPBACK):
        found = f"new VMs' screens listen on {facts.settings.vnc_listen}"
        yield Finding("screens-open", "warning", "/etc/kldload-kvm/kvm.conf", found)
