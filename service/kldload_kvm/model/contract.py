"""The bus contract as data, read from the introspection XML in dbus/.

Dispatch, argument checks, authorization, the generated clients and the reference are all made from these. The text of
a comment stands before the element it describes. Our annotations:

    org.kldload.Kvm1.Action        the polkit action a method needs
    org.kldload.Kvm1.Operation     the method starts this operation as a job, and takes the standard options
    org.kldload.Kvm1.Option.NAME   an option: its D-Bus type, a space, and its text
    org.kldload.Kvm1.OwnerMay      whoever started the job may call it without the action
"""

from __future__ import annotations

import textwrap
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from functools import cached_property

from .constants import PREFIX, READ_ACTION

__all__ = ["PREFIX", "READ_ACTION", "STANDARD_OPTIONS", "Arg", "Interface", "Method", "Property", "Signal", "parse"]


@dataclass(frozen=True)
class Arg:
    """A named, typed argument or option."""

    name: str
    type: str
    doc: str


STANDARD_OPTIONS = (
    Arg("wait", "b", "Return when the job has ended; its error is the answer's."),
    Arg("plan-only", "b", "Return a job that is only planned: nothing is changed until it is applied."),
    Arg("request-id", "s", "The same id from the same user with the same arguments is the same job."),
    Arg("auth.no_user_interaction", "b", "Never ask the user for a password."),
)


@dataclass(frozen=True)
class Method:
    """A method; `options` are those it may find in its a{sv}, the standard ones included."""

    name: str
    doc: str
    inputs: tuple[Arg, ...]
    outputs: tuple[Arg, ...]
    options: tuple[Arg, ...]
    action: str
    operation: str
    owner_may: bool

    @cached_property
    def in_signature(self) -> str:
        return "".join(arg.type for arg in self.inputs)

    @cached_property
    def out_signature(self) -> str:
        return "".join(arg.type for arg in self.outputs)

    @cached_property
    def option_types(self) -> dict[str, str]:
        return {option.name: option.type for option in self.options}


@dataclass(frozen=True)
class Property:
    """A property. All of ours are read-only: what changes the host is a method."""

    name: str
    type: str
    doc: str
    access: str


@dataclass(frozen=True)
class Signal:
    """A signal and its arguments."""

    name: str
    doc: str
    args: tuple[Arg, ...]

    @cached_property
    def signature(self) -> str:
        return "".join(arg.type for arg in self.args)


@dataclass(frozen=True)
class Interface:
    """An interface, with `xml`, its element as introspection shows it."""

    name: str
    doc: str
    methods: dict[str, Method]
    properties: dict[str, Property]
    signals: dict[str, Signal]
    xml: str

    @property
    def short(self) -> str:
        """The name's last part, such as "Vm"."""
        return self.name.rpartition(".")[2]


def parse(text: str) -> tuple[Interface, ...]:
    """The interfaces of one XML file, in its order. Raises xml.etree.ElementTree.ParseError."""
    root = ET.fromstring(text, parser=ET.XMLParser(target=ET.TreeBuilder(insert_comments=True)))
    return tuple(_interface(element, doc) for element, doc in _documented(root, "interface"))


def _interface(element: ET.Element, doc: str) -> Interface:
    xml = ET.tostring(element, encoding="unicode").rstrip()
    return Interface(
        name=element.get("name", ""),
        doc=doc,
        methods={e.get("name", ""): _method(e, d) for e, d in _documented(element, "method")},
        properties={
            e.get("name", ""): Property(e.get("name", ""), e.get("type", ""), d, e.get("access", ""))
            for e, d in _documented(element, "property")
        },
        signals={
            e.get("name", ""): Signal(e.get("name", ""), d, _args(e, None)) for e, d in _documented(element, "signal")
        },
        xml=xml,
    )


def _method(element: ET.Element, doc: str) -> Method:
    notes = {e.get("name", ""): e.get("value", "") for e in element.findall("annotation")}
    options = []
    for name, value in notes.items():
        if name.startswith(f"{PREFIX}.Option."):
            type_, _, text = value.partition(" ")
            options.append(Arg(name.removeprefix(f"{PREFIX}.Option."), type_, text))
    operation = notes.get(f"{PREFIX}.Operation", "")
    return Method(
        name=element.get("name", ""),
        doc=doc,
        inputs=_args(element, "in"),
        outputs=_args(element, "out"),
        options=tuple(options) + (STANDARD_OPTIONS if operation else ()),
        action=notes.get(f"{PREFIX}.Action", ""),
        operation=operation,
        owner_may=notes.get(f"{PREFIX}.OwnerMay") == "true",
    )


def _args(element: ET.Element, direction: str | None) -> tuple[Arg, ...]:
    return tuple(
        Arg(e.get("name", ""), e.get("type", ""), d)
        for e, d in _documented(element, "arg")
        if direction is None or e.get("direction", "in") == direction
    )


def _documented(parent: ET.Element, tag: str) -> list[tuple[ET.Element, str]]:
    """The children of that tag, each with the text of the comment right before it."""
    found, doc = [], ""
    for child in parent:
        if not isinstance(child.tag, str):  # a comment
            doc = textwrap.dedent(child.text or "").strip()
            continue
        if child.tag == tag:
            found.append((child, "\n\n".join(" ".join(paragraph.split()) for paragraph in doc.split("\n\n"))))
        doc = ""
    return found
