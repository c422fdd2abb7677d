"""A host's network below a directory: /sys/class/net as links, and a tool that does with them what its files say.

What a card was given shows as a line in /addresses/NAME, which only the tool writes.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from kldload_kvm.host import sources
from kldload_kvm.host.bridging import ifupdown, network_manager, networkd
from kldload_kvm.host.bridging.tool import TRIALS

MAC = "52:54:00:6b:77:01"
CARD = "20-card.network"
CARD_FILE = f"{networkd.KEPT}/{CARD}"
CARD_TEXT = f"""\
# The card.
[Match]
MACAddress={MAC}

[Network]
Address=192.168.77.1/24
LinkLocalAddressing=no

[Link]
RequiredForOnline=no
"""


class MemoryNetwork:
    """moment(what): called before and after each command, and may raise."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commands: list[str] = []
        self.fails = ""
        self.moment: Callable[[str], None] = lambda what: None
        self.links: dict[str, str] = {}
        self.add("lo", "00:00:00:00:00:00", type=772)
        self.add("eth7", MAC)

    def path(self, path: str) -> Path:
        return self.root / path.removeprefix("/")

    def put(self, path: str, text: str = "") -> None:
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def text(self, path: str) -> str:
        return self.path(path).read_text() if self.path(path).exists() else ""

    def add(self, name: str, mac: str, *, type: int = 1, kind: str = "", carrier: bool = True) -> None:
        where = f"{sources.NET}/{name}"
        self.links[name] = mac
        index = 1 + len(list(self.path(sources.NET).glob("*")))
        values = {"ifindex": str(index), "type": str(type), "address": mac, "carrier": str(int(carrier))}
        for key, value in values.items():
            self.put(f"{where}/{key}", f"{value}\n")
        self.put(f"{where}/uevent", f"DEVTYPE={kind}\nINTERFACE={name}\n" if kind else f"INTERFACE={name}\n")
        if kind == "bridge":
            self.path(f"{where}/bridge").mkdir(exist_ok=True)

    def drop(self, name: str) -> None:
        self.links.pop(name, None)
        shutil.rmtree(self.path(f"{sources.NET}/{name}"), ignore_errors=True)
        self.path(f"/addresses/{name}").unlink(missing_ok=True)
        for each in self.links:
            master = self.path(f"{sources.NET}/{each}/master")
            if master.is_symlink() and master.readlink().name == name:
                master.unlink()

    def enslave(self, name: str, master: str) -> None:
        link = self.path(f"{sources.NET}/{name}/master")
        link.unlink(missing_ok=True)
        if master:
            link.symlink_to(f"../{master}")

    def address(self, name: str, value: str) -> None:
        self.put(f"/addresses/{name}", value)

    def run(self, command: list[str]) -> str:
        words = " ".join(command)
        self.commands.append(words)
        self.moment(f"before {words}")
        if self.fails and self.fails in words:
            raise subprocess.SubprocessError(f"{words}: it was to fail")
        said = self.effect(command)
        self.moment(f"after {words}")
        return said

    tool, settings = "", ""

    def changes(self) -> list[str]:
        """The commands that did not only ask."""
        return [each for each in self.commands if not each.startswith("nmcli -t")]

    def effect(self, command: list[str]) -> str:
        raise NotImplementedError

    def load(self) -> None:
        """Have the links as the files say."""
        raise NotImplementedError

    def boot(self) -> None:
        """What was in /run is gone, and so are the links that were made."""
        for where in (networkd.TRIAL, networkd.STATE, network_manager.TRIAL, ifupdown.STATE, TRIALS):
            shutil.rmtree(self.path(where), ignore_errors=True)
        for name in [each for each in self.links if self.path(f"{sources.NET}/{each}/bridge").is_dir()]:
            self.drop(name)
        self.load()

    def picture(self) -> dict[str, str]:
        """The links with their addresses and masters, and all files of /etc and /run that somebody has written."""
        found = {}
        for name in self.links:
            master = self.path(f"{sources.NET}/{name}/master")
            inside = master.readlink().name if master.is_symlink() else ""
            found[name] = (
                f"{self.text(f'{sources.NET}/{name}/address').strip()} {self.text(f'/addresses/{name}')} {inside}"
            )
        for file in sorted((*self.path("/etc").rglob("*"), *self.path("/run").rglob("*"))):
            ours = not file.name.endswith(".new") and file.parent.parent.name != "netif" and file.name != "ifstate"
            if file.is_file() and ours:
                found[str(file.relative_to(self.root))] = file.read_text()
        return found


