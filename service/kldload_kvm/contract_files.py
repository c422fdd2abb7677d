"""Where the introspection XML is found, and reading it once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from .model import contract

CHECKOUT = Path(__file__).resolve().parents[2] / "dbus"
INSTALLED = Path("/usr/share/dbus-1/interfaces")


@cache
def interfaces() -> dict[str, contract.Interface]:
    """Every interface of ours by its name, from the checkout this file stands in, else as installed.

    Raises FileNotFoundError where neither has any.
    """
    folder = CHECKOUT if any(CHECKOUT.glob(f"{contract.PREFIX}.*.xml")) else INSTALLED
    files = sorted(folder.glob(f"{contract.PREFIX}.*.xml"))
    if not files:
        raise FileNotFoundError(f"no {contract.PREFIX}.*.xml in {INSTALLED}: the package is not whole; reinstall it")
    return {each.name: each for file in files for each in contract.parse(file.read_text(encoding="utf-8"))}
