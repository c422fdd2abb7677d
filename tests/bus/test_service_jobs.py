"""Jobs over the bus: from the call that starts one to its end, what is told meanwhile, and asking the same twice."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from kldload_kvm.bus.publish import PROGRESS_INTERVAL
from kldload_kvm.model.constants import ROOT
from kldload_kvm.model.errors import LibvirtFailed
from kldload_kvm.steps import guests
from loops import in_loop
from served import Client, Served, error_of, path_of, serving, until_true

ALICE, BOB = 1000, 1001


def told(client: Client, path: str) -> list[tuple[str, Any]]:
    """What a client heard of one object: changed properties one by one, and other signals."""
    found: list[tuple[str, Any]] = []
    for where, member, body in client.signals:
        if where == path and member == "PropertiesChanged":
            found += body[1].items()
        elif where == path:
            found.append((member, body))
    return found


class TestWhole:
    """The main job, over the bus: create, snapshot, rollback, clone, delete."""

    @in_loop
    async def test_from_create_to_delete(self) -> None:
        async with serving() as served:
            client = served.client
            job = await client.ask(ROOT, "Manager", "CreateVm", "new", {"wait": True, "memory": 1 << 30, "start": True})
            result = await client.ask(job, "Job", "Wait")
            vm = result["vm"]
            assert result == {
                "vm": vm, "name": "new", "id": result["id"], "uuid": result["uuid"], "volblocksize": 65536,
                "volblocksize-reason": "64K suits mirrors and single disks",
            }  # fmt: skip
            assert await client.ask(ROOT, "Manager", "FindVm", "new") == vm
            assert [await client.get(vm, "Vm", each) for each in ("State", "Memory")] == ["running", 1 << 30]
            job = await client.ask(vm, "Vm", "Snapshot", {"wait": True, "name": "s1"})
            result = await client.ask(job, "Job", "Wait")
            assert (result["snapshot"], result["consistency"], result["held"] >= 0) == ("s1", "paused", True)
            await client.ask(vm, "Vm", "ForceOff", {"wait": True})
            await client.ask(vm, "Vm", "Rollback", {"wait": True})
            job = await client.ask(vm, "Vm", "Clone", ["a", "b"], {"wait": True})
            result = await client.ask(job, "Job", "Wait")
            assert (result["names"], result["identity"], result["consistency"]) == (["a", "b"], "pending", "off")
            assert result["vms"] == [await client.ask(ROOT, "Manager", "FindVm", name) for name in "ab"]
            assert await client.get(vm, "Vm", "Clones") == ["a", "b"]
            assert (await error_of(client.ask(vm, "Vm", "Delete", {"wait": True, "now": True}))).name == "HasClones"
            for name in ("a", "b", "new"):
                await client.ask(await client.ask(ROOT, "Manager", "FindVm", name), "Vm", "Delete", {"wait": True})
            assert [path for path in await client.managed() if "/vm/" in path] == []

    @in_loop
    async def test_a_job_is_an_object_with_all_its_facts(self) -> None:
        async with serving() as served:
            served.as_user(ALICE)
            await served.vm("web", "running")
            before = time.time_ns() // 1000
            job = await served.client.ask(path_of("web"), "Vm", "Snapshot", {"wait": True, "name": "s1"})
            values = (await served.client.managed())[job]["org.kldload.Kvm1.Job"]
            assert values["Id"] == job.rpartition("/")[2]
            assert before < values["StartTime"] < values["EndTime"] < time.time_ns() // 1000
            assert {key: values[key] for key in ("Operation", "Description", "Objects", "State", "StartedByUid")} == {
                "Operation": "vm.snapshot", "Description": "snapshot web as @s1", "Objects": [path_of("web")],
                "State": "succeeded", "StartedByUid": ALICE,
            }  # fmt: skip
            assert [(step["part"], step["kind"], step["state"]) for step in values["Steps"]] == [
                ("prepare", "guest.quiesce", "done"),
                ("commit", "snapshot.take", "done"),
                ("finish", "guest.let-go", "done"),
            ]
            assert (values["Progress"], values["Cancelable"], values["ErrorName"], values["ErrorMessage"]) == (
                1.0, False, "", "",
            )  # fmt: skip
            assert not any(name.startswith("_") for name in values["Result"])

    @in_loop
    async def test_a_snapshot_of_all_tells_of_each_vm(self) -> None:
        async with serving() as served:
            guest = await served.vm("web", "running")
            guest.agent = True
            await served.vm("two")
            job = await served.client.ask(ROOT, "Manager", "SnapshotAll", {"wait": True, "name": "s1"})
            result = await served.client.get(job, "Job", "Result")
            told = {each["vm"]: (each["consistency"], each["volumes"]) for each in result["snapshots"]}
            assert told == {"web": ("app", 2), "two": ("off", 2)}
            assert {key: result[key] for key in ("snapshot", "missing", "left-out", "unanswered")} == {
                "snapshot": "s1", "missing": [], "left-out": [], "unanswered": [],
            }  # fmt: skip
            assert not guest.frozen

    @in_loop
    async def test_a_snapshot_of_all_leaves_out_who_is_at_work(self) -> None:
        async with serving() as served:
            await served.vm("web")
            await served.vm("two")
            gate = served.host.troubles.gates["autostart"] = asyncio.Event()
            held = await served.client.ask(path_of("web"), "Vm", "SetAutostart", True)
            job = await served.client.ask(ROOT, "Manager", "SnapshotAll", {"wait": True})
            result = await served.client.get(job, "Job", "Result")
            assert ([each["vm"] for each in result["snapshots"]], result["left-out"]) == (["two"], ["web"])
            gate.set()
            await served.client.ask(held, "Job", "Wait")


class TestWait:
    @in_loop
    async def test_without_it_the_job_s_path_comes_at_once(self) -> None:
        async with serving() as served:
            await served.vm("web")
            gate = served.host.troubles.gates["autostart"] = asyncio.Event()
            job = await served.client.ask(path_of("web"), "Vm", "SetAutostart", True)
            assert await served.client.get(job, "Job", "State") == "running"
            gate.set()
            assert await served.client.ask(job, "Job", "Wait") == {}
            assert await served.client.get(path_of("web"), "Vm", "Autostart")

    @in_loop
    async def test_but_not_before_it_is_written_down(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a power cut it is known."""
        async with serving() as served:
            journal, durable = served.engine.journal, asyncio.Event()
            opened = journal.opened

            async def late(record: Any) -> None:
                await durable.wait()
                await opened(record)

            monkeypatch.setattr(journal, "opened", late)
            call = asyncio.ensure_future(served.client.ask(ROOT, "Manager", "CreateVm", "new", {}))
            await asyncio.sleep(0.2)
            assert not call.done()
            durable.set()
            assert await call

    @in_loop
    async def test_a_failed_job_s_error_is_the_answer_s(self) -> None:
        async with serving() as served:
            await served.vm("web")
            served.host.troubles.at = len(served.host.troubles.done)
            error = await error_of(served.client.ask(path_of("web"), "Vm", "SetAutostart", True, {"wait": True}))
            assert (error.name, error.text) == ("ZfsFailed", "trouble before virsh autostart web True")
            (job,) = [path for path in await served.client.managed() if "/job/" in path]
            again = await error_of(served.client.ask(job, "Job", "Wait"))
            assert (again.name, again.text) == (error.name, error.text)
            values = (await served.client.managed())[job]["org.kldload.Kvm1.Job"]
            assert (values["State"], values["ErrorName"]) == ("failed", "org.kldload.Kvm1.Error.ZfsFailed")
            assert (values["ErrorMessage"], values["Result"]) == (error.text, {})

    @in_loop
    async def test_has_a_bound_if_one_is_given(self) -> None:
        async with serving() as served:
            await served.vm("web")
            gate = served.host.troubles.gates["autostart"] = asyncio.Event()
            job = await served.client.ask(path_of("web"), "Vm", "SetAutostart", True)
            assert (await error_of(served.client.ask(job, "Job", "Wait", {"timeout": 0}))).name == "TimedOut"
            error = await error_of(served.client.ask(job, "Job", "Wait", {"timeout": 86401}))
            assert error.name == "InvalidArgument"
            gate.set()
            await served.client.ask(job, "Job", "Wait", {"timeout": 5})
            assert await served.client.ask(job, "Job", "Wait", {"timeout": 0}) == {}

    @in_loop
    async def test_a_cancelled_job_s_error_says_so(self) -> None:
        async with serving() as served:
            await served.vm("web")
            gate = served.host.troubles.gates["zfs clone"] = asyncio.Event()
            call = asyncio.ensure_future(served.client.ask(path_of("web"), "Vm", "Clone", ["a"], {"wait": True}))
            await until_true(lambda: any("zfs clone" in line for line in served.host.troubles.done))
            (job,) = served.engine.jobs
            await until_true(lambda: f"{ROOT}/job/{job}" in served.tree.objects)
            await served.client.ask(f"{ROOT}/job/{job}", "Job", "Cancel")
            gate.set()
            assert (await error_of(call)).name == "Cancelled"

    @in_loop
    async def test_on_an_unknown_job(self) -> None:
        async with serving() as served:
            error = await error_of(served.client.ask(f"{ROOT}/job/0", "Job", "Wait"))
            assert error.name == "org.freedesktop.DBus.Error.UnknownObject"


