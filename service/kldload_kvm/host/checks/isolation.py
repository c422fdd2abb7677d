"""What keeps the host from looking into guests' disks, and holding them."""

from __future__ import annotations

from collections.abc import Iterator

from ...model.finding import Finding
from ...model.host_facts import HostFacts
from ..sources import LVM, LVM_LOCAL, LVM_PROGRAM, MULTIPATH, UDEV_OVERRIDE, UDEV_RULE, UNITS


def check(facts: HostFacts) -> Iterator[Finding]:
    system = facts.system
    if facts.system_fault:
        return
    ours = system.there(UDEV_RULE) and not system.there(UDEV_OVERRIDE)
    if not ours:
        gone = f"{UDEV_RULE} is not there"
        found = f"it overrides {UDEV_RULE}" if system.there(UDEV_OVERRIDE) else gone
        yield Finding("guests-probed", "warning", UDEV_OVERRIDE if system.there(UDEV_OVERRIDE) else UDEV_RULE, found)
    texts = [text for path, text in system.files.items() if path.startswith("/etc/multipath")]
    if any(map(facts.units.get, UNITS["multipath"])) and not any("zd" in _code(text) for text in texts):
        yield Finding("multipath-probes", "warning", MULTIPATH, "multipathd is active, and no blacklist names zd*")
    exposed = [s.name for s in facts.stores.values() if s.kind == "volume" and s["volmode"] not in ("dev", "none")]
    filtered = any("zd" in _code(system.files.get(path, "")) for path in (LVM, LVM_LOCAL))
    if system.there(LVM_PROGRAM) and (exposed or not ours) and not filtered:
        seen = f"it would see {', '.join(exposed[:3])}" if exposed else "it would see all volumes"
        yield Finding("lvm-probes", "warning", LVM_LOCAL, f"no filter names zd*: {seen}")


def _code(text: str) -> str:
    """Without comments."""
    return "\n".join(line.partition("#")[0] for line in text.splitlines())
