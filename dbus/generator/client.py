"""The Python clients: a class for each interface, with its properties and methods under Python's names."""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Iterator

from kldload_kvm import contract_files
from kldload_kvm.model.constants import HOOK, READ_ACTION
from kldload_kvm.model.contract import STANDARD_OPTIONS, Arg, Interface, Method, Property, Signal

WIDTH = 120
SCALARS = {"s": "str", "o": "str", "g": "str", "b": "bool", "d": "float", "h": "int", "v": "Any"}
ROOTED = ("Manager",)
"""Interfaces of the root object."""

HEADER = '''\
"""The {kind} client: a class for each interface on the bus. Generated from dbus/*.xml by dbus/generate.py; not edited.

{example}

What is left out of a method's options is not sent. Calls raise the classes of model/errors.py, or ServiceUnavailable.
A method that returns a Job takes these options too:

{standard}
"""

from __future__ import annotations

from ..model.constants import PREFIX, ROOT
from .{transport} import ANSWER_TIME, LONGEST, Connection, Object, given

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [{names}]
'''

INIT = """\
    def __init__(self, connection: Connection, path: str = ROOT, properties: dict[str, Any] | None = None) -> None:
        super().__init__(connection, path, properties)
"""

TAKEN = {"connection", "path", "properties", "reload", "take", "watch"}
"""What every object has already."""

SYNC_EXAMPLE = """\
    with Connection() as connection:
        vm = Manager(connection).find_vm("web-1")
        job = vm.snapshot(name="before-update", wait=True)
        print(vm.state, job.result)"""

ASYNC_EXAMPLE = """\
    async with Connection() as connection:
        vm = await Manager(connection).find_vm("web-1")
        job = await vm.snapshot(name="before-update", wait=True)
        await vm.reload()
        print(vm.state, (await job.reload()).result)"""


def text(*, asynchronous: bool) -> str:
    """The whole module."""
    every = (each for each in contract_files.interfaces().values() if each.name != HOOK)
    interfaces = sorted(every, key=lambda each: each.short)
    names = sorted([*(each.short for each in interfaces), "Connection"])
    header = HEADER.format(
        kind="async" if asynchronous else "sync",
        example=ASYNC_EXAMPLE if asynchronous else SYNC_EXAMPLE,
        transport="aio_transport" if asynchronous else "transport",
        names=", ".join(f'"{name}"' for name in names),
        standard="\n".join(f"    {snake(each.name)}: {each.doc}" for each in STANDARD_OPTIONS),
    )
    classes = {each.short for each in interfaces}
    return header + "".join(f"\n\n{_class(each, classes, asynchronous)}" for each in interfaces)


def snake(name: str) -> str:
    """ "SnapshotCount" and "ssh-keys" as Python writes them; "auth.no_user_interaction" loses its prefix.

    >>> snake("SetAutostart"), snake("ssh-keys")
    ('set_autostart', 'ssh_keys')
    """
    name = name.rpartition(".")[2].replace("-", "_")
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return f"{name}_" if keyword.iskeyword(name) else name


def python_type(type_: str) -> str:
    """The annotation for a D-Bus type: "as" is list[str]."""
    if type_.startswith("a{"):
        return f"dict[{python_type(type_[2])}, {python_type(type_[3:-1])}]"
    if type_.startswith("a"):
        return f"list[{python_type(type_[1:])}]"
    return SCALARS.get(type_, "int")


def _class(interface: Interface, classes: set[str], asynchronous: bool) -> str:
    names = [snake(name) for name in (*interface.properties, *interface.methods)]
    if clash := {name for name in names if name in TAKEN or names.count(name) > 1}:
        raise ValueError(f"{interface.name}: {', '.join(sorted(clash))} would hide another name in the Python client")
    parts = [f"class {interface.short}(Object):\n{_docstring(_class_doc(interface), 4)}\n"]
    parts.append(f'    INTERFACE = f"{{PREFIX}}.{interface.short}"\n')
    if interface.short in ROOTED:
        parts.append(INIT)
    parts.extend(_property(each) for each in interface.properties.values())
    parts.extend(_method(each, classes, asynchronous) for each in interface.methods.values())
    return "\n".join(parts)


def _class_doc(interface: Interface) -> str:
    signals = "\n".join(_signal_doc(each) for each in interface.signals.values())
    return f"{interface.doc}\n\nSignals, as watch() gives them:\n{signals}" if signals else interface.doc


