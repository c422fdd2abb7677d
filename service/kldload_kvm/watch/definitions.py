"""What libvirt writes down of a domain and tells nobody: `virsh autostart`, `setvcpus --config`, `detach-disk --config`
and their like make no event.

Its files are a hint that something was written; what it is, libvirt is asked. Where there are none, as with a libvirt
that keeps them elsewhere, such a change is seen when something else happens to the domain.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

FILES = Path("/etc/libvirt/qemu")
CALM = 0.3
"""Seconds until it is looked at: libvirt writes a file beside the old one first, and changes its mind afterwards."""
IN_MOVED, IN_CREATE, IN_DELETE = 0x40 | 0x80, 0x100, 0x200  # inotify(7)
BUFFER = 1 << 16

Written = dict[str, tuple[int, int, bool]]


class DefinitionWatch:
    """changed(name) is called on the event loop for each domain whose file was written, or that starts with the host
    now, or does not any more. What goes libvirt tells itself, and what comes, but that may be read before something
    more was written of it, as `virsh autostart` right after `virsh define`."""

    def __init__(self, changed: Callable[[str], None], files: Path = FILES) -> None:
        self._changed, self._files = changed, files
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._known: Written = {}
        self._later: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to listen; what is written from now on is seen."""
        if self._fd < 0:
            log.warning("libvirt's files cannot be followed: %s", os.strerror(ctypes.get_errno()))
            return
        self._known = self._look()
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def stop(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> None:
        os.read(self._fd, BUFFER)  # that there is something is all it is to tell
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(CALM, self._compare)

    def _compare(self) -> None:
        self._later = None
        known, self._known = self._known, self._look()
        for name in sorted(self._known):
            if known.get(name) != self._known[name]:
                self._changed(name)

    def _look(self) -> Written:
        """When each domain's file was written, which one it is, and whether the domain starts with the host. Listens to
        both directories first; the one that says who does may have come just now."""
        starting = self._files / "autostart"
        for each in (self._files, starting):
            self._libc.inotify_add_watch(self._fd, os.fsencode(each), IN_MOVED | IN_CREATE | IN_DELETE)
        first = _names(starting)
        return {
            name: (status.st_mtime_ns, status.st_ino, name in first) for name, status in _names(self._files).items()
        }


def _names(directory: Path) -> dict[str, os.stat_result]:
    """The domains that have a file in a directory."""
    found = {}
    try:
        for each in os.scandir(directory):
            if each.name.endswith(".xml"):
                found[each.name.removesuffix(".xml")] = each.stat(follow_symlinks=False)
    except OSError:
        pass  # there is none, or a file went away while it was looked at: then there is more news
    return found
