"""What should happen by itself, and what happens twice; and the clock that it all goes by."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...model.finding import Finding
from ...model.host_facts import HostFacts
from ..sources import AUTO_SNAPSHOTS, SANOID, UNITS


def check(facts: HostFacts) -> Iterator[Finding]:
    if facts.units:
        for id_, kind, what in (("snapshots-off", "snapshots", "snapshots"), ("trash-off", "trash", "purges")):
            if not _active(facts, kind):
                yield Finding(id_, "notice", UNITS[kind][0], f"there are no hourly {what}: it is not active")
        if not _active(facts, "time"):
            names = ", ".join(each.removesuffix(".service") for each in UNITS["time"][:3])
            yield Finding("time-unset", "warning", "clock", f"none of {names} … is active")
    if _active(facts, "sanoid") and _active(facts, "snapshots"):
        for parent in facts.settings.parents.values():
            if section := _sanoid(facts.system.files.get(SANOID, ""), parent):
                yield Finding(
                    "sanoid-beside", "warning", parent, f"sanoid.timer is active, and {SANOID} has [{section}]"
                )
    if any(map(facts.system.there, AUTO_SNAPSHOTS)):
        for parent in facts.settings.parents.values():
            store = facts.stores.get(parent)
            if store and store["com.sun:auto-snapshot"] != "false":
                found = "zfs-auto-snapshot is installed, and com.sun:auto-snapshot is not false"
                yield Finding("auto-snapshot-beside", "warning", parent, found)


def _active(facts: HostFacts, kind: str) -> bool:
    return any(map(facts.units.get, UNITS[kind]))


def _sanoid(text: str, parent: str) -> str:
    """The section of sanoid's that covers a storage: its own, one of its volumes', or a recursive one above."""
    sections = re.split(r"(?m)^\s*\[([^\]]+)\]", text)
    for name, body in zip(sections[1::2], sections[2::2], strict=False):
        recursive = re.search(r"(?m)^\s*recursive\s*=\s*(?:yes|true|1|zfs)", body)
        above = recursive and parent.startswith(f"{name}/")
        if (name == parent and recursive) or above or name.startswith(f"{parent}/"):
            return name
    return ""
