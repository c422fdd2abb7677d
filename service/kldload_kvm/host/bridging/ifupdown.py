"""A bridge in Debian's ifupdown, with bridge-utils: the port's stanzas become the bridge's, in the file they stand in.

The trial is a file of its own in /run, by which ifup makes the bridge. What is kept is one file, replaced whole; a copy
of it as it was lies beside it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...model.wiring import IFUPDOWN, Link, Owner
from .tool import Names, Tool

MAIN, MORE = "/etc/network/interfaces", "/etc/network/interfaces.d"
STATE, TRIAL = "/run/network", "/run/network/kldload-kvm-{}"
BEFORE = "/etc/network/kldload-kvm-before-{}"
PROGRAM, OTHER_KIND = "/usr/sbin/ifup", "/usr/share/ifupdown2"
BRIDGE_UTILS = "/usr/lib/bridge-utils/ifupdown.sh"
SOURCES = frozenset({
    ("source", f"{MORE}/*"), ("source", "interfaces.d/*"), ("source-directory", MORE),
    ("source-directory", "interfaces.d"),
})  # fmt: skip
"""Other files that are read: as Debian installs it, or not understood here."""
BEGINS = frozenset({"iface", "mapping", "auto", "no-auto-down", "no-scripts", "rename", "template", "source",
                    "source-directory"})  # fmt: skip
"""What begins a stanza (interfaces(5)); so does allow-…."""
STACKED = frozenset({"bridge_ports", "bridge-ports", "slaves", "bond-slaves", "vlan-raw-device", "vlan_raw_device",
                     "bond-primary", "bond-master"})  # fmt: skip
GENERATED, MODE = "/proc/sys/net/ipv6/conf/{}/addr_gen_mode", "# The port's addr_gen_mode was "
MARK = "# Made by kvm-host bridge: "


@dataclass(frozen=True)
class Stanza:
    """words: of its first line; lines: all of it, as they stand."""

    words: tuple[str, ...]
    lines: tuple[str, ...]


class Ifupdown(Tool):
    """A `settings` of this tool is the file in which the port's stanzas stand."""

    name = IFUPDOWN

    def owns(self, link: Link) -> Owner | None:
        if not self.there(PROGRAM) or not self._is_up(link.name):
            return None
        try:
            found = self._files()
        except OSError as fault:
            return Owner(self.name, MAIN, f"{fault.filename} cannot be read: {fault.strerror}")
        where = standing(found, link.name)
        if not where:
            return None
        if self.there(OTHER_KIND):
            return Owner(self.name, where[0], "this is ifupdown2, which is not known here")
        if not self.there(BRIDGE_UTILS):
            return Owner(self.name, where[0], "ifupdown cannot make bridges here: apt install bridge-utils")
        if len(where) > 1:
            return Owner(self.name, where[0], f"{link.name} stands in several files: {', '.join(where)}")
        return Owner(self.name, where[0], unmovable(found, link.name))

    def kept(self) -> Iterable[str]:
        """What it says itself decides; and a bridge of that name, whoever wrote it there, is not to be made twice."""
        try:
            found = self._files()
        except OSError:
            return []
        lines = [line for text in found.values() for line in text.splitlines()]
        return [line.removeprefix(MARK).split()[0] for line in lines if line.startswith(MARK)]

    def tried(self, bridge: str) -> bool:
        return self.there(TRIAL.format(bridge)) or self.there(BEFORE.format(bridge))

    def begin(self, names: Names, link: Link) -> None:
        text = trial(self.read(names.settings), names.bridge, names.port, link.mac)
        self.write(TRIAL.format(names.bridge), f"{MODE}{self._mode(names.port)}\n{text}")
        self.run(["ifdown", names.port])
        self.run(["ifup", "-i", TRIAL.format(names.bridge), names.bridge])
        self.wait_until(lambda: self.master(names.port) == names.bridge, f"put {names.port} into {names.bridge}")

    def keep(self, names: Names, link: Link) -> None:
        (file,) = standing(self._files(), names.port)
        text = self.read(file)
        self.write(BEFORE.format(names.bridge), text)
        self.write(file, turned(text, names.bridge, names.port, link.mac, BEFORE.format(names.bridge)))
        self.remove(TRIAL.format(names.bridge))

    def take_back(self, names: Names) -> None:
        """With the bridge ends what it was given, such as by a DHCP client. bridge-utils has told the kernel to give
        the port no link-local address, and the kernel gives it one when it comes up."""
        file = TRIAL.format(names.bridge)
        if self.there(file):
            self._end(names, file)
        self.remove(file, BEFORE.format(names.bridge))

    def _end(self, names: Names, file: str) -> None:
        if self._is_up(names.bridge) or self.is_bridge(names.bridge):
            self.tolerated("ifdown", "--force", "-i", file, names.bridge)
        if self.is_bridge(names.bridge):
            self.tolerated("ip", "link", "delete", names.bridge)
        if not self._is_up(names.port):
            self.tolerated("ip", "link", "set", "dev", names.port, "down")
            self._restore_mode(file, names.port)
        self.run(["ifup", names.port])
        self.wait_until(lambda: not self.master(names.port), f"taken {names.port} out of {names.bridge}")
        if self.is_bridge(names.bridge):
            raise OSError(f"the bridge {names.bridge} is still there")

    def _mode(self, port: str) -> str:
        """How the kernel makes the port's link-local address; empty without IPv6."""
        try:
            return self.read(GENERATED.format(port)).strip()
        except OSError:
            return ""

    def _restore_mode(self, file: str, port: str) -> None:
        with contextlib.suppress(OSError):
            mode = self.read(file).partition("\n")[0].removeprefix(MODE)
            if mode.isdecimal() and mode != self._mode(port):
                self.path(GENERATED.format(port)).write_text(mode, encoding="ascii")

    def _is_up(self, name: str) -> bool:
        """As ifup has noted it."""
        try:
            return f"{name}={name}" in self.read(f"{STATE}/ifstate").split()
        except OSError:
            return False

    def _files(self) -> dict[str, str]:
        """The text of each. Raises OSError."""
        found = {MAIN: self.read(MAIN)} if self.there(MAIN) else {}
        if any(each.words[:2] in SOURCES for each in stanzas(found.get(MAIN, ""))):
            found |= {f"{MORE}/{name}": self.read(f"{MORE}/{name}") for name in self.names_in(MORE)}
        return found


