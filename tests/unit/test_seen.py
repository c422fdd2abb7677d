"""Which disks were ever there: remembered over restarts, and only once nothing can undo them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from kldload_kvm.engine.sqlite_journal import SqliteJournal
from kldload_kvm.watch import seen
from kldload_kvm.watch.seen import Seen
from loops import in_loop
from world import World, uuid_of


@in_loop
async def test_a_disk_that_was_there_is_known_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "CALM", 0.0)
    host, journal = World(), SqliteJournal(tmp_path)
    memory = Seen(host.inventory, journal, lambda name: "")
    keeping = asyncio.ensure_future(memory.keep())
    memory.note(host.vm("web"))
    for _ in range(200):
        if await journal.disks_seen():
            break
        await asyncio.sleep(0.01)
    assert memory.of(uuid_of("web")) == {"vda", "nvram"}
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
    again = Seen(host.inventory, journal, lambda name: "")
    assert again.of(uuid_of("web")) == frozenset()
    await again.load()
    assert again.of(uuid_of("web")) == {"vda", "nvram"}
    assert again.of(uuid_of("other")) == frozenset()


@in_loop
async def test_what_has_ended_as_it_asked_for_is_forgotten_for_good(tmp_path: Path) -> None:
    host, journal = World(), SqliteJournal(tmp_path)
    await journal.disks_are_seen([(uuid_of("web"), "vda"), (uuid_of("web"), "vdb"), (uuid_of("other"), "vda")])
    memory = Seen(host.inventory, journal, lambda name: "")
    await memory.load()
    await memory.forget(uuid_of("web"), ("vda",))
    assert memory.of(uuid_of("web")) == {"vdb"}
    again = Seen(host.inventory, journal, lambda name: "")
    await again.load()
    assert (again.of(uuid_of("web")), again.of(uuid_of("other"))) == ({"vdb"}, {"vda"})


@in_loop
async def test_what_a_job_is_at_work_on_may_yet_be_undone(tmp_path: Path) -> None:
    host, working = World(), {"web"}
    memory = Seen(host.inventory, SqliteJournal(tmp_path), lambda name: "1" if name in working else "")
    memory.note(host.vm("web"))
    assert memory.look() == set()
    host.inventory.remove_dataset("rpool/vms/web.nvram")
    working.clear()
    assert memory.look() == {(uuid_of("web"), "vda")}


@in_loop
async def test_an_orphan_and_what_is_not_there_are_not_seen(tmp_path: Path) -> None:
    host = World()
    memory = Seen(host.inventory, SqliteJournal(tmp_path), lambda name: "")
    memory.note(host.vm("web", "orphan"))
    assert memory.look() == set()
