"""Who may do what: polkit is asked for every method, with what it needs to know; without its yes nothing happens."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from dataclasses import replace
from typing import Any

import pytest
from dbus_next import Variant

from kldload_kvm import contract_files
from kldload_kvm.bus import polkit
from kldload_kvm.bus.dispatch import Answer
from kldload_kvm.bus.tree import PROPERTIES
from kldload_kvm.bus.values import HOST_PATH
from kldload_kvm.model import properties
from kldload_kvm.model.constants import HOOK, PREFIX, READ_ACTION, ROOT
from kldload_kvm.model.contract import Interface, Method
from loops import in_loop
from served import ASKING, Authority, BusError, Client, Served, answer, error_of, options, path_of, serving, until_true
from world import id_of, uuid_of, volumes_of

ALICE, BOB = 1000, 1001
NONE = "nothing was changed"


METHODS = [(i, m) for i in contract_files.interfaces().values() for m in i.methods.values() if i.name != HOOK]
"""All but what is for root alone, of which polkit is not asked: test_hook.py."""
IDS = [f"{i.short}.{m.name}" for i, m in METHODS]

# What a caller would give: a value for each argument by its name, and for each option.
ARGUMENTS: dict[tuple[str, str], Any] = {
    ("CreateVm", "name"): "new", ("FindVm", "name"): "web", ("CanI", "action"): "org.kldload.kvm.power",
    ("Adopt", "name"): "web",
    ("ListObjects", "interfaces"): ["org.kldload.Kvm1.Vm"],
    ("CanI", "object"): ROOT, ("Add", "file"): 0, ("Add", "name"): "new.iso", ("Remove", "name"): "debian.qcow2",
    ("SetAutostart", "autostart"): True, ("DeleteSnapshot", "snapshot"): "s1", ("Clone", "names"): ["copy"],
    ("Resize", "target"): "vda", ("Resize", "size"): 30 << 30, ("AttachDisk", "size"): 1 << 30,
    ("DetachDisk", "target"): "vdb", ("DetachNic", "mac"): "52:54:00:00:00:01",
    ("Rename", "name"): "shop", ("SetMemory", "memory"): 4 << 30, ("SetVcpus", "vcpus"): 4, ("Export", "file"): 0,
    ("SetTemplate", "template"): True,
    ("RestoreTrash", "entry"): "gone-1", ("PurgeTrash", "entries"): ["gone-1"],
    ("Fix", "ids"): ["pool-autotrim"], ("Setup", "profile"): "kvm", ("CreateBridge", "name"): "br7",
    ("CreateBridge", "port"): "eth7", ("ConfirmBridge", "name"): "br7",
}  # fmt: skip
OPTIONS: dict[str, Any] = {
    "memory": 1 << 30, "vcpus": 1, "disk": 4 << 30, "storage": "rpool", "image": "debian.qcow2", "os": "debian13",
    "network": "network=default", "volblocksize": 65536, "compression": "lz4", "hostname": "h", "user": "u",
    "ssh-keys": [], "start": True, "autostart": True, "timeout": 1, "snapshot": "s1", "force": True,
    "offset": 0, "limit": 1, "target": "vdc", "wait": True, "request-id": "r", "auth.no_user_interaction": False,
    "format": "iso", "sha256": "a" * 64, "kind": "auto", "with-definition": True, "now": True, "full": True,
    "generalize": True, "tables": ["service"], "severity": "error", "confirm-within": 60,
}  # fmt: skip
OWN_OPTIONS: dict[str, dict[str, Any]] = {
    "Export": {"format": "qcow2", "target": "vdb"},
    "SetStorageOptions": {"target": "vdb", "primarycache": "all", "refreservation": "off"},
}
LEFT_OUT = {"iso", "password-hash", "name", "require-consistency", "plan-only", "expired", "promote", "template"}


def arguments(method: Method) -> list[Any]:
    """Valid arguments for any method of the contract, with all of its options."""
    found = []
    for arg in method.inputs:
        if arg.type == "a{sv}":
            own = {**OPTIONS, **OWN_OPTIONS.get(method.name, {})}
            given = {o.name: own[o.name] for o in method.options if o.name not in LEFT_OUT}
            found.append(options(method.option_types, given))
        else:
            found.append(ARGUMENTS[method.name, arg.name])
    return found


async def everything(served: Served) -> dict[str, str]:
    """A host with one object of each kind; their paths by interface. The job is a plan of root's."""
    noted = {properties.VM: id_of("gone"), properties.NAME: "gone", properties.REASON: "deleted", properties.SINCE: "1"}
    await served.host.zfs.create_container("rpool/vms/.trash/gone-1", noted)
    for each in volumes_of("gone", "rpool/vms/.trash/gone-1"):
        await served.host.zfs.create_volume(each.name, each.size, each.properties)
    await served.vm("web", "running", snapshots=("s1",), disks=2)
    job = await served.client.ask(path_of("web"), "Vm", "Snapshot", {"plan-only": True})
    return {"Manager": ROOT, "Vm": path_of("web"), "Storage": f"{ROOT}/storage/rpool", "Job": job,
            "Host": HOST_PATH}  # fmt: skip


