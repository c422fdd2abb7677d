"""The promise of the engine, tried with plans that nobody thought of: a failure or a cancellation at any point leaves
the host as it was before, or as it is after."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.job import State
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.engine.plan import Plan, Step
from kldload_kvm.model.errors import WrongState
from toy_host import Burn, Put, PutBeside, PutEarly, Take, ToyHost

BEFORE = {"old-1": "x/0", "old-2": "x/1"}


@dataclass(frozen=True)
class Trouble:
    """kind: none, before or after a step's effect, blind (it fails, and the host cannot tell whether it was done), or a
    cancellation; at: the how-manieth step it befalls; later: turns of the loop that the cancellation comes after."""

    kind: str
    at: int
    later: int


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Each step has a name of its own, so that the state after is the sum of the steps."""
    count = draw(st.integers(0, 6))
    steps: list[Step] = [draw(st.sampled_from([Put, PutBeside, PutEarly]))(f"new-{number}") for number in range(count)]
    for name, tag in BEFORE.items():
        if draw(st.booleans()):
            steps.insert(draw(st.integers(0, len(steps))), Take(name, tag))
    split = draw(st.integers(0, len(steps)))
    taken = {step.name for step in steps if isinstance(step, Take)}
    burn = [Burn(name) for name in BEFORE if name not in taken]
    commit = draw(st.sampled_from([None, Put("commit"), *burn]))
    return Plan("toy", "play", prepare=tuple(steps[:split]), commit=commit, finish=tuple(steps[split:]))


TROUBLES = st.builds(
    Trouble, st.sampled_from(["none", "before", "after", "blind", "cancel"]), st.integers(0, 8), st.integers(0, 8)
)


def names(steps: tuple[Step, ...]) -> list[str]:
    return [step.name for step in steps]  # type: ignore[attr-defined]


def state_after(steps: tuple[Step, ...]) -> set[str]:
    return {step.name for step in steps if isinstance(step, Put | PutBeside)} | (
        BEFORE.keys() - {step.name for step in steps if isinstance(step, Take | Burn)}
    )


async def played(plan: Plan, trouble: Trouble) -> tuple[ToyHost, State, bool]:
    """The host when it is over, the job's last state, and whether a cancellation was taken up."""
    host = ToyHost(dict(BEFORE))
    befallen = names(plan.steps)[trouble.at : trouble.at + 1]
    if trouble.kind in ("before", "after", "blind"):
        (host.after if trouble.kind == "after" else host.before).update(befallen)
    if trouble.kind == "blind":
        host.blind.update(befallen)
    engine = Engine(host, MemoryJournal(), at_once=2)
    job = engine.start(plan, 0)
    taken_up = False
    if trouble.kind == "cancel":
        seen = 0
        while not job.finished.is_set() and (
            sum(line.startswith("do") for line in host.log) <= trouble.at or seen < trouble.later
        ):
            seen += sum(line.startswith("do") for line in host.log) > trouble.at
            await asyncio.sleep(0)
        try:
            engine.cancel(job)
            taken_up = True
        except WrongState:
            pass
    await asyncio.wait_for(job.finished.wait(), 5)
    return host, job.state, taken_up


@settings(max_examples=400, deadline=None)
@given(plans(), TROUBLES)
def test_the_state_before_or_the_state_after(plan: Plan, trouble: Trouble) -> None:
    host, state, cancelled = asyncio.run(played(plan, trouble))
    befallen = trouble.kind in ("before", "after", "blind") and trouble.at < len(plan.steps)
    if cancelled:
        assert state is State.CANCELLED
        assert host.things == BEFORE
    elif not befallen:
        assert state is State.SUCCEEDED
        assert host.things.keys() == state_after(plan.steps)
    elif trouble.at < len(plan.prepare):
        assert state is State.FAILED
        assert host.things == BEFORE
    elif plan.commit and trouble.at == len(plan.prepare):
        assert state is State.FAILED
        if trouble.kind == "before":
            assert host.things == BEFORE
        elif trouble.kind == "after":
            assert host.things.keys() == state_after(plan.steps)
        else:  # not done, and the host could not tell: what had been prepared stays, nothing is taken back
            assert host.things.keys() == state_after((*plan.prepare, *plan.finish))
    else:  # past the point of no return: as far forward as it came
        assert state is State.FAILED
        for step in plan.steps[: trouble.at]:
            assert (step.name in host.things) == isinstance(step, Put | PutBeside)  # type: ignore[attr-defined]
        assert not any(line.startswith("undo") for line in host.log)
