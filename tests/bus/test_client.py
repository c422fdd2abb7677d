"""The generated clients, sync and async, against the stand-in on a bus of their own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from kldload_kvm.client import aio, api, transport
from kldload_kvm.client.faults import ServiceUnavailable
from kldload_kvm.model.constants import ROOT
from kldload_kvm.model.errors import (
    AlreadyExists,
    InvalidArgument,
    NotAuthorized,
    NotAuthorizedCanObtain,
    NotFound,
    TimedOut,
    ZfsFailed,
)
from private_bus import private_bus, standing_in
from standin import GIB, Standin


@pytest.fixture(scope="module", autouse=True)
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with private_bus(tmp_path_factory.mktemp("bus")) as address:
        yield address


@pytest.fixture
def standin() -> Iterator[Standin]:
    with standing_in() as standin:
        yield standin


@pytest.fixture
def connection(standin: Standin) -> Iterator[api.Connection]:
    with api.Connection() as connection:
        yield connection


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# Reading.


def test_a_vm_is_found_and_its_properties_are_plain_values(connection: api.Connection) -> None:
    vm = api.Manager(connection).find_vm("web-1")
    assert vm == api.Vm(connection, f"{ROOT}/vm/web_1")
    assert (vm.name, vm.memory, vm.vcpus, vm.autostart, vm.clones) == ("web-1", 4 * GIB, 4, False, [])
    assert [(volume["dataset"], volume["role"]) for volume in vm.volumes] == [
        ("rpool/vms/web-1", "disk"),
        ("rpool/vms/web-1.nvram", "nvram"),
    ]


def test_properties_are_kept_until_reload(connection: api.Connection) -> None:
    vm = api.Manager(connection).find_vm("web-1")
    assert vm.state == "shutoff"
    vm.start(wait=True)
    assert vm.state == "shutoff"
    assert vm.reload().state == "running"


def test_all_objects_come_in_one_call_with_their_properties(connection: api.Connection, standin: Standin) -> None:
    objects = connection.objects()
    assert sorted(vm.name for vm in objects.of(api.Vm)) == ["denied", "locked", "web-1", "web-2"]
    assert [storage.dataset for storage in objects.of(api.Storage)] == ["rpool/vms"]
    assert objects.of(api.Manager) == []  # it is the root, which manages the others


def test_objects_of_some_kinds_come_in_one_call_too(connection: api.Connection, standin: Standin) -> None:
    objects = connection.objects(api.Storage, api.Manager)
    assert [manager.version for manager in objects.of(api.Manager)] == ["0.1.0"]
    assert [storage.dataset for storage in objects.of(api.Storage)] == ["rpool/vms"]
    assert objects.of(api.Vm) == []
    assert standin.listed == [[api.Storage.INTERFACE, api.Manager.INTERFACE]]
    assert standin.calls == []


def test_lists_come_in_pages(connection: api.Connection) -> None:
    vm = api.Manager(connection).find_vm("web-1")
    for name in "abc":
        vm.snapshot(name=name, wait=True)
    assert [each["name"] for each in vm.list_snapshots(offset=1, limit=1)] == ["b"]


# Operations.


def test_an_option_that_is_not_given_is_not_sent(connection: api.Connection, standin: Standin) -> None:
    api.Manager(connection).create_vm("new", memory=GIB, start=False)
    ((member, body, _),) = standin.calls
    assert member == "CreateVm"
    assert {name: (option.signature, option.value) for name, option in body[1].items()} == {
        "memory": ("t", GIB),
        "start": ("b", False),
    }


def test_names_with_dashes_and_dots_reach_the_service(connection: api.Connection, standin: Standin) -> None:
    api.Manager(connection).create_vm("new", ssh_keys=["ssh-ed25519 AAAA"], plan_only=True, no_user_interaction=True)
    assert set(standin.calls[0][1][1]) == {"ssh-keys", "plan-only", "auth.no_user_interaction"}


def test_a_job_that_is_waited_for_has_its_result(connection: api.Connection) -> None:
    source = api.Manager(connection).find_vm("web-1")
    job = source.clone(["c-1", "c-2"], snapshot="stable", wait=True)
    assert job.state == "succeeded"
    assert job.result == {
        "vms": [f"{ROOT}/vm/c_1", f"{ROOT}/vm/c_2"],
        "names": ["c-1", "c-2"],
        "snapshot": "stable",
        "consistency": "off",
        "identity": "cloud-init",
    }
    assert job.wait(timeout=1) == job.result


def test_a_plan_changes_nothing_until_it_is_applied(connection: api.Connection) -> None:
    vm = api.Manager(connection).find_vm("web-1")
    plan = vm.snapshot(name="later", plan_only=True)
    assert (plan.state, [step["state"] for step in plan.steps]) == ("planned", ["waiting"])
    assert vm.list_snapshots() == []
    plan.apply(wait=True)
    assert [each["name"] for each in vm.list_snapshots()] == ["later"]


def test_signals_are_seen_from_the_moment_of_watching(connection: api.Connection) -> None:
    job = api.Manager(connection).find_vm("web-1").snapshot(plan_only=True)
    assert job.state == "planned"
    with job.watch() as signals:
        job.apply()
        seen = []
        while (signal := signals.next(5)) is not None:
            job.take(signal)
            seen.append(signal[0])
            if signal[0] == "Completed":
                assert signal[1] == (True, "")
                break
    assert seen[-1] == "Completed" and "PropertiesChanged" in seen
    assert job.state == "succeeded"


def test_nothing_to_see_is_none(connection: api.Connection) -> None:
    with connection.watch(f"{ROOT}/vm/web_1") as signals:
        assert signals.next(0.05) is None


def test_a_file_goes_to_the_service_and_nothing_is_left_open(
    connection: api.Connection, standin: Standin, tmp_path: Path
) -> None:
    (tmp_path / "small.iso").write_bytes(b"abc")
    storage = connection.objects().of(api.Storage)[0]
    before = open_files()
    with (tmp_path / "small.iso").open("rb") as file:
        job = storage.add(file.fileno(), "small.iso", wait=True)
    assert job.result["size"] == 3
    assert open_files() == before


def test_a_console_comes_as_a_descriptor(connection: api.Connection) -> None:
    console = api.Manager(connection).find_vm("web-1").open_console()
    try:
        assert os.read(console, 100) == b"login: "
    finally:
        os.close(console)


# Errors.


def test_errors_are_our_classes_with_their_lines(connection: api.Connection) -> None:
    with pytest.raises(AlreadyExists) as caught:
        api.Manager(connection).create_vm("web-1")
    assert (caught.value.what, caught.value.why) == ("There is a VM 'web-1' already.", "")
    assert caught.value.hint == "Choose another name."


def test_a_failed_job_is_its_own_error(connection: api.Connection) -> None:
    with pytest.raises(ZfsFailed, match="out of luck"):
        api.Manager(connection).find_vm("web-1").snapshot(name="broken", wait=True)


def test_what_is_not_there_is_not_found(connection: api.Connection) -> None:
    with pytest.raises(NotFound):
        api.Manager(connection).find_vm("web-9")
    with pytest.raises(NotFound):
        _ = api.Vm(connection, f"{ROOT}/vm/none").name


def test_without_the_service_the_error_says_where_to_look() -> None:
    with api.Connection() as connection, pytest.raises(ServiceUnavailable) as caught:
        api.Manager(connection).find_vm("web-1")
    assert "systemctl status kldload-kvmd" in caught.value.hint


@pytest.mark.parametrize("address", ["unix:path=/nowhere/at/all", "nonsense", "tcp:host=localhost,port=1", ""])
def test_without_a_bus_the_error_says_so(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address or "unix:path=")
    with pytest.raises(ServiceUnavailable, match="bus cannot be reached"):
        api.Connection()


def test_a_service_that_does_not_answer_is_not_waited_for(
    connection: api.Connection, standin: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(Standin, "do_FindVm", never)
    with pytest.raises(TimedOut, match="FindVm"):
        connection.call(ROOT, api.Manager.INTERFACE, "FindVm", "s", ("web-1",), timeout=0.2)


def test_a_bus_that_goes_away_is_an_error_and_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with private_bus(tmp_path):
        connection = api.Connection()
    with connection, pytest.raises(ServiceUnavailable):
        api.Manager(connection).find_vm("web-1")


# Passwords.


class Agent:
    """Stands for polkit's text agent; counts."""

    def __init__(self) -> None:
        self.begun = self.ended = 0

    def __call__(self) -> AbstractContextManager[None]:
        @contextmanager
        def asking() -> Iterator[None]:
            self.begun += 1
            try:
                yield
            finally:
                self.ended += 1

        return asking()


