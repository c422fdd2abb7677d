"""Memory and CPUs: what is defined, what a running guest takes at once, what waits for its next boot, and why."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.engine.plan import Plan
from kldload_kvm.model.domain_resources import (
    Live,
    amounts,
    memory_change,
    module_xml,
    parts,
    vcpus_change,
    with_memory,
    with_parts,
    with_vcpus,
)
from kldload_kvm.model.domain_xml import build
from kldload_kvm.model.errors import InvalidArgument, KvmError, LibvirtFailed, LibvirtUnavailable, WrongState
from kldload_kvm.model.sizes import GIB, MIB
from kldload_kvm.ops.request import Request
from kldload_kvm.ops.resources import SetMemory, SetVcpus
from kldload_kvm.steps import resources
from kldload_kvm.steps.resources import SetLiveMemory, SetLiveVcpus, SetParts
from loops import in_loop
from memory_host import MemoryHost, with_current
from world import World, id_of, spec, uuid_of, volumes_of

OURS = build(spec())
"""2 GiB, up to 8; 2 CPUs, up to 8."""
PLAIN = "<domain><memory unit='GiB'>2</memory><vcpu>2</vcpu><devices/></domain>"
"""As others define them: without room."""


def text(xml: str, path: str) -> str:
    return ET.fromstring(xml).findtext(path, "")


class TestDefinition:
    def test_memory_is_that_of_the_guest_s_only_node_and_its_room_stays(self) -> None:
        xml = with_parts(OURS, with_memory(OURS, 4 * GIB))
        assert amounts(xml) == (4 * GIB, 2)
        cell = ET.fromstring(xml).find("cpu/numa/cell")
        assert cell is not None
        assert cell.get("memory") == str(4 << 20)
        assert text(xml, "maxMemory") == str(8 << 20)

    def test_room_grows_when_it_is_outgrown(self) -> None:
        xml = with_parts(OURS, with_memory(OURS, 16 * GIB))
        assert text(xml, "maxMemory") == str(64 << 20)
        xml = with_parts(OURS, with_vcpus(OURS, 16))
        assert (amounts(xml)[1], text(xml, "vcpu")) == (16, "64")
        cell = ET.fromstring(xml).find("cpu/numa/cell")
        assert cell is not None
        assert cell.get("cpus") == "0-63"

    def test_cpus_within_the_room_leave_it_as_it_is(self) -> None:
        xml = with_parts(OURS, with_vcpus(OURS, 8))
        assert (amounts(xml)[1], text(xml, "vcpu")) == (8, "8")

    def test_no_more_cpus_than_the_machine_can_have(self) -> None:
        assert text(with_vcpus(OURS, 100), "vcpu") == "255"

    def test_what_no_longer_fits_goes(self) -> None:
        xml = "<domain><vcpu current='1'>2</vcpu><vcpus><vcpu id='0'/></vcpus><cpu><topology cores='2'/></cpu></domain>"
        made = with_vcpus(xml, 4)
        assert "<vcpus>" not in made
        assert "topology" not in made
        assert "topology" in with_vcpus(xml, 2)

    def test_of_a_domain_without_room(self) -> None:
        assert amounts(with_memory(PLAIN, GIB)) == (GIB, 2)
        assert amounts(with_vcpus(PLAIN, 3)) == (2 * GIB, 3)

    @pytest.mark.parametrize(
        ("xml", "words"),
        [
            ("<domain><devices><memory/></devices></domain>", "memory modules"),
            ("<domain><cpu><numa><cell id='0'/><cell id='1'/></numa></cpu><devices/></domain>", "2 NUMA nodes"),
        ],
    )
    def test_a_layout_made_by_hand_is_left_to_who_made_it(self, xml: str, words: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            with_memory(xml, GIB)
        assert words in caught.value.why

    def test_all_else_stays_and_the_old_parts_come_back(self) -> None:
        changed = with_parts(OURS, with_memory(OURS, 4 * GIB))
        back = with_parts(changed, parts(OURS))
        for path in ("name", "uuid", "devices/disk/source", "os/loader"):
            assert text(back, path) == text(OURS, path)
        assert amounts(back) == amounts(OURS)


class TestRunningGuests:
    @pytest.mark.parametrize(
        ("size", "live"),
        [
            (2 * GIB, Live("nothing")),
            (GIB, Live("balloon", GIB)),
            (4 * GIB, Live("plug", 2 * GIB)),
            (8 * GIB, Live("plug", 6 * GIB)),
            (9 * GIB, Live("later", why="its memory can be 8G at most while it runs")),
            (2 * GIB + MIB, Live("later", why="it has 2G, and more is plugged in by 128M")),
        ],
    )
    def test_memory(self, size: int, live: Live) -> None:
        assert memory_change(OURS, size) == live

    def test_memory_that_the_balloon_has_taken_comes_back(self) -> None:
        assert memory_change(with_current(OURS, 1 << 20), 2 * GIB) == Live("balloon", 2 * GIB)

    def test_memory_of_a_guest_without_room_slots_or_balloon(self) -> None:
        assert "2G at most" in memory_change(PLAIN, 4 * GIB).why
        assert memory_change(PLAIN, GIB).why == "it has no memory balloon"
        full = OURS.replace('slots="16"', 'slots="0"')
        assert memory_change(full, 4 * GIB).why == "all its slots for memory are taken"

    @pytest.mark.parametrize(
        ("count", "live"),
        [
            (2, Live("nothing")),
            (8, Live("plug", 8)),
            (1, Live("plug", 1)),
            (9, Live("later", why="it can have 8 CPUs at most while it runs")),
        ],
    )
    def test_cpus(self, count: int, live: Live) -> None:
        assert vcpus_change(OURS, count) == live

    def test_a_module_is_of_the_first_node(self) -> None:
        assert text(f"<d>{module_xml(GIB)}</d>", "memory/target/size") == str(1 << 20)
        assert text(f"<d>{module_xml(GIB)}</d>", "memory/target/node") == "0"


def plan(host: World, kind: type[Request], value: int) -> Plan:
    return kind.parse(id_of("web"), [value], {}).plan(host.view())


class TestPlans:
    def test_the_definition_first_and_the_running_guest_last(self) -> None:
        host = World()
        host.vm("web", "running")
        made = plan(host, SetMemory, 4 * GIB)
        (define,) = made.prepare
        assert isinstance(define, SetParts)
        assert "definition" in {guard.what for guard in made.guards}  # a plan for CPUs would take back this one
        assert define.describe() == "define web with 4G of memory"
        assert made.commit == SetLiveMemory(uuid_of("web"), "web", 4 * GIB)
        assert plan(host, SetVcpus, 4).commit == SetLiveVcpus(uuid_of("web"), "web", 4)

    def test_of_a_vm_that_is_off_only_the_definition(self) -> None:
        host = World()
        host.vm("web")
        made = plan(host, SetVcpus, 4)
        assert (made.prepare, type(made.commit)) == ((), SetParts)
        assert made.result == {"vcpus": 4, "applied": "at next boot", "reason": "it is off"}

    def test_what_is_so_already_needs_nothing(self) -> None:
        host = World()
        host.vm("web")
        made = plan(host, SetMemory, 2 * GIB)
        assert made.steps == ()
        assert made.result["reason"] == "it has that already"
        host.vm("web", "running")
        assert [type(each) for each in plan(host, SetMemory, 2 * GIB).steps] == [SetLiveMemory]

    def test_an_orphan(self) -> None:
        host = World()
        host.vm("web", "orphan")
        with pytest.raises(WrongState):
            plan(host, SetMemory, GIB)

    @pytest.mark.parametrize(
        ("kind", "value", "words"),
        [
            (SetMemory, 0, "must be from 64M to 16T"),
            (SetMemory, GIB + 1, "a multiple of 1048576"),
            (SetMemory, 1 << 62, "must be from 64M to 16T"),
            (SetVcpus, 0, "can have 1 to 255"),
            (SetVcpus, 256, "can have 1 to 255"),
        ],
    )
    def test_what_cannot_be(self, kind: type[Request], value: int, words: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            kind.parse(id_of("web"), [value], {})
        assert words in caught.value.why


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "GIVING_BACK", 0.0)


async def web() -> MemoryHost:
    host = MemoryHost()
    await host.prepare()
    for each in volumes_of("web"):
        await host.zfs.create_volume(each.name, each.size, each.properties)
    await host.virt.define(OURS)
    host.memory_virt.put(host.guest("web"), "running")
    await host.known()
    return host


async def outcome(host: MemoryHost, request: Request) -> dict[str, Any]:
    world = World()
    world.inventory = host.inventory
    job = Engine(host, MemoryJournal()).start(request.plan(world.view()), 0)
    await job.finished.wait()
    if job.error:
        raise job.error
    return job.result


class TestWhatIsTold:
    @pytest.mark.parametrize(
        "request_", [SetMemory(id_of("web"), 4 * GIB), SetMemory(id_of("web"), GIB), SetVcpus(id_of("web"), 1)]
    )
    @in_loop
    async def test_a_guest_that_goes_along_has_it_now(self, request_: Request) -> None:
        host = await web()
        assert (await outcome(host, request_))["applied"] == "now"
        live, config = amounts(host.guest("web").live), amounts(host.guest("web").xml)
        assert live == config != amounts(OURS)

    @pytest.mark.parametrize(
        ("request_", "reason"),
        [
            (SetMemory(id_of("web"), GIB), "its guest was asked, and has not done it yet"),
            (SetVcpus(id_of("web"), 1), "it could not be done while it runs: vcpu unplug request timed out"),
            (SetMemory(id_of("web"), 16 * GIB), "its memory can be 8G at most while it runs"),
            (SetVcpus(id_of("web"), 12), "it can have 8 CPUs at most while it runs"),
        ],
    )
    @in_loop
    async def test_a_guest_that_does_not_gets_it_at_its_next_boot(self, request_: Request, reason: str) -> None:
        host = await web()
        host.guest("web").plugs = False
        result = await outcome(host, request_)
        assert (result["applied"], result["reason"]) == ("at next boot", reason)
        assert amounts(host.guest("web").xml) != amounts(OURS)

    @in_loop
    async def test_memory_after_a_module_is_what_was_asked_for_whatever_the_balloon_held(self) -> None:
        host = await web()
        await outcome(host, SetMemory(id_of("web"), GIB))
        await outcome(host, SetMemory(id_of("web"), 3 * GIB))
        assert amounts(host.guest("web").live)[0] == 3 * GIB

    @in_loop
    async def test_a_vm_that_went_off_meanwhile_gets_it_at_its_next_boot(self) -> None:
        host = await web()
        world = World()
        world.inventory = host.inventory
        made = SetVcpus(id_of("web"), 4).plan(world.view())
        host.memory_virt.put(host.guest("web"), "shutoff")
        job = Engine(host, MemoryJournal()).start(made, 0)
        await job.finished.wait()
        assert (job.error, job.result["reason"]) == (None, "it is off")

    @pytest.mark.parametrize("fault", [LibvirtUnavailable("gone"), LibvirtFailed("refused")])
    @in_loop
    async def test_libvirt_that_goes_away_is_a_failure_and_the_definition_is_as_before(
        self, fault: KvmError, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host = await web()

        async def broken(*args: object) -> None:
            raise fault

        monkeypatch.setattr(host.virt, "set_vcpus", broken)
        if isinstance(fault, LibvirtUnavailable):
            with pytest.raises(LibvirtUnavailable):
                await outcome(host, SetVcpus(id_of("web"), 4))
            assert amounts(host.guest("web").xml) == amounts(OURS)
        else:
            assert (await outcome(host, SetVcpus(id_of("web"), 4)))["applied"] == "at next boot"
