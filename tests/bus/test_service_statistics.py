"""GetStatistics over the bus: what each table says, what libvirt is asked for it, and what is left when it is away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kldload_kvm.bus import statistics
from kldload_kvm.model.constants import ROOT
from kldload_kvm.model.tally import OUTCOMES
from kldload_kvm.model.usage import Usage
from kldload_kvm.ops.registry import REQUESTS
from kldload_kvm.virt import sampler
from loops import in_loop
from served import Authority, Client, Served, answer, error_of, options, path_of, serving
from world import id_of, uuid_of

FIGURES = {
    "cpu.time": (1 << 63) + 1, "balloon.current": 262144, "net.count": 1, "net.0.name": "vnet0", "net.0.rx.bytes": 5,
    "block.count": 1, "block.0.name": "vda", "block.0.rd.reqs": 6,
}  # fmt: skip
SAMPLED = {"service", "usage", "disk", "interface"}
MEMORY = {"storage", "vm", "snapshot", "held", "job", "event", "reload"}


@pytest.fixture(autouse=True)
def always_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept for a second, so that a test sees what it has just changed."""
    monkeypatch.setattr(statistics, "KEPT", 0.0)
    monkeypatch.setattr(sampler, "KEPT", 0.0)


async def tables(served: Served, *names: str) -> dict[str, list[dict[str, Any]]]:
    given = {"tables": list(names)} if names else {}
    found: dict[str, list[dict[str, Any]]] = await served.client.ask(ROOT, "Manager", "GetStatistics", given)
    return found


def of(rows: list[dict[str, Any]], **wanted: object) -> dict[str, Any]:
    (row,) = [row for row in rows if wanted.items() <= row.items()]
    return row