async def called(client: Client, path: str, interface: Interface, method: Method) -> Any:
    """The method called with valid arguments, a file included if it takes one."""
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 512)
        file.flush()
        fds = [file.fileno()] if "h" in method.in_signature else []
        reply = await client.send(path, interface.name, method.name, method.in_signature, arguments(method), fds=fds)
        return answer(reply)


FAILS_LATER = {
    "Adopt": "AlreadyExists",  # it is a VM
    "CreateVm": "Failed",  # there is no image helper here
    "Start": "WrongState",  # the VM runs
    "Rename": "WrongState",
    "Fix": "NotFound",  # there is nothing to put right
    "CreateBridge": "NotFound",  # there is no such card
    "ConfirmBridge": "NotFound",
    "Export": "InvalidArgument",  # the file has something in it
    "Resume": "WrongState",
    "Add": "NotFound",  # the store has no directory
    "OpenConsole": "NotFound",
    "SetTemplate": "GuestFailed",  # no agent answers
    "Wait": "TimedOut",  # the job is a plan
}
"""With these arguments on this host, what is refused only once everybody has said yes."""


class TestEveryMethod:
    @in_loop
    async def test_the_arguments_are_valid(self) -> None:
        """Otherwise the refusals below would prove nothing."""
        for interface, method in METHODS:
            async with serving() as served:
                path = (await everything(served))[interface.short]
                found = text = ""
                try:
                    await called(served.client, path, interface, method)
                except BusError as error:
                    found, text = error.name, error.text
                assert found == FAILS_LATER.get(method.name, ""), (method.name, text)

    @pytest.mark.parametrize(
        ("answers", "refusal"),
        [
            ("no", "NotAuthorized"),
            ("challenge", "NotAuthorizedCanObtain"),
            ("dismissed", "NotAuthorizedDismissed"),
            ("error", "NotAuthorized"),
            ("absent", "NotAuthorized"),
        ],
    )
    @in_loop
    async def test_is_refused_without_polkit_s_yes_and_changes_nothing(self, answers: str, refusal: str) -> None:
        authority = Authority()
        async with serving(authority) as served:
            paths = await everything(served)
            served.as_user(ALICE)
            authority.otherwise = answers
            if answers == "absent":
                authority.bus.disconnect()
                await until_true(lambda: not authority.bus.connected)
            before = served.fingerprint()
            commands = served.host.zfs.started
            for interface, method in METHODS:
                error = await error_of(called(served.client, paths[interface.short], interface, method))
                expected = "NotAuthorized" if method.name == "Apply" else refusal  # it is another's plan
                assert error.name == expected, (method.name, error)
                assert error.text.splitlines()[0] in (NONE, "the plan was not applied")
            assert served.fingerprint() == before
            assert served.host.zfs.started == commands
            assert not served.dispatcher._tasks

    @pytest.mark.parametrize(("interface", "method"), METHODS, ids=IDS)
    @in_loop
    async def test_asks_for_its_own_action(self, interface: Interface, method: Method) -> None:
        authority = Authority()
        async with serving(authority) as served:
            path = (await everything(served))[interface.short]
            if method.name == "Apply":
                served.engine.jobs[path.rpartition("/")[2]].uid = ALICE
            served.as_user(ALICE)
            authority.otherwise = "no"
            authority.asked.clear()
            await error_of(called(served.client, path, interface, method))
            (asked,) = authority.asked
            assert asked.action == ("org.kldload.kvm.snapshot" if method.name == "Apply" else method.action)
            assert asked.sender == served.client.bus.unique_name
            if interface.short == "Vm" and method.action != READ_ACTION:
                assert (asked.details["vm"], asked.details["uuid"]) == ("web", uuid_of("web"))
                assert asked.details["dataset"] == "rpool/vms/web"
            if method.operation:
                assert asked.details["operation"] == method.operation

    @in_loop
    async def test_no_property_can_be_set_by_anybody(self) -> None:
        async with serving() as served:
            paths = await everything(served)
            before = served.fingerprint()
            for interface in contract_files.interfaces().values():
                for each in interface.properties.values():
                    value = served.tree.objects[paths[interface.short]][1][each.name]
                    body = [interface.name, each.name, value]
                    error = await error_of(set_property(served.client, paths[interface.short], body))
                    assert error.name == "org.freedesktop.DBus.Error.PropertyReadOnly"
            assert served.fingerprint() == before