def _signal_doc(signal: Signal) -> str:
    names = ", ".join(arg.name for arg in signal.args)
    args = " ".join(f"{arg.name}: {arg.doc}" for arg in signal.args)
    return f"{signal.name}({names}): {signal.doc} {args}".rstrip()


def _property(each: Property) -> str:
    return (
        f"    @property\n    def {snake(each.name)}(self) -> {python_type(each.type)}:\n{_docstring(each.doc, 8)}\n"
        f'        value: {python_type(each.type)} = self.properties()["{each.name}"]\n        return value\n'
    )


def _method(method: Method, classes: set[str], asynchronous: bool) -> str:
    await_ = "await " if asynchronous else ""
    positional = [each for each in method.inputs if each.type != "a{sv}"]
    result, returned = _result(method, classes)
    parameters = ["self", *(f"{snake(each.name)}: {python_type(each.type)}" for each in positional)]
    if method.options:
        parameters += ["*", *(f"{snake(each.name)}: {python_type(each.type)} | None = None" for each in method.options)]
    arguments = [f'"{method.name}"', f'"{method.in_signature}"']
    arguments += ["options" if each.type == "a{sv}" else snake(each.name) for each in method.inputs]
    if method.action != READ_ACTION:
        arguments.append("asks=True")
    arguments += _timeout(method)
    lines = [_signature(method, parameters, result, asynchronous), _docstring(_method_doc(method, positional), 8)]
    if method.options:
        lines.append("        options = given(")
        lines += [f'            ("{each.name}", "{each.type}", {snake(each.name)}),' for each in method.options]
        lines.append("        )")
    target, tail = ("", []) if returned is None else (f"({returned[0]},) = ", returned[1])
    lines.append(_statement(f"{target}{await_}self._call(", arguments))
    return "\n".join([*lines, *(f"        {line}" for line in tail)]) + "\n"


def _statement(start: str, arguments: list[str]) -> str:
    line = f"        {start}{', '.join(arguments)})"
    return line if len(line) <= WIDTH else f"        {start}\n            {', '.join(arguments)}\n        )"


def _signature(method: Method, parameters: list[str], result: str, asynchronous: bool) -> str:
    start = f"    {'async ' if asynchronous else ''}def {snake(method.name)}("
    line = f"{start}{', '.join(parameters)}) -> {result}:"
    if len(line) <= WIDTH:
        return line
    return "\n".join([start, *(f"        {each}," for each in parameters), f"    ) -> {result}:"])


def _result(method: Method, classes: set[str]) -> tuple[str, tuple[str, list[str]] | None]:
    """The annotation of what a method returns; the name its answer is given, and the lines that return it."""
    if not method.outputs:
        return "None", None
    (output,) = method.outputs  # our methods give one thing or nothing
    if output.type == "o" and output.name.capitalize() in classes:
        kind = output.name.capitalize()
        return kind, ("path", [f"return {kind}(self.connection, path)"])
    kind = python_type(output.type)
    return kind, ("value", [f"result: {kind} = value", "return result"])


def _timeout(method: Method) -> Iterator[str]:
    """A call that returns when a job has ended takes as long as the job."""
    names = [each.name for each in method.options]
    if "wait" in names:
        yield "timeout=LONGEST if wait else ANSWER_TIME"
    elif "timeout" in names:
        yield "timeout=LONGEST if timeout is None else timeout + ANSWER_TIME"


def _method_doc(method: Method, positional: list[Arg]) -> str:
    own = [each for each in method.options if each not in STANDARD_OPTIONS or not method.operation]
    lines = [f"{snake(each.name)}: {each.doc}" for each in (*positional, *own)]
    lines += [f"returns: {each.doc}" for each in method.outputs if not method.operation]
    return "\n\n".join(filter(None, (method.doc, "\n".join(lines))))


def _docstring(doc: str, indent: int) -> str:
    """The text as a docstring. What follows its first line is items, each wrapped with its further lines indented."""
    margin = " " * indent
    first, *items = doc.split("\n")
    lines = textwrap.wrap(first, WIDTH - 3, initial_indent=f'{margin}"""', subsequent_indent=margin)
    for item in items:
        lines += textwrap.wrap(item, WIDTH, initial_indent=margin, subsequent_indent=f"{margin}    ") or [""]
    if len(lines) == 1:
        return f'{lines[0]}"""'
    return "\n".join([*lines, f'{margin}"""'])
