"""AttachNic and DetachNic: a network card more or less, in the definition and, if the VM runs, in its guest at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Plan, Step
from ..model.domain_devices import Device, interface_xml, macs
from ..model.errors import InvalidArgument, NotFound
from ..model.names import shown
from ..steps.devices import AttachDevice, DetachDevice
from .disks import places
from .networks import choose, started
from .request import View, VmRequest, vm_guards, vm_locks


@dataclass(frozen=True)
class AttachNic(VmRequest):
    """network: bridge=NAME or network=NAME, or empty for the configured one."""

    operation = "vm.attach-nic"
    network: str = ""

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        return cls(target, options.get("network", ""))

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        domain = view.domain(vm)
        what = f"{vm.name} got no further network card"
        network = choose(view, self.network, what)
        if network is None:
            raise InvalidArgument(what, "its network would be none", "write bridge=NAME or network=NAME")
        mac = view.mac()
        xml = interface_xml(network, mac)
        *before, last = [AttachDevice(domain.uuid, vm.name, "interface", mac, xml, each) for each in places(domain)]
        start = started(view, network) if domain.active else ()
        prepare: tuple[Step, ...] = (*start, *before)
        return Plan(
            operation=self.operation,
            description=f"add a network card on {network[0]} {network[1]} to {vm.name}",
            prepare=prepare,
            commit=last,
            locks=vm_locks(vm),
            guards=vm_guards(vm),
            objects=(vm.id,),
            result={"mac": mac, "applied": "now" if domain.active else "at next boot"},
        )


@dataclass(frozen=True)
class DetachNic(VmRequest):
    """mac: the card's address."""

    operation = "vm.detach-nic"
    mac: str = ""

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        return cls(target, args[0].lower())

    def subject(self, view: View) -> dict[str, str]:
        return {**super().subject(view), "target": self.mac}

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        domain = view.domain(vm)
        xml = Device("interface", self.mac).in_(domain.xml)
        if not xml:
            have = ", ".join(macs(domain.xml)) or "none"
            raise NotFound(f"{vm.name} has no network card {shown(self.mac)}", f"its network cards: {have}", "")
        steps = [DetachDevice(domain.uuid, vm.name, "interface", self.mac, xml, each) for each in places(domain)]
        return Plan(
            operation=self.operation,
            description=f"remove the network card {self.mac} from {vm.name}",
            prepare=tuple(steps),
            locks=vm_locks(vm),
            guards=vm_guards(vm),
            objects=(vm.id,),
            result={"mac": self.mac},
        )