class MemoryNetworkd(MemoryNetwork):
    """systemd-networkd, as much of it as is needed here: of the files that match a link the first one counts."""

    tool, settings = "systemd-networkd", CARD_FILE

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.put("/run/systemd/units/invocation:systemd-networkd.service")
        self.put(CARD_FILE, CARD_TEXT)
        self.load()

    def effect(self, command: list[str]) -> str:
        match command[1:]:
            case ["reload"]:
                self.load()
            case ["reconfigure", name]:
                assert name in self.links
                self.load()
            case ["delete", name]:
                self.drop(name)
        return ""

    def load(self) -> None:
        files: dict[str, Path] = {}
        for directory in reversed(networkd.DIRECTORIES):
            files |= {each.name: each for each in self.path(directory).glob("*.net*") if each.is_file()}
        for name in sorted(each for each in files if each.endswith(".netdev")):
            values = self._values(files[name])
            if values["Name"] not in self.links:
                self.add(values["Name"], values["MACAddress"], kind="bridge")
        networks = [files[name] for name in sorted(files) if name.endswith(".network")]
        for name, mac in self.links.items():
            values, file = next(
                ((v, f) for f in networks if name == (v := self._values(f)).get("Name") or mac == v.get("Match.MAC")),
                ({}, None),
            )
            self.enslave(name, values.get("Bridge", ""))
            self.address(name, values.get("Address", ""))
            state = (
                f"ADMIN_STATE=configured\nNETWORK_FILE=/{file.relative_to(self.root)}\n"
                if file
                else "ADMIN_STATE=unmanaged\n"
            )
            self.put(f"{networkd.STATE}/{self.text(f'{sources.NET}/{name}/ifindex').strip()}", state)

    def _values(self, file: Path) -> dict[str, str]:
        found = {}
        for name, lines in networkd.sections(file.read_text()):
            for line in lines:
                key, _, value = line.partition("=")
                found["Match.MAC" if name == "Match" and key == "MACAddress" else key] = value
        return found


INTERFACES = """\
# by hand
auto lo
iface lo inet loopback

allow-hotplug eth7
iface eth7 inet static
    address 192.168.77.1/24
    # a word
    mtu 1400
iface eth7 inet6 auto
# the end
"""


class MemoryIfupdown(MemoryNetwork):
    """ifup and ifdown, with bridge-utils, and of `ip` what takes a link away."""

    tool, settings = "ifupdown", ifupdown.MAIN

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        for path in (ifupdown.PROGRAM, ifupdown.BRIDGE_UTILS):
            self.put(path)
        self.put(ifupdown.MAIN, INTERFACES)
        self.put(ifupdown.GENERATED.format("eth7"), "0")
        self.load()

    def effect(self, command: list[str]) -> str:
        file = ifupdown.MAIN
        if "-i" in command:
            file = command[command.index("-i") + 1]
        match command[0]:
            case "ifup":
                self.up(command[-1], file)
            case "ifdown":
                self.down(command[-1])
            case "ip" if command[1:3] == ["link", "delete"]:
                self.drop(command[-1])
        return ""

    def load(self) -> None:
        """As at boot: what begins with auto or allow-hotplug, the ports first."""
        self.put(ifupdown.GENERATED.format("eth7"), "0")
        self.address("eth7", "")
        self.enslave("eth7", "")
        self.path(f"{ifupdown.STATE}/ifstate").unlink(missing_ok=True)
        begun = [each.words[1:] for each in ifupdown.stanzas(self.text(ifupdown.MAIN)) if each.words[:1] != ("iface",)]
        for name in (name for words in begun for name in words):
            self.up(name, ifupdown.MAIN)

    def states(self) -> list[str]:
        return self.text(f"{ifupdown.STATE}/ifstate").split()

    def up(self, name: str, file: str) -> None:
        found = list(ifupdown.stanzas_of(self.text(file), name))
        if not found:
            raise subprocess.SubprocessError(f"Unknown interface {name}")
        if f"{name}={name}" in self.states():
            return
        options = dict(line.split(None, 1) for each in found for line in each.lines[1:] if len(line.split()) > 1)
        if port := options.get("bridge_ports", "").strip():
            self.add(name, options["bridge_hw"].strip(), kind="bridge")
            self.enslave(port, name)
            self.put(ifupdown.GENERATED.format(port), "1")
        self.address(name, options.get("address", "").strip())
        self.put(f"{ifupdown.STATE}/ifstate", "\n".join([*self.states(), f"{name}={name}"]))

    def down(self, name: str) -> None:
        self.put(f"{ifupdown.STATE}/ifstate", "\n".join(each for each in self.states() if each != f"{name}={name}"))
        if name in self.links:
            self.address(name, "")
        if self.path(f"{sources.NET}/{name}/bridge").is_dir():
            self.drop(name)


