"""What polkit's actions and the bus policy must be like, for the interfaces there are."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kldload_kvm.model.constants import HOOK, PREFIX, READ_ACTION, ROOT_ACTION
from kldload_kvm.model.contract import Interface

from .rules import PLAN

STANDARD = frozenset(
    f"org.freedesktop.DBus.{name}" for name in ("Introspectable", "ObjectManager", "Peer", "Properties")
)

YES = ("yes", "yes", "yes")
EVERYDAY = ("auth_admin", "auth_admin", "auth_admin_keep")
EVERY_TIME = ("auth_admin", "auth_admin", "auth_admin")


@dataclass(frozen=True)
class Action:
    """A polkit action; defaults are those for any, inactive and active sessions."""

    id: str
    description: str
    message: str
    defaults: tuple[str, str, str]


def actions(policy: Path) -> dict[str, Action]:
    """The actions of a .policy file by id."""
    found = {}
    for element in ET.parse(policy).getroot().findall("action"):
        any_, inactive, active = (
            element.findtext(f"defaults/allow_{who}", "") for who in ("any", "inactive", "active")
        )
        id_ = element.get("id", "")
        found[id_] = Action(
            id_, element.findtext("description", ""), element.findtext("message", ""), (any_, inactive, active)
        )
    return found


def action_faults(known: dict[str, Action], interfaces: Iterable[Interface]) -> Iterator[str]:
    """Actions that nothing asks for, and defaults that are none of the three classes."""
    asked = {method.action for interface in interfaces for method in interface.methods.values()} - {PLAN, ROOT_ACTION}
    yield from (f"{id_}: no method asks for it" for id_ in known.keys() - asked)
    for action in known.values():
        allowed = (YES,) if action.id == READ_ACTION else (EVERYDAY, EVERY_TIME)
        if action.defaults not in allowed:
            yield f"{action.id}: its defaults are {', '.join(action.defaults)}"
        if not action.description or not action.message:
            yield f"{action.id}: has no description or no message"


def bus_faults(conf: Path, interfaces: Iterable[Interface]) -> Iterator[str]:
    """What a bus policy lets through too much or too little: everybody may reach our interfaces, each by its name."""
    wanted = {interface.name for interface in interfaces if interface.name != HOOK} | STANDARD
    root = ET.parse(conf).getroot()
    allowed = set()
    for rule in root.findall("policy[@context='default']/allow"):
        if rule.attrib.keys() != {"send_destination", "send_interface"} or "*" in rule.attrib.values():
            yield f"{conf.name}: a rule for everybody must name our destination and one interface: {rule.attrib}"
        elif rule.get("send_destination") != PREFIX:
            yield f"{conf.name}: {rule.get('send_destination')} is not ours to open"
        else:
            allowed.add(rule.get("send_interface", ""))
    yield from (f"{conf.name}: nobody but root can reach {name}" for name in sorted(wanted - allowed))
    yield from (f"{conf.name}: {name} is open to everybody and not known" for name in sorted(allowed - wanted))
    owners = [policy.attrib for policy in root.findall("policy") if policy.find("allow[@own]") is not None]
    if owners != [{"user": "root"}]:
        yield f"{conf.name}: root, and nobody else, must be able to own the name"