class TestSignals:
    async def heard(self, served: Served) -> Client:
        await served.client.listen()
        return served.client

    @in_loop
    async def test_what_changed_is_told_before_the_job_is_called_done(self) -> None:
        async with serving() as served:
            await served.vm("web")
            client = await self.heard(served)
            job = await client.ask(path_of("web"), "Vm", "Snapshot", {"wait": True, "name": "s1"})
            order = [(path, member) for path, member, _ in client.signals]
            assert order.index((path_of("web"), "SnapshotsChanged")) < order.index((job, "Completed"))
            assert ("SnapshotsChanged", [["s1"], []]) in told(client, path_of("web"))
            assert ("SnapshotCount", 1) in told(client, path_of("web"))
            assert told(client, job)[-1] == ("Completed", [True, ""])
            assert order[-1] == (job, "Completed")

    @in_loop
    async def test_the_answer_comes_after_them(self) -> None:
        """Whoever waited finds everything already told: signals and answers travel in one order."""
        async with serving() as served:
            await served.vm("web")
            client = await self.heard(served)
            await client.ask(path_of("web"), "Vm", "SetAutostart", True, {"wait": True})
            assert ("Autostart", True) in told(client, path_of("web"))

    @in_loop
    async def test_a_job_s_states_and_steps_are_told_with_their_values(self) -> None:
        async with serving() as served:
            await served.vm("web")
            client = await self.heard(served)
            gate = served.host.troubles.gates["autostart"] = asyncio.Event()
            job = await client.ask(path_of("web"), "Vm", "SetAutostart", True)
            gate.set()
            await client.ask(job, "Job", "Wait")
            added = next(body for _, member, body in client.signals if member == "InterfacesAdded" and body[0] == job)
            values = added[1]["org.kldload.Kvm1.Job"]
            assert (values["State"], [step["state"] for step in values["Steps"]]) == ("running", ["running"])
            states = [value for name, value in told(client, job) if name == "State"]
            assert states == ["succeeded"]
            steps = [value[0]["state"] for name, value in told(client, job) if name == "Steps"]
            assert steps == ["done"]

    @in_loop
    async def test_a_job_that_ends_at_once_is_told_with_its_end_after_what_it_changed(self) -> None:
        """Before its first step is under way the bus does not hear of it: that takes as long as a step."""
        async with serving() as served:
            await served.vm("web")
            client = await self.heard(served)
            job = await client.ask(path_of("web"), "Vm", "SetAutostart", True, {"wait": True})
            (added,) = [body for _, member, body in client.signals if member == "InterfacesAdded" and body[0] == job]
            values = added[1]["org.kldload.Kvm1.Job"]
            assert (values["State"], values["Steps"][0]["state"]) == ("succeeded", "done")
            order = [(path, member) for path, member, _ in client.signals]
            assert order[-1] == (job, "Completed")
            assert ("Autostart", True) in told(client, path_of("web"))

    @in_loop
    async def test_a_vm_says_which_job_holds_it_from_its_start_to_its_end(self) -> None:
        async with serving() as served:
            await served.vm("web")
            client = await self.heard(served)
            gate = served.host.troubles.gates["autostart"] = asyncio.Event()
            job = await client.ask(path_of("web"), "Vm", "SetAutostart", True)
            assert await client.get(path_of("web"), "Vm", "Job") == job
            gate.set()
            await client.ask(job, "Job", "Wait")
            assert [value for name, value in told(client, path_of("web")) if name == "Job"] == [job, "/"]
            order = [(path, member) for path, member, _ in client.signals]
            assert order[-1] == (job, "Completed")

    @in_loop
    async def test_new_and_gone_objects_are_told_from_the_manager_s_path(self) -> None:
        async with serving() as served:
            client = await self.heard(served)
            job = await client.ask(ROOT, "Manager", "CreateVm", "new", {"wait": True})
            vm = (await client.ask(job, "Job", "Wait"))["vm"]
            await client.ask(vm, "Vm", "Delete", {"wait": True})
            added = {body[0]: path for path, member, body in client.signals if member == "InterfacesAdded"}
            removed = {body[0]: path for path, member, body in client.signals if member == "InterfacesRemoved"}
            assert added[vm] == added[job] == ROOT
            assert removed == {vm: ROOT}
            body = next(body for _, member, body in client.signals if member == "InterfacesRemoved")
            assert body == [vm, ["org.kldload.Kvm1.Vm"]]

    @in_loop
    async def test_progress_is_told_at_most_four_times_a_second(self) -> None:
        async with serving() as served:
            await served.vm("web")
            client = await self.heard(served)
            gate = served.host.troubles.gates["autostart"] = asyncio.Event()
            path = await client.ask(path_of("web"), "Vm", "SetAutostart", True)
            (job,) = served.engine.jobs.values()
            await until_true(lambda: served.host.troubles.done and "autostart" in served.host.troubles.done[-1])
            began = time.monotonic()
            reports = 0
            while time.monotonic() - began < 1.0:
                reports += 1
                job.report(reports, 1_000_000)
                await asyncio.sleep(0.001)
            gate.set()
            await client.ask(path, "Job", "Wait")
            sent = [value for name, value in told(client, path) if name == "Bytes"]
            assert reports > 100
            assert 2 <= len(sent) <= 1.0 / PROGRESS_INTERVAL + 2
            assert sent == [*sorted(sent[:-1]), 0]

    @in_loop
    async def test_a_failure_is_told_with_its_text(self) -> None:
        async with serving() as served:
            await served.vm("web")
            client = await self.heard(served)
            served.host.troubles.at = len(served.host.troubles.done)
            job = await client.ask(path_of("web"), "Vm", "SetAutostart", True)
            await error_of(client.ask(job, "Job", "Wait"))
            assert told(client, job)[-1] == ("Completed", [False, "trouble before virsh autostart web True"])

    @in_loop
    async def test_what_could_be_read_is_told_before_the_end_even_if_part_of_it_failed(self) -> None:
        async with serving() as served:
            await served.vm("web")
            client = await self.heard(served)

            async def fails(uuid: str) -> None:
                raise LibvirtFailed("the domain cannot be read", "x", "")

            served.host.virt.domain = fails  # type: ignore[method-assign]
            job = await client.ask(path_of("web"), "Vm", "Clone", ["other"], {"wait": True})
            (clone,) = (await client.ask(job, "Job", "Wait"))["vms"]
            said = list(enumerate(client.signals))
            added = [n for n, (_, member, body) in said if member == "InterfacesAdded" and body[0] == clone]
            ended = [n for n, (path, member, _) in said if (path, member) == (job, "Completed")]
            assert len(added) == len(ended) == 1
            assert added < ended

    @in_loop
    async def test_what_is_used_is_told_when_it_was_read_again(self) -> None:
        async with serving() as served:
            await served.vm("web")
            client = await self.heard(served)
            served.host.inventory.usage_read(7)
            await client.ask(path_of("web"), "Vm", "RefreshUsage")
            assert any(name == "UsedAt" and value > 7 for name, value in told(client, path_of("web")))

    @in_loop
    async def test_a_forgotten_job_is_gone_from_the_bus(self) -> None:
        async with serving(kept=1) as served:
            await served.vm("web")
            client = await self.heard(served)
            jobs = [
                await client.ask(path_of("web"), "Vm", "SetAutostart", on, {"wait": True})
                for on in (True, False, True)
            ]  # fmt: skip
            gone = [body[0] for _, member, body in client.signals if member == "InterfacesRemoved"]
            assert gone == jobs[:1]
            assert (await error_of(client.ask(jobs[0], "Job", "Wait"))).name.endswith("UnknownObject")


