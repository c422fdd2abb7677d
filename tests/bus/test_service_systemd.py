"""Asking systemd for units of fixed shape: started, watched, stopped, and what it says when it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from dbus_next import Message, MessageType, Variant

from kldload_kvm.bus import systemd
from kldload_kvm.bus.connection import connect, take_name
from kldload_kvm.bus.systemd import Systemd
from kldload_kvm.images.conversion import UnitState
from kldload_kvm.model.errors import Failed
from loops import in_loop

UNIT = "kldload-kvm-convert@zd16.service"


class Manager:
    """systemd's manager with units that go through the states they are told, one at each look."""

    def __init__(self, *states: str, result: str = "success", answers: bool = True) -> None:
        self.states, self.result, self.answers = list(states) or ["inactive"], result, answers
        self.calls: list[tuple[str, list[Any]]] = []

    def handle(self, message: Message) -> Message | bool | None:
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        self.calls.append((message.member, message.body))
        if not self.answers:
            return True
        if message.member == "LoadUnit":
            return Message.new_method_return(message, "o", ["/org/freedesktop/systemd1/unit/x"])
        if message.member in ("StartUnit", "StopUnit"):
            if "@bad" in message.body[0]:
                return Message.new_error(message, "org.freedesktop.systemd1.NoSuchUnit", "Unit not found.")
            return Message.new_method_return(message, "o", ["/org/freedesktop/systemd1/job/1"])
        if message.body[1] == "Result":
            return Message.new_method_return(message, "v", [Variant("s", self.result)])
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return Message.new_method_return(message, "v", [Variant("s", state)])


@asynccontextmanager
async def asking(manager: Manager | None) -> AsyncIterator[Systemd]:
    theirs, ours = await connect(), await connect()
    if manager:
        theirs.add_message_handler(manager.handle)
        assert await take_name(theirs, systemd.NAME)
    try:
        yield Systemd(ours)
    finally:
        theirs.disconnect()
        ours.disconnect()
        await asyncio.sleep(0)


@in_loop
async def test_a_unit_is_started_without_waiting_for_its_end() -> None:
    manager = Manager()
    async with asking(manager) as asked:
        await asked.start(UNIT)
    assert manager.calls == [("StartUnit", [UNIT, "fail"])]


@in_loop
async def test_its_state_is_what_systemd_says() -> None:
    async with asking(Manager("failed", result="exit-code")) as asked:
        assert await asked.state(UNIT) == UnitState("failed", "exit-code")


@in_loop
async def test_stopping_returns_once_nothing_of_it_runs() -> None:
    manager = Manager("active", "deactivating", "deactivating", "inactive")
    async with asking(manager) as asked:
        await asked.stop(UNIT)
    assert manager.states == ["inactive"]
    assert ("StopUnit", [UNIT, "replace"]) in manager.calls


@pytest.mark.parametrize("state", ["inactive", "failed"])
@in_loop
async def test_what_does_not_run_is_stopped_as_well_for_its_start_may_be_queued(state: str) -> None:
    manager = Manager(state)
    async with asking(manager) as asked:
        await asked.stop(UNIT)
    assert manager.calls[0] == ("StopUnit", [UNIT, "replace"])


@in_loop
async def test_what_does_not_end_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "STOP_BOUND", 0.05)
    async with asking(Manager("deactivating")) as asked:
        with pytest.raises(Failed, match="was not stopped") as caught:
            await asked.stop(UNIT)
        assert caught.value.hint == f"systemctl status {UNIT}"


@in_loop
async def test_a_refusal_is_told() -> None:
    async with asking(Manager("active")) as asked:
        for work in (asked.start, asked.stop):
            with pytest.raises(Failed, match="was not reached") as caught:
                await work("kldload-kvm-convert@bad.service")
            assert caught.value.why == "Unit not found."


@in_loop
async def test_no_systemd_at_all() -> None:
    async with asking(None) as asked:
        with pytest.raises(Failed):
            await asked.start(UNIT)


@in_loop
async def test_a_systemd_that_does_not_answer_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "BOUND", 0.05)
    async with asking(Manager(answers=False)) as asked:
        with pytest.raises(Failed, match="was not reached") as caught:
            await asked.start(UNIT)
        assert caught.value.why == "systemd does not answer"
