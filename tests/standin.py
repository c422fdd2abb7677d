"""A small stand-in for the service: it speaks the contract from memory, so that clients can be tried without a host.

Run by itself it takes the name on the bus of DBUS_SYSTEM_BUS_ADDRESS:  python3 tests/standin.py [VMS]
It knows nothing of the daemon's code, only the XML. A snapshot named "slow" takes 30 steps of 0.1 s; one named "broken"
fails after its first step; a VM named "locked" asks for a password; one named "denied" is denied.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from dbus_next import BusType, Message, MessageFlag, MessageType, NameFlag, Variant
from dbus_next.aio import MessageBus

from kldload_kvm import contract_files
from kldload_kvm.model.constants import PREFIX, ROOT
from kldload_kvm.model.contract import Interface, Method
from kldload_kvm.model.wiring import AWAITED

GIB = 1 << 30
FROZEN = 1_775_057_422  # 2026-04-01 15:30:22 UTC
EMPTY: dict[str, Any] = {"s": "", "o": "/", "b": False, "d": 0.0, "as": [], "ao": [], "aa{sv}": [], "a{sv}": {}}


class Refusal(Exception):
    """An error answer: its name's last part, and the three lines of its message."""

    def __init__(self, name: str, *lines: str) -> None:
        super().__init__(name, *lines)
        self.name, self.message = f"{PREFIX}.Error.{name}", "\n".join(lines)


def wrap(fields: dict[str, tuple[str, Any]]) -> dict[str, Variant]:
    return {name: Variant(*each) for name, each in fields.items()}


