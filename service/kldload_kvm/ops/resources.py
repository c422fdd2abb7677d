"""SetMemory and SetVcpus: in the definition, and in the running guest as far as it can take them.

The definition can be changed back. What a guest was asked for it may do late or never, so that comes last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Plan, Step
from ..model.domain_resources import amounts, parts, with_memory, with_vcpus
from ..model.domain_xml import Q35_VCPUS
from ..model.errors import InvalidArgument
from ..model.inventory import Domain
from ..model.sizes import MIB, TIB, format_size
from ..steps.resources import SetLiveMemory, SetLiveVcpus, SetParts
from .request import View, VmRequest, definition_guard, vm_guards, vm_locks

LEAST_MEMORY, MOST_MEMORY = 64 * MIB, 16 * TIB


@dataclass(frozen=True)
class ResourceRequest(VmRequest):
    """One number of a domain that it has in its definition and in its guest."""

    def wanted(self, xml: str) -> str:
        """The parts of the definition as they shall be."""
        raise NotImplementedError

    def words(self) -> str:
        raise NotImplementedError

    def live(self, domain: Domain, name: str) -> Step:
        raise NotImplementedError

    def result(self) -> dict[str, Any]:
        raise NotImplementedError

    def plan(self, view: View) -> Plan:
        vm = view.vm(self.vm)
        domain = view.domain(vm)
        steps: list[Step] = []
        new = self.wanted(domain.xml)
        if domain.persistent and amounts(new) != amounts(domain.xml):
            steps.append(SetParts(domain.uuid, vm.name, parts(domain.xml), new, self.words()))
        if domain.active:
            steps.append(self.live(domain, vm.name))
        last = steps.pop() if steps else None
        told = ("at next boot", "it is off") if last else ("now", "it has that already")
        return Plan(
            operation=self.operation,
            description=f"give {vm.name} {self.words()}",
            prepare=tuple(steps),
            commit=last,
            locks=vm_locks(vm),
            guards=vm_guards(vm) + definition_guard(vm),
            objects=(vm.id,),
            result={**self.result(), "applied": told[0], "reason": told[1]},
        )


@dataclass(frozen=True)
class SetMemory(ResourceRequest):
    """size: in bytes."""

    operation = "vm.set-memory"
    size: int = 0

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        size, what = args[0], "the memory was not changed"
        if not LEAST_MEMORY <= size <= MOST_MEMORY:
            bounds = f"from {format_size(LEAST_MEMORY)} to {format_size(MOST_MEMORY)}"
            raise InvalidArgument(what, f"it would be {format_size(size)}, and must be {bounds}", "give another size")
        if size % MIB:
            why = f"it would be {size}, and must be a multiple of {MIB}"
            raise InvalidArgument(what, why, f"use {size - size % MIB + MIB}B")
        return cls(target, size)

    def wanted(self, xml: str) -> str:
        return with_memory(xml, self.size)

    def words(self) -> str:
        return f"{format_size(self.size)} of memory"

    def live(self, domain: Domain, name: str) -> Step:
        return SetLiveMemory(domain.uuid, name, self.size)

    def result(self) -> dict[str, Any]:
        return {"memory": self.size}


@dataclass(frozen=True)
class SetVcpus(ResourceRequest):
    operation = "vm.set-vcpus"
    count: int = 0

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        count = args[0]
        if not 1 <= count <= Q35_VCPUS:
            why = f"it would have {count}, and can have 1 to {Q35_VCPUS}"
            raise InvalidArgument("the CPUs were not changed", why, "give another number")
        return cls(target, count)

    def wanted(self, xml: str) -> str:
        return with_vcpus(xml, self.count)

    def words(self) -> str:
        return "1 CPU" if self.count == 1 else f"{self.count} CPUs"

    def live(self, domain: Domain, name: str) -> Step:
        return SetLiveVcpus(domain.uuid, name, self.count)

    def result(self) -> dict[str, Any]:
        return {"vcpus": self.count}
