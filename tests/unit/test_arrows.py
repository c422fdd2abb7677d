"""Which room may import which: the arrows of docs/architecture.md, held by reading every import in the package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "service" / "kldload_kvm"

# The bottom: anybody may use these, and they use nothing but each other.
GROUND = {"__init__", "model", "contract_files", "waiting"}

LIBRARIES = GROUND | {"config", "engine", "host", "zfs", "virt"}

MAY_IMPORT = {
    "model": set(),
    "contract_files": {"model"},
    "waiting": {"model"},
    "config": {"model"},
    "zfs": GROUND,
    "virt": GROUND,
    "engine": GROUND,
    "job_log": GROUND | {"engine"},
    "job_tally": GROUND | {"engine", "steps"},
    "host": GROUND,
    "images": GROUND | {"zfs"},
    "steps": LIBRARIES | {"images"},
    "ops": LIBRARIES | {"images", "steps"},
    "watch": LIBRARIES | {"images", "steps", "ops"},
    "bus": LIBRARIES | {"images", "steps", "ops"},
    "client": {"model"},
    "cli": {"client", "model"},
}
"""Each room and those below it. daemon.py, which puts the house together, may import them all."""

TOP = "daemon"

FENCED = {
    "dbus_next": {"bus", "client"},
    "jeepney": {"client", "cli"},
    "libvirt": {"virt"},
    "libvirt_qemu": {"virt"},
    "prometheus_client": {"cli"},
    "pyudev": {"watch", "zfs"},
    "pycdlib": {"images", "steps"},
}
"""Libraries that only some rooms know."""

STARTS_PROGRAMS = {"zfs", "images", "cli", "host"}
"""The rooms that start programs: ZFS's, qemu-img in the image helper, polkit's text agent or a console, and, in a unit
of its own, what renews the initramfs."""

PROGRAM_STARTERS = {
    "create_subprocess_exec",
    "create_subprocess_shell",
    "popen",
    "posix_spawn",
    "posix_spawnp",
    "system",
}


@dataclass(frozen=True)
class Import:
    """One import: where it stands, and the dotted name that it takes."""

    file: Path
    line: int
    name: str

    @property
    def room(self) -> str:
        """The room that imports."""
        return room_of(self.file)

    @property
    def target(self) -> str:
        """The room of ours that is imported, or the empty string for a library."""
        first, _, rest = self.name.partition(".")
        if first != PACKAGE.name:
            return ""
        room = rest.partition(".")[0]
        return room if (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").exists() else "__init__"

    def __str__(self) -> str:
        return f"{self.file.relative_to(PACKAGE)}:{self.line} imports {self.name}"


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def sources() -> list[tuple[Path, ast.Module]]:
    return [(file, ast.parse(file.read_text(encoding="utf-8"))) for file in sorted(PACKAGE.rglob("*.py"))]


def imports() -> Iterator[Import]:
    for file, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (Import(file, node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (Import(file, node.lineno, name) for name in _taken(file, node))


def _taken(file: Path, node: ast.ImportFrom) -> Iterator[str]:
    """The dotted names of `from … import …`, relative ones made absolute; `from . import x` takes the module x."""
    base = node.module or ""
    if node.level:
        parents = (PACKAGE.name, *file.relative_to(PACKAGE).parts[:-1])
        above = parents[: len(parents) - (node.level - 1)]
        base = ".".join((*above, *([node.module] if node.module else [])))
    yield from (f"{base}.{alias.name}" for alias in node.names)


ALL = list(imports())


def test_every_room_has_its_place() -> None:
    rooms = {room_of(file) for file, _ in sources()} - {TOP, "__init__"}
    assert rooms - MAY_IMPORT.keys() == set(), "say here what it may import"


def test_arrows_point_one_way() -> None:
    wrong = [
        each
        for each in ALL
        if each.target and each.room not in (TOP, "__init__", each.target)
        if each.target not in MAY_IMPORT.get(each.room, set()) | {"__init__"}
    ]
    assert [str(each) for each in wrong] == []


def test_no_two_rooms_know_each_other() -> None:
    reach = {room: below(room) for room in MAY_IMPORT}
    assert [room for room, found in reach.items() if room in found] == []
    assert "virt" not in reach["zfs"]
    assert "zfs" not in reach["virt"]
    assert [room for room, found in reach.items() if "bus" in found] == []
    assert reach["cli"] <= GROUND | {"client"}
    assert reach["engine"] <= GROUND


def below(room: str) -> set[str]:
    """All that a room can come to import."""
    found: set[str] = set()
    todo = set(MAY_IMPORT.get(room, set()))
    while todo:
        each = todo.pop()
        if each not in found:
            found.add(each)
            todo |= MAY_IMPORT.get(each, set())
    return found


@pytest.mark.parametrize("library", FENCED)
def test_a_library_stays_in_its_rooms(library: str) -> None:
    strays = [each for each in ALL if each.name.partition(".")[0] == library and each.room not in FENCED[library]]
    assert [str(each) for each in strays] == []


def test_programs_are_started_in_few_rooms() -> None:
    found = [str(i) for i in ALL if i.name.startswith("subprocess") and i.room not in STARTS_PROGRAMS]
    for file, tree in sources():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and _called(node) in PROGRAM_STARTERS
                and room_of(file) not in STARTS_PROGRAMS
            ):
                found.append(f"{file.relative_to(PACKAGE)}:{node.lineno} starts a program")
    assert found == []


def test_zfs_is_run_by_its_room_alone() -> None:
    words = {"zfs", "zpool", "/usr/sbin/zfs", "/usr/sbin/zpool", "/sbin/zfs", "/sbin/zpool"}
    found = [
        f"{file.relative_to(PACKAGE)}:{node.lineno}"
        for file, tree in sources()
        if room_of(file) != "zfs"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _called(node) in PROGRAM_STARTERS | {"run", "Popen", "check_output"}
        for first in _words(node)
        if first in words
    ]
    assert found == []


def _called(node: ast.Call) -> str:
    """The last part of what is called: "run" for subprocess.run(…)."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _words(node: ast.Call) -> Iterator[str]:
    """The first word of a command given as words or as a list."""
    if node.args:
        first = node.args[0]
        first = first.elts[0] if isinstance(first, ast.List | ast.Tuple) and first.elts else first
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value
