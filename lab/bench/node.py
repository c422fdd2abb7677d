"""One node of a bench: what is recorded about it, and how it really is."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
from dataclasses import dataclass
from pathlib import Path

from . import lossy, places, process


class Health(enum.Enum):
    """What a look at a node can find; only READY may be used, and everything else is rebuilt."""

    ABSENT = "not started"
    DEAD = "its QEMU has died"
    HALF_BUILT = "half-built: an earlier `up` did not finish"
    SILENT = "running, but ssh does not answer"
    READY = "ready"


@dataclass(frozen=True)
class Node:
    """A node as state.json tells: written when QEMU starts, and again when the node is ready."""

    name: str
    number: int
    pid: int
    image: str  # the directory of the image it runs on
    guests: str  # the disk of guest images it carries
    ssh_port: int
    cockpit_port: int
    accelerated: bool  # by real KVM
    ready: bool = False
    deb: str = ""  # hash of the installed package
    tests: str = ""  # hash of the tests copied in
    memory: str = ""  # 8G, if nothing else was asked for
    suite: str = ""  # of Debian; trixie, if nothing else was asked for
    servers: dict[str, int] = dataclasses.field(default_factory=dict)  # of a lossy bench's disks: label -> pid

    @property
    def directory(self) -> Path:
        return places.node_dir(self.name, self.number)

    @property
    def mark(self) -> str:
        """What stands on the command line of this node's QEMU and of no other process's."""
        return f"{self.directory}/console.log"

    @property
    def label(self) -> str:
        return f"{self.name} (node {self.number})"

    @property
    def qmp(self) -> Path:
        return places.socket_path(self.directory, "qmp.sock")

    def ssh_socket(self, user: str = "root") -> Path:
        """The socket of the kept connection of that user."""
        return places.socket_path(self.directory, f"ssh-{user}.sock")

    @property
    def console(self) -> Path:
        return self.directory / "console.log"

    @property
    def qemu_log(self) -> Path:
        return self.directory / "qemu.log"

    @property
    def lossy(self) -> bool:
        """Whether its disks lose what was not flushed."""
        return bool(self.servers)

    def alive(self) -> bool:
        """Whether its QEMU is there, and what serves its disks."""
        return process.is_ours(self.pid, self.mark) and all(
            process.is_ours(pid, str(lossy.image(self.directory, label))) for label, pid in self.servers.items()
        )

    def saved(self, **changes: object) -> Node:
        """This node with changes, written down."""
        node = dataclasses.replace(self, **changes)  # type: ignore[arg-type]
        growing = self.directory / f"state.{os.getpid()}"
        growing.write_text(json.dumps(_told(node), indent=1))
        growing.rename(self.directory / "state.json")
        return node


def _told(node: Node) -> dict[str, object]:
    """Without what is as it is by default, so that older versions of this file can read all that concerns them."""
    fields = dataclasses.fields(node)
    always = {each.name for each in fields if each.default is each.default_factory is dataclasses.MISSING}
    return {name: value for name, value in dataclasses.asdict(node).items() if value or name in always}


def load(name: str, number: int) -> Node | None:
    """The node as recorded, or None if there is no record (or none that this version wrote)."""
    try:
        return Node(**json.loads((places.node_dir(name, number) / "state.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def recorded(name: str) -> list[Node]:
    """All nodes of a bench that have a record, in order."""
    numbers = sorted(int(path.name) for path in places.run_dir(name).glob("[0-9]*") if path.name.isdigit())
    return [node for node in (load(name, number) for number in numbers) if node is not None]


def last_words(node: Node, lines: int = 8) -> str:
    """The end of what QEMU and the kernel's console said."""
    said = []
    for path in (node.qemu_log, node.console):
        text = path.read_text(errors="replace") if path.exists() else ""
        said += [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]
    return "\n       ".join(said) or "(nothing was said)"