class TestBusy:
    @in_loop
    async def test_a_vm_that_a_job_holds_names_it(self) -> None:
        async with serving() as served:
            await served.vm("web")
            gate = served.host.troubles.gates["autostart"] = asyncio.Event()
            job = await served.client.ask(path_of("web"), "Vm", "SetAutostart", True)
            error = await error_of(served.client.ask(path_of("web"), "Vm", "Delete"))
            assert error.name == "Busy"
            assert job.rpartition("/")[2] in error.text.splitlines()[0]
            gate.set()
            await served.client.ask(job, "Job", "Wait")

    @in_loop
    async def test_so_many_jobs_of_one_user_at_once(self) -> None:
        async with serving(per_user=1) as served:
            await served.vm("web")
            await served.vm("db")
            gate = served.host.troubles.gates["autostart"] = asyncio.Event()
            served.as_user(ALICE)
            job = await served.client.ask(path_of("web"), "Vm", "SetAutostart", True)
            error = await error_of(served.client.ask(path_of("db"), "Vm", "SetAutostart", True))
            assert error.name == "LimitsExceeded"
            served.as_user(BOB)
            await served.client.ask(path_of("db"), "Vm", "SetAutostart", True)
            gate.set()
            await served.client.ask(job, "Job", "Wait")

    @in_loop
    async def test_a_service_that_is_ending_starts_nothing_new(self) -> None:
        async with serving() as served:
            await served.vm("web")
            await served.engine.stop(0)
            error = await error_of(served.client.ask(path_of("web"), "Vm", "Start"))
            assert (error.name, error.text.splitlines()[1]) == ("WrongState", "the service is shutting down")


