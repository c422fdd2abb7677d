"""Host.Fix and Host.Setup: what was found is put right, as far as that can be done with an undo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..engine.plan import Guard, Plan, Step
from ..model import profile
from ..model.catalogue import findings as catalogue
from ..model.errors import Failed, InvalidArgument, KvmError, NotFound, WrongState
from ..model.finding import Finding
from ..model.host_facts import HostFacts
from ..model.names import shown
from ..steps.filesystems import CreateFilesystem
from ..steps.host import Host
from ..steps.settings import ReadSettings
from .remedies import REMEDIES
from .request import Request, View

LOCKS = frozenset({"host"})
MOST = 100
ONLY_IF_NAMED = frozenset({"dataset-setting"})
"""What somebody may have chosen: it is not changed by a fix of everything."""


class HostRequest(Request):
    """An operation on the host itself, of which polkit's rules see the operation and the target."""

    def _facts(self, view: View) -> HostFacts:
        """Raises WrongState."""
        if view.host is None:
            raise WrongState("nothing was changed", "the host has not been checked yet", "kvm-host check")
        return view.host

    async def look(self, host: Host) -> Self:
        await host.check_again()
        return self

    def _plan(self, facts: HostFacts, steps: list[Step], description: str, result: dict[str, Any],
              warnings: tuple[str, ...] = ()) -> Plan:  # fmt: skip
        steps = together(steps)
        created = [step for step in steps if isinstance(step, CreateFilesystem)]
        stays = "what is in /var/lib/libvirt/images stays visible"
        aside = [each.dataset for each in created if each.values["mountpoint"] == "none"]
        hidden = [f"{name} is mounted nowhere: {stays}" for name in aside if facts.system.names.get("images")]
        return Plan(
            operation=self.operation,
            description=description,
            prepare=tuple(steps),
            locks=LOCKS,
            guards=tuple(Guard("absent", each.dataset) for each in created),
            warnings=(*warnings, *hidden),
            result=result,
        )


def together(steps: list[Step]) -> list[Step]:
    """Each step once, and all that is noted of settings noted first, by one step: the next note would replace it."""
    notes = [step for step in steps if isinstance(step, ReadSettings)]
    datasets = tuple(dict.fromkeys(name for note in notes for name in note.datasets))
    keys = tuple(dict.fromkeys(key for note in notes for key in note.keys))
    first: list[Step] = [ReadSettings(datasets, keys)] if notes else []
    for step in steps:
        if step not in first and not isinstance(step, ReadSettings):
            first.append(step)
    return first


@dataclass(frozen=True)
class Fix(HostRequest):
    """ids: of findings; all that can be put right if there are none."""

    operation = "host.fix"
    ids: tuple[str, ...] = ()

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        ids = tuple(dict.fromkeys(args[0]))[:MOST]
        for id_ in ids:
            if id_ not in catalogue():
                raise InvalidArgument("nothing was changed", f"there is no finding {shown(id_)}", "see: kvm-host check")
            if id_ not in REMEDIES:
                hint = f"kvm-host explain {id_} tells what you can do"
                raise InvalidArgument("nothing was changed", f"{id_} cannot be put right by the service", hint)
        return cls(ids)

    def subject(self, view: View) -> dict[str, str]:
        return {"target": " ".join(self.ids)}

    def plan(self, view: View) -> Plan:
        facts = self._facts(view)
        there = [each for each in view.findings if each.id in REMEDIES]
        asked = self.ids or REMEDIES.keys() - ONLY_IF_NAMED
        wanted = [each for each in there if each.id in asked]
        kept = [] if self.ids else [each for each in there if each.id in ONLY_IF_NAMED]
        refused = [f"{each.id} of {each.object} stays: it may be meant; name it to change it" for each in kept]
        found, steps = list[Finding](), list[Step]()
        for each in wanted:
            try:
                steps += REMEDIES[each.id](each, facts)
                found.append(each)
            except KvmError as refusal:
                if self.ids:
                    raise
                refused.append(f"{each.id} stays: {refusal.why}")
        if missing := [id_ for id_ in self.ids if id_ not in {each.id for each in found}]:
            raise NotFound("nothing was changed", f"{', '.join(missing)} is not found here", "see: kvm-host check")
        named = ", ".join(f"{each.id} of {each.object}" for each in found) or "nothing that was found"
        fixed = [{"id": each.id, "object": each.object} for each in found]
        return self._plan(facts, steps, f"put right {named}", {"fixed": fixed}, tuple(refused))


@dataclass(frozen=True)
class Setup(HostRequest):
    """profile: kvm, the only one there is."""

    operation = "host.setup"
    profile: str = "kvm"

    @classmethod
    def parse(cls, target: str, args: list[Any], options: Mapping[str, Any]) -> Self:
        if args[0] not in profile.PROFILES:
            why = f"there is no profile {shown(args[0])}"
            raise InvalidArgument("the host was not set up", why, f"it is one of {', '.join(profile.PROFILES)}")
        return cls(args[0])

    def subject(self, view: View) -> dict[str, str]:
        return {"target": self.profile}

    def plan(self, view: View) -> Plan:
        """The storages' parents first: their image stores are below them."""
        facts = self._facts(view)
        if facts.zfs_fault or not facts.pools:
            why = facts.zfs_fault or "there is no pool"
            raise WrongState("the host was not set up", why, "make one: zpool create rpool DEVICE…; or zpool import")
        steps, lines = list[Step](), []
        for line in profile.PROFILES[self.profile]:
            state, why, todo = line.judge(facts, view.findings)
            for each in todo:
                try:
                    steps += REMEDIES[each.id](each, facts)
                except Failed as refusal:
                    state, why = "left-out", refusal.why
            lines.append({"line": line.name, "state": state, "why": why})
        return self._plan(facts, steps, f"set the host up as the profile {self.profile} has it", {"lines": lines})
