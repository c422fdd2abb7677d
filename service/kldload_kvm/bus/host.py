"""The host on the bus: its findings, and why a VM does not start. Each finding carries what explains it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from ..engine.engine import Engine
from ..engine.job import State
from ..host.checker import Checker
from ..host.why import last_of_log, why
from ..model.catalogue import findings as catalogue
from ..model.errors import InvalidArgument, NotFound
from ..model.finding import SEVERITIES, Finding
from ..model.host_facts import HostFacts
from ..model.inventory import Inventory, Vm
from ..ops.remedies import told
from .dispatch import Answer, Call
from .tree import Tree
from .values import HOST_PATH, dictionary

START = "vm.start"
LOGS, TAIL, RECENT = Path("/var/log/libvirt/qemu"), 16 << 10, 3600.0


class HostReads:
    """The handlers by interface and method; what a check finds is told as properties too."""

    def __init__(self, checker: Checker, tree: Tree, inventory: Inventory, engine: Engine) -> None:
        self.checker, self.tree, self.inventory, self.engine = checker, tree, inventory, engine
        checker.told = self.publish

    def publish(self) -> None:
        facts = self.checker.facts
        found = rows(self.checker.findings, facts) if facts else []
        values = {"Findings": found, "CheckedAt": self.checker.checked_at}
        self.tree.put(HOST_PATH, "Host", values)

    def table(self) -> dict[tuple[str, str], Callable[[Call], Awaitable[Answer]]]:
        return {("Host", "Check"): self.check, ("Vm", "Why"): self.why}

    async def check(self, call: Call) -> Answer:
        least = call.options.get("severity", SEVERITIES[-1])
        if least not in SEVERITIES:
            why = f"'{least[:40]}' is none"
            raise InvalidArgument("the host was not checked", why, f"the severities are {', '.join(SEVERITIES)}")
        facts = await self.checker.check()
        wanted = SEVERITIES[: SEVERITIES.index(least) + 1]
        found = [each for each in self.checker.findings if each.severity in wanted]
        return Answer((rows(found, facts),))

    async def why(self, call: Call) -> Answer:
        id_ = call.path.rpartition("/")[2].replace("_", "-")
        facts = await self.checker.check()
        vm = self.inventory.vm(id_)
        if vm is None:
            raise NotFound("there is no such VM any more", "", "kvm-list lists the VMs")
        last = self._last_start(vm) or await asyncio.to_thread(_log, vm)
        job = self.engine.locks.holder(f"VM:{vm.name}")
        return Answer((rows(why(vm, facts, self.checker.findings, job, last), facts),))

    def _last_start(self, vm: Vm) -> str:
        """What our own last start of it failed with; nothing where that was well."""
        jobs = (
            j for j in self.engine.jobs.values() if j.plan.operation == START and vm.id in j.plan.objects and j.over
        )
        job = max(jobs, key=lambda each: each.ended, default=None)
        if job is None or job.state is not State.FAILED or job.error is None:
            return ""
        return ": ".join(filter(None, (job.error.what, job.error.why)))


def _log(vm: Vm) -> str:
    """QEMU's last complaint, if it is of the last hour. Blocks."""
    if vm.domain is None or "/" in vm.domain.name:
        return ""
    try:
        with (LOGS / f"{vm.domain.name}.log").open("rb") as file:
            about = os.fstat(file.fileno())
            file.seek(max(about.st_size - TAIL, 0))
            text = file.read(TAIL).decode("utf-8", "replace")
    except OSError:
        return ""
    return last_of_log(text) if time.time() - about.st_mtime < RECENT else ""


def rows(found: Iterable[Finding], facts: HostFacts) -> list[dict[str, Any]]:
    """Findings as the rows of an aa{sv}."""
    texts = catalogue()
    return [
        dictionary({
            "id": each.id,
            "severity": each.severity,
            "object": each.object,
            "found": each.found,
            "why": texts[each.id].why,
            "todo": texts[each.id].todo.replace("{object}", each.object),
            "source": texts[each.id].source,
            "fix": told(each, facts),
        })
        for each in found
    ]  # fmt: skip
