"""Steps that change what kernel and modules run with, now and after the next boot."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from ..engine.plan import Run, Step, step_kind
from ..host.applying import apply
from ..model.errors import Failed
from ..model.modprobe import DROP_INS
from .host import Host


@step_kind
@dataclass(frozen=True)
class WriteDropIn(Step):
    """Write a drop-in of ours. before: its text until now, or empty for none. Undo writes that again, unless somebody
    has changed it meanwhile."""

    kind = "host.write-drop-in"
    drop_in: str
    text: str
    before: str = ""

    def describe(self) -> str:
        lines = "; ".join(line for line in self.text.splitlines() if not line.startswith("#"))
        return f"write {DROP_INS.get(self.drop_in, self.drop_in)}: {lines}"

    async def do(self, host: Host, run: Run) -> None:
        if await asyncio.to_thread(_read, DROP_INS[self.drop_in]) not in (self.before, self.text):
            why = "somebody has changed it meanwhile"
            raise Failed(f"{DROP_INS[self.drop_in]} was not written", why, "kvm-host check tells how it is now")
        await self._apply(host, run, self.text)

    async def done(self, host: Host, run: Run) -> bool:
        return await asyncio.to_thread(_read, DROP_INS[self.drop_in]) == self.text

    async def undo(self, host: Host, run: Run) -> None:
        if await self.done(host, run):
            await self._apply(host, run, self.before)

    async def _apply(self, host: Host, run: Run, text: str) -> None:
        action = {"do": "write" if text else "remove", "drop-in": self.drop_in, "text": text}
        await apply(host.units, _tag(run), action)


@step_kind
@dataclass(frozen=True)
class SetParameter(Step):
    """Set a parameter of the running kernel. Undo sets the value before."""

    kind = "host.set-parameter"
    parameter: str
    value: int
    before: int

    def describe(self) -> str:
        return f"set {self.parameter} to {self.value} now (it is {self.before})"

    async def do(self, host: Host, run: Run) -> None:
        await self._set(host, run, self.value)

    async def done(self, host: Host, run: Run) -> bool:
        return False  # setting it again does no harm

    async def undo(self, host: Host, run: Run) -> None:
        await self._set(host, run, self.before)

    async def _set(self, host: Host, run: Run, value: int) -> None:
        action = {"do": "set", "parameter": self.parameter, "value": value}
        await apply(host.units, _tag(run), action)


@step_kind
@dataclass(frozen=True)
class RenewInitramfs(Step):
    """Renew the initramfs, so that what ZFS is loaded with from it is what modprobe.d says. It has two places in a
    plan: after the drop-ins, and, to be renewed by its undo once these are set back, before them."""

    kind = "host.renew-initramfs"
    on_undo: bool = False

    def describe(self) -> str:
        what = "the initramfs, which has its own copy of modprobe.d"
        return f"should this be undone, renew {what}, again" if self.on_undo else f"renew {what}"

    async def do(self, host: Host, run: Run) -> None:
        if not self.on_undo:
            await apply(host.units, _tag(run), {"do": "initramfs"})

    async def done(self, host: Host, run: Run) -> bool:
        return False

    async def undo(self, host: Host, run: Run) -> None:
        if self.on_undo:
            await apply(host.units, _tag(run), {"do": "initramfs"})


def _tag(run: Run) -> str:
    return run.tag.replace("/", "x")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
