"""A bridge in systemd-networkd: three files, of which one gives the bridge what the port's file gave the port.

They are found before the port's own file, which stays as it is: to give the bridge up, remove them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ...model.wiring import NETWORKD, Link, Owner
from ..sources import NET
from .tool import ByFiles, Names

TRIAL, KEPT = "/run/systemd/network", "/etc/systemd/network"
DIRECTORIES = (KEPT, TRIAL, "/usr/local/lib/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network")
STATE, LEASES = "/run/systemd/netif/links", "/run/systemd/netif/leases"
PREFIX = "00-kldload-kvm-"
PORT_FILE = re.compile(re.escape(PREFIX) + r"(.+)-port\.network")
MOVES = frozenset({
    "Network", "Address", "Neighbor", "IPv6AddressLabel", "RoutingPolicyRule", "NextHop", "Route", "DHCP", "DHCPv4",
    "DHCPv6", "DHCPPrefixDelegation", "IPv6PrefixDelegation", "IPv6AcceptRA", "DHCPServer", "DHCPServerStaticLease",
    "IPv6SendRA", "IPv6Prefix", "IPv6RoutePrefix", "IPv6PREF64Prefix",
})  # fmt: skip
"""The sections that are about addresses, and go to the bridge. [Link] is about both."""
STACKED = frozenset({
    "Bridge", "Bond", "VRF", "BatmanAdvanced", "VLAN", "IPVLAN", "IPVTAP", "MACVLAN", "MACVTAP", "VXLAN", "Tunnel",
    "MACsec", "Xfrm", "IPoIB", "ActiveSlave", "PrimarySlave",
})  # fmt: skip
"""What [Network] puts on top of a link, or a link into."""
Sections = list[tuple[str, list[str]]]


class Networkd(ByFiles):
    """A `settings` of this tool is the path of the .network file that it goes by."""

    name, trial_in, kept_in, port_file, mode = NETWORKD, TRIAL, KEPT, PORT_FILE, 0o644

    def owns(self, link: Link) -> Owner | None:
        if not self.active("systemd-networkd.service"):
            return None
        state = self._values(f"{STATE}/{link.index}")
        file = state.get("NETWORK_FILE", "")
        if not file or state.get("ADMIN_STATE") in ("unmanaged", "linger"):
            return None
        return Owner(self.name, file, self._hindrance(file))

    def _hindrance(self, file: str) -> str:
        if file.rpartition("/")[2] < PREFIX:
            return f"{file} is read before {PREFIX}…, which is to come first: rename it"
        try:
            return unmovable(self._sections(file), file)
        except OSError as fault:
            return f"{file} cannot be read: {fault.strerror}"

    def files(self, bridge: str) -> tuple[str, ...]:
        return f"{PREFIX}{bridge}.netdev", f"{PREFIX}{bridge}.network", f"{PREFIX}{bridge}-port.network"

    def begin(self, names: Names, link: Link) -> None:
        self.write_trial(names.bridge, self._texts(names, link))
        self.run(["networkctl", "reload"])
        self.wait_until(lambda: self.master(names.port) == names.bridge, f"put {names.port} into {names.bridge}")

    def take_back(self, names: Names) -> None:
        """networkd forgets the bridge first: else it puts the port into it again as soon as it has lost it."""
        self.remove_files(names.bridge)
        self.run(["networkctl", "reload"])
        if self.is_bridge(names.bridge):
            self.tolerated("networkctl", "delete", names.bridge)
        self.run(["networkctl", "reconfigure", names.port])
        self.wait_until(lambda: not self.master(names.port), f"taken {names.port} out of {names.bridge}")
        if self.there(f"{NET}/{names.bridge}"):
            raise OSError(f"the bridge {names.bridge} is still there")

    def _texts(self, names: Names, link: Link) -> tuple[str, str, str]:
        """In the order of the files. Nothing is loaded again when they are kept: networkd goes by the same texts."""
        iaid = iaid_of(self._values(f"{LEASES}/{link.index}").get("CLIENTID", ""))
        return (
            netdev(names.bridge, link.mac),
            bridge_network(names.bridge, names.settings, self._sections(names.settings), iaid),
            port_network(names.bridge, names.port, self._sections(names.settings)),
        )

    def _sections(self, file: str) -> Sections:
        """Of a .network file and its drop-ins, of which the one in /etc hides its namesake in /run or /usr."""
        drop_ins: dict[str, str] = {}
        for directory in reversed(DIRECTORIES):
            where = f"{directory}/{file.rpartition('/')[2]}.d"
            drop_ins |= {each: f"{where}/{each}" for each in self.names_in(where) if each.endswith(".conf")}
        found = list(sections(self.read(file)))
        for name in sorted(drop_ins):
            found += sections(self.read(drop_ins[name]))
        return found

    def _values(self, path: str) -> dict[str, str]:
        try:
            rows = (line.partition("=") for line in self.read(path).splitlines() if not line.startswith("#"))
        except OSError:
            return {}
        return {key: value.strip('"') for key, _, value in rows}


def netdev(bridge: str, mac: str) -> str:
    """With the port's address, so that DHCP and the switch see the same host."""
    return f"{HEAD}\n[NetDev]\nName={bridge}\nKind=bridge\nMACAddress={mac}\n"


