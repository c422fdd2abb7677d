"""Reading the host when parts of it do not answer: each is told, none is waited for for ever, none fails the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from kldload_kvm.host import collecting
from kldload_kvm.host.checks import judge
from kldload_kvm.model.errors import Failed, LibvirtUnavailable
from kldload_kvm.model.host_facts import Pool, System
from kldload_kvm.watch import host_state
from kldload_kvm.watch.host_state import HostState
from loops import in_loop
from memory_host import MemoryHost


class NoLibvirt:
    async def call(self, what: str, work: Any) -> Any:
        raise LibvirtUnavailable(what, "it cannot be reached")


class NoSystemd:
    async def start(self, unit: str) -> None:
        raise Failed(f"{unit} was not reached", "systemd does not answer")

    async def active(self, units: Iterable[str]) -> dict[str, bool]:
        raise Failed("systemd was not reached", "systemd does not answer")


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> HostState:
    async def pools(zfs: Any) -> tuple[Pool, ...]:
        return (Pool("rpool"), Pool("vmpool"))

    async def look(units: Any, paths: Any) -> System:
        await units.start(collecting.UNIT)
        return System()

    monkeypatch.setattr(host_state, "pools", pools)
    monkeypatch.setattr(host_state.collecting, "look", look)
    monkeypatch.setattr(host_state, "PATIENCE", 0.05)
    host = MemoryHost()

    async def version() -> str:
        return "2.3.9"

    host.zfs.version = version  # type: ignore[method-assign]
    return HostState(host, NoLibvirt(), NoSystemd(), lambda: None)  # type: ignore[arg-type]


@in_loop
async def test_what_cannot_be_read_is_a_finding_each(state: HostState, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stores(zfs: Any, parents: Any) -> Any:
        raise Failed("the datasets cannot be read", "a line has a tab in it")

    monkeypatch.setattr(host_state, "stores", stores)
    facts = await state.read()
    assert (facts.zfs_version, facts.zfs_fault, facts.pools_fault) == ((2, 3, 9), "", "")
    found = {(each.id, each.object) for each in judge(facts)}
    assert {
        ("host-unseen", "datasets"), ("host-unseen", "kldload-kvm-facts.service"), ("libvirt-unreachable", "libvirt"),
        ("firmware-missing", "OVMF"),
    } == found  # fmt: skip


@in_loop
async def test_zfs_that_hangs_is_waited_for_a_while_and_not_asked_twice(
    state: HostState, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, gate = [], asyncio.Event()

    async def stores(zfs: Any, parents: Any) -> Any:
        asked.append(parents)
        await gate.wait()
        return {}

    monkeypatch.setattr(host_state, "stores", stores)
    for _ in range(2):
        facts = await state.read()
        assert "no answer within" in facts.stores_fault
        assert "storage-missing" not in {each.id for each in judge(facts)}
    assert len(asked) == 1
    gate.set()
    await asyncio.sleep(0)
    assert (await state.read()).stores_fault == ""
    assert len(asked) == 1