def asked(standin: Standin, member: str) -> list[bool]:
    return [may_ask for each, _, may_ask in standin.calls if each == member]


def test_who_has_the_right_is_not_asked(standin: Standin) -> None:
    agent = Agent()
    with api.Connection(agent=agent) as connection:
        api.Manager(connection).find_vm("web-1").start(wait=True)
    assert asked(standin, "Start") == [False]
    assert agent.begun == 0


def test_who_may_get_the_right_is_asked_once_with_the_agent_there(standin: Standin) -> None:
    agent = Agent()
    with api.Connection(agent=agent) as connection:
        api.Manager(connection).find_vm("locked").start(wait=True)
    assert asked(standin, "Start") == [False, True]
    assert (agent.begun, agent.ended) == (1, 1)


def test_without_leave_to_ask_it_is_an_error(standin: Standin) -> None:
    agent = Agent()
    with api.Connection(interactive=False, agent=agent) as connection, pytest.raises(NotAuthorizedCanObtain):
        api.Manager(connection).find_vm("locked").start(wait=True)
    assert asked(standin, "Start") == [False]
    assert agent.begun == 0


def test_who_is_denied_is_not_asked(standin: Standin) -> None:
    agent = Agent()
    with api.Connection(agent=agent) as connection, pytest.raises(NotAuthorized):
        api.Manager(connection).find_vm("denied").start(wait=True)
    assert agent.begun == 0


