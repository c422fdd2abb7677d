"""The network of the host as data, and which of its cards a bridge can be made on. Pure.

Who has a card is told by the tool that does: only the tool that gave it its addresses can give them to a bridge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .constants import DOCS
from .errors import AlreadyExists, InvalidArgument, NotFound, WrongState
from .names import shown, why_not

LINK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
"""Of the names that the kernel takes (dev_valid_name: 15 bytes, no '/', ':' or space) those that every tool does."""
KEYWORDS = frozenset({"all", "default", "lo", "none"})
"""/proc/sys/net has directories of the first two names."""
ETHERNET = 1
"""ARPHRD_ETHER; loopback is 772."""
CARRIES = frozenset({"", "bond", "vlan"})
"""The kinds of links that can be a bridge's port."""
NETWORKD, NETWORK_MANAGER, IFUPDOWN = "systemd-networkd", "NetworkManager", "ifupdown"
TOOLS = (NETWORKD, NETWORK_MANAGER, IFUPDOWN)


AWAITED, WITHIN = "bridge.await", 60
"""The kind of the step that waits for a bridge to be confirmed; and for how many seconds, if nothing is asked for."""


@dataclass(frozen=True)
class Owner:
    """A tool that has a link. settings: what it goes by: a file, or the UUID of a connection; hindrance: why what
    stands there cannot be given to a bridge, or empty."""

    tool: str
    settings: str
    hindrance: str = ""


@dataclass(frozen=True)
class Link:
    """A network interface. index, type: the kernel's numbers; kind: bridge, bond, vlan, wlan, tun …, empty for a card;
    master: the bridge or bond that it is in; uppers: what is on top of it, such as VLANs; carrier: whether it has a
    connection; owners: the tools that have it."""

    name: str
    index: int = 0
    type: int = ETHERNET
    kind: str = ""
    mac: str = ""
    master: str = ""
    uppers: tuple[str, ...] = ()
    carrier: bool = True
    owners: tuple[Owner, ...] = ()


@dataclass(frozen=True)
class Wiring:
    """links by name; kept: names of bridges that there are files of ours for."""

    links: Mapping[str, Link] = field(default_factory=dict)
    kept: tuple[str, ...] = ()


def link_name(text: str, what: str) -> str:
    """The name of a network interface. what: was not done. Raises InvalidArgument."""
    if text in KEYWORDS:
        why, hint = f"{shown(text)} is the name of something else", "choose another name, such as br0"
        raise InvalidArgument(what, why, hint)
    if not LINK_NAME.fullmatch(text):
        hint = "a network interface has at most 15 letters, digits, '_', '-' and '.', such as br0 or enp3s0"
        raise InvalidArgument(what, f"{shown(text)} is no name of one: {why_not(text, 15)}", hint)
    return text


def owner_of(wiring: Wiring, bridge: str, port: str) -> Owner:
    """The one tool that can make that bridge on that port. Raises AlreadyExists, NotFound or WrongState."""
    what = f"the bridge {bridge} was not made"
    if bridge in wiring.links:
        raise AlreadyExists(what, f"there is a network interface {bridge}", "choose another name")
    if bridge in wiring.kept:
        hint = f"choose another name, or remove them: {DOCS}/host.md tells which they are"
        raise AlreadyExists(what, f"files of an earlier bridge {bridge} are there", hint)
    link = wiring.links.get(port)
    if link is None:
        cards = ", ".join(each.name for each in wiring.links.values() if not _unfit(each))
        raise NotFound(
            what, f"there is no network interface {port}", f"a bridge can be made on: {cards or 'none here'}"
        )
    if why := _unfit(link):
        raise WrongState(what, f"{port} {why[0]}", why[1])
    if len(link.owners) > 1:
        tools = " and ".join(each.tool for each in link.owners)
        raise WrongState(what, f"{port} is configured by {tools}", "have one of them leave it alone")
    if not link.owners:
        hint = f"configure it in one of these, and bring it up: {', '.join(TOOLS)}; or make the bridge by hand"
        raise WrongState(what, f"{port} is configured by nothing that is known here", hint)
    if link.owners[0].hindrance:
        raise WrongState(what, link.owners[0].hindrance, f"make the bridge in {link.owners[0].tool} by hand")
    return link.owners[0]


def _unfit(link: Link) -> tuple[str, str] | None:
    """Why a link cannot be a bridge's port, and what to do; None for one that can."""
    if link.kind == "wlan":
        return "is wireless: an access point takes no frames of guests", "use a NAT network: virsh net-start default"
    if link.kind == "tun":
        return "is a guest's end of its own network card", "name the host's card: ip link"
    if link.kind == "bridge":
        return "is a bridge itself", f"guests can be put on it: bridge = {link.name} in kvm.conf(5)"
    if link.type != ETHERNET or link.kind not in CARRIES:
        return f"is no Ethernet card{f', but {link.kind}' if link.kind else ''}", "name the host's card: ip link"
    if link.master:
        return f"is in {link.master} already", f"make the bridge on {link.master}, or take it out of it"
    if link.uppers:
        return f"has {', '.join(link.uppers)} on top of it", "make the bridge by hand, with these on top of the bridge"
    return None
