"""The network of guests: libvirt's networks, bridges, forwarding, and the host's firewall in between."""

from __future__ import annotations

from collections.abc import Iterator

from ...model.finding import Finding
from ...model.host_facts import HostFacts, Network
from ..sources import BRIDGE_FILTER, IP_FORWARD


def check(facts: HostFacts) -> Iterator[Finding]:
    networks = {each.name: each for each in facts.libvirt.networks} if facts.libvirt else {}
    wanted = {name: [g.name for g in facts.guests if (kind, name) in g.wants.networks]
              for kind, name in _used(facts) if kind == "network"}  # fmt: skip
    if facts.libvirt or facts.settings.network.startswith("bridge="):
        yield from _default(facts, networks)
    if facts.libvirt:
        for each in networks.values():
            yield from _network(each, wanted.get(each.name, []))
    if facts.system_fault:
        return
    bridges = facts.bridges
    for name in sorted({name for kind, name in _used(facts) if kind == "bridge" and bridges.get(name) is False}):
        yield Finding("bridge-down", "error", name, "guests are on it, and it is down")
    forwarded = [each.name for each in networks.values() if each.active and each.forward in ("nat", "route")]
    if forwarded and facts.system.number(IP_FORWARD) == 0:
        found = f"net.ipv4.ip_forward is 0, and {', '.join(forwarded)} is active"
        yield Finding("forwarding-off", "error", "net.ipv4.ip_forward", found)
    if facts.system.number(BRIDGE_FILTER) == 1 and any(kind == "bridge" for kind, _ in _used(facts)):
        found = "net.bridge.bridge-nf-call-iptables is 1, and guests are on a bridge"
        yield Finding("bridge-filtered", "warning", "net.bridge.bridge-nf-call-iptables", found)


def _used(facts: HostFacts) -> set[tuple[str, str]]:
    return {each for guest in facts.guests for each in guest.wants.networks}


def _default(facts: HostFacts, networks: dict[str, Network]) -> Iterator[Finding]:
    """Where a new VM's network card would be put, as ops/networks.py decides it."""
    kind, _, name = facts.settings.network.partition("=")
    there = {"bridge": name in facts.bridges, "network": name in networks, "none": True}
    if kind == "auto":
        ready = facts.settings.bridge in facts.bridges or "default" in networks
        found = f"there is neither the bridge {facts.settings.bridge} nor libvirt's network default"
    else:
        ready, found = there[kind], f"kvm.conf says {facts.settings.network}, which is not there"
    if not ready:
        yield Finding("network-none", "warning", name or facts.settings.bridge, found)


def _network(each: Network, guests: list[str]) -> Iterator[Finding]:
    relevant = guests or each.name == "default"
    on_it = f"; on it are {', '.join(sorted(guests)[:3])}" if guests else ""
    if not each.active and relevant:
        yield Finding("network-inactive", "warning", each.name, f"it is defined, and not active{on_it}")
    if not each.autostart and relevant:
        yield Finding("network-manual", "notice", each.name, f"its autostart is off{on_it}")