class TestRequestIds:
    @in_loop
    async def test_the_same_twice_is_the_same_job_and_done_once(self) -> None:
        async with serving() as served:
            await served.vm("web")
            given = {"request-id": "r1", "name": "s1"}
            first = await served.client.ask(path_of("web"), "Vm", "Snapshot", given)
            assert await served.client.ask(path_of("web"), "Vm", "Snapshot", {**given, "wait": True}) == first
            assert await served.client.ask(path_of("web"), "Vm", "Snapshot", given) == first
            assert list(served.host.inventory.snapshots["rpool/vms/web"]) == ["s1"]

    @in_loop
    async def test_at_the_same_moment_as_well(self) -> None:
        async with serving() as served:
            await served.vm("web")
            given = {"request-id": "r1", "wait": True}
            jobs = await asyncio.gather(
                *(served.client.ask(path_of("web"), "Vm", "Snapshot", given) for _ in range(5))
            )  # fmt: skip
            assert len(set(jobs)) == len(served.engine.jobs) == 1

    @pytest.mark.parametrize("change", ["option", "method", "object", "argument", "plan"])
    @in_loop
    async def test_with_other_arguments_is_refused(self, change: str) -> None:
        async with serving() as served:
            await served.vm("web", snapshots=("s0",))
            await served.vm("db")
            given = {"request-id": "r1", "wait": True}
            await served.client.ask(path_of("web"), "Vm", "Clone", ["a"], given)
            call = {
                "option": lambda: served.client.ask(path_of("web"), "Vm", "Clone", ["a"], {**given, "start": True}),
                "method": lambda: served.client.ask(path_of("web"), "Vm", "Snapshot", given),
                "object": lambda: served.client.ask(path_of("db"), "Vm", "Clone", ["a"], given),
                "argument": lambda: served.client.ask(path_of("web"), "Vm", "Clone", ["b"], given),
                "plan": lambda: served.client.ask(path_of("web"), "Vm", "Clone", ["a"], {**given, "plan-only": True}),
            }[change]
            error = await error_of(call())
            assert (error.name, error.text.splitlines()[1]) == (
                "InvalidArgument", "you have used it before, with other arguments",
            )  # fmt: skip
            assert len(served.engine.jobs) == 1

    @in_loop
    async def test_are_each_user_s_own(self) -> None:
        async with serving() as served:
            await served.vm("web")
            jobs = []
            for uid in (ALICE, BOB):
                served.as_user(uid)
                jobs.append(
                    await served.client.ask(path_of("web"), "Vm", "Snapshot", {"request-id": "1", "wait": True})
                )
            assert len(set(jobs)) == 2

    @in_loop
    async def test_of_a_request_that_was_refused_can_be_used_again(self) -> None:
        async with serving() as served:
            await served.vm("web", "running")
            given = {"request-id": "r1", "wait": True}
            assert (await error_of(served.client.ask(path_of("web"), "Vm", "Delete", given))).name == "WrongState"
            await served.client.ask(path_of("web"), "Vm", "ForceOff", {"wait": True})
            await served.client.ask(path_of("web"), "Vm", "Delete", given)

    @in_loop
    async def test_of_a_job_that_failed_gives_its_error_again(self) -> None:
        async with serving() as served:
            await served.vm("web")
            served.host.troubles.at = len(served.host.troubles.done)
            given = {"request-id": "r1", "wait": True}
            errors = [
                await error_of(served.client.ask(path_of("web"), "Vm", "SetAutostart", True, given)) for _ in "ab"
            ]
            assert errors[0].text == errors[1].text
            assert len(served.engine.jobs) == 1


class TestHeldGuests:
    @in_loop
    async def test_a_guest_is_frozen_by_its_agent_and_thawed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(guests, "PAUSE", 0.0)
        async with serving() as served:
            guest = await served.vm("web", "running")
            guest.agent = True
            job = await served.client.ask(path_of("web"), "Vm", "Snapshot", {"wait": True})
            result = await served.client.ask(job, "Job", "Wait")
            assert (result["consistency"], guest.frozen) == ("app", False)
            error = await error_of(
                served.client.ask(path_of("web"), "Vm", "Snapshot", {"wait": True, "require-consistency": "off"})
            )  # fmt: skip
            assert (error.name, guest.frozen, guest.state) == ("InconsistentSnapshot", False, "running")
