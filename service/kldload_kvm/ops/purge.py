"""PurgeTrash: destroy trash entries for good, those that were named or all that are due.

An entry on which something else hangs stays: an origin waits for its last clone. What the service itself took only to
clone from, and nobody uses any more, goes with the last clone.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from ..engine.plan import Plan, Step
from ..model import names, trash
from ..model.errors import HasClones, InvalidArgument
from ..model.inventory import Dataset
from ..steps.host import Host
from ..steps.snapshots import DestroySnapshot
from ..steps.trash import CheckClosed, DestroySnapshots, DestroyVolume
from .request import Request, View
from .trash import entry_guards, entry_locks, find_entry, remove_steps

MOST = 1000
AT_ONCE = 500  # snapshots in one command: an argument has at most 128 KiB


@dataclass(frozen=True)
class PurgeTrash(Request):
    """entries: ids, or none for all that are due; in_use: volumes in the trash that somebody has open."""

    operation = "trash.purge"
    entries: tuple[str, ...] = ()
    in_use: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        wanted, what = tuple(dict.fromkeys(names.trash_entry(each) for each in args[0])), "nothing was purged"
        if options.get("expired", False) == bool(wanted):
            why = "both entries and expired were given" if wanted else "no entry was named"
            raise InvalidArgument(what, why, "name entries, or ask for all that have expired")
        if len(wanted) > MOST:
            raise InvalidArgument(what, f"{len(wanted)} entries were named", f"name at most {MOST}")
        return cls(wanted)

    def subject(self, view: View) -> dict[str, str]:
        found = [each for each in trash.entries(view.inventory) if each.id in self.entries]
        return {
            "vm": " ".join(dict.fromkeys(each.name for each in found)),
            "dataset": " ".join(each.container.name for each in found),
            "target": " ".join(self.entries) or "expired",
        }

    async def look(self, host: Host) -> Self:
        """One that is in use is refused by name, but does not keep all the others from going when they are due."""
        if self.entries:
            return self
        volumes = [each.name for entry in trash.entries(host.inventory) for each in entry.volumes]
        return replace(self, in_use=frozenset(await host.devices.held(volumes)))

    def plan(self, view: View) -> Plan:
        inventory, config = view.inventory, view.config
        if self.entries:
            wanted = [find_entry(view, each) for each in self.entries]
        else:
            filled = [e for e in trash.entries(inventory) if any(map(view.holder, entry_locks(e)))]
            in_use = self.in_use.union(volume.name for each in filled for volume in each.volumes)
            wanted = trash.due(inventory, int(view.now.timestamp()), config.grace, config.floor, in_use)
        ready, held = trash.unheld(inventory, wanted)
        if held:
            raise _held(view, held)
        volumes = [volume for entry in ready for volume in entry.volumes]
        emptied = [step for entry in ready for step in remove_steps(view, entry)]
        steps = [*destroy_steps(view, volumes), *emptied, *unused_steps(view, volumes)]
        return Plan(
            operation=self.operation,
            description=f"purge {', '.join(each.id for each in ready) or 'nothing: no trash entry is due'}",
            prepare=check_closed(volumes),
            commit=steps[0] if steps else None,
            finish=tuple(steps[1:]),
            locks=frozenset().union(*(entry_locks(each) for each in ready)),
            guards=tuple(guard for each in ready for guard in entry_guards(each)),
            result={"purged": tuple(each.id for each in ready)},
            frees=True,
        )


def check_closed(volumes: Collection[Dataset]) -> tuple[Step, ...]:
    """Before the first of several is destroyed: whether the last of them can be."""
    return (CheckClosed(tuple(each.name for each in volumes)),) if volumes else ()


def destroy_steps(view: View, volumes: Iterable[Dataset]) -> list[Step]:
    """Destroying volumes on which nothing else hangs, with all their snapshots, each after its clones."""
    steps: list[Step] = []
    for volume in trash.in_order(view.inventory, volumes):
        snapshots = sorted(view.inventory.snapshots.get(volume.name, {}).items())
        for start in range(0, len(snapshots), AT_ONCE):
            part = {name: each.guid for name, each in snapshots[start : start + AT_ONCE]}
            steps.append(DestroySnapshots(volume.name, part))
        steps.append(DestroyVolume(volume.name, volume.guid))
    return steps


def unused_steps(view: View, volumes: Iterable[Dataset]) -> list[Step]:
    """Destroying the snapshots that were taken only for clones, and have none once these volumes are gone."""
    unused = trash.orphaned(view.inventory, {each.name for each in volumes})
    return [DestroySnapshot(each.dataset, each.name, each.guid) for each in unused]


def _held(view: View, held: Mapping[str, list[str]]) -> HasClones:
    what, left = f"nothing was purged: {', '.join(sorted(held))} cannot go yet", {*itertools.chain(*held.values())}
    if snapshots := sorted(each for each in left if "@" in each):
        return HasClones(what, *is_held(snapshots))
    users = sorted({view.inventory.vm_named_by(each) for each in left})
    return HasClones(
        what,
        f"these are clones of what is in it: {', '.join(users)}",
        "it goes by itself when its last clone is gone; what is in the trash can be purged together with it",
    )


def is_held(snapshots: Iterable[str]) -> tuple[str, str]:
    """Why, and what can be done, where somebody holds these."""
    names = " ".join(snapshots)
    return f"somebody holds these snapshots: {names}", f"zfs holds {names} tells who; zfs release lets go of one"
