"""A host that is a dict, and steps that put names into it and take them out: what the engine is tried with.

A step can be told to fail before or after its effect, to fail in its undo, or to stop until it is let go.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

from kldload_kvm.engine.plan import Guard, Run, Step, step_kind
from kldload_kvm.model.errors import KvmError, ZfsFailed


def broken(what: str) -> KvmError:
    return ZfsFailed(f"{what} was not done", "the disk is on fire", "put it out")


@dataclass
class ToyHost:
    """things: name -> tag of the step that put it; before, after, undo, blind: names of the steps that fail so;
    gates: steps that wait, before their effect, until their gate is opened; log: what was called, in order;
    moment(what): called before and after each effect; hindrances, newer: what is answered to an engine that
    recovers."""

    things: dict[str, str] = field(default_factory=dict)
    before: set[str] = field(default_factory=set)
    after: set[str] = field(default_factory=set)
    undo: set[str] = field(default_factory=set)
    blind: set[str] = field(default_factory=set)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    settled: list[tuple[str, ...]] = field(default_factory=list)
    world_moved: list[str] = field(default_factory=list)
    asked: asyncio.Event | None = None
    hindrances: list[str] = field(default_factory=list)
    newer: str = ""
    quiet: set[str] = field(default_factory=set)
    steps_seen: dict[str, Run] = field(default_factory=dict)
    on_step: Any = lambda name: None
    moment: Any = lambda what: None

    async def moved(self, guards: tuple[Guard, ...]) -> list[str]:
        if self.asked:
            await self.asked.wait()
        return self.world_moved

    def can_look_ahead(self, touched: str) -> bool:
        return bool(self.quiet) and touched not in self.quiet

    def look_ahead(self, touched: tuple[str, ...]) -> Awaitable[frozenset[str]]:
        return asyncio.ensure_future(self._look(touched))

    async def _look(self, touched: tuple[str, ...]) -> frozenset[str]:
        self.log.append(f"look ahead at {', '.join(touched)}")
        return frozenset(touched)

    async def settle(self, touched: tuple[str, ...], ahead: Awaitable[frozenset[str]] | None = None) -> None:
        known = await ahead if ahead else frozenset[str]()
        self.log.append("settle")
        self.settled.append(tuple(name for name in touched if name not in known))

    async def hindrance(self, touched: tuple[str, ...]) -> str:
        return self.hindrances.pop() if self.hindrances else ""

    async def knows_more(self, touched: tuple[str, ...], mark: tuple[str, int]) -> str:
        return self.newer


@dataclass(frozen=True)
class ToyStep(Step):
    """A step on one name."""

    name: str

    def describe(self) -> str:
        return f"{self.kind.rpartition('.')[2]} {self.name}"

    def touches(self) -> tuple[str, ...]:
        return (f"toy:{self.name}",)

    async def do(self, host: ToyHost, run: Run) -> dict[str, Any]:
        host.log.append(f"do {self.name}")
        host.steps_seen[self.name] = run
        host.on_step(self.name)
        host.at_once += 1
        host.most_at_once = max(host.most_at_once, host.at_once)
        try:
            await asyncio.sleep(0)
            if self.name in host.gates:
                await host.gates[self.name].wait()
            if self.name in host.before:
                raise broken(self.name)
            host.moment(f"before {self.name}")
            self.effect(host, run)
            host.moment(f"after {self.name}")
            if self.name in host.after:
                raise broken(self.name)
        finally:
            host.at_once -= 1
        return {self.name: "done"}

    def effect(self, host: ToyHost, run: Run) -> None:
        host.things[self.name] = run.tag

    async def done(self, host: ToyHost, run: Run) -> bool:
        if self.name in host.blind:
            raise broken(f"looking at {self.name}")
        return host.things.get(self.name) == run.tag

    async def undo(self, host: ToyHost, run: Run) -> None:
        host.log.append(f"undo {self.name}")
        await asyncio.sleep(0)
        if self.name in host.undo:
            raise broken(f"undoing {self.name}")
        host.moment(f"before undoing {self.name}")
        if host.things.get(self.name) == run.tag:
            del host.things[self.name]
        host.moment(f"after undoing {self.name}")


@step_kind
@dataclass(frozen=True)
class Put(ToyStep):
    kind = "toy.put"


@step_kind
@dataclass(frozen=True)
class PutEarly(Put):
    """The journal may be told of it together with what goes before it."""

    kind = "toy.put-early"
    early = True


@step_kind
@dataclass(frozen=True)
class PutBeside(ToyStep):
    """Runs together with its neighbours."""

    kind = "toy.put-beside"
    parallel = True


@step_kind
@dataclass(frozen=True)
class Take(ToyStep):
    """Takes a name out, and puts it back as it was."""

    kind = "toy.take"
    tag: str = ""

    def effect(self, host: ToyHost, run: Run) -> None:
        host.things.pop(self.name, None)

    def destroys(self) -> tuple[str, ...]:
        return (self.name,)

    async def done(self, host: ToyHost, run: Run) -> bool:
        return self.name not in host.things

    async def undo(self, host: ToyHost, run: Run) -> None:
        host.log.append(f"undo {self.name}")
        if await self.done(host, run):
            host.things[self.name] = self.tag


@step_kind
@dataclass(frozen=True)
class Burn(ToyStep):
    """Takes a name out for good."""

    kind = "toy.burn"
    reversible = False

    def effect(self, host: ToyHost, run: Run) -> None:
        host.things.pop(self.name, None)

    def destroys(self) -> tuple[str, ...]:
        return (self.name,)

    async def done(self, host: ToyHost, run: Run) -> bool:
        if self.name in host.blind:
            raise broken(f"looking at {self.name}")
        return self.name not in host.things

    async def undo(self, host: ToyHost, run: Run) -> None:
        raise AssertionError("what cannot be undone was asked to be")


def gates(*names: str) -> defaultdict[str, asyncio.Event]:
    found: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
    for name in names:
        found[name] = asyncio.Event()
    return found
