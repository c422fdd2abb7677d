"""Steps inside a guest: holding it still for a snapshot, and giving a clone an identity of its own."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any

from ..engine.plan import Run, step_kind
from ..model.errors import GuestFailed, KvmError, LibvirtFailed, LibvirtUnavailable, NotFound, WrongState
from ..waiting import until
from .domains import DomainStep
from .host import Host

AGENT = "org.qemu.guest_agent.0"
TRYING, PAUSE = 60.0, 0.5


@step_kind
@dataclass(frozen=True)
class Quiesce(DomainStep):
    """Hold a running guest still: frozen by its agent, or else paused. Undo lets it go."""

    kind = "guest.quiesce"

    def describe(self) -> str:
        return f"freeze {self.name} by its agent, or else pause it"

    async def do(self, host: Host, run: Run) -> dict[str, Any]:
        state = await host.virt.state(self.uuid)
        if state != "running":
            return {"consistency": {"shutoff": "off", "paused": "paused"}.get(state, "crash"), "_held": ""}
        # Noted before it is done: whoever cancels this, or finds it after a crash, must know what to let go of.
        since, how = time.monotonic(), "paused"
        if agent_connected(await host.virt.live_xml(self.uuid)):
            await run.note(_held="freezing", _since=since)
            try:
                await host.agent.freeze(self.uuid)
                return {"consistency": "app", "_held": "frozen", "_since": since}
            except LibvirtFailed:
                pass  # its agent has answered, and said no: pause it
            except KvmError:  # no guest to rely on: pause it. It may freeze even now, and must be thawed as well then
                how = "paused and freezing"
        since = time.monotonic()
        await run.note(_held=how, _since=since)
        try:
            await host.virt.pause(self.uuid)
        except KvmError:  # it may have been paused nevertheless, and must be resumed then
            return {"consistency": "crash", "_held": how, "_since": since}
        return {"consistency": "paused", "_held": how, "_since": since}

    async def done(self, host: Host, run: Run) -> bool:
        if await host.virt.state(self.uuid) == "paused":
            return True
        return await host.agent.answers(self.uuid) and await host.agent.frozen(self.uuid)

    async def undo(self, host: Host, run: Run) -> None:
        run.results.update(await release(host, self.uuid, self.name, run))


@step_kind
@dataclass(frozen=True)
class LetGo(DomainStep):
    """Thaw or resume a guest that was held still. Undo holds nobody still again."""

    kind = "guest.let-go"

    def describe(self) -> str:
        return f"let {self.name} go on"

    async def do(self, host: Host, run: Run) -> dict[str, Any]:
        return await release(host, self.uuid, self.name, run)

    async def done(self, host: Host, run: Run) -> bool:
        if await host.virt.state(self.uuid) != "running":
            return False
        return not (await host.agent.answers(self.uuid) and await host.agent.frozen(self.uuid))

    async def undo(self, host: Host, run: Run) -> None:
        return None


@step_kind
@dataclass(frozen=True)
class RenewIdentity(DomainStep):
    """Host name, machine-id and SSH host keys of a guest's own, through its agent."""

    kind = "guest.renew-identity"
    reversible = False

    def describe(self) -> str:
        return f"give {self.name} a host name, machine-id and SSH host keys of its own"

    async def do(self, host: Host, run: Run) -> dict[str, Any]:
        return {"renewed": await host.agent.renew_identity(self.uuid, self.name)}

    async def done(self, host: Host, run: Run) -> bool:
        return False  # doing it twice does no harm


async def release(host: Host, uuid: str, name: str, run: Run) -> dict[str, Any]:
    """Thaw and resume what Quiesce held. Once that was done it is nothing; until then it can be tried again. A guest
    whose agent did not answer then either has not gone on, but may freeze even now: that is in the result."""
    held, result = run.results.get("_held", ""), dict[str, Any]()
    if "paused" in held:
        await resumed(host, uuid)
    elif held == "frozen":
        await host.agent.thaw(uuid)
    if held in ("frozen", "paused", "paused and freezing"):  # the clock begins anew with the host
        result["held"] = round(max(time.monotonic() - run.results["_since"], 0.0), 3)
    if held == "freezing":
        await thawed(host, uuid)
    elif held == "paused and freezing":
        try:
            await thawed(host, uuid)
        except GuestFailed:
            result["unanswered"] = [name]
    run.results["_held"] = ""
    return result


async def thawed(host: Host, uuid: str) -> None:
    """Thaw a guest whose freezing was cut short: it may be frozen or not. Raises GuestFailed."""
    try:
        connected = agent_connected(await host.virt.live_xml(uuid))
    except LibvirtUnavailable:
        connected = True
    except KvmError:
        connected = False
    if connected:
        await host.agent.thaw(uuid)
    else:
        await host.agent.thaw_quietly(uuid)


async def thawed_if_frozen(host: Host, uuid: str) -> None:
    """Thaw a guest of which nobody knows whether it was to be frozen. Raises GuestFailed."""
    try:
        if agent_connected(await host.virt.live_xml(uuid)) and not await host.agent.frozen(uuid):
            return  # an agent does one thing after the other: it is not about to freeze either
    except LibvirtFailed:
        return  # it has answered, and knows no freezing
    except KvmError:
        pass
    await thawed(host, uuid)


async def resumed(host: Host, uuid: str) -> None:
    """Resume a VM if it is paused, and try for a minute, not counting how long libvirt is away. Raises GuestFailed."""

    async def attempt() -> bool:
        try:
            if await host.virt.state(uuid) == "paused":
                await host.virt.resume(uuid)
        except (NotFound, WrongState):
            pass  # it is off meanwhile, or somebody else has resumed it
        except LibvirtUnavailable:
            raise
        except KvmError:
            return False
        return True

    if not await until(attempt, TRYING, PAUSE, away=LibvirtUnavailable):
        raise GuestFailed("the VM may still be paused", "libvirt did not resume it", f"virsh resume {uuid}")


def agent_connected(live_xml: str) -> bool:
    """Whether the guest's agent holds its channel open, as QEMU sees it."""
    target = ET.fromstring(live_xml).find(f"devices/channel/target[@name='{AGENT}']")
    return target is not None and target.get("state") == "connected"
