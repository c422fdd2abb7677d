"""What keeps a guest that has broken out of QEMU from the rest of the host."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...model.finding import Finding
from ...model.host_facts import Guest, HostFacts
from ..sources import QEMU_CONF

MODELS = {"apparmor", "selinux"}
NAME = re.compile(r'(?:name|path)="([^"]+)"')
ASKED = re.compile(r'(?:requested_mask|denied_mask)="([^"]+)"|denied  ?\{ ([^}]+) \}')

HARMLESS = re.compile(r'name="/sys/devices/[^"]*/queue/zoned"')
"""QEMU looks there whether a disk is zoned; where it may not, it is taken for one that is not, which no zvol is."""


def check(facts: HostFacts) -> Iterator[Finding]:
    if facts.libvirt and not MODELS & set(facts.libvirt.security):
        found = f"libvirt's security models are {', '.join(facts.libvirt.security) or 'none'}"
        yield Finding("guests-unconfined", "warning", QEMU_CONF, found)
    if facts.system.qemu.get("user", "").lstrip("+") in ("root", "0"):
        yield Finding("guests-as-root", "warning", QEMU_CONF, f'it says user = "{facts.system.qemu["user"]}"')
    if facts.system.qemu.get("dynamic_ownership") == "0":
        yield Finding("ownership-static", "warning", QEMU_CONF, "it says dynamic_ownership = 0")
    for guest in facts.guests:
        if lines := denials(facts, guest):
            yield Finding("denied", "warning", guest.name, f"within the last hour: {lines[-1]}")


def denials(facts: HostFacts, guest: Guest) -> list[str]:
    """What AppArmor or SELinux has denied this guest, the newest last. AppArmor's profile names the domain; SELinux's
    lines are its own if they name one of its files."""
    relevant = [line for line in facts.system.denials if not HARMLESS.search(line)]
    own = [line for line in relevant if f"libvirt-{guest.domain.uuid}" in line]
    names = {path.rpartition("/")[2] for path in guest.wants.paths}
    own += [line for line in relevant if "svirt" in line and set(NAME.findall(line)) & names]
    return [shown(line) for line in own]


def shown(line: str) -> str:
    """Of a line of the kernel's: what was asked for, of which file."""
    name, asked = NAME.search(line), ASKED.search(line)
    what = (asked[1] or asked[2]).strip() if asked else "access"
    return f"{what} of {name[1]}" if name else f"{what} was denied"
