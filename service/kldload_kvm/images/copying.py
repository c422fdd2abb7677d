"""One copy of a client's file into a store, from its first byte to its name. All of this blocks: it runs in threads."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
import threading
from pathlib import Path

from ..model.errors import AlreadyExists, BadImage, Cancelled, Failed, InvalidArgument, KvmError, NoSpace, NotFound
from ..model.image_header import Header
from ..model.image_name import Format
from ..model.names import shown
from ..model.sizes import format_size
from . import store

PREFIX = ".kldload-kvm-add-"
CHUNK = 4 << 20
BETWEEN_LOOKS_AT_SPACE = 64 << 20
_ZEROES = bytes(CHUNK)
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a symbolic link",
}


def kind_of(about: os.stat_result) -> str:
    """What is no regular file, in words."""
    return _KINDS.get(stat.S_IFMT(about.st_mode), "something else")


def check_file(fd: int, name: str) -> os.stat_result:
    """What a client's descriptor is, if it is a regular file that can be read. Raises InvalidArgument."""
    what, hint = f"{shown(name)} was not added", "open the image file itself for reading"
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode):
        raise InvalidArgument(what, f"what was given is {kind_of(about)}, not a regular file", hint)
    if flags & os.O_PATH:
        raise InvalidArgument(what, "the descriptor is only a path (O_PATH)", hint)
    if flags & os.O_ACCMODE == os.O_WRONLY:
        raise InvalidArgument(what, "the descriptor is open for writing only", hint)
    return about


class Copy:
    """A file on its way into a store. `done` of `total` bytes are there; `path` is where it is until published."""

    def __init__(self, source: int, directory: Path, name: str, floor: int) -> None:
        """`source` is the copy's from now on."""
        self.name, self.floor, self.directory = name, floor, directory
        self.path = directory / f"{PREFIX}{secrets.token_hex(8)}"
        self.done = self.total = 0
        self._what = f"{name} was not added"
        self._source, self._target = source, -1
        self._stop = self._running = False
        self._lock = threading.Lock()

    def begin(self) -> None:
        """From now on the descriptors are run()'s to close."""
        self._running = True

    def run(self) -> str:
        """Copy, and see it on disk. Gives the SHA-256 of what is there now. Raises KvmError."""
        try:
            about = check_file(self._source, self.name)
            self._check_space(min(about.st_size, about.st_blocks * 512))
            self._open()
            digest = self._copy(about)
            os.fsync(self._target)
            return digest
        except OSError as fault:
            raise self._error(fault) from None
        finally:
            self._end(running=False, stop=self._stop)

    def identify(self, wanted: Format | None) -> Header:
        """What the copy is. Raises BadImage."""
        try:
            header = store.header_of(self._target, self.name, wanted)
            if header.format == "raw":
                store.remember_raw(self._target, self.name)
            return header
        except OSError as fault:
            raise self._error(fault) from None

    def publish(self) -> None:
        """Give it its name, if that is still free. Raises AlreadyExists."""
        try:
            os.link(self.path, self.directory / self.name, follow_symlinks=False)
            self.path.unlink()
            store.sync(self.directory)
        except OSError as fault:
            raise self._error(fault) from None

    def discard(self) -> None:
        """Leave nothing but a published image. A copy that still runs ends as soon as its file system lets it."""
        self._end(running=self._running, stop=True)

    def _end(self, running: bool, stop: bool) -> None:
        with self._lock:
            self._running, self._stop = running, stop or self._stop
            if self._stop:
                self.path.unlink(missing_ok=True)
            if not running:
                self._source = _closed(self._source)
            if self._stop and not running:
                self._target = _closed(self._target)

    def _open(self) -> None:
        if os.path.lexists(self.directory / self.name):
            raise self._taken()
        with self._lock:
            if self._stop:
                raise self._stopped()
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._target = os.open(self.path, flags, 0o600)
            fcntl.flock(self._target, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(self._target, 0o644)  # the image helper is to read it

    def _copy(self, about: os.stat_result) -> str:
        """Read at our own offsets, which the client, who shares the descriptor's, cannot move."""
        self.total = about.st_size
        digest, buffer, looked = hashlib.sha256(), bytearray(CHUNK), 0
        while self.done < self.total:
            if self._stop:
                raise self._stopped()
            count = os.preadv(self._source, [memoryview(buffer)[: self.total - self.done]], self.done)
            if not count:
                raise self._changed()
            part = memoryview(buffer)[:count]
            digest.update(part)
            # Zeroes are left out: the file stays as sparse as it was.
            if buffer != _ZEROES:
                self._write(part)
            self.done += count
            if self.done - looked >= BETWEEN_LOOKS_AT_SPACE:
                looked = self.done
                self._check_space(0)
        os.ftruncate(self._target, self.total)
        now = os.fstat(self._source)
        if (now.st_size, now.st_mtime_ns) != (about.st_size, about.st_mtime_ns):
            raise self._changed()
        return digest.hexdigest()

    def _write(self, part: memoryview) -> None:
        at = self.done
        while part:
            count = os.pwrite(self._target, part, at)
            part, at = part[count:], at + count

    def _check_space(self, more: int) -> None:
        about = os.statvfs(self.directory)
        free = about.f_bavail * about.f_frsize
        if free - more < self.floor or free < more:
            kept = f", of which {format_size(self.floor)} stay free" if self.floor else ""
            why = f"the store has {format_size(free)} left{kept}"
            why += f", and the file needs {format_size(more)}" if more else ""
            raise NoSpace(self._what, why, "remove images (kvm-image remove) or VMs, or use another storage")

    def _error(self, fault: OSError) -> KvmError:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            return NoSpace(self._what, "the pool became full while it was copied", "free some space")
        if fault.errno == errno.EEXIST:
            return self._taken()
        if fault.errno == errno.ENOENT and not self.directory.is_dir():
            return NotFound(self._what, f"the store's directory, {self.directory}, is not there", "is it mounted?")
        why = fault.strerror or str(fault)
        if self.total and self.done < self.total:
            return BadImage(self._what, f"it could not be read to its end: {why}", "")
        return Failed(self._what, f"the store in {self.directory} cannot be written: {why}", "")

    def _taken(self) -> AlreadyExists:
        hint = f"choose another name, or remove that one: kvm-image remove {self.name}"
        return AlreadyExists(self._what, "the store has an image of that name", hint)

    def _changed(self) -> BadImage:
        return BadImage(self._what, "the file changed while it was copied", "add it again when nobody writes to it")

    def _stopped(self) -> Cancelled:
        return Cancelled(self._what, "it was cancelled", "")


def _closed(fd: int) -> int:
    if fd >= 0:
        os.close(fd)
    return -1
