"""Reads what network interfaces there are, and which tool has each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ...model.wiring import Link, Owner, Wiring
from ..sources import NET
from .ifupdown import Ifupdown
from .network_manager import NetworkManager
from .networkd import Networkd
from .tool import Runs, Tool, quick

__all__ = ["TOOLS", "link", "parse", "plain", "quick", "read", "tools"]

TOOLS: tuple[type[Tool], ...] = (Networkd, NetworkManager, Ifupdown)


def tools(root: str = "", run: Runs | None = None) -> tuple[Tool, ...]:
    return tuple(each(root, run) for each in TOOLS)


def read(root: str, each_tool: Sequence[Tool]) -> Wiring:
    found = {path.name: link(path) for path in sorted(Path(root + NET).glob("*")) if (path / "ifindex").exists()}
    for name, each in found.items():
        owners = tuple(owner for tool in each_tool if (owner := tool.owns(each)))
        found[name] = replace(each, owners=owners)
    return Wiring(found, tuple(sorted({name for tool in each_tool for name in tool.kept()})))


def link(path: Path) -> Link:
    """One of /sys/class/net."""
    device = dict(line.partition("=")[::2] for line in _text(path / "uevent").splitlines())
    kind = device.get("DEVTYPE", "")
    if (path / "phy80211").exists() or (path / "wireless").exists():
        kind = "wlan"
    elif (path / "tun_flags").exists():
        kind = "tun"
    master = path / "master"
    return Link(
        path.name,
        _number(path / "ifindex"),
        _number(path / "type"),
        kind,
        _text(path / "address"),
        master.readlink().name if master.is_symlink() else "",
        tuple(sorted(each.name.removeprefix("upper_") for each in path.glob("upper_*") if not master.is_symlink())),
        _text(path / "carrier") == "1",
    )


def plain(wiring: Wiring) -> dict[str, Any]:
    """For JSON."""
    return {"links": [asdict(each) for each in wiring.links.values()], "kept": list(wiring.kept)}


def parse(data: dict[str, Any]) -> Wiring:
    """What `plain` gave."""
    found = [
        Link(**{**each, "uppers": tuple(each["uppers"]), "owners": tuple(Owner(**owner) for owner in each["owners"])})
        for each in data["links"]
    ]
    return Wiring({each.name: each for each in found}, tuple(data["kept"]))


def _text(path: Path) -> str:
    """Empty where it is not there; of an interface that is down, carrier cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path)
    return int(text) if text.isdecimal() else 0
