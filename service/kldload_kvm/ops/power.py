"""Start, shutdown, force-off, reboot, pause, resume and autostart: one step each, and when each makes sense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ..engine.plan import Plan, Step
from ..model.errors import InvalidArgument, WrongState
from ..model.inventory import OFF, Domain, Vm
from ..model.sharing import refuse, taken
from ..steps.domains import ChangePower, ForceOff, SetAutostart, ShutDown
from .request import View, VmRequest, check_startable, start_steps, vm_guards, vm_locks


@dataclass(frozen=True)
class PowerRequest(VmRequest):
    """allowed: the states in which it can be done; doing: what was not done otherwise."""

    allowed: ClassVar[tuple[str, ...]]
    doing: ClassVar[str]

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        return cls(target)

    def steps(self, view: View, vm: Vm, domain: Domain) -> tuple[Step, ...]:
        raise NotImplementedError

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        domain = view.domain(vm)
        if self.allowed and domain.state not in self.allowed:
            raise WrongState(f"{vm.name} was not {self.doing}", f"it is {domain.state}", _hint(vm.name, domain.state))
        *before, step = self.steps(view, vm, domain)
        return Plan(
            operation=self.operation,
            description=step.describe(),
            prepare=tuple(before),
            commit=step,
            locks=vm_locks(vm),
            guards=vm_guards(vm),
            objects=(vm.id,),
        )


@dataclass(frozen=True)
class Start(PowerRequest):
    operation = "vm.start"
    allowed = OFF
    doing = "started"

    def steps(self, view: View, vm: Vm, domain: Domain) -> tuple[Step, ...]:
        what = f"{vm.name} was not started"
        check_startable(vm, what)
        for volume, other in taken(view.inventory, domain.uuid, domain.xml).items():
            raise refuse(what, volume, other)
        return start_steps(view, domain, tuple(each.name for each in vm.volumes))


@dataclass(frozen=True)
class Shutdown(PowerRequest):
    operation = "vm.shutdown"
    allowed = ("running", "shutdown", "suspended")
    doing = "shut down"
    timeout: int = 300

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        timeout = options.get("timeout", 300)
        if not 1 <= timeout <= 3600:
            raise InvalidArgument(f"the timeout cannot be {timeout}", "it is a number of seconds from 1 to 3600", "")
        return cls(target, timeout)

    def steps(self, view: View, vm: Vm, domain: Domain) -> tuple[Step, ...]:
        return (ShutDown(domain.uuid, vm.name, self.timeout),)


@dataclass(frozen=True)
class PowerOff(PowerRequest):
    operation = "vm.force-off"
    allowed = ("running", "paused", "shutdown", "suspended", "crashed")
    doing = "forced off"

    def steps(self, view: View, vm: Vm, domain: Domain) -> tuple[Step, ...]:
        return (ForceOff(domain.uuid, vm.name),)


@dataclass(frozen=True)
class Reboot(PowerRequest):
    operation = "vm.reboot"
    allowed = ("running",)
    doing = "rebooted"

    def steps(self, view: View, vm: Vm, domain: Domain) -> tuple[Step, ...]:
        return (ChangePower(domain.uuid, vm.name, "reboot"),)


@dataclass(frozen=True)
class Pause(PowerRequest):
    operation = "vm.pause"
    allowed = ("running",)
    doing = "paused"

    def steps(self, view: View, vm: Vm, domain: Domain) -> tuple[Step, ...]:
        return (ChangePower(domain.uuid, vm.name, "pause"),)


@dataclass(frozen=True)
class Resume(PowerRequest):
    operation = "vm.resume"
    allowed = ("paused",)
    doing = "resumed"

    def steps(self, view: View, vm: Vm, domain: Domain) -> tuple[Step, ...]:
        return (ChangePower(domain.uuid, vm.name, "resume"),)


@dataclass(frozen=True)
class Autostart(PowerRequest):
    operation = "vm.autostart"
    allowed = ()
    doing = "changed"
    on: bool = False

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        return cls(target, args[0])

    def steps(self, view: View, vm: Vm, domain: Domain) -> tuple[Step, ...]:
        return (SetAutostart(domain.uuid, vm.name, self.on),)


def _hint(name: str, state: str) -> str:
    return {
        "shutoff": f"start it first: kvm-vm start {name}",
        "running": f"it runs already; kvm-vm shutdown {name} ends it",
        "paused": f"let it run again: kvm-vm resume {name}",
    }.get(state, f"kvm-vm off {name} ends it whatever it does")
