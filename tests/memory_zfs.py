"""zfs in memory: its command line as the service uses it, with ZFS's rules and its words for what breaks them.

Only the process is pretended: the service's own commands, error table and listing are what drive it. A volume has
contents, a byte string, so that a test sees whether data came back.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from kldload_kvm.zfs.commands import Zfs
from kldload_kvm.zfs.piping import Report

MUTATING = frozenset({"create", "clone", "snapshot", "rename", "promote", "destroy", "set", "inherit", "program"})


EPOCH = 1_775_000_000
DEFAULTS = {"compression": "lz4", "primarycache": "all", "refreservation": "0", "readonly": "off"}


@dataclass(eq=False)
class Snap:
    """A snapshot; `dataset` is a name, which a rename and a promotion change."""

    dataset: str
    name: str
    guid: int
    txg: int
    contents: bytes
    size: int
    values: dict[str, str] = field(default_factory=dict)
    holds: set[str] = field(default_factory=set)

    @property
    def full(self) -> str:
        return f"{self.dataset}@{self.name}"


@dataclass(eq=False)
class Mark:
    """A bookmark."""

    dataset: str
    name: str
    guid: int
    txg: int

    @property
    def full(self) -> str:
        return f"{self.dataset}#{self.name}"


@dataclass(eq=False)
class Set:
    """A filesystem or volume."""

    name: str
    kind: str
    guid: int
    txg: int
    size: int = 0
    origin: Snap | None = None
    contents: bytes = b""
    values: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """What zfs says on stderr."""


async def at_once(what: str, effect: Callable[[], str]) -> str:
    return effect()


class MemoryZfs(Zfs):
    """through: what each command that changes something is passed through, for tests that let it fail; open: datasets
    whose device somebody has open; full: pools without any room; unlinked: volumes renamed or cloned, whose link udev
    makes only while somebody waits for it."""

    def __init__(self, *pools: str) -> None:
        super().__init__()
        self.sets: dict[str, Set] = {}
        self.snaps: list[Snap] = []
        self.marks: list[Mark] = []
        self.full: set[str] = set()
        self.unlinked: set[str] = set()
        self.received: set[str] = set()
        self.open: set[str] = set()
        self.commands: list[str] = []
        self.through: Callable[[str, Callable[[], str]], Awaitable[str]] = at_once
        self._number = 1000
        for pool in pools:
            self.sets[pool] = Set(pool, "filesystem", *self._new())

    async def execute(self, what: str, args: Sequence[str]) -> tuple[int, str, str]:
        command = args[0]
        self.commands.append(" ".join(args))
        await asyncio.sleep(0)
        work = getattr(self, f"_{command}")
        try:
            if command in MUTATING:
                return 0, await self.through(f"zfs {' '.join(args)}", lambda: work(*args[1:]) or ""), ""
            out, err = work(*args[1:])
            return int(bool(err)), out, err
        except Refusal as refusal:
            return 1, "", f"{refusal}\n"

    async def send(self, snapshot: str, fd: int, report: Callable[[int, int], None]) -> int:
        """The contents, with a word before them, which must be a stream's."""
        contents = b"stream of " + self._snap(snapshot).contents
        await self.through(f"zfs send {snapshot}", lambda: str(os.write(fd, contents)))
        report(len(contents), len(contents))
        return len(contents)

    async def pipe(self, what: str, send: Sequence[str], receive: Sequence[str], report: Report) -> None:
        self.commands += [" ".join(send), " ".join(receive)]
        snap = self._snap(send[-1])

        def effect() -> str:
            _, (name,) = self._options(receive[1:], set(), {"-u"})
            if name in self.sets:
                raise Refusal(f"cannot receive new filesystem stream: destination '{name}' exists")
            made = Set(name, "volume", *self._new(), size=snap.size, contents=snap.contents, values=self.values)
            self.sets[name] = made
            self.snaps.append(Snap(name, snap.name, snap.guid, self._new()[1], snap.contents, snap.size))
            return ""

        await asyncio.sleep(0)
        report(len(snap.contents), len(snap.contents))
        await self.through(f"zfs {' '.join(receive)}", effect)

    # -- what tests look at --------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """All datasets and snapshots."""
        return sorted([*self.sets, *(snap.full for snap in self.snaps)])

    def picture(self) -> dict[str, tuple[object, ...]]:
        """All there is, as plain values: without guids, transaction groups and who made it when."""
        volatile = ("org.kldload.kvm:job", "org.kldload.kvm:since")

        def kept(values: dict[str, str]) -> tuple[tuple[str, str], ...]:
            told = {key: value for key, value in values.items() if key not in volatile}
            if "org.kldload.kvm:snapshot" in told:  # it ends with what took it
                told["org.kldload.kvm:snapshot"] = told["org.kldload.kvm:snapshot"].rpartition(":")[0]
            return tuple(sorted(told.items()))

        sets = {
            each.name: (each.kind, each.size, each.origin.full if each.origin else "", each.contents, kept(each.values))
            for each in self.sets.values()
        }
        return {**sets, **{each.full: ("snapshot", each.contents, kept(each.values)) for each in self.snaps}}

    def guids(self) -> dict[str, int]:
        return {each.name: each.guid for each in self.sets.values()} | {each.full: each.guid for each in self.snaps}

    def of(self, name: str) -> list[Snap]:
        """The snapshots of a dataset, oldest first."""
        return sorted((each for each in self.snaps if each.dataset == name), key=lambda each: each.txg)

    # -- reading -------------------------------------------------------------------------------------------------------

    def _version(self) -> tuple[str, str]:
        return "zfs-2.3.9-1\nzfs-kmod-2.3.9-1\n", ""

    def _list(self, *args: str) -> tuple[str, str]:
        options, names = self._options(args, {"-o", "-t", "-d"}, {"-Hp", "-r"})
        kinds = options["-t"].split(",")
        depth = 99 if "-r" in options else int(options.get("-d", "0"))
        found: dict[str, Set | Snap] = {}
        missing = []
        for name in names:
            if not self._exists(name):
                missing.append(f"cannot open '{name}': dataset does not exist")
            for each in self._below(name, depth):
                kind = "snapshot" if isinstance(each, Snap) else each.kind
                if kind in kinds or kinds == ["all"]:
                    found[each.full if isinstance(each, Snap) else each.name] = each
        columns = options["-o"].split(",")
        shown = [m for m in self.marks if "bookmark" in kinds and any(_under(m.dataset, n, depth) for n in names)]
        lines = ["\t".join(self._value(each, column) for column in columns) for _, each in sorted(found.items())]
        known = [{"name": m.full, "type": "bookmark", "guid": str(m.guid), "createtxg": str(m.txg)} for m in shown]
        lines += ["\t".join(mark.get(column, "-") for column in columns) for mark in known]
        return "".join(f"{line}\n" for line in lines), "".join(f"{line}\n" for line in missing)

    def _get(self, *args: str) -> tuple[str, str]:
        options, (key, *names) = self._options(args, {"-o", "-s"}, {"-Hp"})
        if (columns := options.get("-o")) in ("name,value", "name,source"):
            there = [name for name in names if self._exists(name)]
            missing = [f"cannot open '{name}': dataset does not exist" for name in names if name not in there]
            tell = self._value if columns == "name,value" else self._source
            lines = [f"{name}\t{tell(self._find(name), key)}" for name in there]
            return "".join(f"{line}\n" for line in lines), "".join(f"{line}\n" for line in missing)
        (name,) = names
        record = self._find(name)
        if options["-o"] == "property,value,source":
            rows = ((each, self._value(record, each), self._source(record, each)) for each in key.split(","))
            return "".join("\t".join(row) + "\n" for row in rows), ""
        if key != "all":
            return self._value(record, key) + "\n", ""
        assert options["-s"] == "local,received" and options["-o"] == "property,value"
        return "".join(f"{key}\t{value}\n" for key, value in sorted(record.values.items())), ""

    def _value(self, record: Set | Snap, column: str) -> str:
        if isinstance(record, Snap):
            own = {"name": record.full, "type": "snapshot", "used": "0", "volsize": str(record.size),
                   "userrefs": str(len(record.holds))}  # fmt: skip
            above = record.dataset
        else:
            volume = record.kind == "volume"
            own = {
                "name": record.name, "type": record.kind, "used": "4096", "available": "80000000000",
                "origin": record.origin.full if record.origin else "-",
                "volsize": str(record.size) if volume else "-",
                "written": str(self._written(record)),
                "logicalreferenced": str((28672 if volume else 43008) + len(record.contents)),
                "volblocksize": "65536" if volume else "-",
                "mountpoint": "-" if volume else "none",
            }  # fmt: skip
            above = record.name.rpartition("/")[0]
        own |= {"guid": str(record.guid), "createtxg": str(record.txg), "creation": str(EPOCH + record.txg)}
        own |= record.values
        if column in own:
            return own[column]
        if column in DEFAULTS:
            return DEFAULTS[column]
        # User properties are inherited, by a snapshot from its dataset as well.
        return self._value(self.sets[above], column) if ":" in column and above in self.sets else "-"

    def _written(self, record: Set) -> int:
        """Since the newest snapshot, or else since its origin."""
        *_, last = [None, record.origin, *self.of(record.name)]
        if last is None:
            return 12288 + len(record.contents)
        fresh = 8192 if last is record.origin else 0  # as on the bench: a clone has that from the start
        return fresh if last.contents == record.contents else fresh + 65536 + len(record.contents)

    def _source(self, record: Set | Snap, key: str) -> str:
        if isinstance(record, Snap) and record.full in self.received:
            return "received"
        if key in record.values or key == "refreservation":  # of a volume that is always its own
            return "local"
        return "default"

    def _exists(self, name: str) -> bool:
        return name in self.sets or any(each.full == name for each in self.snaps)

    def _find(self, name: str) -> Set | Snap:
        if name in self.sets:
            return self.sets[name]
        for each in self.snaps:
            if each.full == name:
                return each
        raise Refusal(f"cannot open '{name}': dataset does not exist")

    def _snap(self, full: str) -> Snap:
        found = self._find(full)
        assert isinstance(found, Snap), full
        return found

    def _below(self, name: str, depth: int) -> Iterator[Set | Snap]:
        for each in self.sets.values():
            if each.name == name or (
                each.name.startswith(f"{name}/") and each.name.count("/") - name.count("/") <= depth
            ):
                yield each
        for snap in self.snaps:
            below = snap.dataset.startswith(f"{name}/") and snap.dataset.count("/") - name.count("/") < depth
            if snap.full == name or (depth and (snap.dataset == name or below)):
                yield snap

    # -- changing ------------------------------------------------------------------------------------------------------

    def _create(self, *args: str) -> None:
        options, (name,) = self._options(args, {"-V"}, {"-s", "-p", "-u"})
        values = self.values
        if name in self.sets:
            if "-p" in options:
                return
            raise Refusal(f"cannot create '{name}': dataset already exists")
        self._need_room(name)
        parent = name.rpartition("/")[0]
        if parent not in self.sets:
            if "-p" not in options:
                raise Refusal(f"cannot create '{name}': parent does not exist")
            self._create("-p", parent)
        size = int(options.get("-V", "0"))
        kind = "volume" if "-V" in options else "filesystem"
        block = int(values.get("volblocksize", "8192"))
        if size % block:
            raise Refusal(f"cannot create '{name}': volume size must be a multiple of volume block size")
        self.sets[name] = Set(name, kind, *self._new(), size=size, values=values)

    def _clone(self, *args: str) -> None:
        _, (origin, name) = self._options(args, set(), set())
        if name in self.sets:
            raise Refusal(f"cannot create '{name}': dataset already exists")
        snap = self._snap(origin)
        self._need_room(name)
        if name.rpartition("/")[0] not in self.sets:
            raise Refusal(f"cannot create '{name}': parent does not exist")
        self.unlinked.add(name)
        self.sets[name] = Set(
            name, "volume", *self._new(), size=snap.size, origin=snap, contents=snap.contents, values=self.values
        )

    def _snapshot(self, *args: str) -> None:
        _, names = self._options(args, set(), set())
        txg = self._new()[1]
        new = []
        for full in names:
            dataset, _, name = full.partition("@")
            if dataset not in self.sets:
                raise Refusal(f"cannot open '{dataset}': dataset does not exist")
            if self._exists(full):
                raise Refusal(f"cannot create snapshot '{full}': dataset already exists")
            taken = self.sets[dataset]
            new.append(Snap(dataset, name, self._new()[0], txg, taken.contents, taken.size, dict(self.values)))
        self.snaps += new

    def _program(self, *args: str) -> str:
        """What zfs/snapshot_all.lua does."""
        _, words = self._options(args, {"-t", "-m"}, {"-j", "--"})
        pool, script, name, key, tag, mode, *rest = words
        assert pool in self.sets and script.endswith("snapshot_all.lua")
        txg, wanted, outcome = self._new()[1], [], dict[str, str]()
        while rest:
            dataset, count, *rest = rest
            assert dataset.partition("/")[0] == pool
            pairs, rest = rest[: int(count) * 2], rest[int(count) * 2 :]
            full, values = f"{dataset}@{name}", dict(zip(pairs[::2], pairs[1::2], strict=True))
            if dataset not in self.sets:
                outcome[dataset] = "gone"
            elif not self._exists(full):
                wanted.append((self.sets[dataset], values))
            else:
                outcome[dataset] = "taken" if self._value(self._find(full), key).endswith(f":{tag}") else "exists"
        none = mode == "together" and set(outcome.values()) - {"taken"}
        for taken, values in wanted:
            outcome[taken.name] = "left" if none else "failed: 28" if pool in self.full else "taken"
            if outcome[taken.name] == "taken":
                snap = Snap(taken.name, name, self._new()[0], txg, taken.contents, taken.size, values)
                self.snaps.append(snap)
                outcome[taken.name] += f" {snap.guid} {snap.txg} {EPOCH + snap.txg}"
        return json.dumps({"return": outcome})

    def _rename(self, old: str, new: str) -> None:
        if old not in self.sets:
            raise Refusal(f"cannot open '{old}': dataset does not exist")
        if new in self.sets:
            raise Refusal(f"cannot rename '{old}': dataset already exists")
        if new.rpartition("/")[0] not in self.sets:
            raise Refusal(f"cannot rename to '{new}': parent does not exist")
        self.sets[new] = self.sets.pop(old)
        self.sets[new].name = new
        self.unlinked.add(new)
        for each in (*self.of(old), *(mark for mark in self.marks if mark.dataset == old)):
            each.dataset = new

    def _promote(self, name: str) -> None:
        promoted = self.sets[name]
        shared = promoted.origin
        if shared is None:
            raise Refusal(f"cannot promote '{name}': not a cloned filesystem")
        before = self.sets[shared.dataset]
        for each in (*self.of(before.name), *(mark for mark in self.marks if mark.dataset == before.name)):
            if each.txg <= shared.txg:
                each.dataset = name
        promoted.origin, before.origin = before.origin, shared

    def _destroy(self, name: str) -> None:
        dataset, at, snapshots = name.partition("@")
        if at:
            for each in snapshots.split(","):
                snap = next((s for s in self.of(dataset) if s.name == each), None)
                if snap is None:
                    raise Refusal("could not find any snapshots to destroy; check snapshot names.")
                if snap.holds:
                    raise Refusal(f"cannot destroy '{snap.full}': dataset is busy")
                if any(s.origin is snap for s in self.sets.values()):
                    raise Refusal(f"cannot destroy '{snap.full}': snapshot has dependent clones")
                self.snaps.remove(snap)
            return
        if dataset not in self.sets:
            raise Refusal(f"cannot open '{name}': dataset does not exist")
        if self.of(dataset) or any(each.startswith(f"{dataset}/") for each in self.sets):
            raise Refusal(f"cannot destroy '{name}': {self.sets[dataset].kind} has children")
        if dataset in self.open:
            raise Refusal(f"cannot destroy '{name}': dataset is busy")
        del self.sets[dataset]

    def _set(self, *args: str) -> None:
        for name in (each for each in args if "=" not in each):
            self._set_one(name, *(each for each in args if "=" in each))

    def _set_one(self, name: str, *pairs: str) -> None:
        record = self._find(name)
        for key, _, value in (pair.partition("=") for pair in pairs):
            if key == "volsize":
                assert isinstance(record, Set)
                if int(value) % int(record.values.get("volblocksize", "8192")):
                    raise Refusal(
                        f"cannot set property for '{name}': 'volsize' must be a multiple of volume block size"
                    )
                record.size = int(value)  # a smaller one as well: zfs does not ask
            elif key == "refreservation":
                assert isinstance(record, Set)
                record.values[key] = {"auto": str(record.size), "none": "0"}.get(value, value)
                if record.values[key] == "0":
                    del record.values[key]
            else:
                record.values[key] = {"gzip-6": "gzip"}.get(value, value)

    def _inherit(self, key: str, name: str) -> None:
        if key == "refreservation":
            raise Refusal(f"'{key}' property cannot be inherited")
        self._find(name).values.pop(key, None)

    def _need_room(self, name: str) -> None:
        """What ZFS refuses in a pool without room: to create, clone and snapshot; not to rename, set or destroy."""
        if name.partition("/")[0] in self.full:
            raise Refusal(f"cannot create '{name}': out of space")

    # -- inside --------------------------------------------------------------------------------------------------------

    def _options(self, args: Sequence[str], valued: set[str], flags: set[str]) -> tuple[dict[str, str], list[str]]:
        """The options and what follows them. `-o k=v` of the commands that set properties ends up in self.values."""
        found: dict[str, str] = {}
        self.values: dict[str, str] = {}
        words = list(args)
        while words and words[0].startswith("-"):
            word = words.pop(0)
            if word == "-o" and "-o" not in valued:
                key, _, value = words.pop(0).partition("=")
                self.values[key] = value
            elif word in valued:
                found[word] = words.pop(0)
            else:
                assert word in flags, args
                found[word] = ""
        return found, words

    def _new(self) -> tuple[int, int]:
        """A guid and a transaction group that nothing had before. A guid is more than a double can hold."""
        self._number += 1
        return (1 << 60) + self._number, self._number


def _under(dataset: str, name: str, depth: int) -> bool:
    """Whether bookmarks of a dataset are among what is listed of `name` down to that depth."""
    below = dataset.startswith(f"{name}/") and dataset.count("/") - name.count("/") < depth
    return bool(depth) and (dataset == name or below)
