"""Steps that change native properties of volumes, and set them back as they were, or as they were inherited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..engine.plan import LookingStep, Run, Step, step_kind
from ..model.volume_settings import said_by_zfs
from .host import Host

OWN = ("local", "received")
"""Sources of a value that was set on the very dataset, as zfs get tells them."""


@step_kind
@dataclass(frozen=True)
class ReadSettings(LookingStep):
    """Note what is set on volumes, for the steps after it: so it is in the journal before anything is changed."""

    kind = "volume.read-settings"
    datasets: tuple[str, ...]
    keys: tuple[str, ...]

    def describe(self) -> str:
        return f"note {', '.join(self.keys)} as they are"

    async def do(self, host: Host, run: Run) -> dict[str, Any]:
        return {"_settings": {name: await host.zfs.settings(name, self.keys) for name in self.datasets}}


@step_kind
@dataclass(frozen=True)
class SetSetting(Step):
    """Set one native property. Undo sets what ReadSettings noted, or inherits it again."""

    kind = "volume.set-setting"
    dataset: str
    key: str
    value: str

    def describe(self) -> str:
        return f"set {self.key} of {self.dataset} to {self.value}"

    def touches(self) -> tuple[str, ...]:
        return (self.dataset,)

    async def do(self, host: Host, run: Run) -> None:
        await host.zfs.set(self.dataset, {self.key: self.value})

    async def done(self, host: Host, run: Run) -> bool:
        now, source = (await host.zfs.settings(self.dataset, (self.key,)))[self.key]
        return source in OWN and said_by_zfs(self.key, self.value, now)

    async def undo(self, host: Host, run: Run) -> None:
        noted = run.results.get("_settings", {}).get(self.dataset, {}).get(self.key)
        if noted is None:
            return
        value, source = noted
        if source in OWN or self.key == "refreservation":  # which cannot be inherited
            await host.zfs.set(self.dataset, {self.key: value})
        else:
            await host.zfs.inherit(self.dataset, self.key)
