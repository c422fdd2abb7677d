"""Steps on the devices of a domain: disks and network cards, in its definition and in the running guest.

Both are steps of their own, so that each is told from the host alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..engine.plan import Run, step_kind
from ..model.domain_devices import Device, device_of, unplaced
from ..model.errors import GuestFailed, NotFound, TimedOut
from ..model.inventory import OFF, device
from ..waiting import until
from .domains import DomainStep
from .host import Host

LETTING_GO = 60.0


@dataclass(frozen=True)
class DeviceStep(DomainStep):
    """A step on one device. device: disk or interface; key: its target or MAC address; xml: its element; where: live
    or config."""

    device: str
    key: str
    xml: str
    where: str

    @property
    def what(self) -> Device:
        return Device(self.device, self.key)

    @property
    def place(self) -> str:
        return "the running guest" if self.where == "live" else "the definition"

    async def found(self, host: Host) -> str:
        """The device's element as it is now, or the empty string; a guest that is off has none live."""
        wanted = device_of(self.device, self.xml)
        if self.where == "live":
            if await host.virt.state(self.uuid) in OFF:
                return ""
            return wanted.in_(await host.virt.live_xml(self.uuid))
        domain = await host.virt.domain(self.uuid)
        if domain is None:
            raise NotFound(f"{self.name} was not changed", "it has no libvirt domain any more", "")
        return wanted.in_(domain.xml)

    async def put(self, host: Host, xml: str) -> None:
        """Add it, once the device node of its volume is there, which comes and moves a little after the volume."""
        if await self.found(host):
            return
        source = device_of(self.device, xml).source
        if self.where == "live" and source.startswith(device("")):
            await host.devices.wait(source.removeprefix(device("")))
        await host.virt.attach(self.uuid, xml, self.where)

    async def take(self, host: Host) -> None:
        """Remove it; a running guest is waited for."""
        found = await self.found(host)
        if not found:
            return
        await host.virt.detach(self.uuid, found, self.where)

        async def gone() -> bool:
            return not await self.found(host)

        if not await until(gone, LETTING_GO, 0.5):
            raise TimedOut(
                f"{self.what} of {self.name} was not removed",
                f"its guest was asked {LETTING_GO:.0f} s ago to let go of it, and has not; it may yet, when it reboots",
                "is a system running in it that knows hot-plug? Or shut the VM down first",
            )


@step_kind
@dataclass(frozen=True)
class AttachDevice(DeviceStep):
    """Add a device that is not there yet."""

    kind = "device.attach"

    def describe(self) -> str:
        return f"add {self.what} to {self.place} of {self.name}"

    async def do(self, host: Host, run: Run) -> None:
        await self.put(host, self.xml)

    async def done(self, host: Host, run: Run) -> bool:
        return bool(await self.found(host))

    async def undo(self, host: Host, run: Run) -> None:
        await self.take(host)


@step_kind
@dataclass(frozen=True)
class DetachDevice(DeviceStep):
    """Remove a device. Undo adds it again: in a running guest wherever there is place."""

    kind = "device.detach"

    def describe(self) -> str:
        return f"remove {self.what} from {self.place} of {self.name}"

    async def do(self, host: Host, run: Run) -> None:
        await self.take(host)

    async def done(self, host: Host, run: Run) -> bool:
        return not await self.found(host)

    async def undo(self, host: Host, run: Run) -> None:
        if self.where == "config":
            await self.put(host, self.xml)
        elif await host.virt.state(self.uuid) not in OFF:
            await self.put(host, unplaced(self.xml))


@step_kind
@dataclass(frozen=True)
class ShowSize(DomainStep):
    """Have the running guest see that a disk has `size` bytes. One that is off sees it when it starts."""

    kind = "domain.show-size"
    reversible = False
    target: str = ""
    size: int = 0

    def describe(self) -> str:
        return f"let the running guest of {self.name} see the new size of {self.target}"

    async def do(self, host: Host, run: Run) -> None:
        if await self.done(host, run):
            return
        await host.virt.resize_disk(self.uuid, self.target, self.size)
        if not await self.done(host, run):
            why = "libvirt took the new size, and the guest's disk still has the old one"
            raise GuestFailed(f"{self.name} does not see the new size of {self.target}", why, "reboot it")

    async def done(self, host: Host, run: Run) -> bool:
        if await host.virt.state(self.uuid) in OFF:
            return True
        return await host.virt.disk_size(self.uuid, self.target) >= self.size
