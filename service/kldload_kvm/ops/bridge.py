"""Host.CreateBridge: a bridge on a card of the host's, kept only if somebody still reaches the host over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Plan
from ..model.errors import InvalidArgument, WrongState
from ..model.host_facts import Settings
from ..model.wiring import WITHIN, link_name, owner_of
from ..steps.bridges import AwaitConfirmation, DismissGuard, GuardBridge, KeepBridge, TryBridge
from .host_fix import LOCKS, HostRequest
from .request import View

LEAST, MOST = 10, 600
"""Seconds to confirm in that can be asked for."""


@dataclass(frozen=True)
class Bridge(HostRequest):
    """within: seconds in which it is to be confirmed."""

    operation = "host.bridge"
    bridge: str
    port: str
    within: int = WITHIN

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        what, within = "no bridge was made", options.get("confirm-within", WITHIN)
        if not LEAST <= within <= MOST:
            why = f"{within} s is no time in which it could be confirmed"
            raise InvalidArgument(what, why, f"give it {LEAST} to {MOST} seconds")
        return cls(link_name(args[0], what), link_name(args[1], what), within)

    def subject(self, view: View) -> dict[str, str]:
        return {"target": f"{self.bridge} {self.port}"}

    def plan(self, view: View) -> Plan:
        facts = self._facts(view)
        if facts.system_fault:
            raise WrongState(f"the bridge {self.bridge} was not made", facts.system_fault, "kvm-host check")
        owner = owner_of(facts.system.wiring, self.bridge, self.port)
        names = (self.bridge, self.port, owner.tool, owner.settings)
        warnings = [f"until {self.bridge} has its addresses, the host is not reached over {self.port}: some seconds"]
        if not facts.system.wiring.links[self.port].carrier:
            warnings.append(f"{self.port} has no connection now, so the bridge will have none")
        used = _by_new_vms(facts.settings, self.bridge)
        return Plan(
            operation=self.operation,
            description=f"make the bridge {self.bridge} on {self.port}",
            prepare=(
                GuardBridge(*names, self.within),
                TryBridge(*names),
                AwaitConfirmation(self.bridge, self.within),
            ),
            commit=KeepBridge(*names),
            finish=(DismissGuard(),),
            locks=LOCKS,
            warnings=tuple(warnings),
            result={"bridge": self.bridge, "port": self.port, "tool": owner.tool, "used": used},
        )


def _by_new_vms(settings: Settings, bridge: str) -> bool:
    """Whether VMs for which no network is asked for get it."""
    return settings.network == f"bridge={bridge}" or (settings.network == "auto" and settings.bridge == bridge)