class TestTables:
    @in_loop
    async def test_capacity_and_vms_are_as_their_properties_say(self) -> None:
        async with serving() as served:
            await served.vm("web", "running")
            await served.vm("db")
            found = await tables(served)
            assert found.keys() == SAMPLED | MEMORY
            managed = await served.client.managed()
            storage = managed[f"{ROOT}/storage/rpool"]["org.kldload.Kvm1.Storage"]
            row = of(found["storage"], storage="rpool")
            for column, name in statistics.STORAGE.items():
                assert row[column] == storage[name]
            for vm in ("web", "db"):
                told = managed[path_of(vm)]["org.kldload.Kvm1.Vm"]
                row = of(found["vm"], vm=vm)
                assert {row[column] == told[name] for column, name in statistics.VM.items()} == {True}

    @in_loop
    async def test_the_service_says_how_it_is(self) -> None:
        async with serving() as served:
            served.publisher.update_manager(Problems=("one", "two"), LibvirtVersion="11.3.0", ZfsVersion="2.3.9")
            gate = served.host.troubles.gates["autostart"] = asyncio.Event()
            await served.vm("web")
            await served.client.ask(path_of("web"), "Vm", "SetAutostart", True)
            (row,) = (await tables(served, "service"))["service"]
            assert row == {
                "version": "0.1.0", "zfs": "2.3.9", "libvirt": "11.3.0", "started": 1_775_057_422, "problems": 2,
                "jobs-running": 1, "libvirt-connected": True, "usage-problem": "",
            }  # fmt: skip
            gate.set()

    @in_loop
    async def test_snapshots_are_told_by_kind_with_when_the_newest_was_taken(self) -> None:
        async with serving() as served:
            await served.vm("web", snapshots=("one", "two"))
            await served.host.zfs.snapshot(["rpool/vms/web@by-hand"], {})
            await served.vm("db")
            await served.host.known()
            served.publisher.flush()
            rows = (await tables(served, "snapshot"))["snapshot"]
            assert {row["vm"] for row in rows} == {"web"}
            listed = await served.client.ask(path_of("web"), "Vm", "ListSnapshots")
            for kind, count in (("manual", 2), ("foreign", 1)):
                newest = max(each["creation"] for each in listed if each["kind"] == kind)
                assert of(rows, kind=kind) == {
                    "vm": "web",
                    "id": id_of("web"),
                    "kind": kind,
                    "count": count,
                    "newest": newest,
                }

    @in_loop
    async def test_jobs_are_counted_by_outcome_and_every_outcome_is_there_before_the_first(self) -> None:
        async with serving() as served:
            await served.vm("web")
            before = (await tables(served, "job"))["job"]
            assert {(row["operation"], row["outcome"]) for row in before} == {
                (o, e) for o in REQUESTS for e in OUTCOMES
            }
            assert not any(row["count"] for row in before)
            await served.client.ask(path_of("web"), "Vm", "Snapshot", {"name": "one", "wait": True})
            served.host.troubles.at = len(served.host.troubles.done)
            await error_of(served.client.ask(path_of("web"), "Vm", "Snapshot", {"name": "two", "wait": True}))
            await served.client.ask(path_of("web"), "Vm", "Snapshot", {"plan-only": True})
            after = [row for row in (await tables(served, "job"))["job"] if row["count"]]
            assert [(r["operation"], r["outcome"], r["count"]) for r in after] == [
                ("vm.snapshot", "succeeded", 1), ("vm.snapshot", "failed", 1),
            ]  # fmt: skip

    @in_loop
    async def test_how_long_guests_were_held_still(self) -> None:
        async with serving() as served:
            guest = await served.vm("web", "running")
            guest.agent = True
            await served.client.ask(path_of("web"), "Vm", "Snapshot", {"wait": True})
            (row,) = (await tables(served, "held"))["held"]
            assert (row["vm"], row["id"], row["how"], row["count"]) == ("web", id_of("web"), "frozen", 1)
            assert row["seconds"] == row["last"] >= 0
            await served.client.ask(path_of("web"), "Vm", "Delete", {"wait": True, "force": True})
            assert (await tables(served, "held"))["held"] == []

    @in_loop
    async def test_the_trash_of_each_storage(self) -> None:
        async with serving() as served:
            await served.vm("web")
            await served.client.ask(path_of("web"), "Vm", "Delete", {"wait": True})
            rows = (await tables(served, "storage"))["storage"]
            entry = (await served.client.ask(ROOT, "Manager", "ListTrash"))[0]
            assert of(rows, storage="rpool")["trash-entries"] == 1
            assert of(rows, storage="rpool")["trash-used"] == entry["used"]
            assert of(rows, storage="fast")["trash-entries"] == 0

    @in_loop
    async def test_what_was_heard_of_the_host(self) -> None:
        async with serving() as served:
            served.tally.heard("zfs")
            served.tally.known("zfs", [1.0], 3.5)
            served.tally.reloaded("gap")
            found = await tables(served, "event", "reload")
            assert of(found["event"], source="zfs") == {
                "source": "zfs", "events": 1, "measured": 1, "lag": 2.5, "worst": 2.5, "late": 1,
            }  # fmt: skip
            assert of(found["event"], source="udev")["events"] == 0
            assert {row["reason"]: row["count"] for row in found["reload"]} == {
                "gap": 1, "reader": 0, "pool": 0, "libvirt": 0,
            }  # fmt: skip


