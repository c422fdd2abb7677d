"""A bridge over the bus: made for a trial, confirmed by whoever made it, or by those who may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from kldload_kvm.model.constants import ROOT
from loops import in_loop
from served import Authority, Client, Served, error_of, serving, until_true
from unit.test_ops_bridge import Bench, bench, facts  # noqa: F401 -- a fixture

pytestmark = pytest.mark.usefixtures("bus")
HOST, ACTION = f"{ROOT}/host", "org.kldload.kvm.fix-host"
ALICE, BOB = 1000, 1001
Make = Callable[[], Bench]


@asynccontextmanager
async def wired(made: Bench, authority: Authority | None = None) -> AsyncIterator[Served]:
    async with serving(authority) as served:
        served.host.units = made.units
        served.host_facts = facts(made.wiring())
        yield served


async def tried(served: Served, client: Client | None = None) -> str:
    """The job of a bridge that waits to be confirmed."""
    job: str = await (client or served.client).ask(HOST, "Host", "CreateBridge", "br7", "eth7")
    found = served.engine.jobs[job.rpartition("/")[2]]
    await until_true(lambda: found.step_states[2] == "running")
    return job


@in_loop
async def test_a_plan_tells_and_changes_nothing(bench: Make) -> None:  # noqa: F811
    made = bench()
    before = made.network.picture()
    async with wired(made) as served:
        job = await served.client.ask(HOST, "Host", "CreateBridge", "br7", "eth7", {"plan-only": True})
        steps = [each["description"] for each in await served.client.get(job, "Job", "Steps")]
        assert "make the bridge br7 on eth7, with its addresses, by systemd-networkd" in steps[1]
        assert "kvm-host bridge br7 --confirm" in steps[2]
    assert made.network.picture() == before


@in_loop
async def test_whoever_made_it_confirms_it_without_being_asked_again(bench: Make) -> None:  # noqa: F811
    made = bench()
    async with wired(made, authority := Authority()) as served:
        served.as_user(ALICE)
        job = await tried(served)
        authority.otherwise = "no"
        asked = [each.action for each in authority.asked]
        assert asked == [ACTION]
        await served.client.ask(HOST, "Host", "ConfirmBridge", "br7")
        assert [each.action for each in authority.asked] == asked
        authority.otherwise = "yes"
        assert await served.client.get(job, "Job", "State") == "succeeded"
        assert await served.client.get(job, "Job", "Result") == {
            "bridge": "br7", "port": "eth7", "tool": "systemd-networkd", "used": False,
        }  # fmt: skip
    assert made.wiring().kept == ("br7",)


@pytest.mark.parametrize("allowed", [False, True])
@in_loop
async def test_others_need_the_action(bench: Make, allowed: bool) -> None:  # noqa: F811
    made = bench()
    async with wired(made, authority := Authority()) as served:
        job = await tried(served)  # root's
        bob = await Client.connect()
        served.as_user(BOB, bob)
        authority.otherwise = "yes" if allowed else "no"
        if allowed:
            await bob.ask(HOST, "Host", "ConfirmBridge", "br7")
        else:
            assert (await error_of(bob.ask(HOST, "Host", "ConfirmBridge", "br7"))).name == "NotAuthorized"
        asked = authority.asked[-1]
        assert (asked.action, asked.details) == (ACTION, {"operation": "host.bridge", "target": "br7"})
        found = served.engine.jobs[job.rpartition("/")[2]]
        assert found.state.value == ("succeeded" if allowed else "running")
        bob.bus.disconnect()


@in_loop
async def test_what_is_not_tried_cannot_be_confirmed(bench: Make) -> None:  # noqa: F811
    made = bench()
    async with wired(made) as served:
        assert (await error_of(served.client.ask(HOST, "Host", "ConfirmBridge", "br7"))).name == "NotFound"
        await tried(served)
        assert (await error_of(served.client.ask(HOST, "Host", "ConfirmBridge", "br8"))).name == "NotFound"
        error = await error_of(served.client.ask(HOST, "Host", "CreateBridge", "br8", "eth7"))
        assert error.name in ("Busy", "WrongState")


@in_loop
async def test_before_it_is_made_there_is_nothing_to_confirm(bench: Make) -> None:  # noqa: F811
    made = bench()
    gate = asyncio.Event()
    start = made.units.start

    async def held(unit: str) -> None:
        await gate.wait()
        await start(unit)

    made.units.start = held  # type: ignore[method-assign]
    async with wired(made) as served:
        job = await served.client.ask(HOST, "Host", "CreateBridge", "br7", "eth7")
        found = served.engine.jobs[job.rpartition("/")[2]]
        await until_true(lambda: found.step_states[0] == "running")
        error = await error_of(served.client.ask(HOST, "Host", "ConfirmBridge", "br7"))
        assert (error.name, error.text.splitlines()[1]) == ("WrongState", "it is not made yet")
        gate.set()
        await until_true(lambda: found.step_states[2] == "running")


@in_loop
async def test_what_the_host_says_against_it_is_the_answer(bench: Make) -> None:  # noqa: F811
    made = bench()
    async with wired(made) as served:
        error = await error_of(served.client.ask(HOST, "Host", "CreateBridge", "br7", "lo"))
        assert error.name == "InvalidArgument"
        error = await error_of(served.client.ask(HOST, "Host", "CreateBridge", "br7", "eth8"))
        assert error.text.splitlines() == [
            "the bridge br7 was not made", "there is no network interface eth8", "a bridge can be made on: eth7",
        ]  # fmt: skip
        assert served.engine.jobs == {}
