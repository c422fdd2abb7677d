"""The objects on the bus: what they are, kept as plain data, and the signals when that changes.

We send every signal ourselves: dbus-next sends InterfacesAdded from the wrong path, and answers GetManagedObjects
anywhere.
Values are sent, never invalidated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from dbus_next import Message, Variant

from ..model.constants import ROOT
from ..model.contract import PREFIX, Interface
from .connection import Signal

PROPERTIES = "org.freedesktop.DBus.Properties"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"

STANDARD_XML = """  <interface name="org.freedesktop.DBus.Peer">
    <method name="Ping"/>
    <method name="GetMachineId"><arg name="machine_uuid" type="s" direction="out"/></method>
  </interface>
  <interface name="org.freedesktop.DBus.Introspectable">
    <method name="Introspect"><arg name="xml_data" type="s" direction="out"/></method>
  </interface>
"""
PROPERTIES_XML = """  <interface name="org.freedesktop.DBus.Properties">
    <method name="Get">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="out"/>
    </method>
    <method name="GetAll">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="properties" type="a{sv}" direction="out"/>
    </method>
    <method name="Set">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="in"/>
    </method>
    <signal name="PropertiesChanged">
      <arg name="interface_name" type="s"/>
      <arg name="changed_properties" type="a{sv}"/>
      <arg name="invalidated_properties" type="as"/>
    </signal>
  </interface>
"""
OBJECT_MANAGER_XML = """  <interface name="org.freedesktop.DBus.ObjectManager">
    <method name="GetManagedObjects">
      <arg name="object_paths_interfaces_and_properties" type="a{oa{sa{sv}}}" direction="out"/>
    </method>
    <signal name="InterfacesAdded">
      <arg name="object_path" type="o"/>
      <arg name="interfaces_and_properties" type="a{sa{sv}}"/>
    </signal>
    <signal name="InterfacesRemoved">
      <arg name="object_path" type="o"/>
      <arg name="interfaces" type="as"/>
    </signal>
  </interface>
"""
DOCTYPE = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    '"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)


class Tree:
    """Objects by path; each has one interface of ours. send: puts a message on the bus."""

    def __init__(self, interfaces: dict[str, Interface], send: Callable[[Message], None]) -> None:
        self.interfaces = interfaces
        self.send = send
        self.objects: dict[str, tuple[Interface, dict[str, Variant]]] = {}

    def put(self, path: str, short: str, values: dict[str, Any]) -> None:
        """An object as it is now: announced if it is new, else what changed of it is."""
        interface = self.interfaces[f"{PREFIX}.{short}"]
        if path not in self.objects:
            wrapped = {name: Variant(spec.type, _listed(values[name])) for name, spec in interface.properties.items()}
            self.objects[path] = (interface, wrapped)
            body = [path, {interface.name: wrapped}]
            self.signal(ROOT, OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}", body)
        else:
            self.set(path, {name: values[name] for name in interface.properties})

    def set(self, path: str, values: dict[str, Any]) -> None:
        """Some properties of an object that is there; what changed of them is announced."""
        interface, wrapped = self.objects[path]
        listed = {name: _listed(value) for name, value in values.items()}
        new = {name: value for name, value in listed.items() if wrapped[name].value != value}
        if new:
            changed = {name: Variant(interface.properties[name].type, value) for name, value in new.items()}
            wrapped.update(changed)
            self.signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", [interface.name, changed, []])

    def remove(self, path: str) -> None:
        old = self.objects.pop(path, None)
        if old is not None:
            self.signal(ROOT, OBJECT_MANAGER, "InterfacesRemoved", "oas", [path, [old[0].name]])

    def emit(self, path: str, short: str, signal: str, *args: Any) -> None:
        """A signal of ours."""
        spec = self.interfaces[f"{PREFIX}.{short}"].signals[signal]
        self.signal(path, f"{PREFIX}.{short}", signal, spec.signature, list(args))

    def signal(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        self.send(Signal(path, interface, member, signature, body))

    def managed(self) -> dict[str, dict[str, dict[str, Variant]]]:
        """What GetManagedObjects answers: all but the root itself."""
        return {path: {i.name: dict(values)} for path, (i, values) in self.objects.items() if path != ROOT}

    def of(self, interfaces: Collection[str]) -> dict[str, dict[str, dict[str, Variant]]]:
        """The objects that have one of these interfaces, in the same shape; the root can be among them."""
        return {path: {i.name: dict(values)} for path, (i, values) in self.objects.items() if i.name in interfaces}

    def introspect(self, path: str) -> str | None:
        """The XML of an object or of a node on the way to one; None where there is nothing."""
        prefix = "/" if path == "/" else f"{path}/"
        children = sorted(
            {p[len(prefix) :].partition("/")[0] for p in self.objects if p.startswith(prefix) and p != "/"}
        )
        if path not in self.objects and not children:
            return None
        parts = [DOCTYPE, "<node>\n", STANDARD_XML]
        if path in self.objects:
            parts.append(PROPERTIES_XML)
            if path == ROOT:
                parts.append(OBJECT_MANAGER_XML)
            parts.append(f"  {self.objects[path][0].xml}\n")
        parts += [f'  <node name="{child}"/>\n' for child in children]
        return "".join([*parts, "</node>\n"])


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
