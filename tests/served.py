"""The service's real bus layer over a host in memory, on a bus of the test's own, with a polkit that does as told.

async with serving() as served:
    await served.vm("web")
    job = await served.client.ask(vm_path("web"), "Vm", "Start", {"wait": True})
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dbus_next import Message, MessageFlag, MessageType, Variant

from host_world import WELL
from kldload_kvm import contract_files, job_tally
from kldload_kvm.bus.bridges import Bridges
from kldload_kvm.bus.callers import Callers
from kldload_kvm.bus.connection import MessageBus, connect, sender, take_name
from kldload_kvm.bus.dispatch import Dispatcher
from kldload_kvm.bus.hook import Hook
from kldload_kvm.bus.host import HostReads
from kldload_kvm.bus.polkit import Polkit
from kldload_kvm.bus.publish import Publisher
from kldload_kvm.bus.reads import Reads
from kldload_kvm.bus.service import Service
from kldload_kvm.bus.statistics import Statistics
from kldload_kvm.bus.tree import Tree
from kldload_kvm.bus.values import plain, vm_path
from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.job import NO_LOGIN
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.host.checker import Checker
from kldload_kvm.model import properties
from kldload_kvm.model.constants import PREFIX, ROOT
from kldload_kvm.model.contract import Interface
from kldload_kvm.model.domain_xml import build, pack
from kldload_kvm.model.firmware import FirmwarePair
from kldload_kvm.model.host_facts import HostFacts
from kldload_kvm.model.tally import Tally
from kldload_kvm.ops.registry import REQUESTS
from kldload_kvm.ops.request import Facts, View
from kldload_kvm.virt.sampler import Sampler
from memory_host import Guest, MemoryHost
from world import FACTS, id_of, spec, volumes_of

POLKIT, AUTHORITY = "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority"
ASKING = MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION
SILENT = MessageFlag.NO_REPLY_EXPECTED
BOUND = 10.0


class BusError(Exception):
    """An error answer: its name without our prefix, and its text."""

    def __init__(self, reply: Message) -> None:
        self.name = str(reply.error_name).removeprefix(f"{PREFIX}.Error.")
        self.text = str(reply.body[0]) if reply.body else ""
        super().__init__(f"{self.name}: {self.text}")


class Client:
    """A caller of its own on the bus. signals: those of the service, in order, as (path, member, body)."""

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus
        self.signals: list[tuple[str, str, list[Any]]] = []

    @classmethod
    async def connect(cls) -> Client:
        return cls(await connect())

    async def listen(self) -> None:
        """Hear the service's signals from now on."""
        rule = f"type='signal',sender='{PREFIX}'"
        self.bus.add_message_handler(self._heard)
        await self.send("/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", [rule],
                        to="org.freedesktop.DBus")  # fmt: skip

    def _heard(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.path.startswith(ROOT):
            self.signals.append((message.path, message.member, plain(message.body)))

    async def send(
        self, path: str, interface: str, member: str, signature: str = "", body: list[Any] | None = None, *,
        flags: MessageFlag = MessageFlag.NONE, fds: list[int] | None = None, to: str = PREFIX,
    ) -> Message:  # fmt: skip
        """A call, and whatever answers it."""
        call = Message(to, path, interface, member, flags=flags, signature=signature, body=body or [],
                       unix_fds=fds or [])  # fmt: skip
        reply = await asyncio.wait_for(self.bus.call(call), BOUND)
        if reply is None:
            return call
        return reply

    async def ask(self, path: str, interface: str, member: str, *args: Any, flags: MessageFlag = MessageFlag.NONE,
                  fds: list[int] | None = None) -> Any:  # fmt: skip
        """A call of one of our methods with plain values; its answer, plain. Raises BusError."""
        method = contract_files.interfaces()[f"{PREFIX}.{interface}"].methods[member]
        body = list(args)
        if method.in_signature.endswith("a{sv}"):
            given = body.pop() if len(body) == len(method.inputs) else {}
            body.append(options(method.option_types, given))
        reply = await self.send(path, f"{PREFIX}.{interface}", member, method.in_signature, body, flags=flags, fds=fds)
        return answer(reply)

    async def get(self, path: str, interface: str, name: str) -> Any:
        """A property, read over the bus."""
        reply = await self.send(path, "org.freedesktop.DBus.Properties", "Get", "ss", [f"{PREFIX}.{interface}", name])
        return answer(reply)

    async def introspect(self, path: str) -> str:
        found: str = answer(await self.send(path, "org.freedesktop.DBus.Introspectable", "Introspect"))
        return found

    async def managed(self) -> dict[str, Any]:
        found: dict[str, Any] = answer(await self.send(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"))
        return found

    async def quiet(self) -> None:
        """Return when all that was under way to us has arrived."""
        await self.send(ROOT, "org.freedesktop.DBus.Peer", "Ping")


def options(types: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Variant]:
    """Plain options as variants of the contract's types; a Variant stays what it is."""
    return {
        name: value if isinstance(value, Variant) else Variant(types[name], value) for name, value in given.items()
    }  # fmt: skip


def answer(reply: Message) -> Any:
    """What an answer holds: nothing, one value, or several. Raises BusError."""
    if reply.message_type is MessageType.ERROR:
        raise BusError(reply)
    body = plain(reply.body)
    return body[0] if len(body) == 1 else tuple(body) or None


@dataclass(frozen=True)
class Asked:
    """One question to polkit."""

    sender: str
    action: str
    details: dict[str, str]
    interactive: bool
    cancellation: str


class Authority:
    """A polkit: answer is yes, no, challenge, dismissed, error or hang, by action in `answers`, else `otherwise`."""

    def __init__(self, otherwise: str = "yes", **answers: str) -> None:
        self.otherwise = otherwise
        self.answers = {f"org.kldload.kvm.{name.replace('_', '-')}": each for name, each in answers.items()}
        self.asked: list[Asked] = []
        self.cancelled: list[str] = []
        self.hanging: list[Message] = []
        self.meanwhile: Any = lambda asked: None

    async def serve(self) -> None:
        self.bus = await connect()
        self.bus.add_message_handler(self._handle)
        assert await take_name(self.bus, POLKIT)

    def _handle(self, message: Message) -> Message | bool | None:
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        if message.member == "CancelCheckAuthorization":
            self.cancelled.append(message.body[0])
            return Message.new_method_return(message)
        if message.member != "CheckAuthorization":
            return None
        subject, action, details, flags, cancellation = message.body
        assert subject[0] == "system-bus-name"
        asked = Asked(subject[1]["name"].value, action, details, bool(flags & 1), cancellation)
        self.asked.append(asked)
        self.meanwhile(asked)
        kind = self.answers.get(action, self.otherwise)
        if kind == "hang":
            self.hanging.append(message)
            return True
        if kind == "error":
            return Message.new_error(message, f"{POLKIT}.Error.Failed", f"Action {action} is not registered")
        result = {"polkit.dismissed": "true"} if kind == "dismissed" else {}
        body = [[kind == "yes", kind == "challenge", result]]
        return Message.new_method_return(message, "(bba{ss})", body)


class Served:
    """The running service and a client of it."""

    def __init__(self, bus: MessageBus, host: MemoryHost, interfaces: dict[str, Interface], **limits: int) -> None:
        self.bus, self.host = bus, host
        self.facts: Facts = replace(FACTS, firmware=FirmwarePair("/fw/code.fd", __file__))
        self.engine = Engine(host, MemoryJournal(), **limits)
        self.tree = Tree(interfaces, sender(bus))
        self.publisher = Publisher(self.tree, host.inventory, self.engine, lambda: self.facts, host.config.floor)
        host.published = self.publisher.flush
        self.callers = Callers(bus, self._vanished)
        self.service = Service(self.engine, Polkit(bus), self.callers, interfaces, self.view)
        self.service.tell = self.publisher.tell
        self.service.find = lambda request: request.find(host)
        self.service.look = lambda request: request.look(host)
        self.reloads = 0
        self.service.reads.update(Reads(host, self.tree, self._reload).table())
        self.tally = Tally({*REQUESTS}, 1_775_057_422.0)
        self.engine.on_end = lambda job: job_tally.ended(self.tally, host.inventory, job)
        sampler = Sampler(host.virt.usage)
        self.statistics = Statistics(self.tree, host.inventory, self.engine, self.tally, sampler)
        self.service.reads.update(self.statistics.table())
        self.hook = Hook(host, self.engine, lambda: self.view(0), lambda uuid: frozenset())
        self.service.reads.update(self.hook.table())
        self.host_facts = WELL  # what a check sees
        self.checker = Checker(self._look, interval=0)
        host.check_again = self.checker.again
        self.service.reads.update(HostReads(self.checker, self.tree, host.inventory, self.engine).table())
        self.service.reads.update(Bridges(self.engine, self.callers, self.service.check).table())
        self.dispatcher = Dispatcher(bus, self.tree, self.service.handle)
        self.client: Client = Client(bus)

    async def start(self) -> None:
        self.publisher.start("0.1.0")
        await self.callers.watch()
        self.publisher.flush()
        assert await take_name(self.bus, PREFIX)

    def view(self, uid: int) -> View:
        holder = self.engine.locks.holder
        host, found = self.checker.facts, tuple(self.checker.findings)
        now = datetime.now(UTC)
        return View(
            self.host.inventory, self.host.config, self.facts, now, uid, holder=holder, host=host, findings=found
        )

    def _vanished(self, name: str) -> None:
        self.dispatcher.caller_vanished(name)
        if name == POLKIT:
            self.service.polkit_vanished()

    async def _reload(self) -> None:
        self.reloads += 1
        await self.host.known()

    async def _look(self) -> HostFacts:
        return self.host_facts

    async def vm(self, name: str, state: str = "shutoff", snapshots: tuple[str, ...] = (), disks: int = 1) -> Guest:
        """A VM that is there, as if it had been there when the service started."""
        volumes = volumes_of(name, disks=disks)
        for each in volumes:
            await self.host.zfs.create_volume(each.name, each.size, each.properties)
        paths = {target: each.name for each in volumes if (target := each.properties.get(properties.TARGET))}
        await self.host.virt.define(build(spec(name, disks=paths)))
        for snapshot in snapshots:
            values = {"org.kldload.kvm:snapshot": "manual:off", "org.kldload.kvm:domain": pack(build(spec(name)))}
            await self.host.zfs.snapshot([f"{each.name}@{snapshot}" for each in volumes], values)
        guest = self.host.guest(name)
        if state != "shutoff":
            self.host.memory_virt.put(guest, state)
        await self.host.known()
        self.publisher.flush()
        return guest

    def as_user(self, uid: int, client: Client | None = None) -> None:
        """Let the bus say that a client is that user's."""
        name = (client or self.client).bus.unique_name
        assert name
        self.callers._known[name] = uid, NO_LOGIN

    def fingerprint(self) -> tuple[object, ...]:
        """Everything that a call could have changed."""
        return self.host.picture(), sorted(self.engine.jobs), dict(self.tree.objects), len(self.host.troubles.done)


@asynccontextmanager
async def serving(
    authority: Authority | None = None, interfaces: dict[str, Interface] | None = None, **limits: int
) -> AsyncIterator[Served]:
    """The service on the bus of DBUS_SYSTEM_BUS_ADDRESS. authority: polkit; by default one that says yes to all."""
    host = MemoryHost()
    await host.prepare()
    authority = authority or Authority()
    await authority.serve()
    served = Served(await connect(), host, interfaces or contract_files.interfaces(), **limits)
    await served.start()
    served.client = await Client.connect()
    try:
        yield served
    finally:
        await served.engine.stop(0.2)
        for bus in (served.client.bus, served.bus, authority.bus):
            if bus.connected:
                bus.disconnect()
        await asyncio.sleep(0)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def path_of(name: str) -> str:
    """The object of a VM."""
    return vm_path(id_of(name))


async def error_of(work: Awaitable[Any]) -> BusError:
    """The error that answers a call."""
    try:
        answered = await work
    except BusError as error:
        return error
    raise AssertionError(f"it was not refused, and answered {answered}")


async def until_true(check: Any, seconds: float = BOUND) -> None:
    """Wait until it is so, asking often."""
    end = asyncio.get_running_loop().time() + seconds
    while not check():
        assert asyncio.get_running_loop().time() < end, "it did not happen in its time"
        await asyncio.sleep(0.005)
