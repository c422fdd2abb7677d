"""The matrix of what others do to a VM, as tests/lab/matrix_table.md has it: what must come of each action."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from scenarios import BYSTANDER

TABLE = Path(__file__).parent / "lab" / "matrix_table.md"
STATES = ("off", "running", "paused", "template")
AS_BEFORE = "as before"
STORAGE = "rpool/vms/"
VM = ("web-1", "web-1.nvram")
NEW = "new"


@dataclass(frozen=True)
class Cell:
    """One action on a VM of one state, and the words of its row."""

    action: str
    state: str
    outcome: str
    datasets: str
    disk: str
    virsh: str
    bus: str

    @property
    def refusal(self) -> str:
        """What stands in the refusal; empty if it is to be done."""
        return self.outcome.removeprefix("refused: ") if self.outcome != "done" else ""

    def letters(self) -> dict[str, str]:
        """What is on volumes, by dataset; that of the VM's own disk under the empty name, "" if it is gone."""
        own, *others = self.disk.split(", ")
        found = {_whole(name): letter for name, letter in (each.split() for each in others)}
        return {**found, "": "" if own == "gone" else own}

    def domains(self, before: Mapping[str, str]) -> dict[str, str]:
        """The states of the domains then, as virsh tells; a bystander's is always as before."""
        parts = [each for each in self.virsh.split(", ") if each != "none"]
        then = {name: state for name, state in before.items() if AS_BEFORE in parts or name == BYSTANDER}
        then |= {name: state for name, _, state in (each.partition(" ") for each in parts if each != AS_BEFORE)}
        return {name: state for name, state in then.items() if state != "gone"}

    def after(self, before: Mapping[str, str]) -> dict[str, str]:
        """The datasets then, with their GUIDs, NEW for those that only come; names as `plain` makes them."""
        then = dict(before)
        for change in self.datasets.split() if self.datasets != AS_BEFORE else ():
            self._change(then, change)
        return then

    def _change(self, then: dict[str, str], change: str) -> None:
        if change == "trash":
            for name in [each for each in then if _is_of(each, *map(_whole, VM))]:
                then[name.replace(STORAGE, f"{STORAGE}.trash/web-1-TIME/", 1)] = then.pop(name)
            then[f"{STORAGE}.trash/web-1-TIME"] = NEW
        elif change == "+@autosnap":
            below = [name for name in then if name.startswith(STORAGE) and "@" not in name]
            then |= {f"{name}@autosnap": NEW for name in below}
        elif change.startswith("+"):
            then[_whole(change[1:])] = NEW
        elif change.startswith("-"):
            del then[_whole(change[1:])]
        else:
            old, new = map(_whole, change.split(">"))
            for name in [each for each in then if _is_of(each, old)]:
                then[name.replace(old, new, 1)] = then.pop(name)


def cells() -> list[Cell]:
    """All of them, in the table's order."""
    found = []
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        words = [each.strip() for each in line.strip().strip("|").split(" | ")]
        if line.startswith("| ") and len(words) == 7 and words[0] != "action":
            action, states, *rest = words
            found += [Cell(action, state, *rest) for state in states.split()]
    return found


def plain(guids: Mapping[str, str]) -> dict[str, str]:
    """Datasets by their names without the moments in these. What stands in the way of comparing, the trash's own
    containers, which come by the way, is left out."""
    found = {}
    for name, guid in guids.items():
        name = re.sub(r"(/\.trash/[\w.-]+?)-\d{8}[T_]\d{6}Z?(-\d+)?", r"\1-TIME", name)
        name = re.sub(r"@(autosnap|syncoid)_.*", r"@\1", name)
        if name.partition("@")[0] not in (f"{STORAGE}.trash", f"{STORAGE}.trash/.spare"):
            found[name] = guid
    return found


def not_as_expected(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """One line for each dataset that is not as it should be."""
    names: Iterable[str] = sorted(then.keys() | now.keys())
    told = ((name, then.get(name, "not there"), now.get(name, "not there")) for name in names)
    return [
        f"{name}: should be {should}, is {does}"
        for name, should, does in told
        if should != does and not (should == NEW and name in now)
    ]


def _whole(name: str) -> str:
    """A name as the table has it: below the default storage unless it names a pool."""
    return name if name.startswith(("rpool/", "vmpool/")) else STORAGE + name


def _is_of(name: str, *datasets: str) -> bool:
    return name.partition("@")[0] in datasets