async def set_property(client: Client, path: str, body: list[Any]) -> None:
    answer(await client.send(path, PROPERTIES, "Set", "ssv", body))


def with_method(name: str, **changes: Any) -> dict[str, Interface]:
    """The contract with one method of Vm changed."""
    found = dict(contract_files.interfaces())
    vm = found[f"{PREFIX}.Vm"]
    method = replace(vm.methods.get(name, vm.methods["GetDisplay"]), name=name, **changes)
    found[vm.name] = replace(vm, methods={**vm.methods, name: method})
    return found


async def call_of(served: Served, name: str) -> Any:
    vm = served.tree.interfaces[f"{PREFIX}.Vm"]
    return await called(served.client, path_of("web"), vm, vm.methods[name])


class TestDefaultIsDeny:
    @pytest.mark.parametrize("name", ["GetDisplay", "Start", "OpenConsole", "Novel"])
    @in_loop
    async def test_a_method_that_names_no_action(self, name: str) -> None:
        authority = Authority("yes")
        async with serving(authority, with_method(name, action="")) as served:
            await served.vm("web", "running")
            served.service.reads["Vm", "Novel"] = harmless
            before = served.fingerprint()
            method = served.tree.interfaces[f"{PREFIX}.Vm"].methods[name]
            error = await error_of(
                called(served.client, path_of("web"), served.tree.interfaces[f"{PREFIX}.Vm"], method)
            )
            assert (error.name, error.text) == ("NotAuthorized", f"{NONE}\n{name} names no polkit action")
            assert (authority.asked, served.fingerprint()) == ([], before)

    @pytest.mark.parametrize("action", ["plan", "org.example.other", "org.kldload.kvm.unheard-of", "x"])
    @in_loop
    async def test_a_method_that_names_an_action_that_polkit_does_not_know(self, action: str) -> None:
        authority = Authority("error")
        async with serving(authority, with_method("Novel", action=action)) as served:
            await served.vm("web", "running")
            served.service.reads["Vm", "Novel"] = harmless
            method = served.tree.interfaces[f"{PREFIX}.Vm"].methods["Novel"]
            error = await error_of(
                called(served.client, path_of("web"), served.tree.interfaces[f"{PREFIX}.Vm"], method)
            )
            assert error.name == "NotAuthorized"
            assert [asked.action for asked in authority.asked] == [action]

    @in_loop
    async def test_an_owner_s_right_is_for_jobs_alone(self) -> None:
        authority = Authority("no")
        async with serving(authority, with_method("Novel", action="org.kldload.kvm.power", owner_may=True)) as served:
            await served.vm("web", "running")
            served.service.reads["Vm", "Novel"] = harmless
            method = served.tree.interfaces[f"{PREFIX}.Vm"].methods["Novel"]
            error = await error_of(
                called(served.client, path_of("web"), served.tree.interfaces[f"{PREFIX}.Vm"], method)
            )
            assert error.name == "NotAuthorized"

    @in_loop
    async def test_a_caller_whom_the_bus_does_not_know(self) -> None:
        async with serving() as served:
            await served.vm("web")

            async def unknown(member: str, argument: str) -> None:
                return None

            served.callers._call = unknown  # type: ignore[method-assign]
            error = await error_of(served.client.ask(path_of("web"), "Vm", "SetAutostart", True))
            assert error.text == f"{NONE}\nthe bus does not know who calls"


