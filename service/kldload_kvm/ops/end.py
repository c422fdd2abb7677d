"""End: a transient domain has ended in front of our eyes. The volumes that were made for it, to go with it, go to the
trash or are destroyed, as its definition asks for; all others stay.

The service starts this itself; it is no method on the bus. What counts is that a volume was made so, which stands on
it, and that the domain that has ended says the same of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ..engine.plan import Plan
from ..model import intent, properties
from ..model.errors import InvalidArgument
from ..model.inventory import Dataset, Domain, Vm, device
from .request import View
from .retire import Retire


@dataclass(frozen=True)
class End(Retire):
    operation = "vm.end"
    because: ClassVar[str] = "has ended"

    def fate(self, view: View, vm: Vm, volume: Dataset) -> str:
        return fates(self.domain).get(volume.name, intent.KEEP) if _is_marked(volume, self.domain) else intent.KEEP

    def plan(self, view: View) -> Plan:
        made, vm = super().plan(view), view.vm(self.vm)
        ended = [each for each in vm.volumes if self.fate(view, vm, each) != intent.KEEP]
        targets = tuple(each.properties.get(properties.TARGET, "") for each in ended)
        uuid = self.domain.uuid if self.domain else ""
        return replace(made, result={**made.result, "_uuid": uuid, "_ended": targets})


def fates(domain: Domain | None) -> dict[str, str]:
    """What a domain says of its volumes, by their names, for when it has ended; nothing if it cannot be understood."""
    try:
        asked = intent.wanted(domain.xml) if domain else {}
    except InvalidArgument:
        return {}
    paths = domain.disks if domain else {}
    return {paths.get(target, "").removeprefix(device("")): each.end for target, each in asked.items() if each.end}


def _is_marked(volume: Dataset, domain: Domain | None) -> bool:
    return volume.properties.get(properties.EPHEMERAL, "") == fates(domain).get(volume.name)
