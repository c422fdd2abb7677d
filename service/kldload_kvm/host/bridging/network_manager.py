"""A bridge in NetworkManager: two connections, one for the bridge with what the port's connection gave the port, and
one that puts the port into it.

The port's own connection stays as it is. Ours comes before it by its priority, and so long as ours is there.
"""

from __future__ import annotations

import re
import subprocess
import uuid
from functools import cached_property

from ...model.wiring import NETWORK_MANAGER, Link, Owner
from .tool import ByFiles, Names

TRIAL, KEPT = "/run/NetworkManager/system-connections", "/etc/NetworkManager/system-connections"
DIRECTORIES = (KEPT, TRIAL, "/usr/lib/NetworkManager/system-connections")
PREFIX = "kldload-kvm-"
PORT_FILE = re.compile(re.escape(PREFIX) + r"(.+)-port\.nmconnection")
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MOVES = ("ipv4", "ipv6", "proxy")
"""The sections that are about addresses, and go to the bridge."""
STAYS = ("ethernet", "ethtool", "802-3-ethernet")
"""Those that are about the card."""
KNOWN = frozenset({"connection", "user", *MOVES, *STAYS})
GOES_ALONG = ("zone", "mdns", "llmnr", "dns-over-tls", "lldp", "metered")
"""Of the section [connection], what is about the addresses."""
TYPES = frozenset({"ethernet", "802-3-ethernet"})
HIGHEST = 999
SECONDS = "45"
Keyfile = dict[str, list[str]]


class NetworkManager(ByFiles):
    """A `settings` of this tool is the UUID of the connection that the port has."""

    name, trial_in, kept_in, port_file, mode = NETWORK_MANAGER, TRIAL, KEPT, PORT_FILE, 0o600

    def owns(self, link: Link) -> Owner | None:
        if not self.active("NetworkManager.service"):
            return None
        connections, fault = self._connections
        if fault:
            return Owner(self.name, "", f"NetworkManager cannot be asked: {fault}")
        if link.name not in connections:
            return None
        connection = connections[link.name]
        try:
            return Owner(self.name, connection, unmovable(self._keyfile(connection), connection))
        except (OSError, subprocess.SubprocessError) as failure:
            return Owner(self.name, connection, f"the connection {connection} cannot be read: {failure}")

    def files(self, bridge: str) -> tuple[str, ...]:
        return f"{PREFIX}{bridge}.nmconnection", f"{PREFIX}{bridge}-port.nmconnection"

    def begin(self, names: Names, link: Link) -> None:
        found = self._keyfile(names.settings)
        texts = (bridge_text(names.bridge, link.mac, found), port_text(names.bridge, names.port, found))
        self.write_trial(names.bridge, texts)
        self.run(["nmcli", "connection", "reload"])
        self.run(["nmcli", "--wait", SECONDS, "connection", "up", "uuid", uuids(names.bridge)[1], "ifname", names.port])
        self.wait_until(lambda: self.master(names.port) == names.bridge, f"put {names.port} into {names.bridge}")

    def keep(self, names: Names, link: Link) -> None:
        """NetworkManager takes the files in /etc before those in /run."""
        super().keep(names, link)
        self.tolerated("nmcli", "connection", "reload")

    def take_back(self, names: Names) -> None:
        """Connections whose files are gone end when they are read again, and the bridge, which one of them made, with
        them."""
        self.remove_files(names.bridge)
        self.run(["nmcli", "connection", "reload"])
        self.wait_until(lambda: not self.is_bridge(names.bridge), f"taken the bridge {names.bridge} away")
        if not UUID.fullmatch(names.settings):
            raise ValueError(f"{names.settings} is no connection's UUID")
        self.run(["nmcli", "--wait", SECONDS, "connection", "up", "uuid", names.settings, "ifname", names.port])
        self.wait_until(lambda: not self.master(names.port), f"taken {names.port} out of {names.bridge}")

    @cached_property
    def _connections(self) -> tuple[dict[str, str], str]:
        """By device the UUID of what it has, where NetworkManager is what gave it; and why it could not be asked. It is
        asked once, however many devices there are."""
        try:
            rows = self.run(["nmcli", "-t", "-f", "DEVICE,STATE,CON-UUID", "device", "status"]).splitlines()
        except (OSError, subprocess.SubprocessError) as fault:
            return {}, str(fault)
        found = {}
        for row in rows:
            device, _, rest = row.partition(":")
            state, _, connection = rest.rpartition(":")
            if state.startswith("connected") and "external" not in state and UUID.fullmatch(connection):
                found[device] = connection
        return found, ""

    def _keyfile(self, connection: str) -> Keyfile:
        """What stands in its file; empty for one that is in no keyfile. Raises OSError."""
        rows = self.run(["nmcli", "-t", "-e", "no", "-f", "UUID,FILENAME", "connection", "show"]).splitlines()
        file = next((row.partition(":")[2] for row in rows if row.partition(":")[0] == connection), "")
        return sections(self.read(file)) if file.rpartition("/")[0] in DIRECTORIES and self.there(file) else {}