def wrapped(values: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    """A result of strings and sizes, with their types."""
    return {name: ("t" if isinstance(value, int) else "s", value) for name, value in values.items()}


class Standin:
    """The objects, and what answers calls on them.

    `calls` holds every call but those that only read properties: member, body, and whether it may ask; `listed` the
    interfaces of each ListObjects.
    """

    def __init__(self, bus: MessageBus, vms: int = 2) -> None:
        self.bus = bus
        self.interfaces = contract_files.interfaces()
        self.objects: dict[str, tuple[Interface, dict[str, Any]]] = {}
        self.snapshots: dict[str, list[str]] = {}
        self.calls: list[tuple[str, list[Any], bool]] = []
        self.listed: list[list[str]] = []
        self.cancelled: set[str] = set()
        self.effects: dict[str, Any] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.trash: list[dict[str, Variant]] = []
        self.foreign: list[dict[str, Variant]] = []
        self.statistics: dict[str, list[dict[str, Variant]]] = {"service": [wrap({"problems": ("t", 0)})]}
        self.add(ROOT, "Manager", Version="0.1.0", ZfsVersion="2.3.9", LibvirtVersion="11.3.0", Storages=["vms"])
        self.images = [
            ("debian-13.iso", "iso", 700 << 20, 700 << 20),
            ("debian-13.qcow2", "qcow2", 165 << 20, 3 * GIB),
        ]
        self.add(
            f"{ROOT}/storage/vms",
            "Storage",
            Name="vms",
            Dataset="rpool/vms",
            Default=True,
            Capacity=100 * GIB,
            Free=60 * GIB,
            Floor=4 * GIB,
            ImageDirectory="/var/lib/libvirt/isos",
        )
        self.findings: list[dict[str, Variant]] = []
        self.causes: list[dict[str, Variant]] = []
        self.confirmed: set[str] = set()
        self.add(f"{ROOT}/host", "Host")
        self.list_images()
        for number in range(vms):
            self.add_vm(f"web-{number + 1}")
        bus.add_message_handler(self.handle)

    def list_images(self) -> None:
        _, values = self.objects[f"{ROOT}/storage/vms"]
        values["Images"] = [
            wrap(
                {
                    "name": ("s", name),
                    "format": ("s", kind),
                    "size": ("t", size),
                    "virtual-size": ("t", virtual),
                    "path": ("s", f"/var/lib/libvirt/isos/{name}"),
                }
            )
            for name, kind, size, virtual in self.images
        ]

    def add(self, path: str, short: str, **values: Any) -> None:
        interface = self.interfaces[f"{PREFIX}.{short}"]
        known = {name: values.pop(name, EMPTY.get(each.type, 0)) for name, each in interface.properties.items()}
        assert not values, values
        self.objects[path] = interface, known

    def add_vm(self, name: str, **values: Any) -> str:
        path = f"{ROOT}/vm/{name.replace('-', '_').replace('.', '_')}"
        volumes = [
            wrap(
                {
                    "dataset": ("s", f"rpool/vms/{name}{suffix}"),
                    "guid": ("s", "1234567890123456789"),
                    "role": ("s", role),
                    "target": ("s", target),
                    "size": ("t", size),
                    "origin": ("s", ""),
                    "device": ("s", f"/dev/zvol/rpool/vms/{name}{suffix}"),
                }
            )
            for suffix, role, target, size in (("", "disk", "vda", 40 * GIB), (".nvram", "nvram", "", 528 << 10))
        ]
        settings = dict(
            Id=name,
            Name=name,
            Uuid=name,
            State="shutoff",
            Storage="vms",
            Memory=4 * GIB,
            Vcpus=4,
            Os="debian13",
            Size=40 * GIB,
            Used=42 << 20,
            UsedAt=FROZEN,
            SnapshotCount=0,
            Volumes=volumes,
        )
        self.add(path, "Vm", **(settings | values))
        self.snapshots[path] = []
        return path

    def put_foreign(self, name: str, kind: str, why: str, hint: str = "") -> None:
        fields = {"name": name, "uuid": "", "state": "shutoff", "kind": kind, "why": why, "hint": hint}
        each = {key: ("s", value) for key, value in fields.items()}
        self.foreign.append(wrap({**each, "volumes": ("as", [f"rpool/vms/{name}"])}))

    @staticmethod
    def finding(id_: str, severity: str, found: str) -> dict[str, Variant]:
        texts = {"object": "rpool", "why": "It matters.", "todo": f"mend {id_}", "source": "zfs(4)", "fix": ""}
        values = {"id": id_, "severity": severity, "found": found, **texts}
        return wrap({key: ("s", value) for key, value in values.items()})

    def put_in_trash(
        self, id_: str, vm: str, reason: str = "deleted", held: tuple[str, ...] = (), due: bool = False
    ) -> None:
        self.trash.append(
            wrap(
                {
                    "id": ("s", id_),
                    "vm": ("s", vm),
                    "vm-id": ("s", vm),
                    "reason": ("s", reason),
                    "since": ("t", FROZEN),
                    "dataset": ("s", f"rpool/vms/.trash/{id_}"),
                    "volumes": ("as", [f"rpool/vms/.trash/{id_}/{vm}"]),
                    "used": ("t", 42 << 20),
                    "expires": ("t", FROZEN + 7 * 86400),
                    "held-by": ("as", list(held)),
                    "due": ("b", due),
                }
            )
        )

    def handle(self, message: Message) -> bool:
        if message.message_type is not MessageType.METHOD_CALL or message.interface.startswith(
            "org.freedesktop.DBus.Peer"
        ):
            return False
        task = asyncio.ensure_future(self.answer(message))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return True

    async def answer(self, message: Message) -> None:
        try:
            reply = await self.reply(message)
        except Refusal as refusal:
            reply = Message.new_error(message, refusal.name, refusal.message)
        except Exception as error:
            reply = Message.new_error(message, f"{PREFIX}.Error.Failed", f"stand-in: {error!r}")
        finally:
            for fd in message.unix_fds:
                os.close(fd)
        self.bus.send(reply)

    async def reply(self, message: Message) -> Message:
        if message.interface == "org.freedesktop.DBus.ObjectManager":
            objects = {path: {each.name: self.all_of(path)} for path, (each, _) in self.objects.items() if path != ROOT}
            return Message.new_method_return(message, "a{oa{sa{sv}}}", [objects])
        if message.path not in self.objects:
            raise Refusal("NotFound", f"There is no {message.path}.")
        interface, values = self.objects[message.path]
        if message.interface == "org.freedesktop.DBus.Properties":
            assert message.member == "GetAll"
            return Message.new_method_return(message, "a{sv}", [self.all_of(message.path)])
        method = interface.methods[message.member]
        assert message.signature == method.in_signature, message.signature
        may_ask = bool(message.flags & MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION)
        if message.member == "ListObjects":
            self.listed.append(message.body[0])
        else:
            self.calls.append((message.member, message.body, may_ask))
        options = message.body[-1] if method.options else {}
        for name, variant in options.items():
            if method.option_types.get(name) != variant.signature:
                raise Refusal("InvalidArgument", f"No option {name!r}.")
        plain = {name: variant.value for name, variant in options.items()}
        body = await self.run(message, method, values, plain, may_ask)
        fds = []
        if method.out_signature == "h":
            fds, body = body, [0]
        return Message.new_method_return(message, method.out_signature, body, fds)

    async def run(
        self, message: Message, method: Method, values: dict[str, Any], options: dict[str, Any], may_ask: bool
    ) -> list[Any]:
        name = values.get("Name")
        if method.operation and name == "denied" and not options.get("plan-only"):
            raise Refusal("NotAuthorized", "You may not do that.", "polkit said no.")
        if method.operation and name == "locked" and not may_ask and not options.get("plan-only"):
            raise Refusal("NotAuthorizedCanObtain", "That needs a password.", "", "Ask from a terminal.")
        if method.operation:
            return [await self.start(message, method, options)]
        simple = getattr(self, f"do_{method.name}", None)
        if simple is None:
            return [EMPTY.get(arg.type, 0) for arg in method.outputs]
        answer = await simple(message, *message.body)
        return [answer] if method.outputs else []

    def all_of(self, path: str) -> dict[str, Variant]:
        interface, values = self.objects[path]
        return {name: Variant(interface.properties[name].type, value) for name, value in values.items()}

    def change(self, path: str, **values: Any) -> None:
        """Set properties and tell of it."""
        interface, known = self.objects[path]
        known.update(values)
        changed = {name: Variant(interface.properties[name].type, value) for name, value in values.items()}
        body = [interface.name, changed, []]
        self.signal(path, "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as", body)

    def signal(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        self.bus.send(Message.new_signal(path, interface, member, signature, body))

    # The simple methods.

    async def do_FindVm(self, _: Message, name: str) -> str:
        for path, (interface, values) in self.objects.items():
            if interface.short == "Vm" and name in (values["Name"], values["Id"], values["Uuid"]):
                return path
        raise Refusal("NotFound", f"There is no VM {name!r}.")

    async def do_ListObjects(self, _: Message, interfaces: list[str]) -> dict[str, dict[str, dict[str, Variant]]]:
        return {path: {i.name: self.all_of(path)} for path, (i, _) in self.objects.items() if i.name in interfaces}

    async def do_ListSnapshots(self, message: Message, options: dict[str, Variant]) -> list[dict[str, Variant]]:
        offset = options["offset"].value if "offset" in options else 0
        limit = options["limit"].value if "limit" in options else 1000
        return [
            wrap(
                {
                    "name": ("s", name),
                    "kind": ("s", "manual"),
                    "creation": ("t", FROZEN),
                    "consistency": ("s", "off"),
                    "guid": ("s", "1"),
                    "used": ("t", 42 << 20),
                    "volumes": ("u", 2),
                    "clones": ("as", []),
                }
            )
            for name in self.snapshots[message.path][offset : offset + limit]
        ]

    async def do_ListTrash(self, _: Message) -> list[dict[str, Variant]]:
        return self.trash

    async def do_GetStatistics(self, _: Message, options: dict[str, Variant]) -> dict[str, list[dict[str, Variant]]]:
        return self.statistics

    async def do_ListForeign(self, _: Message) -> list[dict[str, Variant]]:
        return self.foreign

    async def do_GetAddresses(self, _: Message) -> list[str]:
        return ["192.168.122.7/24", "fe80::1/64"]

    async def do_Check(self, _: Message, __: dict[str, Variant]) -> list[dict[str, Variant]]:
        return self.findings

    async def do_ConfirmBridge(self, _: Message, name: str, __: dict[str, Variant]) -> None:
        self.confirmed.add(name)

    async def do_Why(self, _: Message) -> list[dict[str, Variant]]:
        return self.causes

    async def do_GetDisplay(self, _: Message) -> str:
        return "127.0.0.1:5900"

    async def do_OpenConsole(self, _: Message, __: dict[str, Variant]) -> int:
        """A pipe with a greeting; a real one is a terminal."""
        reader, writer = os.pipe()
        os.write(writer, b"login: ")
        os.close(writer)
        return reader

    async def do_Wait(self, message: Message, _: dict[str, Variant]) -> dict[str, Variant]:
        values = self.objects[message.path][1]
        while values["State"] in ("running", "undoing"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        if values["ErrorName"]:
            raise Refusal(values["ErrorName"].rpartition(".")[2], values["ErrorMessage"])
        result: dict[str, Variant] = values["Result"]
        return result

    async def do_Apply(self, message: Message, options: dict[str, Variant]) -> None:
        task = asyncio.ensure_future(self.work(message.path))
        self.tasks.add(task)
        if "wait" in options and options["wait"].value:
            await task

    async def do_Cancel(self, message: Message, _: dict[str, Variant]) -> None:
        if not self.objects[message.path][1]["Cancelable"]:
            raise Refusal("WrongState", "The job is past its commit point.")
        if self.objects[message.path][1]["State"] == "planned":
            del self.objects[message.path]
        else:
            self.cancelled.add(message.path)

    # Operations.

    async def start(self, message: Message, method: Method, options: dict[str, Any]) -> str:
        path = f"{ROOT}/job/{sum(each.short == 'Job' for each, _ in self.objects.values()) + 1}"
        steps, result, effect, destroys = self.plan(message, method, options)
        self.add(
            path,
            "Job",
            Id=path.rpartition("/")[2],
            Operation=method.operation,
            Description=f"{method.operation} {message.body[0] if method.in_signature[0] == 's' else ''}".strip(),
            State="planned",
            Steps=[self.step(each) for each in steps],
            Destroys=destroys,
            Cancelable=True,
            Objects=[message.path],
            Result=wrap(result),
        )
        self.effects[path] = effect
        if not options.get("plan-only"):
            task = asyncio.ensure_future(self.work(path))
            self.tasks.add(task)
            if options.get("wait"):
                await task
                values = self.objects[path][1]
                if values["ErrorName"]:
                    raise Refusal(values["ErrorName"].rpartition(".")[2], values["ErrorMessage"])
        return path

    @staticmethod
    def step(description: str, state: str = "waiting", kind: str = "step") -> dict[str, Variant]:
        return wrap(
            {"description": ("s", description), "kind": ("s", kind), "state": ("s", state), "part": ("s", "prepare")}
        )

    def plan(
        self, message: Message, method: Method, options: dict[str, Any]
    ) -> tuple[list[str], dict[str, tuple[str, Any]], Any, list[str]]:
        name = self.objects[message.path][1].get("Name", "")
        if method.name == "CreateVm":
            wanted = message.body[0]
            if wanted.startswith("web-"):
                raise Refusal("AlreadyExists", f"There is a VM {wanted!r} already.", "", "Choose another name.")
            result = {"vm": ("o", f"{ROOT}/vm/{wanted}"), "name": ("s", wanted), "id": ("s", "1"), "uuid": ("s", "2")}
            state = "running" if options.get("start") else "shutoff"
            return [f"create rpool/vms/{wanted}", "define it"], result, lambda: self.add_vm(wanted, State=state), []
        if method.name == "Snapshot":
            snapshot = options.get("name", "2026-04-01_153022")
            steps = [f"snapshot rpool/vms/{name}@{snapshot}"] * (30 if snapshot == "slow" else 1)
            result = {"snapshot": ("s", snapshot), "consistency": ("s", "off"), "held": ("d", 0.0)}
            return steps, result, lambda: self.snapshots[message.path].append(snapshot), []
        if method.name == "SnapshotAll":
            snapshot = options.get("name", "2026-04-01_153022")
            paths = [path for path, (kind, _) in self.objects.items() if kind.short == "Vm"]
            rows = [
                {"vm": ("s", self.objects[path][1]["Name"]), "consistency": ("s", "app"), "held": ("d", 0.41),
                 "volumes": ("t", 2)}
                for path in paths
            ]  # fmt: skip
            result = {
                "snapshot": ("s", snapshot), "snapshots": ("aa{sv}", [wrap(row) for row in rows]),
                "missing": ("as", ["rpool/vms/web-9.nvram"]), "left-out": ("as", ["web-8"]), "unanswered": ("as", []),
            }  # fmt: skip
            return ["take them"], result, lambda: [self.snapshots[path].append(snapshot) for path in paths], []
        if method.name == "PruneSnapshots":
            return ["destroy them"], {"removed": ("as", ["web-1@auto-1"])}, None, ["rpool/vms/web-1@auto-1"]
        if method.name == "Clone":
            names = message.body[0]
            paths = [f"{ROOT}/vm/{each.replace('-', '_')}" for each in names]
            snapshot = options.get("snapshot", "clone-20260401_120000")
            result = {
                "vms": ("ao", paths),
                "names": ("as", names),
                "snapshot": ("s", snapshot),
                "consistency": ("s", "off"),
                "identity": ("s", "cloud-init"),
            }
            return [f"clone {each}" for each in names], result, lambda: [self.add_vm(each) for each in names], []
        if method.name == "DeleteSnapshot":
            snapshot = message.body[0]
            if snapshot not in self.snapshots[message.path]:
                raise Refusal("NotFound", f"There is no snapshot {snapshot!r}.")
            gone = [f"rpool/vms/{name}@{snapshot}", f"rpool/vms/{name}.nvram@{snapshot}"]
            return ["destroy it"], {}, lambda: self.snapshots[message.path].remove(snapshot), gone
        if method.name == "Rollback":
            return (
                ["rename", "clone"],
                {"snapshot": ("s", options.get("snapshot", "newest")), "trash": ("s", "7")},
                None,
                [],
            )
        if method.name == "Delete":
            if self.objects[message.path][1]["State"] == "running" and not options.get("force"):
                raise Refusal("WrongState", f"{name} is running.", "", "Shut it down, or give --force.")
            result = {} if options.get("now") else {"trash": ("s", "7")}
            gone = [f"rpool/vms/{name}"] if options.get("now") else []
            return ["undefine", "retire"], result, lambda: self.objects.pop(message.path), gone
        if method.name == "RestoreTrash":
            entry = next(each for each in self.trash if each["id"].value == message.body[0])
            name = options.get("name", entry["vm"].value)
            result = {"vm": ("o", f"{ROOT}/vm/{name}"), "name": ("s", name)}
            if entry["reason"].value == "rolled-back":
                return ["promote"], result | {"trash": ("s", "8")}, None, []
            return ["rename"], result, lambda: self.add_vm(name), []
        if method.name == "Adopt":
            name = message.body[0]
            volumes = ("as", [f"rpool/vms/{name}"])
            result = {"vm": ("o", f"{ROOT}/vm/{name}"), "name": ("s", name), "volumes": volumes}
            if any(each["name"].value == name and each["kind"].value == "files" for each in self.foreign):
                result["left"] = ("as", [f"/img/{name}.qcow2"])
                return [f"copy it to {options.get('storage', 'rpool')}"], result, lambda: self.add_vm(name), []
            return ["note"], result, lambda: self.add_vm(name), []
        if method.name == "PurgeTrash":
            ids = message.body[0] or [each["id"].value for each in self.trash if each["due"].value]
            gone = [f"rpool/vms/.trash/{each}" for each in ids]
            return ["destroy"], {"purged": ("as", ids)}, None, gone
        if method.name == "Add":
            data = os.pread(message.unix_fds[0], 1 << 20, 0)
            image = (message.body[1], options.get("format", "iso"), len(data), len(data))
            result = {
                "name": ("s", image[0]),
                "format": ("s", image[1]),
                "size": ("t", len(data)),
                "virtual-size": ("t", len(data)),
                "sha256": ("s", "0" * 64),
            }
            return ["copy"], result, lambda: (self.images.append(image), self.list_images()), []
        if method.name == "Remove":
            gone = [f"/var/lib/libvirt/isos/{message.body[0]}"]
            return ["remove it"], {}, None, gone
        if method.name == "CreateBridge":
            name, port = message.body[:2]
            result = {
                "bridge": ("s", name),
                "port": ("s", port),
                "tool": ("s", "ifupdown"),
                "used": ("b", name == "br0"),
            }
            return [f"await {name}"], result, None, []
        if changed := self.changed(message, method, options):
            return [method.name], wrapped(changed), None, []
        states = {
            "Start": "running",
            "Resume": "running",
            "Pause": "paused",
            "Shutdown": "shutoff",
            "ForceOff": "shutoff",
        }
        wanted = states.get(method.name)
        return [method.name], {}, (lambda: self.change(message.path, State=wanted)) if wanted else None, []

    def changed(self, message: Message, method: Method, options: dict[str, Any]) -> dict[str, Any]:
        """The results of what changes a VM."""
        running = self.objects[message.path][1].get("State") == "running"
        applied = "now" if running else "at next boot"
        if method.name == "Export":
            os.write(message.unix_fds[0], b"the disk")
            snapshot = options.get("snapshot", "clone-20260401_153022")
            return {"target": options.get("target", "vda"), "snapshot": snapshot, "size": 40 * GIB, "bytes": 8}
        name, first = self.objects[message.path][1].get("Name", ""), message.body[0]
        found: dict[str, dict[str, Any]] = {
            "Resize": {"dataset": f"rpool/vms/{name}", "applied": applied, "size": message.body[1:2]},
            "AttachDisk": {"target": "vdb", "dataset": f"rpool/vms/{name}.vdb", "applied": applied},
            "DetachDisk": {"target": first, "trash": "7"},
            "AttachNic": {"mac": "52:54:00:00:00:07", "applied": applied},
            "DetachNic": {"mac": first},
            "Rename": {"name": first},
            "SetStorageOptions": {"datasets": f"rpool/vms/{name}"},
            "SetMemory": {"memory": first, "applied": applied, "reason": "" if running else "it is off"},
            "SetVcpus": {"vcpus": first, "applied": applied, "reason": "" if running else "it is off"},
        }
        return {key: each[0] if isinstance(each, list) else each for key, each in found.get(method.name, {}).items()}

    async def work(self, path: str) -> None:
        values = self.objects[path][1]
        self.change(path, State="running", StartTime=time.time_ns() // 1000)
        broken = "broken" in values["Steps"][0]["description"].value
        slow = len(values["Steps"]) > 10
        for number in range(len(values["Steps"])):
            await asyncio.sleep(0.1 if slow else 0.01)
            if broken:
                self.end(path, "failed", "ZfsFailed", "The snapshot was not taken.\nzfs said: out of luck\nTry again.")
                return
            what, _, bridge = values["Steps"][number]["description"].value.partition(" ")
            if what == "await":
                self.change(path, Steps=[self.step(f"await {bridge}", "running", AWAITED)])
                while bridge not in self.confirmed and path not in self.cancelled:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            if path in self.cancelled:
                self.change(path, State="undoing")
                await asyncio.sleep(0.1)
                self.end(path, "cancelled", "Cancelled", "The job was cancelled and undone.")
                return
            steps = list(values["Steps"])
            steps[number] = self.step(steps[number]["description"].value, "done")
            self.change(path, Steps=steps, Progress=(number + 1) / len(steps))
        effect = self.effects.get(path)
        if effect:
            effect()
        self.end(path, "succeeded")

    def end(self, path: str, state: str, error: str = "", message: str = "") -> None:
        name = f"{PREFIX}.Error.{error}" if error else ""
        self.change(path, State=state, EndTime=time.time_ns() // 1000, ErrorName=name, ErrorMessage=message)
        self.signal(path, f"{PREFIX}.Job", "Completed", "bs", [state == "succeeded", message])


@asynccontextmanager
async def serving(vms: int = 2) -> AsyncIterator[Standin]:
    """The stand-in on the bus of DBUS_SYSTEM_BUS_ADDRESS."""
    bus = await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()
    standin = Standin(bus, vms)
    await bus.request_name(PREFIX, NameFlag.DO_NOT_QUEUE)
    try:
        yield standin
    finally:
        bus.disconnect()


async def main() -> None:
    async with serving(int(sys.argv[1]) if len(sys.argv) > 1 else 2) as standin:
        standin.add_vm("locked")
        standin.add_vm("denied")
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
