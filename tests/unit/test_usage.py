"""What running domains use: libvirt's figures under our names, and how libvirt is asked for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import pytest

from kldload_kvm.model.errors import LibvirtUnavailable
from kldload_kvm.model.usage import Usage, usage
from kldload_kvm.virt import sampler
from kldload_kvm.virt.sampler import Sample, Sampler
from loops import in_loop

FIGURES = {
    "cpu.time": 3_000_000_001, "cpu.user": 1_000_000_000, "cpu.system": 2_000_000_000, "cpu.cache.monitor.count": 0,
    "balloon.current": 262144, "balloon.maximum": 262144, "balloon.rss": 300000, "balloon.usable": 1024,
    "net.count": 2, "net.0.name": "vnet3", "net.0.rx.bytes": (1 << 63) + 1, "net.0.rx.pkts": 7, "net.0.tx.errs": 0,
    "net.1.name": "vnet4",
    "block.count": 2, "block.0.name": "vda", "block.0.path": "/dev/zvol/rpool/vms/web", "block.0.rd.reqs": 5,
    "block.0.rd.bytes": 20480, "block.0.rd.times": 99, "block.0.wr.bytes": (1 << 64) - 1, "block.0.fl.times": 1,
    "block.1.name": "sda",
}  # fmt: skip
"""As libvirt-python gives them; of vnet4 and the empty drive nothing is known."""


class TestFigures:
    def test_are_told_under_the_names_of_the_bus(self) -> None:
        assert usage(FIGURES) == Usage(
            guest={
                "cpu-time": 3_000_000_001, "cpu-user": 1_000_000_000, "cpu-system": 2_000_000_000,
                "memory-current": 256 << 20, "memory-resident": 300000 * 1024, "memory-usable": 1 << 20,
            },
            disks={
                "vda": {"reads": 5, "read-bytes": 20480, "read-time": 99, "write-bytes": (1 << 64) - 1, "flush-time": 1}
            },
            interfaces={"vnet3": {"received-bytes": (1 << 63) + 1, "received-packets": 7, "sent-errors": 0}},
        )  # fmt: skip

    @pytest.mark.parametrize("value", [-1, 1 << 64, "many", None])
    def test_that_cannot_be_are_left_out(self, value: object) -> None:
        assert usage({"cpu.time": value, "balloon.current": 1}).guest == {"memory-current": 1024}

    def test_that_are_missing_are_none(self) -> None:
        assert usage({}) == Usage()


class Libvirt:
    """Answers with the number of the question, unless it is to hang or to fail."""

    def __init__(self) -> None:
        self.asked = 0
        self.hangs: set[int] = set()
        self.go = asyncio.Event()
        self.fault: Exception | None = None

    async def __call__(self) -> Mapping[str, Usage]:
        self.asked += 1
        mine = self.asked
        if self.fault:
            raise self.fault
        if mine in self.hangs:
            await self.go.wait()
        return {"uuid": Usage({"cpu-time": mine})}


def answer(sample: Sample) -> int:
    assert sample.problem == ""
    return sample.usage["uuid"].guest["cpu-time"]


class TestSampler:
    @in_loop
    async def test_many_who_ask_are_one_question_a_second(self, monkeypatch: pytest.MonkeyPatch) -> None:
        libvirt = Libvirt()
        made = Sampler(libvirt)
        assert {answer(each) for each in await asyncio.gather(*(made.latest() for _ in range(50)))} == {1}
        assert answer(await made.latest()) == 1
        monkeypatch.setattr(sampler, "KEPT", 0.0)
        assert answer(await made.latest()) == 2

    @in_loop
    async def test_a_question_that_hangs_is_waited_for_in_common_and_no_longer_than_the_bound(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sampler, "BOUND", 0.1)
        libvirt = Libvirt()
        libvirt.hangs = {1}
        made = Sampler(libvirt)
        first = asyncio.ensure_future(made.latest())
        await asyncio.sleep(0.05)
        began = asyncio.get_running_loop().time()
        assert "no answer" in (await made.latest()).problem
        assert asyncio.get_running_loop().time() - began < 0.09, "the second waits only for what is left"
        assert "no answer" in (await first).problem
        assert libvirt.asked == 1

    @in_loop
    async def test_after_one_that_hangs_another_is_asked_and_after_two_none(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sampler, "BOUND", 0.05)
        monkeypatch.setattr(sampler, "KEPT", 0.0)
        libvirt = Libvirt()
        libvirt.hangs = {1, 3}
        made = Sampler(libvirt)
        assert "no answer" in (await made.latest()).problem
        assert answer(await made.latest()) == 2
        assert "no answer" in (await made.latest()).problem
        assert "has not answered" in (await made.latest()).problem
        assert libvirt.asked == 3
        libvirt.go.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert answer(await made.latest()) == 4

    @in_loop
    async def test_what_comes_too_late_is_not_taken_for_new(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sampler, "BOUND", 0.05)
        monkeypatch.setattr(sampler, "KEPT", 60.0)
        libvirt = Libvirt()
        libvirt.hangs = {1}
        made = Sampler(libvirt)
        await made.latest()
        libvirt.go.set()
        await asyncio.sleep(0.01)
        assert answer(await made.latest()) == 2

    @pytest.mark.parametrize(
        ("fault", "said"),
        [
            (LibvirtUnavailable("it cannot be read", "it was lost", ""), "it cannot be read: it was lost"),
            (RuntimeError("a slip"), "a fault in kldload-kvmd"),
        ],
    )  # fmt: skip
    @in_loop
    async def test_why_there_is_nothing_is_said(self, fault: Exception, said: str) -> None:
        libvirt = Libvirt()
        libvirt.fault = fault
        found = await Sampler(libvirt).latest()
        assert not found.usage
        assert said in found.problem

    @in_loop
    async def test_who_gives_up_waiting_costs_nobody_the_answer(self) -> None:
        libvirt = Libvirt()
        libvirt.hangs = {1}
        made = Sampler(libvirt)
        one, other = asyncio.ensure_future(made.latest()), asyncio.ensure_future(made.latest())
        await asyncio.sleep(0)
        one.cancel()
        with suppress(asyncio.CancelledError):
            await one
        libvirt.go.set()
        assert answer(await other) == 1
