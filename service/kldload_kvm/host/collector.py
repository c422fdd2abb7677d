"""Reads what the daemon's sandbox hides of the host. Run by kldload-kvm-facts.service; prints one line of JSON.

The request, in $CREDENTIALS_DIRECTORY/request, is {"token": …, "paths": […]}: the paths are looked at, never opened.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from . import sources
from .bridging import links

RECENT = 3600.0
MOST_ENTRIES, MOST_LOOKED_AT, MOST_TEXT = 50, 200, 600
DENIED = ('apparmor="DENIED"', "avc:  denied", "avc: denied")


def main() -> None:
    request = json.loads(Path(os.environ["CREDENTIALS_DIRECTORY"], "request").read_bytes())
    print(json.dumps({"token": request["token"], **collect(request["paths"])}))


def collect(paths: Iterable[str], root: str = "") -> dict[str, Any]:
    """Everything. root: what stands before each path, for tests."""
    globbed = [path.removeprefix(root) for each in sources.GLOBS for path in matching(root + each)]
    bridges = [path.split("/")[-2] for path in matching(f"{root}{sources.NET}/*/bridge")]
    flags = [f"{sources.NET}/{name}/flags" for name in bridges]
    files = {path: text for path in (*sources.FILES, *globbed, *flags) if (text := read(root + path)) is not None}
    denials, complaints = list[str](), list[str]()
    with contextlib.suppress(OSError):  # no journal is kept here
        denials, complaints = journal() if not root else ([], [])
    wiring = links.plain(links.read(root, links.tools(root, links.quick)))
    return {
        "files": files,
        "nodes": {path: look(path, root) for path in (*sources.NODES, *paths)},
        "names": {
            "bridges": bridges,
            "iommu": names(root + sources.IOMMU),
            "images": names(root + sources.IMAGES),
            "isos": names(root + sources.ISOS),
        },
        "qemu": dict(settings(read(root + sources.QEMU_CONF) or "")),
        "users": dict(users()),
        "denials": denials,
        "complaints": complaints,
        "wiring": wiring,
    }


def read(path: str) -> str | None:
    """The beginning of a file, or None where it is not there. A pipe or device is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        try:
            return file.read(sources.MOST).decode("utf-8", "replace") if stat.S_ISREG(os.fstat(fd).st_mode) else None
        except OSError:
            return None


def matching(pattern: str) -> list[str]:
    return sorted(map(str, Path("/").glob(pattern.removeprefix("/"))))


def names(path: str) -> list[str]:
    try:
        return sorted(each.name for each in Path(path).iterdir())[:MOST_ENTRIES]
    except OSError:
        return []


def look(path: str, root: str = "") -> dict[str, Any] | None:
    """What a file is, its links followed; None where it is not there."""
    try:
        about = Path(root + path).stat()
    except (OSError, ValueError):
        return None
    kinds = (("file", stat.S_ISREG), ("dir", stat.S_ISDIR), ("block", stat.S_ISBLK), ("char", stat.S_ISCHR))
    return {
        "kind": next((kind for kind, is_it in kinds if is_it(about.st_mode)), "other"),
        "mode": stat.S_IMODE(about.st_mode),
        "uid": about.st_uid,
        "gid": about.st_gid,
        "size": about.st_size,
        "closed": closed(path, root),
    }


def closed(path: str, root: str = "") -> str:
    """The first directory on the way to a file that not everybody may search."""
    real = os.path.realpath(root + path)
    for parent in reversed(Path(real).parents):
        if not str(parent).startswith(f"{root}/"):
            continue
        with contextlib.suppress(OSError):
            if not parent.stat().st_mode & stat.S_IXOTH:
                return str(parent).removeprefix(root)
    return ""


def settings(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, _, value = (each.strip() for each in line.partition("="))
        if key in sources.QEMU_SETTINGS:
            yield key, value.split("#")[0].strip().strip("\"'")


def users() -> Iterator[tuple[str, tuple[int, int]]]:
    """Who guests run as, by name, each with its group: on Debian kvm."""
    for name in sources.QEMU_USERS:
        with contextlib.suppress(KeyError):
            yield name, (pwd.getpwnam(name).pw_uid, pwd.getpwnam(name).pw_gid)
    with contextlib.suppress(KeyError):
        yield "kvm", (-1, grp.getgrnam("kvm").gr_gid)


def journal() -> tuple[list[str], list[str]]:
    """What was denied to guests lately, and what libvirt complained of; the newest last."""
    from systemd.journal import Reader

    with Reader() as reader:
        reader.this_boot()
        for transport in ("kernel", "audit"):
            reader.add_match(_TRANSPORT=transport)
        denials = [text for text in recent(reader) if any(mark in text for mark in DENIED)]
    with Reader() as reader:
        reader.this_boot()
        reader.log_level(4)
        for unit in ("libvirtd.service", "virtqemud.service"):
            reader.add_match(_SYSTEMD_UNIT=unit)
        complaints = recent(reader)
    return denials[-MOST_ENTRIES:], complaints[-MOST_ENTRIES:]


def recent(reader: Any) -> list[str]:
    """The entries of the last hour, the newest last, but no more than MOST_LOOKED_AT: each costs time."""
    since, found = time.time() - RECENT, list[str]()
    reader.seek_tail()
    while len(found) < MOST_LOOKED_AT and (entry := reader.get_previous()):
        if entry["__REALTIME_TIMESTAMP"].timestamp() < since:
            break
        text = str(entry.get("MESSAGE", ""))[:MOST_TEXT]
        found.append("".join(c if c.isprintable() else "?" for c in text))
    return found[::-1]


if __name__ == "__main__":
    main()
