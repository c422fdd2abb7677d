"""The host on the bus: anybody may ask what is wrong with it."""

from __future__ import annotations

import pytest

from host_world import WELL, with_pool
from kldload_kvm.model.constants import ROOT
from loops import in_loop
from served import Authority, error_of, path_of, serving

pytestmark = pytest.mark.usefixtures("bus")
HOST = f"{ROOT}/host"


@in_loop
async def test_findings_carry_what_explains_them_and_are_told_as_properties() -> None:
    async with serving() as served:
        await served.client.listen()
        assert await served.client.get(HOST, "Host", "CheckedAt") == 0
        served.host_facts = with_pool(capacity=97, ashift=9, fragmentation=80)
        found = await served.client.ask(HOST, "Host", "Check")
        assert [(each["id"], each["severity"]) for each in found] == [
            ("pool-full", "error"), ("pool-ashift", "warning"), ("pool-fragmented", "notice"),
        ]  # fmt: skip
        assert found[0]["object"] == "rpool"
        assert found[0]["found"] == "97 % of it are in use"
        assert all(found[0][key] for key in ("why", "todo", "source"))
        assert await served.client.get(HOST, "Host", "Findings") == found
        assert await served.client.get(HOST, "Host", "CheckedAt") == WELL.now
        await served.client.quiet()
        assert [body[0] for path, _, body in served.client.signals if path == HOST] == ["org.kldload.Kvm1.Host"]


@in_loop
async def test_only_as_severe_as_asked_for() -> None:
    async with serving() as served:
        served.host_facts = with_pool(capacity=97, ashift=9)
        found = await served.client.ask(HOST, "Host", "Check", {"severity": "error"})
        assert [each["id"] for each in found] == ["pool-full"]
        error = await error_of(served.client.ask(HOST, "Host", "Check", {"severity": "bad"}))
        assert error.name == "InvalidArgument"
        assert "error, warning, notice" in error.text


@in_loop
async def test_reading_is_what_polkit_is_asked_about() -> None:
    async with serving(authority := Authority("no", read="yes")) as served:
        served.as_user(1000)
        assert await served.client.ask(HOST, "Host", "Check") == []
        assert [each.action for each in authority.asked] == ["org.kldload.kvm.read"]
    async with serving(Authority("no")) as served:
        served.as_user(1000)
        assert (await error_of(served.client.ask(HOST, "Host", "Check"))).name == "NotAuthorized"


@in_loop
async def test_why_a_vm_does_not_start() -> None:
    async with serving() as served:
        await served.vm("web")
        (cause,) = await served.client.ask(path_of("web"), "Vm", "Why")
        assert (cause["id"], cause["object"], cause["severity"]) == ("guest-startable", "web", "notice")
        served.host_facts = with_pool(health="SUSPENDED")
        assert [e["id"] for e in await served.client.ask(path_of("web"), "Vm", "Why")] == ["pool-suspended"]


@in_loop
async def test_why_knows_what_our_own_last_start_failed_with() -> None:
    async with serving() as served:
        guest = await served.vm("web")
        served.host.troubles.at, served.host.troubles.when = len(served.host.troubles.done), "before"
        error = await error_of(served.client.ask(path_of("web"), "Vm", "Start", {"wait": True}))
        assert error.name == "ZfsFailed"
        (cause,) = await served.client.ask(path_of("web"), "Vm", "Why")
        assert cause["id"] == "guest-last-error"
        assert cause["found"].startswith("trouble before")
        served.host.troubles.at = -1
        await served.client.ask(path_of("web"), "Vm", "Start", {"wait": True})
        assert guest.state == "running"
        assert "guest-last-error" not in [e["id"] for e in await served.client.ask(path_of("web"), "Vm", "Why")]