# The async client does the same.


def test_async_reads_and_operates(standin: Standin) -> None:
    async def scenario() -> None:
        async with aio.Connection() as connection:
            vm = await aio.Manager(connection).find_vm("web-1")
            with pytest.raises(RuntimeError, match="await reload"):
                _ = vm.name
            await vm.reload()
            assert (vm.name, vm.volumes[0]["dataset"]) == ("web-1", "rpool/vms/web-1")
            names = [each.name for each in (await connection.objects(aio.Vm)).of(aio.Vm)]
            assert sorted(names) == ["denied", "locked", "web-1", "web-2"]
            job = await vm.clone(["c-1"], wait=True)
            assert (await job.reload()).result["names"] == ["c-1"]
            with pytest.raises(ZfsFailed, match="out of luck"):
                await vm.snapshot(name="broken", wait=True)
            with pytest.raises(NotFound):
                await aio.Manager(connection).find_vm("web-9")

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_async_watches(standin: Standin) -> None:
    async def scenario() -> None:
        async with aio.Connection() as connection:
            vm = await aio.Manager(connection).find_vm("web-1")
            job = await (await vm.snapshot(plan_only=True)).reload()
            async with job.watch() as signals:
                await job.apply()
                while (signal := await signals.next(5)) is not None and signal[0] != "Completed":
                    job.take(signal)
                assert signal == ("Completed", (True, ""))
                assert await signals.next(0.05) is None
            assert job.state == "succeeded"

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_async_passes_files_both_ways(standin: Standin, tmp_path: Path) -> None:
    (tmp_path / "small.iso").write_bytes(b"abc")

    async def scenario() -> None:
        async with aio.Connection() as connection:
            (storage,) = (await connection.objects()).of(aio.Storage)
            with (tmp_path / "small.iso").open("rb") as file:
                job = await storage.add(file.fileno(), "small.iso", wait=True)
            assert (await job.reload()).result["size"] == 3
            console = await (await aio.Manager(connection).find_vm("web-1")).open_console()
            assert os.read(console, 100) == b"login: "
            os.close(console)

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_async_asks_as_the_sync_client_does(standin: Standin) -> None:
    agent = Agent()

    async def scenario() -> None:
        async with aio.Connection(agent=agent) as connection:
            await (await aio.Manager(connection).find_vm("locked")).start(wait=True)

    asyncio.run(asyncio.wait_for(scenario(), 20))
    assert asked(standin, "Start") == [False, True]
    assert (agent.begun, agent.ended) == (1, 1)


def test_async_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with aio.Connection() as connection:
            with pytest.raises(ServiceUnavailable):
                await aio.Manager(connection).find_vm("web-1")
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere")
        with pytest.raises(ServiceUnavailable):
            await aio.Connection.open()

    asyncio.run(asyncio.wait_for(scenario(), 20))


# The pieces.


@pytest.mark.parametrize(
    ("signature", "values", "plain"),
    [
        ("", (), ()),
        ("s", ("a",), ("a",)),
        ("v", (("t", 5),), (5,)),
        ("a{sv}", ({"a": ("as", ["b"])},), ({"a": ["b"]},)),
        ("aa{sv}b", ([{"a": ("u", 1)}, {}], True), ([{"a": 1}, {}], True)),
        (
            "a{oa{sa{sv}}}",
            ({"/a": {"i": {"P": ("aa{sv}", [{"x": ("s", "y")}])}}},),
            ({"/a": {"i": {"P": [{"x": "y"}]}}},),
        ),
    ],
)
def test_variants_are_unwrapped(signature: str, values: tuple[object, ...], plain: tuple[object, ...]) -> None:
    assert transport.unwrap_all(signature, values) == plain


def test_unknown_options_are_the_callers_mistake(connection: api.Connection) -> None:
    with pytest.raises(InvalidArgument):
        connection.call(ROOT, api.Manager.INTERFACE, "CreateVm", "sa{sv}", ("x", {"bogus": ("s", "")}))
