"""libvirt from our side: its own pretended hypervisor (test:///default), read, changed, heard and lost."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
import pytest

from kldload_kvm.model import domain_resources
from kldload_kvm.model.domain_devices import by_device
from kldload_kvm.model.errors import (
    Busy,
    GuestFailed,
    KvmError,
    LibvirtFailed,
    LibvirtUnavailable,
    NotFound,
    TimedOut,
    WrongState,
)
from kldload_kvm.virt import agent as agents
from kldload_kvm.virt import domains
from kldload_kvm.virt.agent import Agent
from kldload_kvm.virt.connection import Connection
from kldload_kvm.virt.domains import Virt
from kldload_kvm.virt.errors import error_from
from kldload_kvm.virt.pools import Pools
from kldload_kvm.waiting import until
from loops import in_loop
from world import uuid_of

TEST_DOMAIN = "6695eb01-f6a4-8304-79aa-97f2502e193f"  # test:///default has it, running


def simple(name: str) -> str:
    return (
        f"<domain type='test'><name>{name}</name><uuid>{uuid_of(name)}</uuid><memory unit='MiB'>64</memory>"
        "<vcpu>2</vcpu><os><type>hvm</type></os><devices><disk type='block' device='disk'>"
        f"<source dev='/dev/zvol/rpool/vms/{name}'/><target dev='vda'/></disk></devices></domain>"
    )


@pytest.fixture(autouse=True)
def without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pretended hypervisor knows no flags of undefine."""
    monkeypatch.setattr(domains, "UNDEFINE", 0)


POOL = "<name>p</name><target><path>/dev/zvol/rpool/vms</path></target>"


def by_pool(pool: str, volume: str) -> str:
    """A domain whose disk is named by a storage pool."""
    named = simple("web").replace("type='block'", "type='volume'")
    return named.replace("dev='/dev/zvol/rpool/vms/web'", f"pool='{pool}' volume='{volume}'")


@asynccontextmanager
async def connected(**handlers: Callable[..., None]) -> AsyncIterator[Connection]:
    made, ready = Connection("test:///default"), asyncio.Event()
    for name, handler in handlers.items():
        setattr(made, name, handler)
    made.on_connect = ready.set
    task = asyncio.ensure_future(made.keep())
    await asyncio.wait_for(ready.wait(), 10)
    try:
        yield made
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        virt = Virt(made)
        if made.connected:
            for each in await virt.domains():
                if each.uuid != TEST_DOMAIN:
                    with suppress(KvmError):
                        await virt.force_off(each.uuid)
                        await virt.undefine(each.uuid)