async def harmless(call: object) -> Answer:
    return Answer(("",))


class TestRoot:
    """polkit says yes to root whatever its rules are: it is asked once about each action, as long as it is there."""

    @in_loop
    async def test_is_asked_about_once_an_action_and_others_each_time(self) -> None:
        authority = Authority()
        async with serving(authority) as served:
            await served.vm("web")
            for uid, times in ((0, 1), (ALICE, 3)):
                authority.asked.clear()
                served.as_user(uid)
                for _ in range(3):
                    await served.client.ask(ROOT, "Manager", "ListTrash")
                assert [asked.action for asked in authority.asked] == [READ_ACTION] * times
            served.as_user(0)
            await served.client.ask(path_of("web"), "Vm", "Snapshot", {"wait": True})
            assert authority.asked[-1].action == "org.kldload.kvm.snapshot"

    @in_loop
    async def test_is_denied_as_anybody_once_polkit_is_gone(self) -> None:
        authority = Authority()
        async with serving(authority) as served:
            served.as_user(0)
            await served.client.ask(ROOT, "Manager", "ListTrash")
            authority.bus.disconnect()
            await until_true(lambda: not served.service._root_may)
            error = await error_of(served.client.ask(ROOT, "Manager", "ListTrash"))
            assert error.name == "NotAuthorized"

    @in_loop
    async def test_what_polkit_denied_is_asked_again(self) -> None:
        authority = Authority("no")
        async with serving(authority) as served:
            served.as_user(0)
            await error_of(served.client.ask(ROOT, "Manager", "ListTrash"))
            authority.otherwise = "yes"
            await served.client.ask(ROOT, "Manager", "ListTrash")


