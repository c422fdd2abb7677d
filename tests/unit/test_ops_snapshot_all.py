"""SnapshotAll: given these VMs, exactly these steps; and on a host in memory, what becomes of each guest and volume."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.job import Job, State
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.engine.plan import Plan, Run, revive, written
from kldload_kvm.model import domain_xml, properties
from kldload_kvm.model.domain_xml import build, unpack
from kldload_kvm.model.errors import AlreadyExists, InconsistentSnapshot, InvalidArgument, NotFound
from kldload_kvm.ops.request import View
from kldload_kvm.ops.snapshot_all import SnapshotAll
from kldload_kvm.steps import all_guests, guests
from kldload_kvm.steps.all_guests import HoldGuests, LetGuestsGo
from kldload_kvm.steps.snapshots import TakeSnapshots
from loops import in_loop
from memory_host import Guest, MemoryHost
from world import FACTS, NOW, World, id_of, spec, uuid_of, volumes_of

NAME = "2026-04-01_153022"


@pytest.fixture
def host() -> World:
    return World()


def plan(host: World, holder: dict[str, str] | None = None, **options: Any) -> Plan:
    view = host.view()
    found = View(view.inventory, view.config, view.facts, view.now, holder=lambda lock: (holder or {}).get(lock, ""))
    return SnapshotAll.parse("", [], options).plan(found)


def volumes(*names: str, parent: str = "rpool/vms") -> dict[str, str]:
    return {f"{parent}/{name}{end}": id_of(name) for name in names for end in ("", ".nvram")}


class TestPlan:
    def test_one_step_for_each_pool_and_all_running_guests_held_still_around_them(self, host: World) -> None:
        host.vm("b", "running")
        host.vm("a", "shutoff")
        host.vm("c", "running", parent="vmpool/vms")
        made = plan(host)
        running = {uuid_of("b"): "b", uuid_of("c"): "c"}
        names, uuids = {id_of("a"): "a", id_of("b"): "b"}, {id_of(n): uuid_of(n) for n in "ab"}
        assert made.prepare == (
            HoldGuests(running),
            TakeSnapshots("rpool", NAME, "manual", volumes("a", "b"), names, uuids),
        )
        assert made.commit == TakeSnapshots(
            "vmpool", NAME, "manual", volumes("c", parent="vmpool/vms"), {id_of("c"): "c"}, {id_of("c"): uuid_of("c")}
        )
        assert made.finish == (LetGuestsGo(running),)
        assert made.locks == {"VM:a", "VM:b", "VM:c"}
        assert made.objects == (id_of("a"), id_of("b"), id_of("c"))
        assert (made.destroys, made.warnings) == ((), ())

    def test_guests_that_do_not_run_are_not_held(self, host: World) -> None:
        for state in ("paused", "shutoff", "crashed", "suspended", "orphan"):
            host.vm(state, state)
        made = plan(host)
        assert [type(step) for step in made.steps] == [TakeSnapshots]

    def test_steps_are_plain_data(self, host: World) -> None:
        host.vm("a", "running")
        for step in plan(host).steps:
            assert revive(written(step)) == step

    def test_of_one_storage(self, host: World) -> None:
        host.vm("a")
        host.vm("c", parent="vmpool/vms")
        made = plan(host, storage="fast")
        assert [step.pool for step in made.steps if isinstance(step, TakeSnapshots)] == ["vmpool"]
        assert made.description == f"snapshot all VMs on fast as @{NAME}"
        with pytest.raises(NotFound, match="there is no storage 'slow'"):
            plan(host, storage="slow")

    def test_the_timer_s_are_named_so(self, host: World) -> None:
        host.vm("a")
        commit = plan(host, kind="auto").commit
        assert isinstance(commit, TakeSnapshots)
        assert (commit.name, commit.snapshot_kind) == ("auto-20260401T153022Z", "auto")

    def test_a_time_that_one_of_them_has_already_gets_a_suffix(self, host: World) -> None:
        host.vm("a")
        host.vm("b")
        host.snap("b", NAME)
        assert plan(host).result["snapshot"] == f"{NAME}-2"

    def test_a_name_that_some_have_already_is_refused_naming_them(self, host: World) -> None:
        host.vm("a")
        host.vm("b")
        host.snap("b", "stable")
        with pytest.raises(AlreadyExists, match="no snapshot @stable was taken") as caught:
            plan(host, name="@stable")
        assert caught.value.why == "these have one already: b"

    def test_a_vm_that_another_job_has_is_left_out(self, host: World) -> None:
        host.vm("a")
        host.vm("b")
        made = plan(host, {"VM:a": "7"})
        assert made.result["left-out"] == ["a"]
        assert made.locks == {"VM:b"}
        assert made.warnings == ("these are left out, as another job is at work on them: a",)

    def test_an_emulated_tpm_is_said_not_to_be_in_it(self, host: World) -> None:
        host.vm("a")
        domain = host.get("a").domain
        assert domain
        tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm></devices>"
        host.inventory.put_domain(
            type(domain)(**{**vars(domain), "xml": domain.xml.replace("</devices>", tpm)})
        )  # fmt: skip
        assert "the emulated TPM of a" in plan(host).warnings[0]

    def test_no_vms_at_all(self, host: World) -> None:
        made = plan(host)
        assert made.steps == ()
        assert made.warnings == ("there is no VM to be snapshotted",)

    @pytest.mark.parametrize(
        "options",
        [
            {"kind": "clone"}, {"kind": "auto", "name": "x"}, {"name": "auto-x"}, {"name": "a/b"},
            {"require-consistency": "crash"},
        ],
    )  # fmt: skip
    def test_what_cannot_be(self, options: dict[str, Any]) -> None:
        with pytest.raises(InvalidArgument):
            SnapshotAll.parse("", [], options)

    def test_polkit_is_told_of_no_vm(self, host: World) -> None:
        assert SnapshotAll("x", "fast").subject(host.view()) == {"dataset": "vmpool/vms", "target": "@x"}


class Hosted:
    """A host in memory with an engine."""

    def __init__(self) -> None:
        self.host = MemoryHost()
        self.engine = Engine(self.host, MemoryJournal())

    async def vm(self, name: str, state: str = "shutoff", parent: str = "rpool/vms", **guest: Any) -> Guest:
        for each in volumes_of(name, parent):
            await self.host.zfs.create_volume(each.name, each.size, each.properties)
        await self.host.virt.define(build(spec(name, parent)))
        found = self.host.guest(name)
        vars(found).update(guest)
        if state != "shutoff":
            self.host.memory_virt.put(found, state)
        await self.host.known()
        return found

    async def take(self, **options: Any) -> Job:
        request = SnapshotAll.parse("", [], options)
        view = View(self.host.inventory, self.host.config, FACTS, NOW, holder=self.engine.locks.holder)
        job = self.engine.start(request.plan(view), 0)
        await job.finished.wait()
        return job

    def value(self, dataset: str, key: str) -> str:
        return next(each for each in self.host.memory_zfs.of(dataset)).values.get(key, "")


async def hosted() -> Hosted:
    found = Hosted()
    await found.host.prepare()
    return found


class TestDone:
    @in_loop
    async def test_each_has_its_own_consistency_and_xml_in_the_same_transaction(self) -> None:
        here = await hosted()
        await here.vm("froz", "running", agent=True)
        await here.vm("deaf", "running", agent=True, freezes=False)
        await here.vm("plain", "running")
        await here.vm("still", "paused")
        await here.vm("off")
        before = len(here.host.memory_zfs.commands)
        job = await here.take(name="x")
        assert job.state is State.SUCCEEDED
        found = {each["vm"]: each["consistency"] for each in job.result["snapshots"]}
        assert found == {"froz": "app", "deaf": "paused", "plain": "paused", "still": "paused", "off": "off"}
        tag = f"{job.id}/{job.step_states.index('done', 1)}"
        expected = {vm: f"manual:{consistency}:{tag}" for vm, consistency in found.items()}
        assert {n: here.value(f"rpool/vms/{n}", properties.SNAPSHOT) for n in found} == expected
        assert {n: here.value(f"rpool/vms/{n}.nvram", properties.SNAPSHOT) for n in found} == expected
        for name in found:
            assert f"<name>{name}</name>" in unpack(here.value(f"rpool/vms/{name}", properties.DOMAIN))
            assert here.value(f"rpool/vms/{name}.nvram", properties.DOMAIN) == "", "on one volume only"
        taken = [each for name in here.host.memory_zfs.sets for each in here.host.memory_zfs.of(name)]
        assert len({each.txg for each in taken}) == 1
        changed = [c for c in here.host.memory_zfs.commands[before:] if not c.startswith(("list", "get"))]
        assert [command.split()[0] for command in changed] == ["program"]

    @in_loop
    async def test_everybody_is_let_go_and_it_is_told_how_long_each_was_held(self) -> None:
        here = await hosted()
        guests = [await here.vm(f"g{n}", "running", agent=n % 2 == 0) for n in range(20)]
        still = await here.vm("still", "paused")
        job = await here.take()
        assert {guest.state for guest in guests} == {"running"}
        assert not any(guest.frozen for guest in guests)
        assert still.state == "paused", "who was paused before stays so"
        held = {each["vm"]: each["held"] for each in job.result["snapshots"]}
        assert all(held[guest.name] > 0 for guest in guests)
        assert held["still"] == 0
        assert job.result["unanswered"] == []

    @in_loop
    async def test_no_more_than_a_cohort_is_asked_to_freeze_at_once(self) -> None:
        here = await hosted()
        for number in range(20):
            await here.vm(f"g{number}", "running", agent=True)
        at_once = most = 0
        begin = here.host.agent.begin_freeze

        async def counted(uuid: str, timeout: int) -> int:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.001)
            try:
                return await begin(uuid, timeout)
            finally:
                at_once -= 1

        here.host.agent.begin_freeze = counted  # type: ignore[method-assign]
        assert (await here.take()).state is State.SUCCEEDED
        assert most == all_guests.COHORT

    @in_loop
    async def test_when_freezing_takes_too_long_for_all_the_rest_is_paused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(all_guests, "FREEZES", 0.05)
        here = await hosted()
        for number in range(12):
            await here.vm(f"g{number:02}", "running", agent=True)
        begin = here.host.agent.begin_freeze

        async def slow(uuid: str, timeout: int) -> int:
            await asyncio.sleep(0.1)
            return await begin(uuid, timeout)

        here.host.agent.begin_freeze = slow  # type: ignore[method-assign]
        job = await here.take()
        found = [each["consistency"] for each in job.result["snapshots"]]
        assert found == ["app"] * all_guests.COHORT + ["paused"] * (12 - all_guests.COHORT)

    @in_loop
    async def test_a_guest_that_freezes_after_all_is_thawed_too(self) -> None:
        """The answer to the freeze was lost; the guest did it."""
        here = await hosted()
        guest = await here.vm("late", "running", agent=True)
        here.host.troubles.when = "after"
        here.host.troubles.at = len(here.host.troubles.done)
        job = await here.take()
        assert job.result["snapshots"][0]["consistency"] == "paused"
        assert (guest.frozen, guest.state) == (False, "running")

    @in_loop
    async def test_a_guest_whose_agent_dies_meanwhile_is_named_and_fails_nobody(self) -> None:
        here = await hosted()
        await here.vm("fine", "running", agent=True)
        dying = await here.vm("dying", "running", agent=True, freezes=False)

        def dies(number: int) -> None:
            dying.agent = "program" not in here.host.troubles.done[number] and dying.agent

        here.host.troubles.meanwhile = dies
        job = await here.take()
        assert job.state is State.SUCCEEDED
        assert job.result["unanswered"] == ["dying"]
        assert dying.state == "running"

    @in_loop
    async def test_a_volume_that_vanished_is_named_and_fails_nobody(self) -> None:
        here = await hosted()
        await here.vm("a")
        await here.vm("b")
        del here.host.memory_zfs.sets["rpool/vms/b.nvram"]
        job = await here.take(name="x")
        assert job.state is State.SUCCEEDED
        assert job.result["missing"] == ["rpool/vms/b.nvram"]
        assert {each["vm"]: each["volumes"] for each in job.result["snapshots"]} == {"a": 2, "b": 1}

    @in_loop
    async def test_a_name_that_is_taken_meanwhile_takes_none_and_leaves_the_other_s(self) -> None:
        here = await hosted()
        await here.vm("a")
        await here.vm("b")
        await here.host.zfs.snapshot(["rpool/vms/b@x"], {})
        job = await here.take(name="x")
        assert isinstance(job.error, AlreadyExists)
        left = [name for name in here.host.memory_zfs.names() if "@" in name]
        assert left == ["rpool/vms/b@x"]

    @in_loop
    async def test_a_pool_that_fails_leaves_no_half(self) -> None:
        here = await hosted()
        guest = await here.vm("a", "running", agent=True)
        await here.vm("c", parent="vmpool/vms")
        here.host.troubles.meanwhile = lambda number: setattr(
            here.host.troubles, "at", number if "program" in here.host.troubles.done[number] and number > 3 else -1
        )
        await here.host.zfs.snapshot(["vmpool/vms/c@x"], {})
        job = await here.take(name="x")
        assert job.state is State.FAILED
        assert [name for name in here.host.memory_zfs.names() if "@" in name] == ["vmpool/vms/c@x"]
        assert not guest.frozen

    @in_loop
    async def test_less_than_was_required_takes_none_and_says_of_whom(self) -> None:
        here = await hosted()
        guest = await here.vm("plain", "running")
        await here.vm("off")
        job = await here.take(**{"require-consistency": "app"})
        assert isinstance(job.error, InconsistentSnapshot)
        assert "plain (paused)" in job.error.why and "off" not in job.error.why
        assert not [name for name in here.host.memory_zfs.names() if "@" in name]
        assert guest.state == "running"

    @in_loop
    async def test_while_libvirt_is_away_nobody_claims_more_than_crash(self) -> None:
        here = await hosted()
        await here.vm("a")
        await here.vm("b", "running", agent=True)
        here.host.memory_virt.available = False
        job = await here.take()
        assert {each["consistency"] for each in job.result["snapshots"]} == {"crash"}

    @in_loop
    async def test_a_vm_that_is_off_with_another_domain_at_work_on_its_volumes_is_not_off(self) -> None:
        here = await hosted()
        guest = await here.vm("a")
        await here.vm("b")
        xml = guest.xml.replace(guest.uuid, "6f5d3a53-9a1c-4e5b-8d3e-0c7f6f1c2a11").replace("<name>a<", "<name>thief<")
        await here.host.virt.define(xml)
        here.host.memory_virt.put(here.host.guest("thief"), "running")
        await here.host.known()
        job = await here.take()
        assert {each["vm"]: each["consistency"] for each in job.result["snapshots"]} == {"a": "crash", "b": "off"}

    @in_loop
    async def test_after_a_crash_of_the_service_every_guest_is_let_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is known then but the step itself."""
        monkeypatch.setattr(guests, "PAUSE", 0.0)
        here = await hosted()
        frozen = await here.vm("froz", "running", agent=True, frozen=True)
        paused = await here.vm("still", "paused")
        step = HoldGuests({frozen.uuid: "froz", paused.uuid: "still"})
        run = Run("5f3a", 0, {}, lambda done, total: None)
        assert await step.done(here.host, run)
        await step.undo(here.host, run)
        await step.undo(here.host, run)
        assert (frozen.frozen, paused.state) == (False, "running")
        assert not await step.done(here.host, run)


def test_what_of_a_vm_is_in_no_volume() -> None:
    xml = build(spec("web"))
    assert domain_xml.left_out(xml) == ""
    passed = "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm></devices>"
    assert domain_xml.left_out(xml.replace("</devices>", passed)) == "", "its state is the host's"
