"""Run as an unprivileged user: calls every method of every object, and sets every property, with valid arguments.

All of it is generated from the installed XML and from the objects there are. Prints a JSON list of
[object, member, name of the error or "" where there was none].
"""

from __future__ import annotations

import json
import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from jeepney import DBusAddress, MessageFlag, MessageType, new_method_call
from jeepney.io.blocking import open_dbus_connection

SERVICE, ROOT = "org.kldload.Kvm1", "/org/kldload/Kvm1"
PLAIN = {"s": "stable", "b": True, "u": 1, "t": 1 << 30, "d": 1.0, "as": ["denied-1"], "o": ROOT, "x": 1, "i": 1}
BY_NAME = {
    "names": ["denied-1", "denied-2"],
    "name": "denied-0",
    "action": "org.kldload.kvm.delete",
    "snapshot": "stable",
    "target": "vda",
    "ids": ["pool-autotrim"],
    "profile": "kvm",
    "mac": "52:54:00:00:00:01",
}


def value(name: str, type_: str, connection_fds: list[int]) -> object:
    if type_ == "h":
        return connection_fds[0]
    if type_ == "a{sv}":
        return {}
    return BY_NAME.get(name, PLAIN[type_])


def main() -> None:
    connection = open_dbus_connection(bus="SYSTEM", enable_fds=True)
    manager = DBusAddress(ROOT, bus_name=SERVICE, interface="org.freedesktop.DBus.ObjectManager")
    objects = connection.send_and_get_reply(new_method_call(manager, "GetManagedObjects"), timeout=60).body[0]
    objects[ROOT] = {f"{SERVICE}.Manager": {}}
    image = Path(sys.argv[1])
    outcome = []
    for file in sorted(Path("/usr/share/dbus-1/interfaces").glob(f"{SERVICE}.*.xml")):
        for interface in ET.parse(file).getroot().findall("interface"):
            for path in sorted(path for path, has in objects.items() if interface.get("name") in has):
                outcome += calls(connection, path, interface, image)
    print(json.dumps(outcome))


def calls(connection, path: str, interface: ET.Element, image: Path) -> list[list[str]]:
    name = interface.get("name")
    address = DBusAddress(path, bus_name=SERVICE, interface=name)
    found = []
    for method in interface.findall("method"):
        args = [a for a in method.findall("arg") if a.get("direction", "in") == "in"]
        signature = "".join(a.get("type") for a in args)
        fd = os.open(image, os.O_RDONLY)
        body = tuple(value(a.get("name"), a.get("type"), [fd]) for a in args)
        call = new_method_call(address, method.get("name"), signature or None, body)
        found.append([path, method.get("name"), error_of(connection, call)])
        os.close(fd)
    properties = DBusAddress(path, bus_name=SERVICE, interface="org.freedesktop.DBus.Properties")
    for each in interface.findall("property"):
        get = new_method_call(properties, "Get", "ss", (name, each.get("name")))
        current = connection.send_and_get_reply(get, timeout=60).body[0]
        call = new_method_call(properties, "Set", "ssv", (name, each.get("name"), current))
        found.append([path, f"{each.get('name')}=", error_of(connection, call)])
    return found


def error_of(connection, call) -> str:
    call.header.flags |= MessageFlag.allow_interactive_authorization
    reply = connection.send_and_get_reply(call, timeout=60)
    if reply.header.message_type is MessageType.error:
        return next(v for k, v in reply.header.fields.items() if k.name == "error_name")
    return ""


main()
