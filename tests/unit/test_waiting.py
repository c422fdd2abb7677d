"""Waiting: to the end although cancelled, and never for ever."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from kldload_kvm.waiting import finish, uninterrupted, until
from loops import in_loop, turns


class TestToTheEnd:
    @in_loop
    async def test_a_result_and_a_failure_are_handed_on(self) -> None:
        async def good() -> int:
            return 7

        async def bad() -> int:
            raise ValueError("x")

        for wait in (uninterrupted, finish):
            assert await wait(good()) == 7
            with pytest.raises(ValueError, match="x"):
                await wait(bad())

    @pytest.mark.parametrize("hits", [1, 3])
    @in_loop
    async def test_uninterrupted_goes_on_as_if_nobody_had_cancelled(self, hits: int) -> None:
        gate, log = asyncio.Event(), list[str]()

        async def work() -> str:
            await gate.wait()
            log.append("done")
            return "result"

        async def caller() -> str:
            return await uninterrupted(work())

        task = asyncio.ensure_future(caller())
        for _ in range(hits):
            await turns()
            task.cancel()
        await turns()
        assert not task.done()
        gate.set()
        assert await task == "result"
        assert log == ["done"]
        assert task.cancelling() == hits

    @in_loop
    async def test_finish_gives_way_to_the_cancellation_once_the_work_is_done(self) -> None:
        gate, log = asyncio.Event(), list[str]()

        async def work() -> None:
            await gate.wait()
            log.append("done")

        task = asyncio.ensure_future(finish(work()))
        await turns()
        task.cancel()
        await turns()
        assert not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert log == ["done"]

    @in_loop
    async def test_a_failure_comes_before_a_cancellation(self) -> None:
        gate = asyncio.Event()

        async def work() -> None:
            await gate.wait()
            raise ValueError("x")

        task = asyncio.ensure_future(finish(work()))
        await turns()
        task.cancel()
        await turns()
        gate.set()
        with pytest.raises(ValueError, match="x"):
            await task

    @in_loop
    async def test_an_earlier_cancellation_that_was_taken_care_of_is_no_reason_to_stop(self) -> None:
        async def work() -> int:
            return 7

        async def caller() -> int:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return await finish(work())

        task = asyncio.ensure_future(caller())
        await turns()
        task.cancel()
        assert await task == 7


class TestUntil:
    @in_loop
    async def test_time_in_which_nobody_can_tell_does_not_count(self) -> None:
        answers: list[Exception | bool] = [*[OSError()] * 20, False, True]

        async def check() -> bool:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        assert await until(check, 0.05, 0.01, away=OSError)
        assert answers == []

    @in_loop
    async def test_other_faults_are_the_caller_s(self) -> None:
        async def check() -> bool:
            raise ValueError

        with pytest.raises(ValueError):
            await until(check, 1, 0.01, away=OSError)

    @in_loop
    async def test_it_is_so(self) -> None:
        answers = iter([0, "", None, "yes"])

        async def check() -> object:
            return next(answers)

        assert await until(check, 5, 0) == "yes"

    @in_loop
    async def test_it_never_is(self) -> None:
        asked = 0

        async def check() -> bool:
            nonlocal asked
            asked += 1
            return False

        assert await until(check, 0.05, 0.01) is None
        assert asked > 1

    @in_loop
    async def test_is_asked_once_even_without_time(self) -> None:
        async def check() -> str:
            return "yes"

        assert await until(check, 0, 1) == "yes"

    @in_loop
    async def test_a_failure_is_handed_on(self) -> None:
        async def check() -> bool:
            raise ValueError("x")

        with pytest.raises(ValueError, match="x"):
            await until(check, 5, 0)