class TestDomains:
    @in_loop
    async def test_are_read_whole(self) -> None:
        async with connected() as connection:
            virt = Virt(connection)
            await virt.define(simple("web"))
            found = await virt.domain(uuid_of("web"))
            assert found and (found.name, found.state, found.persistent, found.autostart) == (
                "web",
                "shutoff",
                True,
                False,
            )
            assert (found.memory, found.vcpus, found.disks) == (64 << 20, 2, {"vda": "/dev/zvol/rpool/vms/web"})
            assert {each.name for each in await virt.domains()} == {"web", "test"}
            assert await virt.domain(uuid_of("nobody")) is None

    @in_loop
    async def test_what_they_use_is_one_question_that_waits_for_no_guest(self) -> None:
        asked: list[tuple[int, int]] = []
        ask = libvirt.virConnect.getAllDomainStats

        def counted(conn: Any, figures: int, flags: int) -> Any:
            asked.append((figures, flags))
            return [(domain, {**found, "cpu.time": 7}) for domain, found in ask(conn, figures, flags)]

        async with connected() as connection:
            virt = Virt(connection)
            await virt.define(simple("web"))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(libvirt.virConnect, "getAllDomainStats", counted)
                assert (await virt.usage())[TEST_DOMAIN].guest == {"cpu-time": 7}
            ((figures, flags),) = asked
            assert flags & libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
            assert flags & libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
            assert figures & libvirt.VIR_DOMAIN_STATS_BLOCK

    @in_loop
    async def test_go_through_their_states(self) -> None:
        async with connected() as connection:
            virt, web = Virt(connection), uuid_of("web")
            await virt.define(simple("web"))
            states = []
            for change in (virt.start, virt.start, virt.pause, virt.resume, virt.force_off, virt.force_off):
                await change(web)
                states.append(await virt.state(web))
            assert states == ["running", "running", "paused", "running", "shutoff", "shutoff"]
            await virt.set_autostart(web, True)
            found = await virt.domain(web)
            assert found and found.autostart
            await virt.undefine(web)
            assert await virt.domain(web) is None

    @in_loop
    async def test_a_guest_that_shuts_down_is_waited_for(self) -> None:
        async with connected() as connection:
            virt = Virt(connection)
            await virt.define(simple("web"))
            await virt.start(uuid_of("web"))
            await virt.shutdown(uuid_of("web"), 10)
            assert await virt.state(uuid_of("web")) == "shutoff"

    @in_loop
    async def test_one_that_does_not_is_left_running(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with connected() as connection:
            virt = Virt(connection)
            await virt.define(simple("web"))
            await virt.start(uuid_of("web"))
            monkeypatch.setattr(libvirt.virDomain, "shutdown", lambda self: 0)
            with pytest.raises(TimedOut, match="still running") as caught:
                await virt.shutdown(uuid_of("web"), 0)
            assert "kvm-vm off" in caught.value.hint
            assert await virt.state(uuid_of("web")) == "running"

    @in_loop
    async def test_what_cannot_be_done_is_an_error_of_ours(self) -> None:
        async with connected() as connection:
            virt = Virt(connection)
            await virt.define(simple("web"))
            for change, kind in [
                (virt.state(uuid_of("nobody")), NotFound),
                (virt.start(uuid_of("nobody")), NotFound),
                (virt.pause(uuid_of("web")), LibvirtFailed),
                (virt.define("<domain/>"), LibvirtFailed),
                (virt.define(simple("web").replace(uuid_of("web"), uuid_of("impostor"))), LibvirtFailed),
                (virt.start_network("none"), LibvirtFailed),
            ]:
                with pytest.raises(kind) as caught:
                    await change
                assert caught.value.what and caught.value.why

    @in_loop
    async def test_networks(self) -> None:
        async with connected() as connection:
            virt = Virt(connection)
            assert await virt.networks() == {"default": True}
            await virt.start_network("default")


class Pretended:
    """A domain that answers as told."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def __getattr__(self, name: str) -> Any:
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer if callable(answer) else lambda *args: answer


class TestReadings:
    @in_loop
    async def test_a_domain_that_goes_away_while_it_is_read_is_none(self) -> None:
        virt = Virt(Connection("test:///default"))
        assert virt._record(Pretended(isPersistent=fault(libvirt.VIR_ERR_NO_DOMAIN))) is None  # type: ignore[arg-type]
        with pytest.raises(libvirt.libvirtError):
            virt._record(Pretended(isPersistent=1, XMLDesc=gone()))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("agent", "leases", "neighbours", "found"),
        [
            (["10.0.0.2"], ["10.0.0.3"], ["10.0.0.4"], ["10.0.0.2/24"]),
            ([], ["10.0.0.3"], ["10.0.0.4"], ["10.0.0.3/24"]),
            (None, ["10.0.0.3"], None, ["10.0.0.3/24"]),
            (None, None, ["10.0.0.4"], ["10.0.0.4/24"]),
            (["127.0.0.1", "fe80::1"], [], ["10.0.0.4"], ["10.0.0.4/24"]),
            (None, None, None, []),
        ],
    )
    @in_loop
    async def test_addresses_are_those_of_the_first_that_knows_any(
        self, agent: list[str] | None, leases: list[str] | None, neighbours: list[str] | None, found: list[str]
    ) -> None:
        unknown = fault(libvirt.VIR_ERR_OPERATION_UNSUPPORTED)
        known = {
            libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE: leases,
            libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP: neighbours,
        }

        def addresses(domain: object, source: int) -> Any:
            given = known[source]
            if given is None:
                raise unknown
            return {"vnet0": {"addrs": [{"addr": each, "prefix": 24, "type": 0} for each in given]}}

        def command(domain: object, text: str, timeout: int, flags: int) -> str:
            assert json.loads(text)["execute"] == "guest-network-get-interfaces" and timeout > 0
            if agent is None:
                raise DEAF
            return json.dumps({"return": [{"ip-addresses": [{"ip-address": each, "prefix": 24} for each in agent]}]})

        async with connected() as connection:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(libvirt.virDomain, "interfaceAddresses", addresses)
                patch.setattr(libvirt_qemu, "qemuAgentCommand", command)
                assert await Virt(connection).addresses(TEST_DOMAIN) == found


class TestEvents:
    @in_loop
    async def test_whatever_happens_to_a_domain_is_heard_on_the_loop(self) -> None:
        heard: asyncio.Queue[tuple[str, threading.Thread]] = asyncio.Queue()
        began = time.time()

        def hear(uuid: str, at: float) -> None:
            assert began <= at <= time.time()
            heard.put_nowait((uuid, threading.current_thread()))

        async with connected(on_event=hear) as connection:
            virt = Virt(connection)
            for change in (virt.define(simple("web")), virt.start(uuid_of("web")), virt.force_off(uuid_of("web"))):
                await change
                assert await asyncio.wait_for(heard.get(), 10) == (uuid_of("web"), threading.main_thread())
            await virt.undefine(uuid_of("web"))
            await asyncio.wait_for(heard.get(), 10)

    @in_loop
    async def test_a_network_that_stops_and_starts_is_heard(self) -> None:
        heard: asyncio.Queue[None] = asyncio.Queue()
        async with connected(on_network=lambda: heard.put_nowait(None)) as connection:
            virt = Virt(connection)
            for change, active in (("destroy", False), ("create", True)):
                await connection.call("nothing", lambda c, how=change: getattr(c.networkLookupByName("default"), how)())
                await asyncio.wait_for(heard.get(), 10)
                assert await virt.networks() == {"default": active}


class TestConnection:
    @in_loop
    async def test_before_it_is_there_every_call_says_so(self) -> None:
        virt = Virt(Connection("test:///default"))
        with pytest.raises(LibvirtUnavailable, match="the domains cannot be listed") as caught:
            await virt.domains()
        assert "libvirtd.socket" in caught.value.hint

    @in_loop
    async def test_that_cannot_be_made_is_tried_again_and_why_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kldload_kvm.virt.connection.RETRY", (0.01,))
        made = Connection("test:///nonexistent.xml")
        task = asyncio.ensure_future(made.keep())

        async def tried() -> bool:
            return made._why != "it has not been reached yet"

        assert await until(tried, 10, 0.01)
        assert not made.connected
        assert "nonexistent" in made.unavailable("x").why
        ready = asyncio.Event()
        made.on_connect = ready.set
        made.uri = "test:///default"
        await asyncio.wait_for(ready.wait(), 10)
        assert made.connected and made.version.count(".") == 2
        task.cancel()

    @in_loop
    async def test_that_is_lost_is_told_and_found_again(self) -> None:
        lost = asyncio.Event()
        async with connected(on_lost=lost.set) as connection:
            again = asyncio.Event()
            connection.on_connect = again.set

            def broken(conn: object) -> None:
                raise gone()

            with pytest.raises(LibvirtUnavailable, match="it was not done"):
                await connection.call("it was not done", broken)
            await asyncio.wait_for(lost.wait(), 10)
            await asyncio.wait_for(again.wait(), 10)
            assert connection.connected

    @in_loop
    async def test_a_call_that_is_cancelled_is_done_to_its_end(self) -> None:
        async with connected() as connection:
            begun, go, done = threading.Event(), threading.Event(), list[str]()

            def work(conn: object) -> None:
                begun.set()
                go.wait(10)
                done.append("done")

            task = asyncio.ensure_future(connection.call("x", work))
            await asyncio.to_thread(begun.wait, 10)
            task.cancel()
            await asyncio.sleep(0.02)
            assert not task.done()
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert done == ["done"]

    @in_loop
    async def test_calls_do_not_wait_for_each_other(self) -> None:
        async with connected() as connection:
            barrier = threading.Barrier(4, timeout=10)
            await asyncio.gather(*(connection.call("x", lambda conn: barrier.wait()) for _ in range(4)))


def fault(code: int, domain: int = 0, message: str = "said libvirt") -> libvirt.libvirtError:
    error = libvirt.libvirtError("x")
    error.err = (code, domain, message, 0, "", None, None, -1, -1)
    return error


def gone() -> libvirt.libvirtError:
    return fault(libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_RPC, "client socket is closed")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (gone(), LibvirtUnavailable),
        (fault(libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_REMOTE), LibvirtUnavailable),
        (fault(libvirt.VIR_ERR_INVALID_CONN), LibvirtUnavailable),
        (fault(libvirt.VIR_ERR_NO_DOMAIN), NotFound),
        (fault(libvirt.VIR_ERR_OPERATION_INVALID), WrongState),
        (fault(libvirt.VIR_ERR_OPERATION_TIMEOUT), Busy),
        (fault(libvirt.VIR_ERR_AGENT_UNRESPONSIVE), GuestFailed),
        (fault(libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU), LibvirtFailed),
        (fault(libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_QEMU), LibvirtFailed),
    ],
)
def test_libvirt_s_errors_are_ours(error: libvirt.libvirtError, kind: type[KvmError]) -> None:
    found = error_from("it was not done", error)
    assert (type(found), found.what, found.why) == (kind, "it was not done", error.get_error_message())


def test_a_running_vm_without_a_place_for_one_more_device_is_told_what_helps() -> None:
    full = fault(libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_DOMAIN, "internal error: No more available PCI slots")
    found = error_from("the device was not added", full)
    assert (type(found), found.hint) == (WrongState, "shut it down first")


class Guest:
    """An agent that answers as told: what it says by command, in turn; an exception is raised."""

    def __init__(self, **answers: list[Any]) -> None:
        self.answers = {name.replace("_", "-"): list(each) for name, each in answers.items()}
        self.asked: list[str] = []

    def command(self, domain: object, text: str, timeout: int, flags: int) -> str:
        request = json.loads(text)
        self.asked.append(request["execute"])
        answers = self.answers[request["execute"]]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return json.dumps({"return": answer})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Waits without pauses, and with a small bound."""
    real = agents.until
    monkeypatch.setattr(
        agents, "until", lambda check, timeout, *_, **more: real(check, min(timeout, 1.0), 0.01, **more)
    )
    yield


@asynccontextmanager
async def agent_of(guest: Guest) -> AsyncIterator[Agent]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(libvirt_qemu, "qemuAgentCommand", guest.command)
        async with connected() as connection:
            yield Agent(Virt(connection))


DEAF = fault(libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_FROM_QEMU)
BUSY = fault(libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_FROM_QEMU)
OFF = fault(libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_FROM_QEMU)
REFUSED = fault(libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU)


@pytest.mark.usefixtures("quick")
class TestAgent:
    @in_loop
    async def test_freezes_and_thaws(self) -> None:
        guest = Guest(guest_fsfreeze_freeze=[3], guest_fsfreeze_thaw=[3], guest_fsfreeze_status=["frozen", "thawed"])
        async with agent_of(guest) as agent:
            assert await agent.freeze(TEST_DOMAIN) == 3
            assert await agent.frozen(TEST_DOMAIN)
            assert await agent.thaw(TEST_DOMAIN) == 3

    @pytest.mark.parametrize("trouble", [DEAF, BUSY, REFUSED])
    @in_loop
    async def test_a_freeze_that_fails_thaws(self, trouble: Exception) -> None:
        guest = Guest(guest_fsfreeze_freeze=[trouble], guest_fsfreeze_thaw=[trouble])
        async with agent_of(guest) as agent:
            with pytest.raises(KvmError):
                await agent.freeze(TEST_DOMAIN)
        assert guest.asked == ["guest-fsfreeze-freeze", "guest-fsfreeze-thaw"]

    @in_loop
    async def test_a_thaw_is_tried_again_whatever_stands_in_its_way(self) -> None:
        guest = Guest(
            guest_fsfreeze_thaw=[DEAF, BUSY, REFUSED, 1, 0], guest_fsfreeze_status=[DEAF, "frozen", "thawed"]
        )  # fmt: skip
        async with agent_of(guest) as agent:
            assert await agent.thaw(TEST_DOMAIN) == 1
        assert guest.asked.count("guest-fsfreeze-thaw") == 6

    @in_loop
    async def test_a_guest_that_cannot_be_thawed_is_told_of(self) -> None:
        async with agent_of(Guest(guest_fsfreeze_thaw=[DEAF])) as agent:
            with pytest.raises(GuestFailed, match="the guest may still be frozen") as caught:
                await agent.thaw(TEST_DOMAIN)
            assert "virsh domfsthaw" in caught.value.hint

    @in_loop
    async def test_an_answer_that_is_too_large_is_the_guest_s_fault_and_not_libvirt_s(self) -> None:
        """Else one guest could have the connection dropped again and again, and be waited for without end."""
        large = fault(libvirt.VIR_ERR_RPC, libvirt.VIR_FROM_RPC)
        async with agent_of(Guest(guest_fsfreeze_thaw=[large])) as agent:
            with pytest.raises(GuestFailed):
                await agent.thaw(TEST_DOMAIN)
            assert agent.virt.connected

    @in_loop
    async def test_a_guest_that_is_off_or_gone_is_not_frozen(self) -> None:
        async with agent_of(Guest(guest_fsfreeze_thaw=[OFF])) as agent:
            await agent.thaw(uuid_of("nobody"))
            with pytest.raises(GuestFailed):  # libvirt says the same of one that is paused, and frozen
                await agent.thaw(TEST_DOMAIN)
            await agent.virt.force_off(TEST_DOMAIN)
            await agent.thaw(TEST_DOMAIN)

    @in_loop
    async def test_whether_it_answers(self) -> None:
        async with agent_of(Guest(guest_ping=[{}, DEAF])) as agent:
            assert await agent.answers(TEST_DOMAIN)
            assert not await agent.answers(TEST_DOMAIN)

    @in_loop
    async def test_an_identity_is_renewed_by_a_script_whose_end_is_waited_for(self) -> None:
        said = base64.b64encode(b"renewed: hostname machine-id\n").decode()
        ended = [{"exited": False}, {"exited": True, "exitcode": 0, "out-data": said}]
        async with agent_of(Guest(guest_exec=[{"pid": 7}], guest_exec_status=ended)) as agent:
            assert await agent.renew_identity(TEST_DOMAIN, "copy") == "hostname machine-id"

    @pytest.mark.parametrize(
        "status",
        [
            {"exited": False}, {"exited": True, "exitcode": 1, "out-data": base64.b64encode(b"renewed: x").decode()},
            {"exited": True, "exitcode": 0}, {"exited": True, "signal": 9},
            {"exited": True, "exitcode": 0, "out-data": "not base64"}, {},
            {"exited": True, "exitcode": 0, "out-data": 7},
            {"exited": True, "exitcode": 0, "out-data": base64.b64encode(b"hacked").decode()},
        ],
    )  # fmt: skip
    @in_loop
    async def test_a_script_that_does_not_end_well(self, status: dict[str, Any]) -> None:
        async with agent_of(Guest(guest_exec=[{"pid": 7}], guest_exec_status=[status])) as agent:
            with pytest.raises(GuestFailed, match="was not renewed"):
                await agent.renew_identity(TEST_DOMAIN, "copy")

    @in_loop
    async def test_only_what_can_have_been_renewed_is_shown(self) -> None:
        said = base64.b64encode(b"renewed: ssh-host-keys \x1b[2J hostname <b> hostname").decode()
        ended = {"exited": True, "exitcode": 0, "out-data": said}
        async with agent_of(Guest(guest_exec=[{"pid": 7}], guest_exec_status=[ended])) as agent:
            assert await agent.renew_identity(TEST_DOMAIN, "copy") == "hostname ssh-host-keys"

    @in_loop
    async def test_a_guest_is_generalized_and_what_of_it_was_there_is_told(self) -> None:
        said = base64.b64encode(b"generalized: ssh-host-keys <b> cloud-init\n").decode()
        statuses = [{"exited": True, "exitcode": code, "out-data": said} for code in (0, 1)]
        async with agent_of(Guest(guest_exec=[{"pid": 7}, {"pid": 8}], guest_exec_status=statuses)) as agent:
            assert await agent.generalize(TEST_DOMAIN) == "cloud-init ssh-host-keys"
            with pytest.raises(GuestFailed, match="the guest was not generalized"):
                await agent.generalize(TEST_DOMAIN)

    @pytest.mark.parametrize("nonsense", ["many", None, [], {}, 1.5])
    @in_loop
    async def test_an_agent_that_answers_nonsense_has_failed_and_is_told_to_thaw(self, nonsense: Any) -> None:
        guest = Guest(guest_fsfreeze_freeze=[nonsense], guest_fsfreeze_thaw=[nonsense], guest_exec=[nonsense])
        async with agent_of(guest) as agent:
            with pytest.raises(GuestFailed):
                await agent.freeze(TEST_DOMAIN)
            assert guest.asked == ["guest-fsfreeze-freeze", "guest-fsfreeze-thaw"]
            with pytest.raises(GuestFailed, match="may still be frozen"):
                await agent.thaw(TEST_DOMAIN)
            with pytest.raises(GuestFailed):
                await agent.renew_identity(TEST_DOMAIN, "copy")

    @pytest.mark.parametrize("answer", ["", "x", "[]", "{}", "null"])
    @in_loop
    async def test_an_agent_whose_answer_is_none_has_failed(self, answer: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(libvirt_qemu, "qemuAgentCommand", lambda *args: answer)
            async with connected() as connection:
                assert not await Agent(Virt(connection)).answers(TEST_DOMAIN)


class TestChanges:
    """What is changed of a domain. The pretended hypervisor knows some of it; the bench knows all."""

    @pytest.mark.parametrize(
        "layout", ["<pool type='zfs'>{}</pool>", "<poolstate><pool type='dir'>{}</pool></poolstate>"]
    )
    @in_loop
    async def test_a_disk_that_is_named_by_a_pool_is_known_by_its_device_and_defined_so(
        self, tmp_path: Path, layout: str
    ) -> None:
        """As Cockpit names the disks that it adds. The layouts are those of libvirt's two files."""
        async with connected() as connection:
            virt, web = Virt(connection), uuid_of("web")
            virt.pools = Pools(connection, (tmp_path / "none", tmp_path))
            await virt.define(by_pool("kldload-rpool", "web").replace("<source ", "<source startupPolicy='optional' "))
            before = await virt.domain(web)
            (tmp_path / "kldload-rpool.xml").write_text(layout.format(POOL))
            found = await virt.domain(web)
            await virt.edit(web, lambda xml: xml.replace("/vms/web", "/vms/shop"))
            (tmp_path / "kldload-rpool.xml").unlink()
            edited = await virt.domain(web)
        assert before
        assert before.disks == {}
        assert found
        assert found.disks == {"vda": "/dev/zvol/rpool/vms/web"}
        assert 'startupPolicy="optional"' in found.xml
        assert "kldload-rpool" not in found.xml
        assert edited
        assert edited.disks == {"vda": "/dev/zvol/rpool/vms/shop"}

    @pytest.mark.parametrize(
        ("pool", "volume"),
        [("elsewhere", "web"), ("none", "web"), ("damaged", "web"), ("../rpool", "web"), ("rpool", "../other/web")],
    )
    @in_loop
    async def test_one_of_another_pool_or_of_none_stays_as_it_is(self, tmp_path: Path, pool: str, volume: str) -> None:
        folder = tmp_path / "storage"
        folder.mkdir()
        for place in (tmp_path, folder):
            (place / "rpool.xml").write_text(f"<pool>{POOL}</pool>")
        (folder / "elsewhere.xml").write_text("<pool><target><path>/srv/images</path></target></pool>")
        (folder / "damaged.xml").write_text("<pool>")
        named = by_pool(pool, volume)
        assert Pools(Connection("test:///default"), (folder,)).by_device(named) == named

    def test_what_is_no_xml_stays_as_it_is(self, tmp_path: Path) -> None:
        assert by_device("<disk type='volume'", lambda pool: "/dev/zvol/rpool/vms") == "<disk type='volume'"

    @in_loop
    async def test_a_definition_is_edited_in_one_call_and_keeps_its_secrets(self) -> None:
        async with connected() as connection:
            virt, web = Virt(connection), uuid_of("web")
            graphics = "<graphics type='vnc' passwd='secret'/></devices>"
            await virt.define(simple("web").replace("</devices>", graphics))
            seen: list[str] = []

            def change(xml: str) -> str:
                seen.append(xml)
                return xml.replace("/vms/web", "/vms/shop")

            await virt.edit(web, change)
            found = await virt.domain(web)
            assert found
            assert found.disks == {"vda": "/dev/zvol/rpool/vms/shop"}
            assert "passwd='secret'" in seen[0]
            assert "secret" not in found.xml

            def kept(xml: str) -> str:
                assert "passwd='secret'" in xml
                return xml

            await virt.edit(web, kept)

    @in_loop
    async def test_a_renamed_domain_starts_with_the_host_as_before(self) -> None:
        async with connected() as connection:
            virt, web = Virt(connection), uuid_of("web")
            await virt.define(simple("web"))
            await virt.set_autostart(web, True)
            await virt.rename(web, "shop")
            found = await virt.domain(web)
            assert found
            assert (found.name, found.autostart) == ("shop", True)
            with pytest.raises(KvmError, match="was not renamed"):
                await virt.rename(web, "test")

    @in_loop
    async def test_a_domain_whose_memory_is_saved_is_not_renamed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with connected() as connection:
            virt, web = Virt(connection), uuid_of("web")
            await virt.define(simple("web"))
            monkeypatch.setattr(libvirt.virDomain, "hasManagedSaveImage", lambda self: 1)
            with pytest.raises(WrongState) as caught:
                await virt.rename(web, "shop")
            assert "managedsave-remove" in caught.value.hint

    @in_loop
    async def test_cpus_and_memory_of_a_running_one(self) -> None:
        async with connected() as connection:
            virt, web = Virt(connection), uuid_of("web")
            await virt.define(simple("web").replace("<vcpu>2", "<vcpu current='1'>2"))
            await virt.start(web)
            await virt.set_vcpus(web, 2)
            await virt.set_balloon(web, 32 << 20)
            assert domain_resources.amounts(await virt.live_xml(web)) == (32 << 20, 2)

    @in_loop
    async def test_devices_and_sizes_by_the_flags_that_say_where(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[tuple[object, ...]] = []
        for name in ("attachDeviceFlags", "detachDeviceFlags", "blockResize"):
            monkeypatch.setattr(
                libvirt.virDomain, name, lambda self, *args, name=name: calls.append((name, *args)), raising=True
            )
        monkeypatch.setattr(libvirt.virDomain, "blockInfo", lambda self, target: [1 << 30, 0, 0])
        async with connected() as connection:
            virt, web = Virt(connection), uuid_of("web")
            await virt.define(simple("web"))
            await virt.attach(web, "<disk/>", "live")
            await virt.detach(web, "<disk/>", "config")
            await virt.resize_disk(web, "vda", 1 << 30)
            assert calls == [
                ("attachDeviceFlags", "<disk/>", libvirt.VIR_DOMAIN_AFFECT_LIVE),
                ("detachDeviceFlags", "<disk/>", libvirt.VIR_DOMAIN_AFFECT_CONFIG),
                ("blockResize", "vda", 1 << 30, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES),
            ]
            assert await virt.disk_size(web, "vda") == 1 << 30
