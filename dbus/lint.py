#!/usr/bin/python3
"""Checks the introspection XML, polkit's actions and the bus policy against each other, and the API against api.lock.

lint.py                     check; exit status 1 and a line for each fault if there is one
lint.py --accept            also take what was added to the API into api.lock
lint.py --accept-breaks     also take what was removed from it: clients of the last release will fail
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "service")]

from kldload_kvm.model import contract  # noqa: E402
from linter import listing, policies, rules  # noqa: E402

LOCK_HEAD = (
    "# The API as it was promised. Made by dbus/lint.py --accept; a line that goes or changes breaks somebody's client."
)


def main(arguments: list[str], checkout: Path = CHECKOUT) -> int:
    """Check a checkout; give the exit status."""
    parser = argparse.ArgumentParser(description="Check the bus contract.", allow_abbrev=False)
    parser.add_argument("--accept", action="store_true", help="take additions to the API into api.lock")
    parser.add_argument("--accept-breaks", action="store_true", help="take removals too")
    args = parser.parse_args(arguments)
    interfaces = [
        i for file in sorted((checkout / "dbus").glob("*.xml")) for i in contract.parse(file.read_text("utf-8"))
    ]
    faults = list(contract_faults(checkout, interfaces))
    if not faults:
        accepts = listing.Accepts(additions=args.accept or args.accept_breaks, removals=args.accept_breaks)
        faults = api_faults(checkout / "dbus" / "api.lock", interfaces, accepts)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def contract_faults(checkout: Path, interfaces: list[contract.Interface]) -> Iterator[str]:
    """What is wrong with the contract in itself."""
    known = policies.actions(checkout / "polkit" / "org.kldload.kvm.policy")
    for interface in interfaces:
        yield from rules.faults(interface, known.keys())
    yield from rules.operations_shared(interfaces)
    yield from policies.action_faults(known, interfaces)
    yield from policies.bus_faults(checkout / "dbus" / f"{contract.PREFIX}.conf", interfaces)


def api_faults(lock: Path, interfaces: list[contract.Interface], accepts: listing.Accepts) -> list[str]:
    """What differs from the promised API and was not accepted; what was is written down."""
    before = (
        [line for line in lock.read_text("utf-8").splitlines() if not line.startswith("#")] if lock.exists() else []
    )
    after = listing.lines(interfaces)
    changes = listing.compare(before, after)
    faults = []
    if changes.removed and not accepts.removals:
        faults += [f"no longer in the API: {line}" for line in changes.removed]
        faults.append(
            "clients rely on these: keep them, and add something new beside them (or lint.py --accept-breaks)"
        )
    if changes.added and not accepts.additions:
        faults += [f"new in the API: {line}" for line in changes.added]
        faults.append("if this is meant: dbus/lint.py --accept, and commit dbus/api.lock")
    if not faults and (changes.added or changes.removed):
        lock.write_text("\n".join((LOCK_HEAD, *after)) + "\n", encoding="utf-8")
    return faults


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