class TestTheQuestion:
    @in_loop
    async def test_details_are_what_the_rules_look_at(self) -> None:
        authority = Authority("no")
        async with serving(authority) as served:
            await served.vm("web", snapshots=("s1",))
            web = {"vm": "web", "uuid": uuid_of("web"), "dataset": "rpool/vms/web"}
            for member, args, details in [
                ("Start", (), {**web, "operation": "vm.start"}),
                ("Rollback", ({"snapshot": "s1"},), {**web, "operation": "vm.rollback", "target": "@s1"}),
                ("DeleteSnapshot", ("@s1",), {**web, "operation": "vm.delete-snapshot", "target": "@s1"}),
                ("Clone", (["a", "b"],), {**web, "operation": "vm.clone", "target": "a b"}),
                ("OpenConsole", (), web),
            ]:
                await error_of(served.client.ask(path_of("web"), "Vm", member, *args))
                assert authority.asked[-1].details == details
            await error_of(served.client.ask(ROOT, "Manager", "CreateVm", "new", {"storage": "fast"}))
            assert authority.asked[-1].details == {
                "vm": "new", "dataset": "vmpool/vms/new", "operation": "vm.create",
            }  # fmt: skip
            await error_of(served.client.ask(f"{ROOT}/storage/rpool", "Storage", "Remove", "netinst.iso"))
            assert authority.asked[-1].details == {
                "dataset": "rpool/vms/isos", "target": "netinst.iso", "operation": "image.remove",
            }  # fmt: skip

    @pytest.mark.parametrize(
        ("flag", "forbidden", "interactive"),
        [(True, None, True), (True, False, True), (True, True, False), (False, False, False)],
    )
    @in_loop
    async def test_a_prompt_only_where_the_call_allows_it_and_the_option_does_not_forbid_it(
        self, flag: bool, forbidden: bool | None, interactive: bool
    ) -> None:
        authority = Authority("challenge")
        async with serving(authority) as served:
            await served.vm("web")
            given = {} if forbidden is None else {"auth.no_user_interaction": forbidden}
            call = served.client.ask(path_of("web"), "Vm", "Start", given, flags=ASKING if flag else ASKING & 0)
            error = await error_of(call)
            assert error.name == "NotAuthorizedCanObtain"
            assert authority.asked[0].interactive == interactive
            assert bool(authority.asked[0].cancellation) == interactive

    @in_loop
    async def test_arguments_are_made_valid_before_anybody_is_asked(self) -> None:
        authority = Authority()
        async with serving(authority) as served:
            await served.vm("web")
            for call in (
                served.client.ask(ROOT, "Manager", "CreateVm", "../x"),
                served.client.ask(ROOT, "Manager", "CreateVm", "new", {"storage": "nowhere"}),
                served.client.ask(path_of("web"), "Vm", "Snapshot", {"name": "a/b"}),
                served.client.ask(path_of("web"), "Vm", "Snapshot", {"x": Variant("s", "")}),
            ):
                await error_of(call)
            assert authority.asked == []

    @in_loop
    async def test_what_cannot_be_done_is_told_only_to_those_who_may(self) -> None:
        async with serving(Authority("no")) as served:
            await served.vm("web", "running")
            assert (await error_of(served.client.ask(path_of("web"), "Vm", "Delete"))).name == "NotAuthorized"
        async with serving() as served:
            await served.vm("web", "running")
            assert (await error_of(served.client.ask(path_of("web"), "Vm", "Delete"))).name == "WrongState"

    @in_loop
    async def test_a_refusal_says_what_can_be_done(self) -> None:
        authority = Authority("no", power="challenge", delete="dismissed")
        async with serving(authority) as served:
            await served.vm("web")
            texts = [
                (await error_of(served.client.ask(path_of("web"), "Vm", member))).text.splitlines()
                for member in ("Snapshot", "Start", "Delete")
            ]
            assert [line[0] for line in texts] == [NONE] * 3
            assert texts[0][1] == "polkit does not allow you org.kldload.kvm.snapshot"
            assert texts[1][1].startswith("org.kldload.kvm.power needs an administrator's password")
            assert texts[2][1] == "the password prompt was dismissed or not answered"