CONNECTION = "71014e65-425a-46ed-8226-6a679d2244a9"
CONNECTION_FILE = f"{network_manager.KEPT}/cable.nmconnection"
CONNECTION_TEXT = f"""\
[connection]
id=cable
uuid={CONNECTION}
type=ethernet
interface-name=eth7
zone=home

[ethernet]
mtu=1400

[ipv4]
address1=192.168.77.1/24
method=manual

[ipv6]
method=link-local

[proxy]
"""


class MemoryNetworkManager(MemoryNetwork):
    """NetworkManager by nmcli: a device has one connection, and one whose file is gone ends."""

    tool, settings = "NetworkManager", CONNECTION

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.put("/run/systemd/units/invocation:NetworkManager.service")
        self.put(CONNECTION_FILE, CONNECTION_TEXT)
        self.known: dict[str, dict[str, str]] = {}
        self.on: dict[str, str] = {}
        self.load()

    def effect(self, command: list[str]) -> str:
        words = command[command.index("connection") if "connection" in command else command.index("device") :]
        match words:
            case ["connection", "reload"]:
                self.read()
                for device, each in list(self.on.items()):
                    if each not in self.known:
                        self.end(device)
            case ["connection", "up", "uuid", each, "ifname", device]:
                self.up(each, device)
            case ["connection", "show"]:
                return "".join(f"{each}:{values['file']}\n" for each, values in self.known.items())
            case ["device", "status"]:
                states = ((name, "connected" if name in self.on else "disconnected") for name in self.links)
                rows = [f"{name}:{state}:{self.on.get(name, '')}" for name, state in states]
                return "\n".join(["lo:connected (externally):16c4fa93-0638-42de-ad90-50062b1c106b", *rows])
        return ""

    def load(self) -> None:
        self.read()
        self.on.clear()
        self.address("eth7", "")
        best = max(self.known.values(), key=lambda each: int(each.get("autoconnect-priority", 0)))
        self.up(best["uuid"], "eth7")

    def read(self) -> None:
        self.known = {}
        for where in (network_manager.TRIAL, network_manager.KEPT):
            for file in sorted(self.path(where).glob("*.nmconnection")):
                found = network_manager.sections(file.read_text())
                lines = [line for name in ("ethernet", "ipv4", "connection") for line in found.get(name, [])]
                values = dict(line.split("=", 1) for line in lines)
                self.known[values["uuid"]] = {**values, "file": f"/{file.relative_to(self.root)}"}

    def up(self, connection: str, device: str) -> None:
        if connection not in self.known:
            raise subprocess.SubprocessError(f"unknown connection '{connection}'")
        values = self.known[connection]
        if master := values.get("master", ""):
            bridge = next(each for each in self.known.values() if each.get("interface-name") == master)
            if master not in self.links:
                self.add(master, bridge["cloned-mac-address"], kind="bridge")
            self.on[master] = bridge["uuid"]
            self.address(master, bridge.get("address1", ""))
        self.on[device] = connection
        self.address(device, values.get("address1", ""))
        self.enslave(device, master)

    def end(self, device: str) -> None:
        del self.on[device]
        self.address(device, "")
        self.enslave(device, "")
        if self.path(f"{sources.NET}/{device}/bridge").is_dir():
            self.drop(device)


NETWORKS = (MemoryNetworkd, MemoryIfupdown, MemoryNetworkManager)
