"""Steps that copy the disks of a domain of others into volumes, and point the domain at these."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from ..engine.plan import Run, Step, step_kind
from ..images import conversion, disk_files
from ..images.answer import Disk
from ..images.own_thread import in_own_thread
from ..model.domain_devices import sources
from ..model.domain_xml import digest
from ..model.errors import WrongState
from ..model.image_name import Format
from ..model.source_disks import SourceDisk, order, with_elements
from .domains import DomainStep
from .host import Host, moved_disk


@step_kind
@dataclass(frozen=True)
class CopyDisk(Step):
    """Copy a file or device, which stays as it is, into a volume that a step before created; undo leaves it to that
    step. domain: whose disk it is; source: file or block; size: in bytes; identity: of what is copied, when this was
    planned."""

    kind = "disk.copy"
    early = True
    domain: str
    target: str
    source: str
    path: str
    format: Format
    size: int
    identity: str
    dataset: str

    @property
    def disk(self) -> SourceDisk:
        return SourceDisk(self.target, self.source, self.path, self.format)

    def describe(self) -> str:
        return f"copy {self.path} to {self.dataset}"

    async def do(self, host: Host, run: Run) -> None:
        what, name = f"{self.path} was not copied", disk_files.image_name(self.domain, self.disk)
        open_it = partial(disk_files.open_unused, self.disk, self.identity, what)
        source: disk_files.Opened = await in_own_thread("disk to be copied", open_it)
        try:
            await self._copy(host, run, source, name)
        finally:
            source.close()
        for moved in await moved_disk(self.source, self.path, self.identity):
            raise WrongState(what, f"{moved} while it was copied", "see that nobody uses it, and try again")

    async def _copy(self, host: Host, run: Run, source: disk_files.Opened, name: str) -> None:
        disk = Disk(self.format, self.size)
        if self.format != "raw":
            disk = await conversion.inspect(host.units, source.path, name, self.format)
        kernel, tag = await host.devices.kernel_name(self.dataset), run.tag.replace("/", "x")
        await conversion.convert(
            host.units, source.path, name, disk, self.dataset, kernel, tag, run.report,
            raw=self.format == "raw", device=source.device,
        )  # fmt: skip

    async def done(self, host: Host, run: Run) -> bool:
        return False  # the volume is new: writing it again does no harm

    async def undo(self, host: Host, run: Run) -> None:
        return None


@step_kind
@dataclass(frozen=True)
class PointAtVolumes(DomainStep):
    """Put other elements in the place of those of a domain's disks. From then on its guest writes to the volumes, so
    this comes last: it is refused, or taken back at once, if anything is not as it was when they were copied.

    old, new: the elements by target; planned: the definition's digest then; files: each path's kind, and its identity
    then.
    """

    kind = "domain.point-at-volumes"
    old: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    planned: str = ""
    files: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        return f"point {', '.join(sorted(self.new, key=order))} of {self.name} at the volumes"

    @property
    def what(self) -> str:
        return f"{self.name} was not pointed at its volumes"

    async def do(self, host: Host, run: Run) -> None:
        domain = await host.virt.domain(self.uuid)
        if domain is None or digest(domain.xml) != self.planned:
            raise WrongState(self.what, "its definition has been changed meanwhile", "make a new plan")
        if domain.active:
            raise self._started()
        kept = await host.virt.kept_of(self.uuid)
        if kept.saved or kept.snapshots or kept.checkpoints:
            raise WrongState(self.what, "it was saved, or a snapshot was made of it, meanwhile", "make a new plan")
        await self._check_files()
        await host.virt.edit(self.uuid, lambda xml: with_elements(xml, self.new))
        # libvirt does one thing after another with a domain: it was started before that, or it starts on the volumes.
        if not await self.done(host, run):
            raise self._started()
        await self._check_files()

    async def done(self, host: Host, run: Run) -> bool:
        domain = await host.virt.domain(self.uuid)
        if domain is None or not set(self.devices) <= sources(domain.xml):
            return False
        return not domain.active or set(self.devices) <= sources(await host.virt.live_xml(self.uuid))

    async def undo(self, host: Host, run: Run) -> None:
        domain = await host.virt.domain(self.uuid)
        if domain is None or not set(self.devices) & sources(domain.xml):
            return
        if domain.active and set(self.devices) & sources(await host.virt.live_xml(self.uuid)):
            hint = "its disks are the volumes now; shut it down, and see what is on them"
            raise WrongState(f"{self.name} was not pointed back at its files", "it was started meanwhile", hint)
        await host.virt.edit(self.uuid, lambda xml: with_elements(xml, self.old))

    async def _check_files(self) -> None:
        for path, (kind, was) in ((path, then.split(" ", 1)) for path, then in self.files.items()):
            for moved in await moved_disk(kind, path, was):
                raise WrongState(self.what, moved, "see that nobody uses it, and try again")

    def _started(self) -> WrongState:
        return WrongState(self.what, "it was started meanwhile", "shut it down, and try again")
