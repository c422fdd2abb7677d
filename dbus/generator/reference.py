"""The API reference in Markdown: every interface with its properties, methods, options and signals."""

from __future__ import annotations

from collections.abc import Iterator

from kldload_kvm import contract_files
from kldload_kvm.model import errors
from kldload_kvm.model.constants import PREFIX, ROOT
from kldload_kvm.model.contract import STANDARD_OPTIONS, Arg, Interface, Method

ORDER = ("Manager", "Vm", "Storage", "Job", "Host")
"""The interfaces as a reader meets them; others follow by name."""

PATHS = {
    "Manager": ROOT,
    "Vm": f"{ROOT}/vm/ID",
    "Storage": f"{ROOT}/storage/NAME",
    "Job": f"{ROOT}/job/ID",
    "Host": f"{ROOT}/host",
    "Hook": f"{ROOT}/hook",
}

HEAD = f"""\
# The D-Bus API

Made from `dbus/*.xml` by `dbus/generate.py reference`; do not edit.

The service `{PREFIX}` is on the system bus. `{ROOT}` is also an `org.freedesktop.DBus.ObjectManager`: one call of
`GetManagedObjects` gives every object with its properties. A VM's path carries its id, with `_` for `-`.
[busctl.md](busctl.md) shows how it is used from scripts.

## Operations

A method with an *operation* starts a job, and returns its path at once. It takes these options too:

"""


def text() -> str:
    """The whole document."""
    interfaces = sorted(contract_files.interfaces().values(), key=_rank)
    body = (line for each in interfaces for line in _interface(each))
    return HEAD + "\n".join([*_arguments(STANDARD_OPTIONS), *_errors(), *body]) + "\n"


def _rank(interface: Interface) -> tuple[int, str]:
    return (ORDER.index(interface.short) if interface.short in ORDER else len(ORDER), interface.name)


def _errors() -> Iterator[str]:
    yield "\n## Errors\n"
    yield f"Each is `{PREFIX}.Error.NAME`. The message is up to three lines: what was not done, why, and what to do.\n"
    yield "| name | meaning |"
    yield "|---|---|"
    for each in errors.KvmError.__subclasses__():
        if each.__module__ == errors.__name__:
            yield f"| `{each.__name__}` | {_cell(each.__doc__ or '')} |"


def _interface(interface: Interface) -> Iterator[str]:
    yield f"\n## {interface.name}\n"
    yield f"{interface.doc}\n"
    if interface.short in PATHS:
        yield f"At `{PATHS[interface.short]}`.\n"
    if interface.properties:
        yield "| property | type | |"
        yield "|---|---|---|"
        for each in interface.properties.values():
            yield f"| `{each.name}` | `{each.type}` | {_cell(each.doc)} |"
    for method in interface.methods.values():
        yield from _method(method)
    for signal in interface.signals.values():
        yield f"\n### Signal {signal.name}({', '.join(f'{each.type} {each.name}' for each in signal.args)})\n"
        yield f"{signal.doc}\n"
        yield from _arguments(signal.args)


def _method(method: Method) -> Iterator[str]:
    inputs = ", ".join(f"{each.type} {each.name}" for each in method.inputs)
    outputs = ", ".join(f"{each.type} {each.name}" for each in method.outputs)
    yield f"\n### {method.name}({inputs}){f' → {outputs}' if outputs else ''}\n"
    yield f"{method.doc}\n"
    action = "the action of the operation itself" if method.action == "plan" else f"`{method.action}`"
    yield f"Needs {action}{', except of whoever started the job' if method.owner_may else ''}.{_operation(method)}\n"
    told = [each for each in method.inputs if each.type != "a{sv}"]
    yield from _arguments(told if method.operation else [*told, *method.outputs])
    own = [each for each in method.options if not (method.operation and each in STANDARD_OPTIONS)]
    if own:
        yield "\nOptions:\n"
        yield from _arguments(own)


def _operation(method: Method) -> str:
    return f" Operation `{method.operation}`." if method.operation else ""


def _arguments(arguments: tuple[Arg, ...] | list[Arg]) -> Iterator[str]:
    for each in arguments:
        yield f"- `{each.name}` (`{each.type}`): {each.doc}"


def _cell(doc: str) -> str:
    return " ".join(doc.split()).replace("|", "\\|")
