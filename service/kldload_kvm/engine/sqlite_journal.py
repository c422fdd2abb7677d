"""The durable journal: SQLite in the service's state directory, written through to the disk, from one thread.

A disk that is full must not keep anybody from making room on it, so a little room is kept in a file of its own, and
given up for jobs that are under way and for those that free something.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from ..model.errors import Failed, Interrupted, KvmError, NoSpace
from ..waiting import finish
from .journal import new_id
from .records import (
    Record,
    error_revived,
    error_written,
    plan_revived,
    plan_summary,
    plan_told,
    plan_written,
    result_revived,
)

log = logging.getLogger(__name__)
T = TypeVar("T")
Statement = tuple[str, tuple[Any, ...]]

RESERVE = 2 << 20
"""Bytes kept free for the journal: some hundred jobs."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS job (
    id TEXT PRIMARY KEY, number INTEGER NOT NULL, plan TEXT NOT NULL, uid INTEGER NOT NULL, login INTEGER NOT NULL,
    started REAL NOT NULL, ended REAL NOT NULL, state TEXT NOT NULL, error TEXT NOT NULL, result TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS step (
    job TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL, PRIMARY KEY (job, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS note (
    job TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (job, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (
    domain TEXT NOT NULL, target TEXT NOT NULL, PRIMARY KEY (domain, target)
) WITHOUT ROWID;
"""
SET_SEEN = "INSERT OR IGNORE INTO seen VALUES (?, ?)"
FORGET_SEEN = "DELETE FROM seen WHERE domain = ? AND target = ?"
SET_STEP = "INSERT OR REPLACE INTO step VALUES (?, ?, ?)"
SET_NOTE = "INSERT OR REPLACE INTO note VALUES (?, ?, ?)"
FORGET = ("DELETE FROM job WHERE id = ?", "DELETE FROM step WHERE job = ?", "DELETE FROM note WHERE job = ?")
OPEN = ("running", "undoing")
SET_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"


class SqliteJournal:
    """directory: the service's own, which nobody else may read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._pending: list[Statement] = []
        self._plans: dict[str, str] = {}
        self.problem = ""
        self._db = self._open()
        self._id, self._number = self._identity()
        self._written = self._number  # the highest number that is durable: a storage must never be ahead of the journal
        self._keep_room()

    def new_id(self) -> str:
        return new_id()

    def mark(self) -> tuple[str, int]:
        return self._id, self._written

    def advance(self, number: int) -> None:
        """Go on counting from there: a pool had seen more of this journal than this journal knows."""
        self._number = self._written = max(self._number, number)

    # -- what the engine tells -----------------------------------------------------------------------------------------

    async def load(self) -> list[Record]:
        return await self._in_thread(self._load)

    async def opened(self, record: Record) -> None:
        number = self._next()
        row = (
            record.id, number, json.dumps(plan_written(record.plan)), record.uid, record.login,
            record.started, 0.0, record.state, "null", "{}",
        )  # fmt: skip
        self._plans[record.id] = json.dumps(plan_summary(record.plan))
        insert = "INSERT INTO job VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        begun = [(SET_STEP, (record.id, n, state)) for n, state in enumerate(record.step_states) if state != "waiting"]
        try:
            await self._write([(insert, row), self._count(number), *begun], may_use_reserve=record.plan.frees)
        except BaseException:
            self._plans.pop(record.id, None)
            raise
        self._written = max(self._written, number)

    async def intend(self, job: str, indexes: tuple[int, ...]) -> None:
        await self._write([(SET_STEP, (job, index, "running")) for index in indexes])

    async def note(self, job: str, results: dict[str, Any]) -> None:
        await self._write([(SET_NOTE, (job, key, json.dumps(value))) for key, value in results.items()])

    async def did(self, job: str, indexes: tuple[int, ...], results: dict[str, Any]) -> None:
        # With the next write: until then the host tells that it was done.
        self._pending += [(SET_STEP, (job, index, "done")) for index in indexes]
        self._pending += [(SET_NOTE, (job, key, json.dumps(value))) for key, value in results.items()]

    async def turned(self, job: str) -> None:
        await self._write([("UPDATE job SET state = 'undoing' WHERE id = ?", (job,))])

    async def undid(self, job: str, index: int) -> None:
        self._pending.append((SET_STEP, (job, index, "undone")))

    async def closed(self, job: str, state: str, error: KvmError | None, result: dict[str, Any]) -> None:
        number = self._next()
        summary = self._plans.pop(job, None)
        values = (state, time.time(), json.dumps(error_written(error)), json.dumps(result), summary, job)
        update = "UPDATE job SET state = ?, ended = ?, error = ?, result = ?, plan = ifnull(?, plan) WHERE id = ?"
        statements = [(update, values), ("DELETE FROM note WHERE job = ?", (job,)), self._count(number)]
        try:
            await self._write(statements)
        except KvmError:
            self._pending += statements  # it has ended, and that is written as soon as anything can be
            raise
        self._written = max(self._written, number)
        self._thread.submit(self._keep_room)

    def forgot(self, job: str) -> None:
        self._pending += [(text, (job,)) for text in FORGET]

    async def disks_seen(self) -> list[tuple[str, str]]:
        return await self._in_thread(lambda: list(self._db.execute("SELECT domain, target FROM seen")))

    async def disks_are_seen(self, disks: Iterable[tuple[str, str]]) -> None:
        await self._write([(SET_SEEN, each) for each in disks], may_use_reserve=False)

    async def disks_are_forgotten(self, disks: Iterable[tuple[str, str]]) -> None:
        await self._write([(FORGET_SEEN, each) for each in disks])

    # -- inside, on the loop -------------------------------------------------------------------------------------------

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _count(self, number: int) -> Statement:
        return SET_META, ("number", str(number))

    async def _write(self, statements: list[Statement], may_use_reserve: bool = True) -> None:
        """Write these, and what waited for the next write, in one transaction. Raises NoSpace or Failed."""
        batch, self._pending = [*self._pending, *statements], []
        try:
            await self._in_thread(self._commit, batch, may_use_reserve)
        except KvmError:
            waited = batch[: len(batch) - len(statements)]
            self._pending = [*waited, *self._pending]
            raise

    async def _in_thread(self, work: Callable[..., T], *args: Any) -> T:
        loop = asyncio.get_running_loop()

        async def run() -> T:
            return await loop.run_in_executor(self._thread, work, *args)

        return await finish(run())

    # -- inside, in the thread -----------------------------------------------------------------------------------------

    @property
    def _file(self) -> Path:
        return self._directory / "journal.db"

    @property
    def _reserve(self) -> Path:
        return self._directory / "reserve"

    def _open(self) -> sqlite3.Connection:
        """The database; one that cannot be read is put aside for a person to look at. Raises Failed."""
        try:
            return self._connected()
        except sqlite3.DatabaseError as fault:
            if isinstance(fault, sqlite3.OperationalError):  # it cannot be opened at all, or the disk is full
                raise _unwritable(fault) from None
            aside = self._directory / f"journal.damaged-{int(time.time())}.db"
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{self._file}{suffix}").rename(f"{aside}{suffix}")
            self.problem = f"the journal was damaged ({fault}) and is kept as {aside}: what was under way is not known"
            log.error("%s", self.problem)
            return self._connected()

    def _connected(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._file, check_same_thread=False, isolation_level=None, timeout=10)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            (answer,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                raise sqlite3.DatabaseError(answer)
            db.executescript(SCHEMA)
        except BaseException:
            db.close()
            raise
        return db

    def _identity(self) -> tuple[str, int]:
        """The journal's own id, made with it, and its number."""
        known = dict(self._db.execute("SELECT key, value FROM meta"))
        if "id" not in known:
            known = {"id": secrets.token_hex(8), "number": "0"}
            self._commit([(SET_META, pair) for pair in known.items()], may_use_reserve=True)
        return known["id"], int(known["number"])

    def _commit(self, batch: list[Statement], may_use_reserve: bool) -> None:
        try:
            self._transaction(batch)
        except sqlite3.Error as fault:
            if not is_full(fault):
                raise _unwritable(fault) from None
            if not may_use_reserve or not self._reserve.exists():
                raise _full() from None
            log.warning("the disk of %s is full: the room kept for the journal is used", self._directory)
            self._reserve.unlink()
            try:
                self._transaction(batch)
            except sqlite3.Error as again:
                raise (_full() if is_full(again) else _unwritable(again)) from None

    def _transaction(self, batch: list[Statement]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for text, values in batch:
                self._db.execute(text, values)
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def _keep_room(self) -> None:
        """Fill the reserve with what no file system can make smaller. Without room for it there is none, for now."""
        if self._reserve.exists():
            return
        part = self._reserve.with_suffix(".part")
        try:
            with part.open("wb") as file:
                file.write(secrets.token_bytes(RESERVE))
                file.flush()
                os.fsync(file.fileno())
            part.rename(self._reserve)
        except OSError as fault:
            log.warning("no room can be kept for the journal: %s", fault)
            with contextlib.suppress(OSError):
                part.unlink()

    def _load(self) -> list[Record]:
        found = []
        query = "SELECT id, plan, uid, login, started, ended, state, error, result FROM job ORDER BY number"
        for id_, plan, uid, login, started, ended, state, error, result in self._db.execute(query).fetchall():
            try:
                known = plan_revived(json.loads(plan))
            except (KeyError, TypeError, ValueError) as fault:
                log.error("job %s in the journal is of another version of the service: %r", id_, fault)
                if state in OPEN:
                    found.append(self._given_up(id_, plan, uid, login, started))
                continue
            states = dict(self._db.execute("SELECT number, state FROM step WHERE job = ?", (id_,)))
            notes = dict(self._db.execute("SELECT key, value FROM note WHERE job = ?", (id_,)))
            noted = {key: json.loads(value) for key, value in notes.items()}
            if state in OPEN:
                self._plans[id_] = json.dumps(plan_summary(known))
            found.append(Record(
                id_, known, uid, login, started, ended, state,
                tuple(states.get(number, "waiting") for number in range(len(known.steps))),
                error_revived(json.loads(error)), result_revived({**json.loads(result), **noted}),
            ))  # fmt: skip
        return found

    def _given_up(self, id_: str, plan: str, uid: int, login: int, started: float) -> Record:
        """A job that was left open and that this version can neither finish nor undo: it is over, and says so."""
        try:
            known = plan_told(json.loads(plan))
        except (AttributeError, TypeError, ValueError):
            known = plan_told({})
        why = "it was begun by another version of kldload-kvmd, whose steps this one does not know"
        hint = "look at its volumes, and whether a guest is paused or frozen: nothing was undone"
        error = Interrupted(f"{known.description}: left as it is", why, hint)
        record = Record(id_, known, uid, login, started, time.time(), "failed", error=error)
        told = (json.dumps(plan_summary(known)), record.ended, json.dumps(error_written(error)), id_)
        self._commit([("UPDATE job SET plan = ?, ended = ?, state = 'failed', error = ? WHERE id = ?", told)], True)
        return record


def is_full(fault: sqlite3.Error) -> bool:
    """Whether SQLite means that the disk is full; on ZFS it may say so as an error of writing."""
    return fault.sqlite_errorname in ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_SHMSIZE")


def _full() -> NoSpace:
    why = "the disk of /var/lib/kldload-kvm is full, and every step is written to the journal there before it is done"
    return NoSpace("nothing was done", why, "make room; deleting VMs and snapshots is still possible")


def _unwritable(fault: sqlite3.Error) -> Failed:
    why = f"the journal in /var/lib/kldload-kvm cannot be written: {fault}"
    return Failed("nothing was done", why, "is its file system mounted, and writable?")
