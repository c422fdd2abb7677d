"""The zfs commands the service runs, each one process, each with a bound.

Names come from the configuration, from names.py or from ZFS itself: none begins with a dash or is a client's free text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..model.errors import NotFound, TimedOut, ZfsUnavailable
from ..model.inventory import Snapshot
from ..waiting import finish
from .errors import error_from
from .piping import Report, pipe
from .sending import send

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
BOUND = 600.0
MOST_NAMES = 500  # in one command: a name has at most 255 bytes, and all arguments at most 2 MiB


class Zfs:
    """Runs zfs. `started` counts the processes, for the tests that hold reads to none.

    learned: snapshots that a command's own answer told all of, so that nobody need ask again; until something is done
    to them.
    """

    def __init__(self, program: str = "zfs") -> None:
        self.program = program
        self.started = 0
        self.learned: dict[str, Snapshot] = {}

    async def run(self, what: str, *args: str, partial: bool = False) -> str:
        """Run one command to its end, and return its stdout.

        A cancelled caller still waits for it: a zfs command killed halfway would leave us not knowing. partial: output
        that came with a complaint about things that are not there is an answer too. Raises KvmError for the failure.
        """
        return await finish(self._run(what, args, partial))

    async def _run(self, what: str, args: Sequence[str], partial: bool) -> str:
        self.started += 1
        status, out, err = await self.execute(what, args)
        # A complaint about what is not there may stand beside one of another kind: then nothing is known.
        absent = partial and err and all(isinstance(error_from(what, line), NotFound) for line in err.splitlines())
        if status and not absent:
            raise error_from(what, err)
        return out

    async def execute(self, what: str, args: Sequence[str]) -> tuple[int, str, str]:
        """Start the program, and give its exit status, stdout and stderr. Raises ZfsUnavailable or TimedOut."""
        try:
            process = await asyncio.create_subprocess_exec(
                self.program, *args, env=ENVIRONMENT, stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except FileNotFoundError:
            hint = "install zfsutils-linux (Debian: from contrib) and load the module: modprobe zfs"
            raise ZfsUnavailable(what, "the zfs command is not installed", hint) from None
        except OSError as fault:  # no memory, no process or no descriptor left
            raise ZfsUnavailable(what, f"the zfs command cannot be started: {fault}", "try again") from None
        try:
            out, err = await asyncio.wait_for(process.communicate(), BOUND)
        except TimeoutError:
            hint = "zpool status tells whether the pool is suspended; the command may still finish"
            raise TimedOut(what, f"zfs {args[0]} has not ended after {BOUND:.0f} s", hint) from None
        return process.returncode or 0, out.decode("utf-8", "surrogateescape"), err.decode("utf-8", "replace")

    async def version(self) -> str:
        """OpenZFS's version, such as "2.3.9"."""
        text = await self.run("the version of ZFS cannot be read", "version")
        return text.splitlines()[0].removeprefix("zfs-").partition("-")[0] if text else ""

    async def create_volume(self, name: str, size: int, properties: Mapping[str, str]) -> None:
        """A thin volume. Raises AlreadyExists, NoSpace …"""
        what = f"the volume {name} was not created"
        await self.run(what, "create", "-s", "-V", str(size), *_options(properties), name)

    async def create_container(self, name: str, properties: Mapping[str, str]) -> None:
        """A filesystem that is never mounted, with any missing parents, which get canmount=off too."""
        await self.create_filesystem(name, {"canmount": "off", **properties})

    async def create_filesystem(self, name: str, properties: Mapping[str, str]) -> None:
        """A filesystem that is not mounted yet, with any missing parents."""
        await self.run(f"{name} was not created", "create", "-p", "-u", *_options(properties), name)

    async def clone(self, snapshot: str, name: str, properties: Mapping[str, str]) -> None:
        what = f"{snapshot} was not cloned to {name}"
        await self.run(what, "clone", *_options(properties), snapshot, name)

    async def copy(self, snapshot: str, name: str, properties: Mapping[str, str], report: Report) -> None:
        """A new volume with a snapshot's contents, and that snapshot. report(done, total): bytes."""
        what = f"{snapshot} was not copied to {name}"
        await self.pipe(what, ("send", "-vPLec", snapshot), ("receive", "-u", *_options(properties), name), report)

    async def pipe(self, what: str, send: Sequence[str], receive: Sequence[str], report: Report) -> None:
        self.started += 2
        await pipe(self.program, ENVIRONMENT, what, send, receive, report)

    async def snapshot(self, names: Iterable[str], properties: Mapping[str, str]) -> None:
        """All of them in one transaction."""
        await self.run("no snapshot was taken", "snapshot", *_options(properties), *names)

    async def send(self, snapshot: str, fd: int, report: Callable[[int, int], None]) -> int:
        """A snapshot's stream into an open file, pipe or socket; about how many bytes. report: done, and in all."""
        self.started += 1
        return await send(self.program, ENVIRONMENT, snapshot, fd, report)

    async def rename(self, old: str, new: str) -> None:
        self._unlearn()
        await self.run(f"{old} was not renamed to {new}", "rename", old, new)

    async def promote(self, name: str) -> None:
        self._unlearn()
        await self.run(f"{name} was not promoted", "promote", name)

    async def destroy(self, name: str) -> None:
        """One dataset without children, snapshots or clones. Raises Busy, HasClones, NotFound."""
        await self.run(f"{name} was not destroyed", "destroy", name)

    async def destroy_snapshots(self, dataset: str, names: Sequence[str]) -> None:
        self._unlearn()
        await self.run(f"{dataset}@{','.join(names)} was not destroyed", "destroy", f"{dataset}@{','.join(names)}")

    def _unlearn(self) -> None:
        """Whatever changes the names of snapshots, or which there are: then they are asked for again."""
        self.learned.clear()

    async def set(self, name: str, properties: Mapping[str, str]) -> None:
        await self.set_all([name], properties)

    async def set_all(self, names: Sequence[str], properties: Mapping[str, str]) -> None:
        """The same properties on several datasets."""
        pairs = [f"{key}={value}" for key, value in properties.items()]
        await self.run(f"the properties of {', '.join(names)} were not set", "set", *pairs, *names)

    async def inherit(self, name: str, key: str) -> None:
        await self.run(f"{key} of {name} was not cleared", "inherit", key, name)

    async def local_properties(self, name: str) -> dict[str, str]:
        """Native and user properties set on this very dataset, as `clone -o` takes them."""
        what = f"the properties of {name} cannot be read"
        text = await self.run(what, "get", "-Hp", "-s", "local,received", "-o", "property,value", "all", name)
        rows = (line.split("\t") for line in text.splitlines())
        return {row[0]: row[1] for row in rows if len(row) == 2}

    async def settings(self, name: str, keys: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Native properties, each as its value and its source ("local", "received", "default", "inherited from …")."""
        what = f"{', '.join(keys)} of {name} cannot be read"
        text = await self.run(what, "get", "-Hp", "-o", "property,value,source", ",".join(keys), name)
        rows = (line.split("\t") for line in text.splitlines())
        return {row[0]: (row[1], row[2]) for row in rows if len(row) == 3}

    async def get(self, name: str, key: str) -> str:
        """One property, "-" where it has none. Raises NotFound."""
        what = f"{key} of {name} cannot be read"
        return (await self.run(what, "get", "-Hp", "-o", "value", key, name)).rstrip("\n")

    async def get_each(self, names: Sequence[str], key: str) -> dict[str, str]:
        """One property of each that is there, by its name, "-" where it has none."""
        text = await self.run(
            f"{key} cannot be read", "get", "-Hp", "-o", "name,value", key, *names, partial=True
        )  # fmt: skip
        rows = (line.split("\t") for line in text.splitlines())
        return {row[0]: row[1] for row in rows if len(row) == 2}

    async def made_here(self, names: Sequence[str], key: str) -> frozenset[str]:
        """Those whose property was set here, and is neither inherited nor came with a stream."""
        rows: list[list[str]] = []
        for start in range(0, len(names), MOST_NAMES):
            some = names[start : start + MOST_NAMES]
            text = await self.run(f"{key} cannot be read", "get", "-Hp", "-o", "name,source", key, *some, partial=True)
            rows += [line.split("\t") for line in text.splitlines()]
        return frozenset(row[0] for row in rows if row[1:] == ["local"])


def _options(properties: Mapping[str, str]) -> list[str]:
    return [word for key, value in properties.items() for word in ("-o", f"{key}={value}")]
