"""Calls as they arrive: each is answered once, with what the contract says, and none leaves anything behind."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from typing import Any

import pytest
from dbus_next import Message, MessageType, Variant

from kldload_kvm import contract_files
from kldload_kvm.bus.dispatch import MOST_PENDING, Answer
from kldload_kvm.bus.tree import OBJECT_MANAGER, PROPERTIES
from kldload_kvm.model.constants import PREFIX, ROOT
from kldload_kvm.model.errors import ZfsFailed
from loops import in_loop
from served import SILENT, Authority, Client, answer, error_of, open_files, path_of, serving, until_true
from world import id_of, uuid_of

FAULT = "not done\na fault in kldload-kvmd\nsee journalctl -u kldload-kvmd, and report it"


class TestAnswers:
    @in_loop
    async def test_a_read(self) -> None:
        async with serving() as served:
            await served.vm("web")
            for name in ("web", id_of("web"), uuid_of("web")):
                assert await served.client.ask(ROOT, "Manager", "FindVm", name) == path_of("web")
            error = await error_of(served.client.ask(ROOT, "Manager", "FindVm", "db"))
            assert (error.name, error.text) == ("NotFound", "there is no VM 'db'\n\nkvm-list lists the VMs")

    @in_loop
    async def test_the_objects_of_some_interfaces(self) -> None:
        async with serving() as served:
            await served.vm("web")
            every = await served.client.ask(ROOT, "Manager", "ListObjects", [f"{PREFIX}.Vm", f"{PREFIX}.Manager"])
            assert every.keys() == {ROOT, path_of("web")}
            managed = await served.client.managed()
            assert every[path_of("web")] == managed[path_of("web")]
            assert every[ROOT][f"{PREFIX}.Manager"]["Storages"]
            assert await served.client.ask(ROOT, "Manager", "ListObjects", []) == {}
            error = await error_of(served.client.ask(ROOT, "Manager", "ListObjects", [f"{PREFIX}.Vm", "org.example"]))
            assert error.name == "InvalidArgument"
            assert "there is no interface 'org.example'" in error.text and f"{PREFIX}.Storage" in error.text

    @in_loop
    async def test_the_sender_is_known_and_so_is_its_user(self) -> None:
        authority = Authority()
        async with serving(authority) as served:
            await served.client.ask(ROOT, "Manager", "ListTrash")
            assert [asked.sender for asked in authority.asked] == [served.client.bus.unique_name]
            assert served.client.bus.unique_name
            assert await served.callers.uid(served.client.bus.unique_name) == os.getuid()

    @in_loop
    async def test_a_fault_of_our_own_shows_nothing_of_itself(self, caplog: pytest.LogCaptureFixture) -> None:
        async with serving() as served:

            async def crash(call: object) -> Answer:
                raise RuntimeError("secret")

            served.service.reads["Manager", "ListTrash"] = crash
            error = await error_of(served.client.ask(ROOT, "Manager", "ListTrash"))
            assert (error.name, error.text) == ("Failed", FAULT)
            assert "secret" in caplog.text

    @pytest.mark.parametrize("body", [(object(),), ("\ud800",), (["a"],), (7,), (), ("/a", "/b")])
    @in_loop
    async def test_an_answer_that_cannot_be_written_down_is_an_error(self, body: tuple[Any, ...]) -> None:
        async with serving() as served:

            async def handler(call: object) -> Answer:
                return Answer(body)

            served.service.reads["Manager", "FindVm"] = handler
            error = await error_of(served.client.ask(ROOT, "Manager", "FindVm", "x"))
            assert (error.name, error.text) == ("Failed", FAULT)
            assert await served.client.ask(ROOT, "Manager", "ListTrash") == []

    @in_loop
    async def test_an_error_of_ours_has_three_lines(self) -> None:
        async with serving() as served:

            async def refuse(call: object) -> Answer:
                raise ZfsFailed("what", "why", "hint")

            served.service.reads["Manager", "ListTrash"] = refuse
            error = await error_of(served.client.ask(ROOT, "Manager", "ListTrash"))
            assert (error.name, error.text) == ("ZfsFailed", "what\nwhy\nhint")

    @in_loop
    async def test_nobody_who_wants_no_answer_gets_one(self) -> None:
        async with serving() as served:
            client, got = served.client, list[Message]()
            client.bus.add_message_handler(
                lambda message: got.append(message) if message.reply_serial and message.sender else None
            )
            for interface, member, path in (
                (f"{PREFIX}.Manager", "Refresh", ROOT),
                (f"{PREFIX}.Manager", "NoSuch", ROOT),
                (f"{PREFIX}.Vm", "Start", "/no/such"),
                ("org.freedesktop.DBus.Peer", "Ping", "/"),
            ):
                await client.send(path, interface, member, flags=SILENT)
            await until_true(lambda: served.reloads == 1)
            await client.quiet()
            assert len(got) == 1  # the one to quiet's own question

    @in_loop
    async def test_many_at_once_are_all_answered(self) -> None:
        async with serving() as served:
            await served.vm("web")
            found = await asyncio.gather(
                *(served.client.ask(ROOT, "Manager", "FindVm", "web") for _ in range(100))
            )  # fmt: skip
            assert set(found) == {path_of("web")}
            assert not served.dispatcher._tasks

    @in_loop
    async def test_too_many_that_wait_are_refused_and_others_callers_are_not(self) -> None:
        authority = Authority()
        async with serving(authority) as served:
            await served.vm("web")
            gate = served.host.troubles.gates["autostart"] = asyncio.Event()
            path = await served.client.ask(path_of("web"), "Vm", "SetAutostart", True)
            waiting = [asyncio.ensure_future(served.client.ask(path, "Job", "Wait")) for _ in range(MOST_PENDING)]
            await until_true(lambda: len(served.dispatcher._tasks) == MOST_PENDING)
            error = await error_of(served.client.ask(path, "Job", "Wait"))
            assert (error.name, error.text.splitlines()[1]) == (
                "LimitsExceeded", f"{MOST_PENDING} calls of yours are waiting for their answer",
            )  # fmt: skip
            await served.client.send(ROOT, f"{PREFIX}.Manager", "Refresh", flags=SILENT)
            other = await Client.connect()
            assert await other.ask(ROOT, "Manager", "FindVm", "web") == path_of("web")
            gate.set()
            await asyncio.gather(*waiting)
            assert await served.client.ask(ROOT, "Manager", "FindVm", "web") == path_of("web")
            other.bus.disconnect()


class TestWhatIsNotThere:
    @pytest.mark.parametrize(
        ("path", "interface", "member", "name"),
        [
            ("/no/such", f"{PREFIX}.Manager", "Refresh", "UnknownObject"),
            (f"{ROOT}/vm/nobody", f"{PREFIX}.Vm", "Start", "UnknownObject"),
            ("/", f"{PREFIX}.Manager", "Refresh", "UnknownObject"),
            (ROOT, f"{PREFIX}.Vm", "Start", "UnknownInterface"),
            (ROOT, "org.example.Other", "Refresh", "UnknownInterface"),
            (ROOT, f"{PREFIX}.Manager", "NoSuch", "UnknownMethod"),
            (ROOT, f"{PREFIX}.Manager", "refresh", "UnknownMethod"),
            (ROOT, "org.freedesktop.DBus.Peer", "NoSuch", "UnknownMethod"),
            (ROOT, "org.freedesktop.DBus.Introspectable", "NoSuch", "UnknownMethod"),
            (ROOT, OBJECT_MANAGER, "NoSuch", "UnknownMethod"),
            (ROOT, PROPERTIES, "NoSuch", "UnknownMethod"),
            (f"{ROOT}/storage/rpool", OBJECT_MANAGER, "GetManagedObjects", "UnknownInterface"),
            ("/", OBJECT_MANAGER, "GetManagedObjects", "UnknownObject"),
            ("/no/such", "org.freedesktop.DBus.Introspectable", "Introspect", "UnknownObject"),
        ],
    )
    @in_loop
    async def test_is_told_in_d_bus_s_own_words(self, path: str, interface: str, member: str, name: str) -> None:
        async with serving() as served:
            error = await error_of(answered(served.client, path, interface, member))
            assert error.name == f"org.freedesktop.DBus.Error.{name}"
            assert error.text

    @in_loop
    async def test_a_method_without_its_interface_is_found(self) -> None:
        async with serving() as served:
            reply = await served.client.send(ROOT, None, "ListTrash")  # type: ignore[arg-type]
            assert answer(reply) == []
            error = await error_of(answered(served.client, ROOT, None, "NoSuch"))  # type: ignore[arg-type]
            assert error.name == "org.freedesktop.DBus.Error.UnknownMethod"


async def answered(client: Client, path: str, interface: str, member: str, *signed: Any) -> Any:
    return answer(await client.send(path, interface, member, *signed))


class TestArguments:
    @pytest.mark.parametrize(
        ("signature", "body"), [("", []), ("i", [1]), ("ss", ["a", "b"]), ("as", [["a"]]), ("v", [Variant("s", "a")])]
    )
    @in_loop
    async def test_of_another_signature(self, signature: str, body: list[Any]) -> None:
        async with serving() as served:
            error = await error_of(answered(served.client, ROOT, f"{PREFIX}.Manager", "FindVm", signature, body))
            assert error.name == "org.freedesktop.DBus.Error.InvalidArgs"
            assert error.text == f"FindVm takes (s), and got ({signature})"

    @pytest.mark.parametrize(
        ("interface", "member"),
        [("org.freedesktop.DBus.Peer", "Ping"), (OBJECT_MANAGER, "GetManagedObjects"),
         ("org.freedesktop.DBus.Introspectable", "Introspect")],
    )  # fmt: skip
    @in_loop
    async def test_of_another_signature_to_d_bus_s_own_methods(self, interface: str, member: str) -> None:
        async with serving() as served:
            error = await error_of(answered(served.client, ROOT, interface, member, "s", ["x"]))
            assert error.name == "org.freedesktop.DBus.Error.InvalidArgs"

    @in_loop
    async def test_unknown_options(self) -> None:
        async with serving() as served:
            await served.vm("web")
            given = {"colour": Variant("s", "red")}
            error = await error_of(served.client.ask(path_of("web"), "Vm", "Snapshot", given))
            assert (error.name, error.text) == (
                "InvalidArgument",
                "Snapshot has no option 'colour'\n\nits options are: auth.no_user_interaction, name, plan-only, "
                "request-id, require-consistency, wait",
            )
            assert served.engine.jobs == {}

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("name", Variant("o", "/a")), ("name", Variant("i", 1)), ("name", Variant("as", ["a"])),
            ("wait", Variant("s", "yes")), ("wait", Variant("i", 1)), ("plan-only", Variant("v", Variant("b", True))),
        ],
    )  # fmt: skip
    @in_loop
    async def test_options_of_another_type(self, option: str, value: Variant) -> None:
        async with serving() as served:
            await served.vm("web")
            error = await error_of(served.client.ask(path_of("web"), "Vm", "Snapshot", {option: value}))
            assert error.name == "InvalidArgument"
            assert f"the option {option} of Snapshot is not valid" in error.text
            assert f"was given as {value.signature}" in error.text
            assert served.engine.jobs == {}

    @in_loop
    async def test_far_too_long(self) -> None:
        async with serving() as served:
            await served.vm("web")
            error = await error_of(served.client.ask(ROOT, "Manager", "CreateVm", "x" * 70_000))
            assert error.text == "CreateVm was not done\nits arguments are longer than 64 KiB"
            error = await error_of(served.client.ask(path_of("web"), "Vm", "Clone", ["x"] * 40_000))
            assert "longer than 64 KiB" in error.text
            error = await error_of(served.client.ask(ROOT, "Manager", "FindVm", "x" * 1_000_000))
            assert len(error.text) < 300

    @pytest.mark.parametrize("limit", [10001, 4_294_967_295])
    @in_loop
    async def test_pages_that_are_too_large(self, limit: int) -> None:
        async with serving() as served:
            await served.vm("web")
            error = await error_of(served.client.ask(path_of("web"), "Vm", "ListSnapshots", {"limit": limit}))
            assert error.name == "InvalidArgument"

    @in_loop
    async def test_a_file_that_was_not_sent(self) -> None:
        async with serving() as served:
            for index in (0, 1, 7):
                call = served.client.ask(f"{ROOT}/storage/rpool", "Storage", "Add", index, "x.iso")
                error = await error_of(call)
                assert error.name in ("InvalidArgument", "org.freedesktop.DBus.Error.InvalidArgs")


class TestFiles:
    """Received files are closed, whatever becomes of the call that they came with."""

    @pytest.mark.parametrize(
        ("path", "interface", "member"),
        [
            (ROOT, f"{PREFIX}.Manager", "NoSuch"),
            ("/no/such", "org.example.Other", "X"),
            (ROOT, f"{PREFIX}.Manager", "FindVm"),
            (ROOT, "org.freedesktop.DBus.Peer", "Ping"),
            (ROOT, PROPERTIES, "Get"),
        ],
    )
    @in_loop
    async def test_two_hundred_calls_with_a_file_each(self, path: str, interface: str, member: str) -> None:
        async with serving() as served:
            with tempfile.TemporaryFile() as file:
                await served.client.send(path, interface, member, "h", [0], fds=[file.fileno()])
                before = open_files()
                for _ in range(200):
                    await served.client.send(path, interface, member, "h", [0], fds=[file.fileno()])
                assert open_files() <= before

    @in_loop
    async def test_of_a_call_that_takes_none_they_are_closed_while_it_waits(self) -> None:
        async with serving() as served:
            job = await served.client.ask(ROOT, "Manager", "CreateVm", "new", {"plan-only": True})
            with tempfile.TemporaryFile() as file:
                await served.client.quiet()
                before = open_files()
                fds = [file.fileno()] * 10
                for _ in range(5):
                    await served.client.send(job, f"{PREFIX}.Job", "Wait", "a{sv}", [{}], fds=fds, flags=SILENT)
                await served.client.quiet()
                assert open_files() <= before

    @in_loop
    async def test_many_files_in_one_call_and_calls_that_want_no_answer(self) -> None:
        async with serving() as served:
            with tempfile.TemporaryFile() as file:
                fds = [file.fileno()] * 10
                await served.client.quiet()
                before = open_files()
                for _ in range(20):
                    await served.client.send(ROOT, f"{PREFIX}.Manager", "X", "h", [0], fds=fds, flags=SILENT)
                await served.client.quiet()
                assert open_files() <= before

    @in_loop
    async def test_signals_and_replies_with_files_that_anybody_sends_us(self) -> None:
        async with serving() as served:
            with tempfile.TemporaryFile() as file:
                await served.client.quiet()
                before = open_files()
                for number in range(50):
                    signal = Message.new_signal("/a", "a.b", "C", "h", [0], [file.fileno()])
                    signal.destination = served.bus.unique_name
                    await served.client.bus.send(signal)
                    reply = Message(message_type=MessageType.METHOD_RETURN, destination=served.bus.unique_name,
                                    reply_serial=90_000 + number, signature="h", body=[0],
                                    unix_fds=[file.fileno()])  # fmt: skip
                    await served.client.bus.send(reply)
                await served.client.quiet()
                assert open_files() <= before

    @pytest.mark.parametrize("refused", ["denied", "taken", "bad name", "plan", "limits"])
    @in_loop
    async def test_of_an_image_that_is_not_added(self, refused: str) -> None:
        authority = Authority(add_image="no" if refused == "denied" else "yes")
        async with serving(authority, per_user=1) as served:
            served.as_user(1000)
            await served.vm("web")
            if refused == "limits":
                served.host.troubles.gates["autostart"] = asyncio.Event()
                await served.client.ask(path_of("web"), "Vm", "SetAutostart", True)
            name = {"taken": "netinst.iso", "bad name": "../x"}.get(refused, "new.iso")
            given = {"plan-only": True} if refused == "plan" else {}
            with tempfile.TemporaryFile() as file:
                file.write(b"x" * 512)
                file.flush()
                before = open_files()
                for _ in range(5):
                    call = served.client.ask(
                        f"{ROOT}/storage/rpool", "Storage", "Add", 0, name, given, fds=[file.fileno()]
                    )  # fmt: skip
                    if refused == "plan":
                        await call
                    else:
                        await error_of(call)
                assert open_files() <= before

    @pytest.mark.parametrize("cancelled", [False, True])
    @in_loop
    async def test_of_an_image_whose_job_failed_or_was_cancelled_before_it_began(self, cancelled: bool) -> None:
        async with serving() as served:
            with tempfile.TemporaryFile() as file:
                file.write(b"no image" * 100)
                file.flush()
                before = open_files()
                if cancelled:
                    start = served.engine.start

                    def start_and_cancel(*args: Any) -> Any:
                        job = start(*args)
                        served.engine.cancel(job)
                        return job

                    served.engine.start = start_and_cancel  # type: ignore[method-assign]
                call = served.client.ask(
                    f"{ROOT}/storage/rpool", "Storage", "Add", 0, "new.iso", {"wait": True}, fds=[file.fileno()]
                )  # fmt: skip
                error = await error_of(call)
                assert (error.name == "Cancelled") == cancelled
                await until_true(lambda: open_files() <= before)

    @in_loop
    async def test_a_console_is_handed_over_and_not_kept(self) -> None:
        async with serving() as served:
            await served.vm("web", "running")
            reader, writer = os.pipe()
            os.write(writer, b"login: ")

            async def console(call: object) -> Answer:
                return Answer((0,), (os.dup(reader),))

            served.service.reads["Vm", "OpenConsole"] = console
            before = open_files()
            interface, member = f"{PREFIX}.Vm", "OpenConsole"
            for _ in range(20):
                reply = await served.client.send(path_of("web"), interface, member, "a{sv}", [{}])
                (fd,) = reply.unix_fds
                os.close(fd)
            reply = await served.client.send(path_of("web"), interface, member, "a{sv}", [{}])
            assert os.read(reply.unix_fds[0], 10) == b"login: "
            os.close(reply.unix_fds[0])
            assert open_files() <= before
            os.close(reader)
            os.close(writer)


class TestGoneCallers:
    @in_loop
    async def test_a_caller_that_leaves_while_it_waits_leaves_nothing_and_its_job_goes_on(self) -> None:
        async with serving() as served:
            await served.vm("web")
            gate = served.host.troubles.gates["autostart"] = asyncio.Event()
            other = await Client.connect()
            waiting = asyncio.ensure_future(other.ask(path_of("web"), "Vm", "SetAutostart", True, {"wait": True}))
            await until_true(lambda: served.engine.jobs)
            (job,) = served.engine.jobs.values()
            other.bus.disconnect()
            await until_true(lambda: not served.dispatcher._tasks)
            assert not job.over
            gate.set()
            await asyncio.wait_for(job.finished.wait(), 5)
            assert job.error is None
            waiting.cancel()

    @in_loop
    async def test_the_user_of_a_caller_is_remembered_only_as_long_as_it_is_there(self) -> None:
        async with serving() as served:
            other = await Client.connect()
            await other.ask(ROOT, "Manager", "CanI", "org.kldload.kvm.power", ROOT)
            await other.ask(ROOT, "Manager", "CreateVm", "new", {"plan-only": True})
            name = other.bus.unique_name
            assert name in served.callers._known
            other.bus.disconnect()
            await until_true(lambda: name not in served.callers._known)

    @in_loop
    async def test_nobody_can_pretend_that_another_has_left(self) -> None:
        async with serving() as served:
            await served.client.ask(ROOT, "Manager", "CreateVm", "new", {"plan-only": True})
            name = served.client.bus.unique_name
            other = await Client.connect()
            forged = Message.new_signal("/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged", "sss",
                                        [name, name, ""])  # fmt: skip
            forged.destination = served.bus.unique_name
            await other.bus.send(forged)
            await other.quiet()
            assert name in served.callers._known
            other.bus.disconnect()


class TestProperties:
    @in_loop
    async def test_one_and_all(self) -> None:
        async with serving() as served:
            await served.vm("web", "running")
            path = path_of("web")
            assert await served.client.get(path, "Vm", "State") == "running"
            everything = answer(await served.client.send(path, PROPERTIES, "GetAll", "s", [f"{PREFIX}.Vm"]))
            assert everything.keys() == contract_files.interfaces()[f"{PREFIX}.Vm"].properties.keys()
            assert answer(await served.client.send(path, PROPERTIES, "GetAll", "s", [""])) == everything
            standard = await served.client.send(path, PROPERTIES, "GetAll", "s", [PROPERTIES])
            assert (standard.signature, standard.body) == ("a{sv}", [{}])

    @pytest.mark.parametrize(
        ("member", "body", "name"),
        [
            ("Get", [f"{PREFIX}.Manager", "NoSuch"], "UnknownProperty"),
            ("Get", [f"{PREFIX}.Vm", "State"], "UnknownInterface"),
            ("Get", ["org.example.Other", "X"], "UnknownInterface"),
            ("GetAll", [f"{PREFIX}.Vm"], "UnknownInterface"),
            ("Set", [f"{PREFIX}.Manager", "Version", Variant("s", "9")], "PropertyReadOnly"),
            ("Set", [f"{PREFIX}.Manager", "NoSuch", Variant("s", "9")], "UnknownProperty"),
        ],
    )
    @in_loop
    async def test_that_are_not_there_or_cannot_be_set(self, member: str, body: list[Any], name: str) -> None:
        async with serving() as served:
            signature = "".join("v" if isinstance(each, Variant) else "s" for each in body)
            error = await error_of(answered(served.client, ROOT, PROPERTIES, member, signature, body))
            assert error.name == f"org.freedesktop.DBus.Error.{name}"
            assert await served.client.get(ROOT, "Manager", "Version") == "0.1.0"

    @in_loop
    async def test_of_an_object_that_is_not_there(self) -> None:
        async with serving() as served:
            error = await error_of(answered(served.client, "/no/such", PROPERTIES, "GetAll", "s", [f"{PREFIX}.Vm"]))
            assert error.name == "org.freedesktop.DBus.Error.UnknownObject"

    @in_loop
    async def test_with_another_signature(self) -> None:
        async with serving() as served:
            error = await error_of(answered(served.client, ROOT, PROPERTIES, "Get", "s", ["x"]))
            assert error.text == "Get takes (ss), and got (s)"


class TestReads:
    @in_loop
    async def test_snapshots_oldest_first_and_in_pages(self) -> None:
        async with serving() as served:
            await served.vm("web", snapshots=("a", "b", "c"))
            path = path_of("web")
            found = await served.client.ask(path, "Vm", "ListSnapshots")
            assert [each["name"] for each in found] == ["a", "b", "c"]
            assert found[0] == {
                "name": "a", "kind": "manual", "creation": found[0]["creation"], "consistency": "off", "clones": [],
                "guid": found[0]["guid"], "used": 0, "volumes": 2, "excludes": "", "held": False,
            }  # fmt: skip
            assert re.fullmatch(r"\d{19}", found[0]["guid"])  # more than a double holds, so a string
            page = await served.client.ask(path, "Vm", "ListSnapshots", {"offset": 1, "limit": 1})
            assert [each["name"] for each in page] == ["b"]
            assert await served.client.ask(path, "Vm", "ListSnapshots", {"offset": 9}) == []

    @in_loop
    async def test_none_of_them_starts_a_process(self) -> None:
        async with serving() as served:
            await served.vm("web", "running", snapshots=("a",))
            served.host.zfs.started = 0
            path, client = path_of("web"), served.client
            await client.ask(ROOT, "Manager", "FindVm", "web")
            await client.ask(ROOT, "Manager", "ListTrash")
            await client.ask(ROOT, "Manager", "CanI", "org.kldload.kvm.power", path)
            await client.ask(path, "Vm", "ListSnapshots")
            await client.ask(path, "Vm", "GetAddresses")
            await client.ask(path, "Vm", "GetDisplay")
            await client.managed()
            for each in served.tree.objects:
                await client.introspect(each)
                await client.send(each, PROPERTIES, "GetAll", "s", [""])
            assert served.host.zfs.started == 0

    @in_loop
    async def test_reading_anew_is_done_at_most_once_in_ten_seconds_whoever_asks(self) -> None:
        async with serving() as served:
            await served.vm("web")
            await served.vm("db")
            for _ in range(3):
                await served.client.ask(ROOT, "Manager", "Refresh")
            assert served.reloads == 1
            served.host.zfs.started = 0
            for name in ("web", "web", "db", "web"):
                await served.client.ask(path_of(name), "Vm", "RefreshUsage")
            assert served.host.zfs.started == 2

    @in_loop
    async def test_of_a_vm_that_is_off_what_only_a_running_one_has(self) -> None:
        async with serving() as served:
            await served.vm("web")
            for member in ("GetAddresses", "GetDisplay", "OpenConsole"):
                error = await error_of(served.client.ask(path_of("web"), "Vm", member))
                assert (error.name, error.text.splitlines()[0]) == ("WrongState", "web is shutoff")

    @in_loop
    async def test_a_running_vm_s_display_and_addresses(self) -> None:
        async with serving() as served:
            guest = await served.vm("web", "running")
            guest.live = guest.live.replace('port="-1"', 'port="5901"')
            assert await served.client.ask(path_of("web"), "Vm", "GetDisplay") == "127.0.0.1:5901"
            assert await served.client.ask(path_of("web"), "Vm", "GetAddresses") == ["192.168.122.7/24"]
            error = await error_of(served.client.ask(path_of("web"), "Vm", "OpenConsole"))
            assert error.text.splitlines()[1] == "the VM has no serial console"

    @in_loop
    async def test_the_trash(self) -> None:
        async with serving() as served:
            await served.vm("web")
            job = await served.client.ask(path_of("web"), "Vm", "Delete", {"wait": True})
            result = await served.client.ask(job, "Job", "Wait")
            (entry,) = await served.client.ask(ROOT, "Manager", "ListTrash")
            dataset = f"rpool/vms/.trash/{result['trash']}"
            assert entry == {
                "id": result["trash"], "vm": "web", "vm-id": id_of("web"), "reason": "deleted",
                "since": entry["since"], "dataset": dataset,
                "volumes": [f"{dataset}/web", f"{dataset}/web.nvram"], "used": 8192,
                "expires": entry["since"] + 7 * 86400, "held-by": [], "due": False,
            }  # fmt: skip
            assert entry["since"] > 1_700_000_000
