"""Steps that make a bridge for a trial, wait until somebody says that the host is still reached, and only then keep it.

What makes the network what it was does not hang on the daemon: a guard in a unit of its own takes the trial back when
nobody has called it off, and a reboot forgets the trial.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from ..engine.plan import Run, Step, step_kind
from ..host.applying import NETWORK_UNIT, apply, launch, withdraw
from ..host.bridging import links
from ..model.errors import TimedOut
from ..model.wiring import AWAITED
from ..waiting import until
from .host import LINK, Host

CONFIRMED = "_confirmed"
"""In a job's results, once somebody has confirmed it."""
LATEST = 240
"""Seconds that the guard leaves the trial to begin and the daemon to take it back, beyond the time to confirm in."""
INTERVAL = 0.2


@dataclass(frozen=True)
class _BridgeStep(Step):
    """tool: the one that has the port; settings: what it goes by."""

    bridge: str
    port: str
    tool: str
    settings: str

    def touches(self) -> tuple[str, ...]:
        return (f"{LINK}{self.bridge}",)

    def _action(self, do: str, **more: Any) -> dict[str, Any]:
        names = {"bridge": self.bridge, "port": self.port, "tool": self.tool, "settings": self.settings}
        return {"do": do, **names, **more}

    async def _apply(self, host: Host, run: Run, do: str) -> None:
        await apply(host.units, run.tag.replace("/", "x"), self._action(do), unit=NETWORK_UNIT)


@step_kind
@dataclass(frozen=True)
class GuardBridge(_BridgeStep):
    """Have the trial taken back in so many seconds, should nothing else do it: the daemon may be dead by then."""

    kind = "bridge.guard"
    undone_last = True  # it stays as long as the trial could not be taken back
    seconds: int = 0

    def describe(self) -> str:
        return f"have {self.port} set back should this service die meanwhile"

    async def do(self, host: Host, run: Run) -> None:
        action = self._action("guard", seconds=self.seconds + LATEST)
        await launch(host.units, _guard(run), action, unit=NETWORK_UNIT)

    async def done(self, host: Host, run: Run) -> bool:
        return False  # another one does no harm

    async def undo(self, host: Host, run: Run) -> None:
        await withdraw(host.units, _guard(run), unit=NETWORK_UNIT)


@step_kind
@dataclass(frozen=True)
class TryBridge(_BridgeStep):
    """Make the bridge, with the port's addresses, until the next boot."""

    kind = "bridge.try"

    def describe(self) -> str:
        return f"make the bridge {self.bridge} on {self.port}, with its addresses, by {self.tool} ({self.settings})"

    async def do(self, host: Host, run: Run) -> None:
        await self._apply(host, run, "try")

    async def done(self, host: Host, run: Run) -> bool:
        return False  # nothing may follow from it: it is taken back, whatever is there of it

    async def undo(self, host: Host, run: Run) -> None:
        await self._apply(host, run, "take-back")


@step_kind
@dataclass(frozen=True)
class AwaitConfirmation(Step):
    """Wait until the job is confirmed, which bus/bridges.py notes in its results; no longer than so many seconds."""

    kind = AWAITED
    bridge: str
    seconds: int

    def describe(self) -> str:
        return f"wait {self.seconds} s at most until it is confirmed: kvm-host bridge {self.bridge} --confirm"

    def touches(self) -> tuple[str, ...]:
        return (f"{LINK}{self.bridge}",)

    async def do(self, host: Host, run: Run) -> None:
        if not await until(lambda: self.done(host, run), self.seconds, INTERVAL):
            why = f"nobody has confirmed within {self.seconds} s that the host is still reached"
            hint = f"if it was: once more, then kvm-host bridge {self.bridge} --confirm, from where you reach the host"
            raise TimedOut(f"the bridge {self.bridge} was not kept", why, hint)

    async def done(self, host: Host, run: Run) -> bool:
        return bool(run.results.get(CONFIRMED))

    async def undo(self, host: Host, run: Run) -> None:
        return None


@step_kind
@dataclass(frozen=True)
class KeepBridge(_BridgeStep):
    """Have the bridge made at each boot."""

    kind = "bridge.keep"
    reversible = False

    def describe(self) -> str:
        return f"keep the bridge {self.bridge}"

    async def do(self, host: Host, run: Run) -> None:
        await self._apply(host, run, "keep")

    async def done(self, host: Host, run: Run) -> bool:
        return await asyncio.to_thread(_is_kept, self.tool, self.bridge)


@step_kind
@dataclass(frozen=True)
class DismissGuard(Step):
    """Let the guard of this job go: what is kept it would leave alone, but it would wait for nothing."""

    kind = "bridge.dismiss"
    reversible = False

    def describe(self) -> str:
        return "let the guard go"

    async def do(self, host: Host, run: Run) -> None:
        await withdraw(host.units, _guard(run), unit=NETWORK_UNIT)

    async def done(self, host: Host, run: Run) -> bool:
        return False  # to do it again does no harm


def _guard(run: Run) -> str:
    return f"{run.job}guard"


def _is_kept(tool: str, bridge: str) -> bool:
    return any(bridge in each.kept() for each in links.tools() if each.name == tool)
