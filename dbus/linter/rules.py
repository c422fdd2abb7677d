"""What the introspection XML must be like, one interface at a time. Each fault is a line: where, and what is wrong."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator, Set

from kldload_kvm.model import contract
from kldload_kvm.model.constants import HOOK, PREFIX, READ_ACTION, ROOT_ACTION

from .signature import single

MEMBER = re.compile(r"[A-Z][A-Za-z0-9]*")
ARGUMENT = re.compile(r"[a-z][a-z0-9_]*")
OPTION = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
OPERATION = re.compile(r"[a-z]+\.[a-z]+(?:-[a-z]+)*")
OPTIONS = ("options", "a{sv}")
PLAN = "plan"
"""The action of what is authorized as the operation that a plan holds."""

NOTES = frozenset({"Action", "Operation", "OwnerMay"})


def faults(interface: contract.Interface, actions: Set[str]) -> Iterator[str]:
    """Everything wrong with an interface; actions are those that polkit knows."""
    yield from _shape(ET.fromstring(interface.xml), interface.name)
    if not interface.name.startswith(f"{PREFIX}.") or not MEMBER.fullmatch(interface.short):
        yield f"{interface.name}: an interface's name is {PREFIX}.Name"
    if not interface.doc:
        yield f"{interface.name}: has no doc comment"
    for method in interface.methods.values():
        where = f"{interface.short}.{method.name}"
        yield from (f"{where}: {fault}" for fault in _method(method, actions))
        if (method.action == ROOT_ACTION) != (interface.name == HOOK):
            yield f"{where}: the bus keeps {HOOK} for root, and nothing else: its action must say the same"
    for each in interface.properties.values():
        where = f"{interface.short}.{each.name}"
        yield from (f"{where}: {fault}" for fault in _property(each))
    for signal in interface.signals.values():
        where = f"{interface.short}.{signal.name}"
        yield from (f"{where}: {fault}" for fault in (*_member(signal.name, signal.doc), *_args(signal.args)))


def operations_shared(interfaces: Iterable[contract.Interface]) -> Iterator[str]:
    """An operation's name is its file's, its command's and its job's: two methods cannot have the same."""
    names = Counter(m.operation for i in interfaces for m in i.methods.values() if m.operation)
    yield from (f"the operation {name} belongs to {count} methods" for name, count in names.items() if count > 1)


def _shape(element: ET.Element, interface: str) -> Iterator[str]:
    """What the contract's reader passes over in silence."""
    for tag in ("method", "property", "signal"):
        names = Counter(member.get("name") for member in element.findall(tag))
        yield from (f"{interface}: {tag} {name} is there {count} times" for name, count in names.items() if count > 1)
    for child in element.iter():
        if not isinstance(child.tag, str):
            continue
        if child.tag not in ("interface", "method", "property", "signal", "arg", "annotation"):
            yield f"{interface}: <{child.tag}> is not known"
        if child.tag == "arg" and child.get("direction", "in") not in ("in", "out"):
            yield f"{interface}: an argument's direction is in or out, not {child.get('direction')}"
        note = child.get("name", "") if child.tag == "annotation" else ""
        short = note.removeprefix(f"{PREFIX}.")
        if note.startswith(f"{PREFIX}.") and short not in NOTES and not short.startswith("Option."):
            yield f"{interface}: the annotation {note} is not known"


def _method(method: contract.Method, actions: Set[str]) -> Iterator[str]:
    yield from _member(method.name, method.doc)
    yield from _args((*method.inputs, *method.outputs))
    if not method.action:
        yield "has no Action annotation: nobody could be allowed to call it"
    elif method.action not in (PLAN, ROOT_ACTION) and method.action not in actions:
        yield f"its action {method.action} is not in the polkit policy"
    if method.operation:
        yield from _operation(method)
    takes_options = bool(method.inputs) and (method.inputs[-1].name, method.inputs[-1].type) == OPTIONS
    if (method.options or method.operation) and not takes_options:
        yield "has options, so its last argument must be options, of type a{sv}"
    if takes_options and not method.options:
        yield "takes options and names none"
    for option in method.options:
        yield from (f"option {option.name}: {fault}" for fault in _option(option))
    repeated = Counter(option.name for option in method.options)
    yield from (f"option {name} is there twice, or a standard one" for name, count in repeated.items() if count > 1)


def _operation(method: contract.Method) -> Iterator[str]:
    if not OPERATION.fullmatch(method.operation):
        yield f"the operation {method.operation} is not named like vm.create"
    if method.action == READ_ACTION:
        yield "starts an operation, so the right to read is not enough"
    if [(arg.name, arg.type) for arg in method.outputs] != [("job", "o")]:
        yield "starts an operation, so it returns job, of type o, and nothing else"


def _option(option: contract.Arg) -> Iterator[str]:
    known = {standard.name for standard in contract.STANDARD_OPTIONS}
    if not OPTION.fullmatch(option.name) and option.name not in known:
        yield "is not named like require-consistency"
    if not option.doc:
        yield "has no text"
    yield from _type(option.type)
    if "v" in option.type:
        yield "is a variant within a variant"


def _property(each: contract.Property) -> Iterator[str]:
    yield from _member(each.name, each.doc)
    yield from _type(each.type)
    if each.type == "v":
        yield "is a variant within a variant"
    if each.access != "read":
        yield "can be written: what changes the host is a method, with an action of its own"


def _member(name: str, doc: str) -> Iterator[str]:
    if not MEMBER.fullmatch(name):
        yield "is not named like CreateVm"
    if not doc:
        yield "has no doc comment"


def _args(args: Iterable[contract.Arg]) -> Iterator[str]:
    args = tuple(args)
    for number, arg in enumerate(args, 1):
        if not arg.name:
            yield f"argument {number} has no name"
            continue
        if not ARGUMENT.fullmatch(arg.name):
            yield f"argument {arg.name} is not named like snapshot_name"
        if not arg.doc:
            yield f"argument {arg.name} has no doc comment"
        yield from (f"argument {arg.name}: {fault}" for fault in _type(arg.type))
    names = Counter(arg.name for arg in args)
    yield from (f"argument {name} is there {count} times" for name, count in names.items() if name and count > 1)


def _type(signature: str) -> Iterator[str]:
    try:
        single(signature)
    except ValueError as fault:
        yield f"its type {signature!r} is not valid: {fault}"
