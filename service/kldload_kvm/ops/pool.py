"""Pool: libvirt's view of a storage, for virt-manager and Cockpit, where that is configured.

The service starts this itself; it is no method on the bus. A pool that is there, whatever it is, is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Plan
from ..model.inventory import device
from ..steps.pools import DefinePool, StartPool
from .request import Request, View

PREFIX = "kldload-"


@dataclass(frozen=True)
class Pool(Request):
    """storage: the name of one."""

    operation = "storage.define-pool"
    storage: str

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        return cls(target)

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.storage}"

    def path(self, view: View) -> str:
        """Where the devices of its volumes are."""
        return device(view.inventory.parents[self.storage])

    def subject(self, view: View) -> dict[str, str]:
        return {"dataset": view.inventory.parents[self.storage], "target": self.name}

    def plan(self, view: View) -> Plan:
        return Plan(
            operation=self.operation,
            description=f"define the libvirt storage pool {self.name}",
            prepare=(DefinePool(self.name, self.path(view)),),
            finish=(StartPool(self.name),),
            locks=frozenset({f"pool:{self.name}"}),
            result={"pool": self.name},
        )
