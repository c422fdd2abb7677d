"""A guest's addresses, as it says itself and as libvirt knows them. Pure; a guest may say anything."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping
from typing import Any

MOST = 64
"""So many are listened to; a guest with more is making them up."""


def from_agent(answer: str) -> list[str]:
    """Addresses out of the answer to guest-network-get-interfaces, each "ADDRESS/PREFIX"; none if it is no such answer.

    >>> from_agent('{"return": [{"name": "eth0", "ip-addresses": [{"ip-address": "10.0.0.2", "prefix": 24}]}]}')
    ['10.0.0.2/24']
    """
    try:
        interfaces = json.loads(answer)["return"]
        pairs = [
            (each["ip-address"], each["prefix"])
            for interface in interfaces[:MOST]
            for each in (interface.get("ip-addresses") or [])[:MOST]
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []
    return _listed(pairs)


def from_libvirt(interfaces: Mapping[str, Any]) -> list[str]:
    """Addresses out of what virDomainInterfaceAddresses gives."""
    return _listed((each["addr"], each["prefix"]) for one in interfaces.values() for each in one.get("addrs") or ())


def _listed(pairs: Iterable[tuple[Any, Any]]) -> list[str]:
    found = []
    for address, prefix in pairs:
        try:
            # As text, once more, what was a valid address: nothing else that a guest says is shown to anybody.
            valid = ipaddress.ip_interface(f"{address}/{prefix}")
        except ValueError:
            continue
        if not (valid.ip.is_loopback or valid.ip.is_link_local):
            found.append(f"{valid.ip}/{prefix}")
    return list(dict.fromkeys(found))[:MOST]
