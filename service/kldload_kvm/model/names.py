"""Names, made valid at the door: whatever passes here is never checked again.

The rules keep every name usable as a ZFS component, a libvirt domain name, a file name and a host name's first guess,
and away from our own volume suffixes (docs/architecture.md).
"""

from __future__ import annotations

import re
from datetime import datetime

from .errors import InvalidArgument

VM_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
SNAPSHOT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}")
TRASH_ENTRY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
VOLUME_SUFFIX = re.compile(r"\.(nvram|seed|[vsh]d[a-z]{1,2})$")
RESERVED_VM_NAMES = frozenset({"isos", "images", "trash"})
OUR_SNAPSHOT_PREFIXES = ("auto-", "clone-", "repl-")


def vm_name(text: str) -> str:
    """A VM's name. Raises InvalidArgument."""
    what = f"{shown(text)} cannot be the name of a VM"
    rule = "use letters, digits, '_', '-' and '.', beginning with a letter, a digit or '_', at most 63 characters"
    if not VM_NAME.fullmatch(text):
        raise InvalidArgument(what, why_not(text, 63), rule)
    if ".." in text or text.endswith("."):
        raise InvalidArgument(what, "it has '..' in it, or ends with '.'", rule)
    if text.lower() in RESERVED_VM_NAMES:
        raise InvalidArgument(what, "the service keeps that name for itself", "choose another name")
    if match := VOLUME_SUFFIX.search(text):
        why = f"'{match.group()}' is the ending of one of a VM's further volumes"
        raise InvalidArgument(what, why, "choose a name that ends otherwise")
    return text


def snapshot_name(text: str) -> str:
    """A snapshot's name, with or without its '@'. Raises InvalidArgument."""
    name = text.removeprefix("@")
    if not SNAPSHOT_NAME.fullmatch(name):
        raise InvalidArgument(
            f"{shown(text)} cannot be the name of a snapshot",
            why_not(name, 100),
            "use letters, digits, '_', '-', '.' and ':', beginning with a letter, a digit or '_'",
        )
    return name


def new_snapshot_name(text: str) -> str:
    """A snapshot's name that a person chose: those the service makes itself are refused. Raises InvalidArgument."""
    name = snapshot_name(text)
    for prefix in OUR_SNAPSHOT_PREFIXES:
        if name.startswith(prefix):
            why = f"names that begin with '{prefix}' are made by the service, which also removes them"
            raise InvalidArgument(f"{shown(name)} cannot be the name of a new snapshot", why, "choose another name")
    return name


def trash_entry(text: str) -> str:
    """The id of a trash entry, such as web-1-20260401T153022Z. Raises InvalidArgument."""
    if not TRASH_ENTRY.fullmatch(text):
        raise InvalidArgument(f"{shown(text)} is no entry of the trash", why_not(text, 100), "see: kvm-trash list")
    return text


def domain_name(text: str) -> str:
    """The name or UUID of any libvirt domain: it is only looked for, and libvirt allows more than we do. Raises
    InvalidArgument."""
    if not 0 < len(text) <= 255 or not text.isprintable():
        why = "it is empty" if not text else "it has more than 255 characters, or some that cannot be printed"
        raise InvalidArgument(f"{shown(text)} is no name of a domain", why, "virsh list --all --name shows them")
    return text


def dataset_name(text: str) -> str:
    """A dataset from the configuration. Raises InvalidArgument."""
    parts = text.split("/")
    if len(text) > 150 or not all(COMPONENT.fullmatch(part) for part in parts):
        raise InvalidArgument(
            f"{shown(text)} is no name of a ZFS dataset", why_not(text, 150), "write it as POOL/NAME, such as rpool/vms"
        )
    return text


def shown(text: str) -> str:
    """A client's text made safe to print: quoted, with control characters spelled out, cut at 80 characters."""
    cut = text if len(text) <= 80 else text[:77] + "..."
    return "'" + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in cut) + "'"


def why_not(text: str, most: int) -> str:
    """Why a text is no name, in words."""
    if not text:
        return "it is empty"
    if len(text) > most:
        return f"it has {len(text)} characters, and {most} is the most"
    if text[0] in "-.:":
        return f"it begins with '{text[0]}'"
    bad = next((c for c in text if not re.fullmatch(r"[A-Za-z0-9_.:-]", c)), None)
    if bad is None:
        return "a character in it is not allowed here"
    return "it has a space in it" if bad == " " else f"it has {shown(bad)} in it"


def timestamp(now: datetime, pattern: str) -> str:
    """`now` (aware, in UTC) in one of the seed page's forms: "manual", "auto" or "clone"."""
    form = {"manual": "%Y-%m-%d_%H%M%S", "auto": "auto-%Y%m%dT%H%M%SZ", "clone": "clone-%Y%m%d_%H%M%S"}[pattern]
    return now.strftime(form)


def unused(name: str, taken: frozenset[str] | set[str]) -> str:
    """`name`, or `name` with the first suffix -2, -3 … that is not taken: two snapshots in one second."""
    if name not in taken:
        return name
    return next(f"{name}-{i}" for i in range(2, len(taken) + 3) if f"{name}-{i}" not in taken)