def stanzas(text: str) -> Iterator[Stanza]:
    """The file in its parts, comments and empty lines with what they stand behind; the first may have no words."""
    words, lines = tuple[str, ...](), list[str]()
    for line in text.splitlines(keepends=True):
        found = tuple(line.split())
        if found and (found[0] in BEGINS or found[0].startswith("allow-")):
            yield Stanza(words, tuple(lines))
            words, lines = found, []
        lines.append(line)
    yield Stanza(words, tuple(lines))


def stanzas_of(text: str, port: str) -> Iterator[Stanza]:
    return (each for each in stanzas(text) if each.words[:2] == ("iface", port))


def standing(found: dict[str, str], port: str) -> list[str]:
    """The files in which a port has a stanza."""
    return [file for file, text in found.items() if any(stanzas_of(text, port))]


def unmovable(found: dict[str, str], port: str) -> str:
    """Why what stands of a port cannot be given to a bridge; empty if it can."""
    for file, text in found.items():
        if any(line.rstrip("\n").endswith("\\") for line in text.splitlines()):
            return f"{file} has lines that go on in the next one, which are not understood here"
        for each in stanzas(text):
            first = each.words[0] if each.words else ""
            if first in ("mapping", "rename", "template", "no-scripts"):
                return f"{file} has a stanza {first}, which is not understood here"
            if first.startswith("source") and each.words[:2] not in SOURCES:
                return f"{file} reads {' '.join(each.words[1:])}, and only {MORE} is looked at here"
            if why := _hindered(each, port):
                return f"{file}: {why}"
    return ""


def _hindered(stanza: Stanza, port: str) -> str:
    if stanza.words[:1] != ("iface",):
        return ""
    name, options = stanza.words[1], [tuple(line.split()) for line in stanza.lines[1:]]
    if name == port:
        if len(stanza.words) != 4:
            return f"'{' '.join(stanza.words)}' is not understood here"
        if named := next((each for each in options if _names(each, port)), ()):
            return f"'{named[0]}' of {port} names {port} itself"
        keys = [each[0] for each in options if each]
        if stacked := next((key for key in keys if key.startswith(("bond", "bridge", "wpa", "wireless"))), ""):
            return f"{port} has {stacked}"
    elif name.partition(":")[0].partition(".")[0] == port:
        return f"there is a stanza {name}, on top of {port}"
    elif any(each and each[0] in STACKED and port in each[1:] for each in options):
        return f"{name} is on top of {port}"
    return ""


def _names(option: tuple[str, ...], port: str) -> bool:
    return bool(option) and not option[0].startswith("#") and any(port in word for word in option[1:])


def trial(text: str, bridge: str, port: str, mac: str) -> str:
    """What ifup makes the bridge by, for now: without what begins a boot."""
    return "".join("".join(_bridge(each, bridge)) for each in _first_marked(text, bridge, port, mac))


def turned(text: str, bridge: str, port: str, mac: str, before: str) -> str:
    """The file with the port's stanzas as the bridge's. All else stays, to the letter."""
    done, marked = "", _first_marked(text, bridge, port, mac)
    for each in stanzas(text):
        if each.words[:2] != ("iface", port):
            done += _whole("".join(each.lines))
            continue
        if MARK not in done:
            done += f"{MARK}{bridge} has what {port} had, as it was in {before}\n"
            done += f"auto {bridge}\niface {port} inet manual\n\n"
        done += "".join(_bridge(next(marked), bridge))
    return done


def _first_marked(text: str, bridge: str, port: str, mac: str) -> Iterator[Stanza]:
    """The port's stanzas; the first one says what the bridge is made of."""
    made = (f"    bridge_ports {port}\n", f"    bridge_hw {mac}\n", "    bridge_stp off\n", "    bridge_fd 0\n")
    for number, each in enumerate(stanzas_of(text, port)):
        first, *rest = each.lines
        yield Stanza(each.words, (_whole(first), *(() if number else made), *rest))


def _bridge(stanza: Stanza, bridge: str) -> tuple[str, ...]:
    head = " ".join(("iface", bridge, *stanza.words[2:]))
    return (f"{head}\n", *map(_whole, stanza.lines[1:]))


def _whole(line: str) -> str:
    return line if line.endswith("\n") or not line else f"{line}\n"
