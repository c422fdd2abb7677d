"""Steps that create filesystems and mount them, for a host that has none yet."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from ..engine.plan import Run, Step, step_kind
from ..model import properties
from ..model.errors import Failed, TimedOut
from ..waiting import until
from .host import Host
from .own import Creating

MOUNT_SECONDS = 60.0


@step_kind
@dataclass(frozen=True)
class CreateFilesystem(Creating):
    """Create a filesystem, not yet mounted. Undo destroys it if nothing can be in it."""

    kind = "filesystem.create"
    early = True
    dataset: str
    values: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        settings = ", ".join(f"{key}={value}" for key, value in self.values.items())
        return f"create the dataset {self.dataset} with {settings}"

    def touches(self) -> tuple[str, ...]:
        return (self.dataset,)

    async def do(self, host: Host, run: Run) -> None:
        await host.zfs.create_filesystem(self.dataset, {**self.values, properties.JOB: run.tag})

    async def undo(self, host: Host, run: Run) -> None:
        """What was mounted may have something in it, unless it was looked at before it was unmounted."""
        if run.results.get("_mounted", {}).get(self.dataset) != "used":
            await super().undo(host, run)


@step_kind
@dataclass(frozen=True)
class MountFilesystem(Step):
    """Mount a dataset for the whole host, by a unit. Undo unmounts it."""

    kind = "filesystem.mount"
    dataset: str
    mountpoint: str

    def describe(self) -> str:
        return f"mount {self.dataset} at {self.mountpoint}"

    def touches(self) -> tuple[str, ...]:
        return (self.dataset, "images:")

    async def do(self, host: Host, run: Run) -> None:
        await self._note(run, "used")
        await host.units.stop(self._unit)
        await host.units.start(self._unit)
        if not await until(lambda: self.done(host, run), MOUNT_SECONDS, 0.2):
            why = f"it was not mounted within {MOUNT_SECONDS:.0f} s"
            raise TimedOut(f"{self.dataset} was not mounted", why, f"systemctl status {self._unit}")

    async def done(self, host: Host, run: Run) -> bool:
        state = (await host.units.state(self._unit)).active
        if state == "failed":
            raise Failed(f"{self.dataset} was not mounted", "zfs mount failed", f"journalctl -u {self._unit}")
        return state == "active"

    async def undo(self, host: Host, run: Run) -> None:
        mounted = (await host.units.state(self._unit)).active == "active"
        if not mounted or await asyncio.to_thread(_is_empty, self.mountpoint):
            await host.units.stop(self._unit)
            await self._note(run, "empty")

    async def _note(self, run: Run, what: str) -> None:
        await run.note(_mounted={**run.results.get("_mounted", {}), self.dataset: what})

    @property
    def _unit(self) -> str:
        """Its name, escaped as systemd-escape does."""
        escaped = "".join(
            "-" if c == "/" else c if (c.isalnum() and c.isascii()) or c in "_:." else f"\\x{ord(c):02x}"
            for c in self.dataset
        )
        return f"kldload-kvm-mount@{escaped}.service"


def _is_empty(path: str) -> bool:
    try:
        return not any(Path(path).iterdir())
    except OSError:
        return False
