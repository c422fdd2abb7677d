"""The API as sorted lines of text, and what has changed between two such listings.

Whoever wrote a client relies on each of these lines. The listing is kept in dbus/api.lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kldload_kvm.model.contract import STANDARD_OPTIONS, Arg, Interface


@dataclass(frozen=True)
class Changes:
    """Lines that came and that went. A changed line is both."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True)
class Accepts:
    """Which changes are meant."""

    additions: bool = False
    removals: bool = False


def lines(interfaces: Iterable[Interface]) -> tuple[str, ...]:
    """Every interface, member, option and right, one a line."""
    return tuple(sorted({*_standard(), *(line for interface in interfaces for line in _interface(interface))}))


def compare(before: Iterable[str], after: Iterable[str]) -> Changes:
    old, new = set(before), set(after)
    return Changes(tuple(sorted(new - old)), tuple(sorted(old - new)))


def _standard() -> Iterator[str]:
    for option in STANDARD_OPTIONS:
        yield f"every operation: option {option.name} {option.type}"


def _interface(interface: Interface) -> Iterator[str]:
    for method in interface.methods.values():
        where = f"{interface.name}.{method.name}"
        yield f"{where}({_args(method.inputs)}) -> ({_args(method.outputs)})"
        yield f"{where}: action {method.action}{' or owner' if method.owner_may else ''}"
        if method.operation:
            yield f"{where}: operation {method.operation}"
        for option in method.options:
            if not (method.operation and option in STANDARD_OPTIONS):
                yield f"{where}: option {option.name} {option.type}"
    for each in interface.properties.values():
        yield f"{interface.name}.{each.name}: property {each.type} {each.access}"
    for signal in interface.signals.values():
        yield f"{interface.name}.{signal.name}: signal ({_args(signal.args)})"


def _args(args: Iterable[Arg]) -> str:
    return ", ".join(f"{arg.type} {arg.name}" for arg in args)