class TestUsage:
    @in_loop
    async def test_is_libvirt_s_of_running_vms_and_numbers_keep_their_64_bits(self) -> None:
        async with serving() as served:
            await served.vm("web", "running")
            await served.vm("db")
            served.host.memory_virt.figures = {uuid_of("web"): FIGURES, uuid_of("db"): FIGURES}
            found = await tables(served)
            web = {"vm": "web", "id": id_of("web")}
            assert found["usage"] == [{**web, "cpu-time": (1 << 63) + 1, "memory-current": 256 << 20}]
            assert found["disk"] == [{**web, "target": "vda", "reads": 6}]
            assert found["interface"] == [{**web, "device": "vnet0", "received-bytes": 5}]

    @in_loop
    async def test_while_libvirt_is_away_the_rest_is_told_and_why(self) -> None:
        async with serving() as served:
            await served.vm("web", "running")
            served.host.memory_virt.figures = {uuid_of("web"): FIGURES}
            assert (await tables(served))["usage"]
            served.host.memory_virt.available = False
            found = await tables(served)
            assert found["usage"] == found["disk"] == found["interface"] == []
            assert "it cannot be reached" in found["service"][0]["usage-problem"]
            assert [row["vm"] for row in found["vm"]] == ["web"]
            assert found["storage"] and found["job"]

    @in_loop
    async def test_a_libvirt_that_hangs_keeps_nobody_waiting_beyond_the_bound(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sampler, "BOUND", 0.2)
        async with serving() as served:
            hanging = asyncio.Event()

            async def hangs() -> dict[str, Usage]:
                await hanging.wait()
                return {}

            served.statistics.sampler._ask = hangs
            found = await tables(served)
            assert "no answer within" in found["service"][0]["usage-problem"]
            assert (await tables(served, *MEMORY)).keys() == MEMORY
            hanging.set()

    @in_loop
    async def test_what_comes_from_memory_does_not_ask_libvirt(self) -> None:
        async with serving() as served:
            asked = 0

            async def counted() -> dict[str, Usage]:
                nonlocal asked
                asked += 1
                return {}

            served.statistics.sampler._ask = counted
            await tables(served, *MEMORY)
            assert asked == 0
            await tables(served, "usage", "disk", "disk")
            assert asked == 1


class TestCallers:
    @in_loop
    async def test_anybody_may_ask_and_nothing_is_changed(self) -> None:
        async with serving(Authority("no", read="yes")) as served:
            await served.vm("web", "running")
            alice = await Client.connect()
            served.as_user(1000, alice)
            before, commands = served.fingerprint(), served.host.zfs.started
            assert await alice.ask(ROOT, "Manager", "GetStatistics")
            assert (served.fingerprint(), served.host.zfs.started) == (before, commands)
            alice.bus.disconnect()

    @in_loop
    async def test_who_may_not_read_gets_nothing(self) -> None:
        async with serving(Authority("no")) as served:
            assert (await error_of(served.client.ask(ROOT, "Manager", "GetStatistics"))).name == "NotAuthorized"

    @in_loop
    async def test_however_many_ask_libvirt_is_asked_once_a_second_and_the_rows_are_made_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(statistics, "KEPT", 60.0)
        monkeypatch.setattr(sampler, "KEPT", 60.0)
        async with serving() as served:
            await served.vm("web", "running")
            asked = made = 0

            async def counted() -> dict[str, Usage]:
                nonlocal asked
                asked += 1
                return {}

            vms = served.statistics._known["vm"]

            def listed() -> Any:
                nonlocal made
                made += 1
                return vms()

            served.statistics.sampler._ask = counted
            served.statistics._known["vm"] = listed
            await asyncio.gather(*(tables(served) for _ in range(20)))
            assert (asked, made) == (1, 1)

    @pytest.mark.parametrize("names", [["nonsense"], ["vm", "Vm"], [""], ["x" * 10_000]])
    @in_loop
    async def test_a_table_that_there_is_not_is_an_error_that_names_those_there_are(self, names: list[str]) -> None:
        async with serving() as served:
            error = await error_of(served.client.ask(ROOT, "Manager", "GetStatistics", {"tables": names}))
            assert error.name == "InvalidArgument"
            assert "there is no table" in error.text and "service, snapshot, storage" in error.text
            assert len(error.text) < 400

    @in_loop
    async def test_of_nothing_there_is_nothing(self) -> None:
        async with serving() as served:
            assert (await tables(served, "held", "usage", "vm", "snapshot")) == {
                "held": [], "usage": [], "vm": [], "snapshot": [],
            }  # fmt: skip
            given = options({"tables": "as"}, {"tables": []})
            reply = await served.client.send(ROOT, "org.kldload.Kvm1.Manager", "GetStatistics", "a{sv}", [given])
            assert answer(reply) == {}
