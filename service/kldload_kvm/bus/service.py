"""What the methods of our interfaces do: operations become jobs, reads are answered from memory.

Which request an operation is, its action and its options come from the XML; nothing here knows any of them by name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from ..engine.engine import Engine
from ..engine.job import Job
from ..model.constants import ROOT, ROOT_ACTION
from ..model.contract import READ_ACTION, Interface, Method
from ..model.errors import InvalidArgument, NotAuthorized, NotFound, Stale
from ..ops.registry import REQUESTS
from ..ops.request import Request, View, vm_subject
from .callers import Callers
from .dispatch import Answer, Call
from .polkit import Polkit
from .publish import result_values
from .values import job_path

ACTIONS_PREFIX = "org.kldload.kvm."
KEPT_REQUEST_IDS = 1000
WAIT_FOR_EVER = 365 * 86400.0
CHECKED_BY_THEIR_HANDLERS = frozenset({("Job", "Apply"), ("Job", "Cancel"), ("Host", "ConfirmBridge")})
"""Apply is authorized as the operation itself; Cancel and ConfirmBridge need no action of whoever started the job."""
MOST_STRINGS = 64 * 1024


@dataclass(frozen=True)
class Origin:
    """Where a job came from: what Apply needs to authorize it as the operation itself."""

    request: Request
    method: Method


class Service:
    """view(uid): what a plan is made from, now; reads: the handlers of methods that change nothing."""

    def __init__(self, engine: Engine, polkit: Polkit, callers: Callers, interfaces: dict[str, Interface],
                 view: Callable[[int], View]) -> None:  # fmt: skip
        self.engine, self.polkit, self.callers, self.view = engine, polkit, callers, view
        self._root_may: set[str] = set()
        self.tell: Callable[[Job], None] = lambda job: None  # has a job on the bus before its path is given
        self.find: Callable[[Request], Awaitable[bool]] = _known  # what others have made a moment ago
        self.look: Callable[[Request], Awaitable[Request]] = _seen  # what it needs to know of the host and no view has
        self.reads: dict[tuple[str, str], Callable[[Call], Awaitable[Answer]]] = {}
        self.origins: dict[str, Origin] = {}
        self._request_ids: OrderedDict[tuple[int, str], tuple[str, str]] = OrderedDict()
        self.actions = frozenset(m.action for i in interfaces.values() for m in i.methods.values() if "." in m.action)
        self.reads[("Job", "Apply")] = self._apply
        self.reads[("Job", "Cancel")] = self._cancel
        self.reads[("Job", "Wait")] = self._wait
        self.reads[("Manager", "CanI")] = self._can_i

    async def handle(self, call: Call) -> Answer:
        """One call of ours, from its parse to its answer. Raises KvmError."""
        if not call.method.action:
            raise NotAuthorized("nothing was changed", f"{call.method.name} names no polkit action", "")
        if call.method.operation:
            return await self._operate(call)
        if call.method.action == ROOT_ACTION:
            if await self.callers.uid(call.sender) != 0:
                raise NotAuthorized("nothing was changed", f"{call.method.name} is for libvirt's hook, as root", "")
            return await self.reads[(call.interface.short, call.method.name)](call)
        key = (call.interface.short, call.method.name)
        if key not in CHECKED_BY_THEIR_HANDLERS:
            details = {} if call.method.action == READ_ACTION else self._details(call)
            await self.check(call, call.method.action, details)
        return await self.reads[key](call)

    async def check(self, call: Call, action: str, details: Mapping[str, str]) -> None:
        """Return if the caller may do it. polkit says yes to root whatever its rules and the details are, so as long as
        it is there root is not asked about twice. Raises one of the three NotAuthorized errors."""
        root = await self.callers.uid(call.sender) == 0
        if root and action in self._root_may:
            return
        await self.polkit.check(call.sender, action, details, call.interactive)
        if root:
            self._root_may.add(action)

    def polkit_vanished(self) -> None:
        """Without polkit nobody may do anything."""
        self._root_may.clear()

    async def _operate(self, call: Call) -> Answer:
        check_bounds(call)
        uid, login = await self.callers.who(call.sender)
        key, fingerprint = self._repeated(call, uid)
        if key and (known := self._known(key, fingerprint)):
            return await self._answer(known, call)
        request = _parsed(call)
        started = False
        try:
            plan_only = call.options.get("plan-only", False)
            action = READ_ACTION if plan_only else call.method.action
            await self._authorize(call, request, action, uid)
            if await self.find(request):  # and is told to polkit, too
                await self._authorize(call, request, action, uid)
            request = await self.look(request)
            # From here to the lock nothing is awaited: the plan is made from the inventory as it is, and holds.
            job = self._known(key, fingerprint) if key else None
            if job is None:
                plan = request.plan(self.view(uid))
                if plan_only:
                    job = self.engine.propose(plan, uid, login)
                else:
                    job = self.engine.start(plan, uid, request.release, login)
                started = not plan_only
                self._remember(job, Origin(request, call.method), key, fingerprint)
        finally:
            if not started:
                request.release()
        return await self._answer(job, call)

    def _remember(self, job: Job, origin: Origin, key: tuple[int, str] | None, fingerprint: str) -> None:
        self.origins[job.id] = origin
        for id_ in self.origins.keys() - self.engine.jobs.keys():
            del self.origins[id_]
        if key:
            self._request_ids[key] = (fingerprint, job.id)
            while len(self._request_ids) > KEPT_REQUEST_IDS:
                self._request_ids.popitem(last=False)

    async def _answer(self, job: Job, call: Call) -> Answer:
        if not call.options.get("plan-only", False):
            await self._may_be_told(job, call)
        self.tell(job)
        return Answer((job_path(job.id),))

    async def _may_be_told(self, job: Job, call: Call) -> None:
        """Wait until the journal has it, so that whoever is told of a job can ask for it after a power cut, too; and
        for its end, if the caller wants that."""
        await job.recorded.wait()
        if call.options.get("wait", False):
            await self.engine.wait(job, WAIT_FOR_EVER)

    async def _authorize(self, call: Call, request: Request, action: str, uid: int) -> None:
        subject = request.subject(self.view(uid))
        await self.check(call, action, {**subject, "operation": request.operation})
        if request.subject(self.view(uid)) != subject:  # polkit said yes to something else
            raise Stale("nothing was changed", "what it is about has changed while you were asked", "try again")

    def _repeated(self, call: Call, uid: int) -> tuple[tuple[int, str] | None, str]:
        """The key of a call with a request-id, and the fingerprint of its arguments."""
        id_ = call.options.get("request-id", "")
        if not id_:
            return None, ""
        rest = {name: value for name, value in call.options.items() if name not in ("request-id", "wait")}
        text = json.dumps([call.path, call.method.name, call.args, rest], sort_keys=True, default=str)
        return (uid, id_), hashlib.sha256(text.encode()).hexdigest()

    def _known(self, key: tuple[int, str], fingerprint: str) -> Job | None:
        before = self._request_ids.get(key)
        if before is None or before[1] not in self.engine.jobs:
            return None
        if before[0] != fingerprint:
            why = "you have used it before, with other arguments"
            raise InvalidArgument(f"the request-id '{key[1][:60]}' cannot be used", why, "choose another one")
        return self.engine.job(before[1])

    # -- jobs ----------------------------------------------------------------------------------------------------------

    async def _apply(self, call: Call) -> Answer:
        job = self._job(call)
        uid = await self.callers.uid(call.sender)
        origin = self.origins.get(job.id)
        if origin is None or uid not in (0, job.uid):
            raise NotAuthorized("the plan was not applied", "it is another user's", "make a plan of your own")
        if any(arg.type == "h" for arg in origin.method.inputs):
            why = "the file it was made for was closed with that call"
            raise InvalidArgument("the plan was not applied", why, f"call {origin.method.name} again without plan-only")
        await self._authorize(call, origin.request, origin.method.action, uid)
        await self.engine.apply(job)
        await self._may_be_told(job, call)
        return Answer()

    async def _cancel(self, call: Call) -> Answer:
        job = self._job(call)
        uid = await self.callers.uid(call.sender)
        if uid != job.uid:
            details = {"operation": job.plan.operation, "target": job.id}
            await self.check(call, call.method.action, details)
        self.engine.cancel(job)
        return Answer()

    async def _wait(self, call: Call) -> Answer:
        timeout = call.options.get("timeout", 86400)
        if timeout > 86400:
            raise InvalidArgument(f"the timeout cannot be {timeout}", "it is a number of seconds from 0 to 86400", "")
        job = self._job(call)
        await self.engine.wait(job, float(timeout))
        return Answer((result_values(job),))

    def _job(self, call: Call) -> Job:
        return self.engine.job(call.path.rpartition("/")[2])

    async def _can_i(self, call: Call) -> Answer:
        action, path = call.args
        if action not in self.actions:
            raise NotFound(f"there is no action '{action[:80]}'", "", f"ours are: {', '.join(sorted(self.actions))}")
        answer = await self.polkit.ask(call.sender, action, self._details(call, path), interactive=False)
        return Answer((answer if answer in ("yes", "auth") else "no",))

    def _details(self, call: Call, path: str = "") -> dict[str, str]:
        """The details of whatever VM a path names."""
        path = path or call.path
        if path.startswith(f"{ROOT}/vm/"):
            if vm := self.view(0).inventory.vm(path.rpartition("/")[2].replace("_", "-")):
                return vm_subject(vm)
            raise NotFound(f"there is no object {path[:200]}", "", "kvm-list lists the VMs")
        return {}


async def _known(request: Request) -> bool:
    return False


async def _seen(request: Request) -> Request:
    return request


def target_of(call: Call) -> str:
    """What the call's path names: the id of a VM, the name of a storage, or nothing for the root."""
    match call.interface.short:
        case "Vm":
            return call.path.rpartition("/")[2].replace("_", "-")
        case "Storage":
            return _storage_name(call.path.rpartition("/")[2])
    return ""


def check_bounds(call: Call) -> None:
    """Refuse before anything else what is far too long. Raises InvalidArgument."""
    if len(json.dumps([call.args, call.options], default=str)) > MOST_STRINGS:
        raise InvalidArgument(f"{call.method.name} was not done", "its arguments are longer than 64 KiB", "")


def _parsed(call: Call) -> Request:
    """The request of a call. Each "h" becomes a descriptor of our own: the received one is closed with the call."""
    args, own = list(call.args), []
    for index, arg in enumerate(call.method.inputs):
        if arg.type == "h":
            if not 0 <= args[index] < len(call.fds):
                raise InvalidArgument("no file was received", "the call names a file descriptor it did not send", "")
            args[index] = os.dup(call.fds[args[index]])
            own.append(args[index])
    try:
        return REQUESTS[call.method.operation].parse(target_of(call), args, call.options)
    except BaseException:
        for fd in own:
            os.close(fd)
        raise


def _storage_name(escaped: str) -> str:
    parts = escaped.split("_")
    return parts[0] + "".join(chr(int(part[:2], 16)) + part[2:] for part in parts[1:])
