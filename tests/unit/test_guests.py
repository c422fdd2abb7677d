"""Holding a guest still, and letting it go whatever has come between; and that one is off, as libvirt knows it."""

from __future__ import annotations

import pytest

from kldload_kvm.engine.job import State
from kldload_kvm.engine.plan import Run
from kldload_kvm.model.errors import GuestFailed, LibvirtFailed, LibvirtUnavailable, WrongState
from kldload_kvm.ops.rollback import Rollback
from kldload_kvm.ops.snapshot import TakeVmSnapshot
from kldload_kvm.ops.template import SetTemplate
from kldload_kvm.steps import guests
from loops import in_loop
from memory_host import Guest, MemoryHost
from unit.test_ops_undone import (  # noqa: F401 -- fixtures
    conversion,
    done,
    files,
    firmware,
    no_waiting,
    view,
    vm,
    web,
)


async def frozen_after_all(host: MemoryHost, fault: Exception) -> Guest:
    """A guest that freezes after its freeze has failed: as where libvirt is restarted, or a disk is slow."""
    guest = await web(host, state="running", agent=True)

    async def freeze(uuid: str) -> int:
        guest.frozen = True
        raise fault

    host.agent.freeze = freeze  # type: ignore[method-assign]
    return guest


@pytest.mark.parametrize("fault", [LibvirtUnavailable("libvirt is away"), GuestFailed("it took too long")])
@in_loop
async def test_a_guest_that_freezes_after_its_freeze_has_failed_is_thawed(fault: Exception) -> None:
    host = MemoryHost()
    await host.prepare()
    guest = await frozen_after_all(host, fault)
    job = await done(host, TakeVmSnapshot(vm(host, "web").id, "s9"))
    assert job.state is State.SUCCEEDED, job.error
    assert (guest.frozen, guest.state, job.result["consistency"]) == (False, "running", "paused")
    assert "unanswered" not in job.result


@in_loop
async def test_one_whose_agent_says_no_is_paused_and_no_more_is_asked_of_it() -> None:
    host = MemoryHost()
    await host.prepare()
    guest = await frozen_after_all(host, LibvirtFailed("the command guest-fsfreeze-freeze has been disabled"))
    guest.frozen = False
    asked: list[str] = []

    async def thaw(uuid: str) -> int:
        asked.append(uuid)
        return 0

    host.agent.thaw = thaw  # type: ignore[method-assign]
    job = await done(host, TakeVmSnapshot(vm(host, "web").id, "s9"))
    assert job.state is State.SUCCEEDED, job.error
    assert (guest.state, job.result["consistency"], asked) == ("running", "paused", [])
    assert "unanswered" not in job.result


@in_loop
async def test_one_whose_agent_never_answers_again_goes_on_and_is_named() -> None:
    host = MemoryHost()
    await host.prepare()
    guest = await frozen_after_all(host, GuestFailed("it took too long"))

    async def thaw(uuid: str) -> int:
        raise GuestFailed("the guest may still be frozen")

    host.agent.thaw = thaw  # type: ignore[method-assign]
    job = await done(host, TakeVmSnapshot(vm(host, "web").id, "s9"))
    assert job.state is State.SUCCEEDED, job.error
    assert (guest.state, job.result["unanswered"]) == ("running", ["web"])


@in_loop
async def test_the_time_in_which_libvirt_is_away_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests, "TRYING", 0.2)
    monkeypatch.setattr(guests, "PAUSE", 0.01)
    host = MemoryHost()
    await host.prepare()
    guest = await web(host, state="paused")
    state, asked = host.virt.state, 0

    async def later(uuid: str) -> str:
        nonlocal asked
        asked += 1
        if asked < 50:
            raise LibvirtUnavailable("libvirt is away")
        return await state(uuid)

    host.virt.state = later  # type: ignore[method-assign]
    await guests.resumed(host, guest.uuid)
    assert guest.state == "running"


@pytest.mark.parametrize("request_", [Rollback, SetTemplate])
@in_loop
async def test_one_that_libvirt_is_just_starting_is_not_off(request_: type) -> None:
    """It was let through by the hook before the job began: no event has told of it, and QEMU has no disk open yet."""
    host = MemoryHost()
    await host.prepare()
    guest = await web(host)
    id_ = vm(host, "web").id
    request = Rollback(id_, "s1") if request_ is Rollback else SetTemplate(id_, True)
    plan = request.plan(view(host))
    guest.state = "paused"
    first = plan.prepare[0]
    with pytest.raises(WrongState, match="just starting") as caught:
        await first.do(host, Run("1", 0, {}, lambda done, total: None))
    assert "web was not" in caught.value.what
