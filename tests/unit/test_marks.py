"""Storages are marked with the journal's number, but not those of which jobs that were left open are still to be
compared with the journal as it was."""

from __future__ import annotations

import asyncio

from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.plan import Plan
from kldload_kvm.model import properties
from kldload_kvm.model.errors import Stale
from kldload_kvm.steps.volumes import SetProperty
from kldload_kvm.watch.marks import Marks
from loops import in_loop
from unit.test_ops_killed import MemorySqlite, killed_at
from unit.test_ops_undone import CASES, conversion, firmware, no_waiting  # noqa: F401 -- fixtures

SNAPSHOT = next(case for case in CASES if case.name == "snapshot of a running VM")
OTHER = Plan("toy", "note something", prepare=(SetProperty("rpool/vms/isos", "mine:note", "x"),))


@in_loop
async def test_a_job_that_waits_for_libvirt_is_not_taken_for_one_of_an_old_journal_by_our_own_marks() -> None:
    host, db, at = await killed_at(SNAPSHOT, 5)
    assert "suspend web" in at
    host.memory_virt.available = False
    journal = MemorySqlite(db)
    engine = Engine(host, journal)
    marks = Marks(host, journal.mark, journal.advance, engine.left_open)
    await engine.load()
    await marks.read()
    engine.recover()
    (left,) = engine.jobs.values()
    other = engine.start(OTHER, 0)
    await other.finished.wait()
    await marks.write()
    assert await host.zfs.get("vmpool/vms", properties.JOURNAL) == "{}:{}".format(*journal.mark())
    host.memory_virt.available = True
    await asyncio.wait_for(left.finished.wait(), 10)
    assert not isinstance(left.error, Stale)
    assert host.guest("web").state == "running"
    await marks.write()
    assert await host.zfs.get("rpool/vms", properties.JOURNAL) == "{}:{}".format(*journal.mark())
