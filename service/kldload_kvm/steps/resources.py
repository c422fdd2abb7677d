"""Steps that change a domain's memory and CPUs: in its definition, and in the running guest as far as it goes along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..engine.plan import Run, step_kind
from ..model.domain_resources import Live, amounts, memory_change, module_xml, vcpus_change, with_parts
from ..model.errors import KvmError, LibvirtUnavailable
from ..model.inventory import OFF
from ..model.sizes import format_size
from ..waiting import until
from .domains import DomainStep
from .host import Host

GIVING_BACK = 10.0


@step_kind
@dataclass(frozen=True)
class SetParts(DomainStep):
    """Change the definition. old, new: the parts of it that memory and CPUs are made of; to: in words."""

    kind = "domain.set-parts"
    old: str
    new: str
    to: str

    def describe(self) -> str:
        return f"define {self.name} with {self.to}"

    async def do(self, host: Host, run: Run) -> None:
        await host.virt.edit(self.uuid, lambda xml: with_parts(xml, self.new))

    async def done(self, host: Host, run: Run) -> bool:
        domain = await host.virt.domain(self.uuid)
        return domain is not None and amounts(domain.xml) == amounts(self.new)

    async def undo(self, host: Host, run: Run) -> None:
        if await self.done(host, run):
            await host.virt.edit(self.uuid, lambda xml: with_parts(xml, self.old))


@dataclass(frozen=True)
class LiveStep(DomainStep):
    """Changes the running guest, if it can be, and says whether it was. What a guest does not take comes at its next
    boot: so that is no failure."""

    reversible = False

    async def do(self, host: Host, run: Run) -> dict[str, Any]:
        if await host.virt.state(self.uuid) in OFF:
            return _later("it is off")
        change = self.change(await host.virt.live_xml(self.uuid))
        if change.how == "later":
            return _later(change.why)
        try:
            await self.carry_out(host, change)
        except LibvirtUnavailable:
            raise
        except KvmError as fault:
            return _later(f"it could not be done while it runs: {fault.why or fault.what}")
        if not await until(lambda: self.done(host, run), GIVING_BACK, 0.5):
            return _later("its guest was asked, and has not done it yet")
        return {"applied": "now", "reason": ""}

    def change(self, live_xml: str) -> Live:
        raise NotImplementedError

    async def carry_out(self, host: Host, change: Live) -> None:
        raise NotImplementedError

    async def done(self, host: Host, run: Run) -> bool:
        if await host.virt.state(self.uuid) in OFF:
            return True
        return self.change(await host.virt.live_xml(self.uuid)).how == "nothing"


@step_kind
@dataclass(frozen=True)
class SetLiveMemory(LiveStep):
    """size: in bytes."""

    kind = "domain.set-live-memory"
    size: int

    def describe(self) -> str:
        return f"give the running guest of {self.name} {format_size(self.size)} of memory, if it takes them"

    def change(self, live_xml: str) -> Live:
        return memory_change(live_xml, self.size)

    async def carry_out(self, host: Host, change: Live) -> None:
        if change.how == "plug":
            await host.virt.attach(self.uuid, module_xml(change.amount), "live")
        # After a module, too: what the balloon had taken stays taken.
        if self.change(await host.virt.live_xml(self.uuid)).how == "balloon":
            await host.virt.set_balloon(self.uuid, self.size)


@step_kind
@dataclass(frozen=True)
class SetLiveVcpus(LiveStep):
    """count: how many CPUs."""

    kind = "domain.set-live-vcpus"
    count: int

    def describe(self) -> str:
        return f"give the running guest of {self.name} {self.count} CPUs, if it takes them"

    def change(self, live_xml: str) -> Live:
        return vcpus_change(live_xml, self.count)

    async def carry_out(self, host: Host, change: Live) -> None:
        if change.how == "plug":
            await host.virt.set_vcpus(self.uuid, self.count)


def _later(why: str) -> dict[str, Any]:
    return {"applied": "at next boot", "reason": why}