def uuids(bridge: str) -> tuple[str, str]:
    """Of the bridge's connection and the port's, the same each time."""
    names = (f"{bridge}.kldload-kvm", f"port.{bridge}.kldload-kvm")
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, names[0])), str(uuid.uuid5(uuid.NAMESPACE_DNS, names[1]))


def bridge_text(bridge: str, mac: str, found: Keyfile) -> str:
    """With the port's address, so that DHCP and the switch see the same host."""
    along = [line for line in found.get("connection", []) if _key(line) in GOES_ALONG]
    head = [f"id={bridge}", f"uuid={uuids(bridge)[0]}", "type=bridge", f"interface-name={bridge}", *along]
    mtu = [line for name in STAYS for line in found.get(name, []) if _key(line) == "mtu"]
    card = [f"cloned-mac-address={mac}", *mtu]
    rest = {name: found[name] for name in MOVES if name in found}
    return HEAD + written({"connection": head, "ethernet": card, "bridge": ["stp=false"], **rest})


def port_text(bridge: str, port: str, found: Keyfile) -> str:
    head = [
        f"id={bridge}, port {port}", f"uuid={uuids(bridge)[1]}", "type=ethernet", f"interface-name={port}",
        f"master={bridge}", "slave-type=bridge", f"autoconnect-priority={HIGHEST}",
    ]  # fmt: skip
    card = {name: found[name] for name in STAYS if name in found}
    return HEAD + written({"connection": head, **card, "bridge-port": []})


HEAD = "# Made by kvm-host bridge. To give the bridge up, remove its two files and: nmcli connection reload\n"


def sections(text: str) -> Keyfile:
    """Each with its lines, but for comments."""
    found: Keyfile = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("[") and line.rstrip().endswith("]"):
            name = line.strip()[1:-1]
            found.setdefault(name, [])
        elif line.strip() and not line.startswith("#") and name:
            found[name].append(line)
    return found


def written(found: Keyfile) -> str:
    return "".join("\n" + "\n".join((f"[{name}]", *lines)) + "\n" for name, lines in found.items())


def unmovable(found: Keyfile, connection: str) -> str:
    """Why what a connection holds cannot be given to a bridge; empty if it can."""
    if not found:
        return f"the connection {connection} is in no keyfile: nmcli connection migrate {connection}"
    kind = next((line.partition("=")[2].strip() for line in found["connection"] if _key(line) == "type"), "")
    if kind not in TYPES:
        return f"the connection {connection} is of the type {kind}, not ethernet"
    if strange := next((name for name in found if name not in KNOWN), ""):
        why = "of which it is not known whether it is the port's or the bridge's"
        return f"the connection {connection} has a section [{strange}], {why}"
    return ""


def _key(line: str) -> str:
    return line.partition("=")[0].strip()
