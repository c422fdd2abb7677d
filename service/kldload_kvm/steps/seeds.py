"""Steps on cloud-init seeds: the small ISO from which a guest learns its name, keys and instance-id."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ..engine.plan import Run, Step, step_kind
from ..images.seed import build_seed, read_seed
from ..model.cloud_init import hostname_from, meta_data
from .host import Host


@dataclass(frozen=True)
class SeedStep(Step):
    """Writes a volume that a step before created; undo leaves it to that step. size: of the volume, in bytes."""

    async def done(self, host: Host, run: Run) -> bool:
        return False  # writing the same again does no harm

    async def undo(self, host: Host, run: Run) -> None:
        return None


@step_kind
@dataclass(frozen=True)
class WriteSeed(SeedStep):
    """A new VM's seed."""

    kind = "seed.write"
    early = True
    secrets = frozenset({"user"})  # holds a password's hash
    dataset: str
    meta: str
    user: str
    size: int

    def describe(self) -> str:
        return f"write the cloud-init seed to {self.dataset}"

    async def do(self, host: Host, run: Run) -> None:
        await host.devices.write(self.dataset, await asyncio.to_thread(build_seed, self.meta, self.user))


@step_kind
@dataclass(frozen=True)
class WriteCloneSeed(SeedStep):
    """A clone's seed: its origin's, with an instance-id and host name of its own, so that cloud-init starts afresh."""

    kind = "seed.write-clone"
    early = True
    parallel = True
    origin: str
    dataset: str
    vm: str
    name: str
    size: int

    def describe(self) -> str:
        return f"write {self.name}'s own cloud-init seed to {self.dataset}"

    async def do(self, host: Host, run: Run) -> None:
        contents = await host.devices.read(self.origin, self.size)
        meta = meta_data(self.vm, hostname_from(self.name))
        await host.devices.write(self.dataset, await asyncio.to_thread(_renewed, contents, meta))


def _renewed(contents: bytes, meta: str) -> bytes:
    _, user = read_seed(contents)
    return build_seed(meta, user)