class TestThePrompt:
    async def hanging(self, served: Served, client: Client, **given: Any) -> asyncio.Future[Any]:
        await served.vm("web")
        return asyncio.ensure_future(client.ask(path_of("web"), "Vm", "Start", given, flags=ASKING))

    @in_loop
    async def test_a_caller_that_vanishes_meanwhile_leaves_nothing_behind(self) -> None:
        authority = Authority("hang")
        async with serving(authority) as served:
            other = await Client.connect()
            call = await self.hanging(served, other)
            await until_true(lambda: authority.hanging)
            before = served.fingerprint()
            other.bus.disconnect()
            await until_true(lambda: authority.cancelled)
            assert authority.cancelled == [authority.asked[0].cancellation]
            assert (served.dispatcher._tasks, served.engine.jobs) == ({}, {})
            assert served.fingerprint() == before
            call.cancel()

    @in_loop
    async def test_others_are_served_while_one_is_open(self) -> None:
        authority = Authority(power="hang")
        async with serving(authority) as served:
            call = await self.hanging(served, served.client)
            await until_true(lambda: authority.hanging)
            assert await served.client.ask(ROOT, "Manager", "FindVm", "web") == path_of("web")
            await served.client.ask(path_of("web"), "Vm", "Snapshot", {"wait": True})
            call.cancel()

    @in_loop
    async def test_that_nobody_answers_is_taken_off_the_screen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(polkit, "PROMPT_SECONDS", 0.05)
        authority = Authority("hang")
        async with serving(authority) as served:
            error = await error_of(await self.hanging(served, served.client))
            assert error.name == "NotAuthorizedDismissed"
            await until_true(lambda: authority.cancelled)

    @in_loop
    async def test_a_polkit_that_does_not_answer_is_a_no(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(polkit, "ASK_SECONDS", 0.05)
        async with serving(Authority(power="hang")) as served:
            await served.vm("web")
            error = await error_of(served.client.ask(path_of("web"), "Vm", "Start"))
            assert error.name == "NotAuthorized"
            assert "polkit did not answer" in error.text
            assert await served.client.ask(ROOT, "Manager", "CanI", "org.kldload.kvm.power", ROOT) == "no"

    @in_loop
    async def test_cut_off_from_the_bus_nobody_is_asked_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(polkit, "ASK_SECONDS", 0.1)
        async with serving() as served:
            served.bus.disconnect()
            await until_true(lambda: served.bus._disconnected)
            answered = "no"
            with contextlib.suppress(Exception):
                answered = await asyncio.wait_for(
                    served.service.polkit.ask(":1.1", "org.kldload.kvm.power", {}, interactive=False), 5
                )
            assert answered != "yes"

    @in_loop
    async def test_a_vm_that_is_gone_when_it_is_answered(self) -> None:
        authority = Authority()
        async with serving(authority) as served:
            await served.vm("web")
            authority.meanwhile = lambda asked: [
                served.host.inventory.remove_dataset(f"rpool/vms/web{suffix}") for suffix in ("", ".nvram")
            ]
            error = await error_of(served.client.ask(path_of("web"), "Vm", "Start"))
            assert (error.name, served.engine.jobs) == ("NotFound", {})

    @in_loop
    async def test_a_vm_that_has_become_another_when_it_is_answered(self) -> None:
        """Asked about web, and meanwhile the same object is another domain: the yes was for something else."""
        authority = Authority()
        async with serving(authority) as served:
            await served.vm("web")
            authority.meanwhile = lambda asked: served.host.inventory.remove_domain(uuid_of("web"))
            error = await error_of(served.client.ask(path_of("web"), "Vm", "Snapshot"))
            assert (error.name, served.engine.jobs) == ("Stale", {})
            assert error.text.splitlines()[1] == "what it is about has changed while you were asked"

    @in_loop
    async def test_a_name_that_is_taken_when_it_is_answered(self) -> None:
        authority = Authority()
        async with serving(authority) as served:
            await served.vm("web")
            moved = replace(served.host.inventory.datasets["rpool/vms/web"], name="rpool/vms/new")
            authority.meanwhile = lambda asked: served.host.inventory.put_dataset(moved)
            error = await error_of(served.client.ask(ROOT, "Manager", "CreateVm", "new"))
            assert error.name == "AlreadyExists"


class TestPlans:
    @in_loop
    async def test_planning_needs_the_right_to_read_and_no_other(self) -> None:
        authority = Authority("no", read="yes")
        async with serving(authority) as served:
            served.as_user(ALICE)
            await served.vm("web", snapshots=("s1",))
            await served.vm("on", "running")
            for path, interface, member, args in [
                (ROOT, "Manager", "CreateVm", ("new",)),
                (f"{ROOT}/storage/rpool", "Storage", "Remove", ("debian.qcow2",)),
                (path_of("web"), "Vm", "Start", ()),
                (path_of("web"), "Vm", "SetAutostart", (True,)),
                (path_of("web"), "Vm", "Snapshot", ()),
                (path_of("web"), "Vm", "Rollback", ()),
                (path_of("web"), "Vm", "DeleteSnapshot", ("s1",)),
                (path_of("web"), "Vm", "Clone", (["a"],)),
                (path_of("web"), "Vm", "Delete", ()),
                (path_of("on"), "Vm", "Shutdown", ()),
                (path_of("on"), "Vm", "ForceOff", ()),
                (path_of("on"), "Vm", "Reboot", ()),
                (path_of("on"), "Vm", "Pause", ()),
            ]:
                before = served.host.picture()
                job = await served.client.ask(path, interface, member, *args, {"plan-only": True, "wait": True})
                assert await served.client.get(job, "Job", "State") == "planned"
                assert served.host.picture() == before
                assert authority.asked[-1].action == READ_ACTION
                assert (await error_of(served.client.ask(path, interface, member, *args))).name == "NotAuthorized"

    @in_loop
    async def test_a_plan_says_what_would_be_destroyed_and_what_to_know(self) -> None:
        async with serving() as served:
            await served.vm("web", snapshots=("s1", "s2"))
            job = await served.client.ask(path_of("web"), "Vm", "DeleteSnapshot", "s1", {"plan-only": True})
            assert await served.client.get(job, "Job", "Destroys") == ["rpool/vms/web@s1", "rpool/vms/web.nvram@s1"]
            job = await served.client.ask(path_of("web"), "Vm", "Rollback", {"plan-only": True, "snapshot": "s1"})
            assert await served.client.get(job, "Job", "Warnings") == [
                "newer snapshots go to the trash with the state given up: s2"
            ]

    @in_loop
    async def test_applying_one_is_authorized_as_the_operation(self) -> None:
        authority = Authority("no", read="yes")
        async with serving(authority) as served:
            served.as_user(ALICE)
            await served.vm("web", snapshots=("s1",))
            job = await served.client.ask(path_of("web"), "Vm", "Rollback", {"plan-only": True, "snapshot": "s1"})
            error = await error_of(served.client.ask(job, "Job", "Apply", flags=ASKING))
            assert error.name == "NotAuthorized"
            asked = authority.asked[-1]
            assert (asked.action, asked.interactive) == ("org.kldload.kvm.rollback", True)
            assert asked.details == {
                "vm": "web", "uuid": uuid_of("web"), "dataset": "rpool/vms/web", "target": "@s1",
                "operation": "vm.rollback",
            }  # fmt: skip
            assert await served.client.get(job, "Job", "State") == "planned"
            authority.otherwise = "yes"
            await served.client.ask(job, "Job", "Apply", {"wait": True})
            assert await served.client.get(job, "Job", "State") == "succeeded"

    @in_loop
    async def test_another_user_s_plan_is_not_applied_but_root_may(self) -> None:
        authority = Authority()
        async with serving(authority) as served:
            await served.vm("web")
            served.as_user(ALICE)
            job = await served.client.ask(path_of("web"), "Vm", "Snapshot", {"plan-only": True})
            served.as_user(BOB)
            authority.asked.clear()
            error = await error_of(served.client.ask(job, "Job", "Apply"))
            assert (error.name, error.text.splitlines()[1]) == ("NotAuthorized", "it is another user's")
            assert authority.asked == []
            served.as_user(0)
            await served.client.ask(job, "Job", "Apply", {"wait": True})
            assert len(authority.asked) == 1

    @in_loop
    async def test_a_plan_for_a_file_that_is_closed_is_not_applied(self) -> None:
        async with serving() as served:
            with tempfile.TemporaryFile() as file:
                file.write(b"x" * 512)
                file.flush()
                job = await served.client.ask(
                    f"{ROOT}/storage/rpool", "Storage", "Add", 0, "new.iso", {"plan-only": True}, fds=[file.fileno()]
                )  # fmt: skip
            error = await error_of(served.client.ask(job, "Job", "Apply"))
            assert (error.name, error.text.splitlines()[2]) == ("InvalidArgument", "call Add again without plan-only")

    @in_loop
    async def test_a_world_that_has_moved_is_told_over_the_bus(self) -> None:
        async with serving() as served:
            await served.vm("web")
            job = await served.client.ask(path_of("web"), "Vm", "Delete", {"plan-only": True})
            served.host.memory_virt.put(served.host.guest("web"), "running")
            error = await error_of(served.client.ask(job, "Job", "Apply"))
            assert (error.name, error.text.splitlines()[1]) == ("Stale", "the VM is running, and was shutoff")


class TestCancel:
    async def running(self, served: Served, uid: int) -> tuple[str, asyncio.Event]:
        await served.vm("web")
        gate = served.host.troubles.gates["clone"] = asyncio.Event()
        served.as_user(uid)
        job: str = await served.client.ask(path_of("web"), "Vm", "Clone", ["copy"])
        return job, gate

    @in_loop
    async def test_whoever_started_it_needs_no_action(self) -> None:
        authority = Authority("no", clone="yes", read="yes")
        async with serving(authority) as served:
            job, gate = await self.running(served, ALICE)
            asked = len(authority.asked)
            await served.client.ask(job, "Job", "Cancel")
            gate.set()
            error = await error_of(served.client.ask(job, "Job", "Wait"))
            assert error.name == "Cancelled"
            assert [each.action for each in authority.asked[asked:]] == [READ_ACTION]
            assert served.host.inventory.find("copy") is None

    @pytest.mark.parametrize("allowed", [False, True])
    @in_loop
    async def test_others_need_the_action_for_it(self, allowed: bool) -> None:
        authority = Authority(cancel_job="yes" if allowed else "no")
        async with serving(authority) as served:
            job, gate = await self.running(served, ALICE)
            served.as_user(BOB)
            if allowed:
                await served.client.ask(job, "Job", "Cancel", flags=ASKING)
            else:
                assert (await error_of(served.client.ask(job, "Job", "Cancel", flags=ASKING))).name == "NotAuthorized"
            asked = authority.asked[-1]
            assert (asked.action, asked.interactive) == ("org.kldload.kvm.cancel-job", True)
            assert asked.details == {"operation": "vm.clone", "target": job.rpartition("/")[2]}
            gate.set()
            await served.engine.jobs[job.rpartition("/")[2]].finished.wait()
            assert await served.client.get(job, "Job", "State") == ("cancelled" if allowed else "succeeded")


class TestCanI:
    @pytest.mark.parametrize(("said", "found"), [("yes", "yes"), ("no", "no"), ("challenge", "auth"), ("error", "no")])
    @in_loop
    async def test_answers_for_that_caller_and_object_and_asks_nobody_for_a_password(
        self, said: str, found: str
    ) -> None:
        authority = Authority(power=said)
        async with serving(authority) as served:
            await served.vm("web")
            call = served.client.ask(ROOT, "Manager", "CanI", "org.kldload.kvm.power", path_of("web"), flags=ASKING)
            assert await call == found
            asked = authority.asked[-1]
            assert (asked.action, asked.interactive, asked.details["vm"]) == ("org.kldload.kvm.power", False, "web")

    @pytest.mark.parametrize("path", [ROOT, f"{ROOT}/storage/rpool", "/"])
    @in_loop
    async def test_of_what_is_no_vm(self, path: str) -> None:
        async with serving() as served:
            assert await served.client.ask(ROOT, "Manager", "CanI", "org.kldload.kvm.create", path) == "yes"

    @in_loop
    async def test_what_is_not_there(self) -> None:
        async with serving() as served:
            for action in ("plan", "org.freedesktop.login1.reboot", ""):
                error = await error_of(served.client.ask(ROOT, "Manager", "CanI", action, ROOT))
                assert error.name == "NotFound"
                assert "org.kldload.kvm.power" in error.text
            error = await error_of(
                served.client.ask(ROOT, "Manager", "CanI", "org.kldload.kvm.power", path_of("nobody"))
            )  # fmt: skip
            assert (error.name, id_of("nobody").replace("-", "_") in error.text) == ("NotFound", True)
