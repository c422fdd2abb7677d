"""Steps on the guests of many VMs: holding them still for one moment, all of them, and letting them go.

No guest waits for another longer than it must: those with an agent are frozen first, a few at a time, each within a
bound and all within another; then those that were not are paused, which takes a moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ..engine.plan import Run, Step, step_kind
from ..model.errors import GuestFailed, KvmError
from .guests import agent_connected, resumed, thawed_if_frozen
from .host import Host

COHORT = 6  # guests asked at a time: libvirt is called from eight threads, and others want to be served meanwhile
FREEZE = 10  # seconds for one guest's freeze
FREEZES = 20.0  # seconds for all of them: whoever's turn comes later is paused instead


@dataclass(frozen=True)
class GuestsStep(Step):
    """A step on guests that were running when it was planned: their names by their domains' UUIDs."""

    guests: dict[str, str] = field(default_factory=dict)

    def touches(self) -> tuple[str, ...]:
        return tuple(f"domain:{uuid}" for uuid in self.guests)


@step_kind
@dataclass(frozen=True)
class HoldGuests(GuestsStep):
    """Hold guests still: frozen by their agents, or else paused. Undo lets all of them go.

    After the step `_guests` of the results says of each, by UUID: consistency, how it is held, and since when; once it
    was let go, also for how many seconds it was held.
    """

    kind = "guests.hold"

    def describe(self) -> str:
        return f"freeze {_some(self.guests)} by their agents, or else pause them"

    async def do(self, host: Host, run: Run) -> dict[str, Any]:
        # Noted before it is done: whoever cancels this must find out whom to let go.
        held: dict[str, dict[str, Any]] = run.results.setdefault("_guests", {})
        end = time.monotonic() + FREEZES

        async def freeze(uuid: str) -> None:
            if time.monotonic() < end and agent_connected(await host.virt.live_xml(uuid)):
                held[uuid] = {"how": "freezing", "since": time.monotonic(), "consistency": "crash"}
                await host.agent.begin_freeze(uuid, FREEZE)
                held[uuid] |= {"how": "frozen", "consistency": "app"}

        async def pause(uuid: str) -> None:
            if held.get(uuid, {}).get("how") == "frozen" or await host.virt.state(uuid) != "running":
                return
            # One that is freezing may yet be frozen, while it is paused or after: it must be thawed as well.
            how = "paused and freezing" if uuid in held else "paused"
            held[uuid] = {"how": how, "since": time.monotonic(), "consistency": "crash"}
            await host.virt.pause(uuid)
            held[uuid]["consistency"] = "paused"

        await _cohorts(self.guests, freeze)
        await _cohorts(self.guests, pause)
        return {"_guests": held}

    async def done(self, host: Host, run: Run) -> bool:
        return any([await _is_held(host, uuid) for uuid in self.guests])

    async def undo(self, host: Host, run: Run) -> None:
        await _let_all_go(host, self.guests, run)


@step_kind
@dataclass(frozen=True)
class LetGuestsGo(GuestsStep):
    """Thaw and resume guests that were held still. Undo holds nobody still again."""

    kind = "guests.let-go"

    def describe(self) -> str:
        return f"let {_some(self.guests)} go on"

    async def do(self, host: Host, run: Run) -> dict[str, Any]:
        seconds, unanswered = await _let_all_go(host, self.guests, run)
        names = {self.guests[uuid]: each for uuid, each in seconds.items()}
        known: list[dict[str, Any]] = run.results.get("snapshots", [])
        known = [{**each, "held": names.get(each["vm"], each["held"])} for each in known]
        return {"snapshots": known, "unanswered": unanswered}

    async def done(self, host: Host, run: Run) -> bool:
        return not any([await _is_held(host, uuid) for uuid in self.guests])

    async def undo(self, host: Host, run: Run) -> None:
        return None


async def _let_all_go(host: Host, guests: dict[str, str], run: Run) -> tuple[dict[str, float], list[str]]:
    """Let each guest go, whatever becomes of the others: how many seconds each was held, by UUID, and the names of
    those whose agents did not answer, so that they might freeze even now. Raises GuestFailed, naming those still held.

    What was done of it is noted in the results, so that it can be tried again. Where nothing is noted, as after a crash
    of the service, each is resumed and thawed as if it were held.
    """
    held: dict[str, dict[str, Any]] = run.results.get("_guests", {uuid: {"how": "unknown"} for uuid in guests})
    seconds: dict[str, float] = {}
    left: list[str] = []
    unanswered: list[str] = []

    async def let_go(uuid: str) -> None:
        how = held.get(uuid, {}).get("how", "")
        if not how:
            return
        try:
            if how not in ("frozen", "freezing"):
                await resumed(host, uuid)
            if how == "unknown":
                await thawed_if_frozen(host, uuid)
            elif how == "frozen":
                await host.agent.thaw(uuid)
        except KvmError as fault:
            left.append(f"{guests[uuid]} ({fault.what})")
            return
        if "freezing" in how:
            try:
                await host.agent.thaw(uuid)
            except KvmError:
                unanswered.append(guests[uuid])
        if since := held.get(uuid, {}).get("since"):
            seconds[uuid] = round(time.monotonic() - since, 3)
        held[uuid] = {**held.get(uuid, {}), "how": "", "since": 0.0, "held": seconds.get(uuid, 0.0)}

    await _cohorts(guests, let_go)
    if left:
        why = f"these may still be frozen or paused: {', '.join(sorted(left))}"
        raise GuestFailed("not every guest was let go", why, "virsh domfsthaw NAME and virsh resume NAME, for each")
    return seconds, sorted(unanswered)


async def _cohorts(guests: Iterable[str], work: Callable[[str], Awaitable[None]]) -> None:
    """Do it to each guest, a few at a time. A guest that fails is no worse off than before; no other waits for it."""
    slots = asyncio.Semaphore(COHORT)

    async def one(uuid: str) -> None:
        async with slots:
            try:
                await work(uuid)
            except KvmError:
                return

    async with asyncio.TaskGroup() as group:
        for uuid in guests:
            group.create_task(one(uuid))


async def _is_held(host: Host, uuid: str) -> bool:
    try:
        if await host.virt.state(uuid) == "paused":
            return True
        return await host.agent.answers(uuid) and await host.agent.frozen(uuid)
    except KvmError:
        return False


def _some(guests: dict[str, str]) -> str:
    """A few guests by name, more by their number."""
    names = sorted(guests.values())
    return ", ".join(names) if len(names) <= 5 else f"{len(names)} guests"
