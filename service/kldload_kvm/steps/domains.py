"""Steps on libvirt domains: define and undefine, start and stop."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..engine.plan import LookingStep, Run, Step, step_kind
from ..model import properties
from ..model.domain_xml import facts, for_restore, interface_count, macs_of, restored, unpack, without_secrets
from ..model.errors import NotFound, TimedOut, WrongState
from ..model.inventory import OFF, device
from .host import Host

ZVOL = device("")


@dataclass(frozen=True)
class DomainStep(Step):
    """A step on one domain."""

    uuid: str
    name: str

    def touches(self) -> tuple[str, ...]:
        return (f"domain:{self.uuid}",)


@step_kind
@dataclass(frozen=True)
class DefineDomain(DomainStep):
    """A new domain of a UUID that nobody else has."""

    kind = "domain.define"
    parallel = True
    xml: str = ""

    def describe(self) -> str:
        return f"define the libvirt domain {self.name}"

    async def do(self, host: Host, run: Run) -> None:
        await host.virt.define(self.xml)

    async def done(self, host: Host, run: Run) -> bool:
        return await host.virt.domain(self.uuid) is not None

    async def undo(self, host: Host, run: Run) -> None:
        domain = await host.virt.domain(self.uuid)
        if domain and domain.active:  # undefined, it would be gone with all its disks as soon as it is off
            hint = "shut it down, and undefine it"
            raise WrongState(f"{self.name} was not undefined", "it was started meanwhile", hint)
        if domain:
            await host.virt.undefine(self.uuid)


@step_kind
@dataclass(frozen=True)
class RestoreDomain(DomainStep):
    """Define again the domain that a trash entry keeps, of a UUID that nobody else has.

    sources: paths of its volumes then -> now; renewed: it has a new UUID, and must not have its old addresses.
    """

    kind = "domain.restore"
    entry: str = ""
    sources: dict[str, str] = field(default_factory=dict)
    renewed: bool = False

    def describe(self) -> str:
        return f"define the libvirt domain {self.name} again"

    async def do(self, host: Host, run: Run) -> None:
        try:
            kept = unpack(await host.zfs.get(self.entry, properties.DOMAIN))
            macs = macs_of(self.uuid, interface_count(kept)) if self.renewed else ()
            xml = for_restore(kept, name=self.name, uuid=self.uuid, sources=self.sources, macs=macs)
        except (ValueError, ET.ParseError) as fault:
            what = f"the domain of {self.name} was not defined"
            hint = f"zfs get {properties.DOMAIN} {self.entry} shows what is there"
            raise NotFound(what, f"its trash entry does not keep it whole: {fault}", hint) from None
        await host.virt.define(xml)

    async def done(self, host: Host, run: Run) -> bool:
        return await host.virt.domain(self.uuid) is not None

    async def undo(self, host: Host, run: Run) -> None:
        if await self.done(host, run):
            await host.virt.undefine(self.uuid)


@step_kind
@dataclass(frozen=True)
class UndefineDomain(DomainStep):
    """Undefine a domain; its XML and autostart come back on undo."""

    kind = "domain.undefine"
    xml: str = ""
    autostart: bool = False

    def describe(self) -> str:
        return f"undefine the libvirt domain {self.name}"

    async def do(self, host: Host, run: Run) -> None:
        if await self.done(host, run):
            return
        if await host.virt.state(self.uuid) not in OFF:
            raise WrongState(
                f"{self.name} was not undefined", "it was started meanwhile", "shut it down, or use --force"
            )
        await host.virt.undefine(self.uuid)

    async def done(self, host: Host, run: Run) -> bool:
        return await host.virt.domain(self.uuid) is None

    async def undo(self, host: Host, run: Run) -> None:
        if await self.done(host, run):
            await host.virt.define(self.xml)
            if self.autostart:
                await host.virt.set_autostart(self.uuid, True)


@step_kind
@dataclass(frozen=True)
class RestoreDefinition(DomainStep):
    """Define a domain as it was when a snapshot was taken. dataset: the volume whose snapshot holds the XML."""

    kind = "domain.restore-definition"
    reversible = False
    dataset: str = ""
    snapshot: str = ""

    def describe(self) -> str:
        return f"define {self.name} as it was at @{self.snapshot}"

    async def do(self, host: Host, run: Run) -> None:
        what = f"{self.name} was not defined as it was at @{self.snapshot}"
        xml = await self._xml(host)
        if not xml:
            raise NotFound(what, "no definition was kept with that snapshot", "leave out with-definition")
        if await host.virt.state(self.uuid) not in OFF:
            raise WrongState(what, "it was started meanwhile", "shut it down, or use --force")
        volumes = [each.removeprefix(ZVOL) for each in facts(xml).disks.values() if each.startswith(ZVOL)]
        there = await host.zfs.get_each(volumes, "guid") if volumes else {}
        if gone := [each for each in volumes if each not in there]:
            why = f"it had volumes that are not there now: {', '.join(gone)}"
            raise WrongState(what, why, "leave out with-definition")
        await host.virt.define(xml)

    async def done(self, host: Host, run: Run) -> bool:
        domain, xml = await host.virt.domain(self.uuid), await self._xml(host)
        return domain is not None and bool(xml) and without_secrets(domain.xml) == without_secrets(xml)

    async def _xml(self, host: Host) -> str:
        """What is kept with the snapshot, for the VM as it is called now; empty if nothing can be read of it."""
        try:
            kept = await host.zfs.get(f"{self.dataset}@{self.snapshot}", properties.DOMAIN)
            if kept == "-":
                return ""
            xml = restored(unpack(kept), name=self.name, uuid=self.uuid)
            return await asyncio.to_thread(host.virt.pools.by_device, xml)
        except (ValueError, NotFound):
            return ""


@step_kind
@dataclass(frozen=True)
class StartNetwork(Step):
    """Start a libvirt network that a VM needs. Its undo leaves it running: others may use it by then."""

    kind = "network.start"
    name: str

    def describe(self) -> str:
        return f"start the libvirt network {self.name}"

    async def do(self, host: Host, run: Run) -> None:
        await host.virt.start_network(self.name)

    async def done(self, host: Host, run: Run) -> bool:
        return (await host.virt.networks()).get(self.name, False)

    async def undo(self, host: Host, run: Run) -> None:
        return None


@step_kind
@dataclass(frozen=True)
class StartDomain(DomainStep):
    """Start it, once the device nodes of its volumes are there."""

    kind = "domain.start"
    reversible = False
    datasets: tuple[str, ...] = ()

    def describe(self) -> str:
        return f"start {self.name}"

    async def do(self, host: Host, run: Run) -> None:
        for dataset in self.datasets:
            await host.devices.wait(dataset)
        await host.virt.start(self.uuid)

    async def done(self, host: Host, run: Run) -> bool:
        return await host.virt.state(self.uuid) != "shutoff"


@step_kind
@dataclass(frozen=True)
class ForceOff(DomainStep):
    """Pull the power cord. Undo starts the VM again, for it had been running; but not on volumes of which only some are
    as they were, and once their device nodes are there again. datasets: those volumes."""

    kind = "domain.force-off"
    undone_last = True
    datasets: tuple[str, ...] = ()

    def describe(self) -> str:
        return f"force {self.name} off"

    async def do(self, host: Host, run: Run) -> None:
        await host.virt.force_off(self.uuid)

    async def done(self, host: Host, run: Run) -> bool:
        return await host.virt.state(self.uuid) == "shutoff"

    async def undo(self, host: Host, run: Run) -> None:
        if await self.done(host, run):
            for dataset in self.datasets:
                with suppress(TimedOut):  # it may start without: libvirt refuses what it cannot open
                    await host.devices.wait(dataset)
            await host.virt.start(self.uuid)


@step_kind
@dataclass(frozen=True)
class CheckUnsaved(LookingStep, DomainStep):
    """That it is off, and libvirt has no memory of it saved (virsh managedsave), which would go on with the disks as
    they were. libvirt is asked whether it is off: one that it let through to start before the job began has no QEMU
    yet that has a disk open, and no event has told of it. what: was not done."""

    kind = "domain.check-unsaved"
    what: str = ""

    def describe(self) -> str:
        return f"see that {self.name} is off, and no memory of it is saved"

    async def do(self, host: Host, run: Run) -> None:
        if (state := await host.virt.state(self.uuid)) not in OFF:
            why = "somebody is just starting it" if state == "paused" else f"it is {state} meanwhile"
            raise WrongState(self.what, why, f"shut it down first (kvm-vm shutdown {self.name}), or use --force")
        (await host.virt.kept_of(self.uuid)).check_unsaved(self.name, self.what)


@step_kind
@dataclass(frozen=True)
class ShutDown(DomainStep):
    """Ask the guest to shut down, and wait at most `timeout` seconds until it is off."""

    kind = "domain.shutdown"
    reversible = False
    timeout: int = 300

    def describe(self) -> str:
        return f"ask {self.name} to shut down, and wait up to {self.timeout} s"

    async def do(self, host: Host, run: Run) -> None:
        if not await self.done(host, run):
            await host.virt.shutdown(self.uuid, self.timeout)

    async def done(self, host: Host, run: Run) -> bool:
        return await host.virt.state(self.uuid) == "shutoff"


@step_kind
@dataclass(frozen=True)
class ChangePower(DomainStep):
    """change: reboot, pause or resume."""

    kind = "domain.power"
    reversible = False
    change: str = ""

    def describe(self) -> str:
        return f"{self.change} {self.name}"

    async def do(self, host: Host, run: Run) -> None:
        changes: dict[str, Any] = {
            "reboot": host.virt.reboot, "pause": host.virt.pause, "resume": host.virt.resume,
        }  # fmt: skip
        await changes[self.change](self.uuid)

    async def done(self, host: Host, run: Run) -> bool:
        state = await host.virt.state(self.uuid)
        return state == {"reboot": "running", "pause": "paused", "resume": "running"}[self.change]


@step_kind
@dataclass(frozen=True)
class SetAutostart(DomainStep):
    """Whether libvirt starts it when the host boots."""

    kind = "domain.autostart"
    on: bool = False

    def describe(self) -> str:
        return f"{'start' if self.on else 'do not start'} {self.name} when the host boots"

    async def do(self, host: Host, run: Run) -> None:
        await host.virt.set_autostart(self.uuid, self.on)

    async def done(self, host: Host, run: Run) -> bool:
        domain = await host.virt.domain(self.uuid)
        return domain is not None and domain.autostart == self.on

    async def undo(self, host: Host, run: Run) -> None:
        await host.virt.set_autostart(self.uuid, not self.on)