def bridge_network(bridge: str, file: str, found: Sections, iaid: int | None) -> str:
    text = f"{HEAD}# The addresses are those of {file}.\n\n[Match]\nName={bridge}\n"
    text += written(found, MOVES | {"Link"})
    if iaid is not None and not _has(found, "DHCPv4", "IAID"):
        text += f"\n# As the port had it: else DHCP would take the bridge for another host.\n[DHCPv4]\nIAID={iaid}\n"
    return text


def port_network(bridge: str, port: str, found: Sections) -> str:
    network = f"[Network]\nBridge={bridge}\nLinkLocalAddressing=no\n"
    return f"{HEAD}\n[Match]\nName={port}\n\n{network}{written(found, {'Link'})}"


HEAD = "# Made by kvm-host bridge. To give the bridge up, remove its three files and: networkctl reload\n"


def sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each with its lines; comments are left out, and lines that go on in the next are joined."""
    name, lines = "", list[str]()
    joined = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith(("#", ";")) or not (line or joined):
            continue
        joined += line.removesuffix("\\").rstrip() + " " if line.endswith("\\") else line
        if line.endswith("\\"):
            continue
        if joined.startswith("[") and joined.endswith("]"):
            if name:
                yield name, lines
            name, lines = joined[1:-1], []
        else:
            lines.append(joined)
        joined = ""
    if name:
        yield name, lines


def written(found: Sections, wanted: Iterable[str]) -> str:
    return "".join("\n" + "\n".join((f"[{name}]", *lines)) + "\n" for name, lines in found if name in wanted)


def unmovable(found: Sections, file: str) -> str:
    """Why what stands in a port's files cannot be given to a bridge; empty if it can."""
    for name, lines in found:
        if name not in MOVES | {"Match", "Link"}:
            return f"{file} has a section [{name}], of which it is not known whether it is the port's or the bridge's"
        keys = [line.partition("=")[0].strip() for line in lines]
        if name == "Network" and (stacked := next((key for key in keys if key in STACKED), "")):
            return f"{file} has {stacked}= in it, and what is on top of the port has to be put on top of the bridge"
    return ""


def iaid_of(client: str) -> int | None:
    """The number by which the port is known to its DHCP server, from the client's id in its lease (RFC 4361: a byte
    255, four bytes, then the host's DUID); None for an id of another kind, which goes by the address."""
    return int(client[2:10], 16) if re.fullmatch(r"ff[0-9a-f]{8}(?:[0-9a-f]{2})+", client.lower()) else None


def _has(found: Sections, section: str, key: str) -> bool:
    return any(name == section and line.partition("=")[0].strip() == key for name, lines in found for line in lines)
