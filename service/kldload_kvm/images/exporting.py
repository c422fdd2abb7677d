"""Writing a disk into a file that a client has open, as raw bytes or as a qcow2 image.

No program reads or writes it for us: qemu-img would have to open the client's file anew, by its name and with other
rights. The source is a volume of our own making, which has no format that could lie. All of this blocks: it runs in a
thread of its own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import threading
from array import array
from collections.abc import Callable
from typing import Literal

from ..model.errors import Cancelled, InvalidArgument, KvmError, NoSpace, ZfsFailed
from ..model.qcow2_layout import CLUSTER, PER_TABLE, Layout
from .own_thread import in_own_thread

__all__ = ["FORMATS", "Format", "check_target", "write_disk"]

Format = Literal["qcow2", "raw", "zfs"]
FORMATS: tuple[Format, ...] = ("qcow2", "raw", "zfs")
CHUNK = 4 << 20
ZEROES = bytes(CHUNK)
WHAT = "the export was not made"
PATIENCE_MS = 500


def check_target(fd: int) -> None:
    """See that a client's descriptor is an empty file, a pipe or a socket to write to. Raises InvalidArgument."""
    hint = "open a new file for writing"
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & os.O_PATH or flags & os.O_ACCMODE == os.O_RDONLY:
        raise InvalidArgument(WHAT, "the file was not opened for writing", hint)
    about = os.fstat(fd)
    if not (stat.S_ISREG(about.st_mode) or stat.S_ISFIFO(about.st_mode) or stat.S_ISSOCK(about.st_mode)):
        raise InvalidArgument(WHAT, "what was given is neither a regular file nor a pipe or socket", hint)
    if stat.S_ISREG(about.st_mode) and about.st_size:
        raise InvalidArgument(WHAT, "the file has something in it already, which would be overwritten", hint)


async def write_disk(source: int, fd: int, format_: Format, report: Callable[[int, int], None]) -> int:
    """Write the disk behind `source`, which is closed in any case, into `fd`; how many bytes that were.

    report: bytes done, and in all; the caller keeps `fd`. Raises InvalidArgument, NoSpace, Cancelled or ZfsFailed.
    """
    export = Export(source, os.dup(fd))
    work = export.qcow2 if format_ == "qcow2" else export.raw
    try:
        written: int = await in_own_thread("export", work, lambda: report(export.done, export.total))
        report(export.total, export.total)
        return written
    finally:
        export.stop()


class Export:
    """One disk on its way into a file: `done` of `total` bytes, what is only read included."""

    def __init__(self, source: int, target: int) -> None:
        """Both descriptors are the export's from now on."""
        self.done = 0
        self.size = self.total = os.lseek(source, 0, os.SEEK_END)
        self._source, self._target = source, target
        self._stop = False
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Let go of the source at once, whatever the target does: it is about to be destroyed."""
        with self._lock:
            self._stop = True
            if self._source >= 0:
                os.close(self._source)
                self._source = -1

    def raw(self) -> int:
        """Give the bytes written. Raises KvmError."""
        return self._guarded(self._raw)

    def qcow2(self) -> int:
        """Give the bytes written. Raises KvmError."""
        return self._guarded(self._qcow2)

    def _guarded(self, work: Callable[[_Sink], None]) -> int:
        try:
            check_target(self._target)
            sink = _Sink(self._target, lambda: self._stop)
            work(sink)
            sink.finish()
            return sink.at
        except OSError as fault:
            raise _error(fault) from None
        finally:
            os.close(self._target)

    def _raw(self, sink: _Sink) -> None:
        for at in range(0, self.size, CHUNK):
            part = self._read(at, CHUNK)
            if part == ZEROES[: len(part)]:
                sink.skip(len(part))
            else:
                sink.write(part)
            self.done += len(part)

    def _qcow2(self, sink: _Sink) -> None:
        self.total = 2 * self.size
        layout = Layout(self.size, self._tables())
        self.total = self.size + layout.data_clusters * CLUSTER
        for part in layout.metadata():
            sink.write(part)
        for at in layout.data():
            part = self._read(at, CLUSTER)
            sink.write(part + bytes(CLUSTER - len(part)))
            self.done += CLUSTER

    def _tables(self) -> dict[int, array[int]]:
        """Which clusters hold anything but zeroes, by the table that they are in."""
        tables: dict[int, array[int]] = {}
        for at in range(0, self.size, CHUNK):
            part = self._read(at, CHUNK)
            if part != ZEROES[: len(part)]:
                for start in range(0, len(part), CLUSTER):
                    cluster = part[start : start + CLUSTER]
                    if cluster != ZEROES[: len(cluster)]:
                        table, index = divmod((at + start) // CLUSTER, PER_TABLE)
                        tables.setdefault(table, array("H")).append(index)
            self.done += len(part)
        return tables

    def _read(self, at: int, most: int) -> bytes:
        """All of it up to the disk's end, and leave none of it in the host's cache."""
        with self._lock:
            if self._stop:
                raise _stopped()
            part = os.pread(self._source, most, at)
            os.posix_fadvise(self._source, at, most, os.POSIX_FADV_DONTNEED)
        if len(part) < min(most, self.size - at):
            raise OSError(errno.EIO, "the volume ended before its end")
        return part


class _Sink:
    """The client's file: written from its beginning at our own offsets, or as it comes where it has none."""

    def __init__(self, fd: int, stopped: Callable[[], bool]) -> None:
        self.at = 0
        self._fd, self._stopped = fd, stopped
        self._file = stat.S_ISREG(os.fstat(fd).st_mode)
        self._places = self._file and not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, part: bytes) -> None:
        view = memoryview(part)
        while view:
            self._wait()
            count = os.pwrite(self._fd, view, self.at) if self._places else os.write(self._fd, view[:CLUSTER])
            view = view[count:]
            self.at += count

    def skip(self, count: int) -> None:
        """Zeroes: a hole where there can be one."""
        if self._places:
            self.at += count
        else:
            self.write(ZEROES[:count])

    def finish(self) -> None:
        """See it on disk, to its full length."""
        if self._places:
            os.ftruncate(self._fd, self.at)
        if self._file:
            os.fsync(self._fd)

    def _wait(self) -> None:
        """Until there is room in a pipe or socket that nobody may ever read."""
        while True:
            if self._stopped():
                raise _stopped()
            if self._file or self._poll.poll(PATIENCE_MS):
                return


def _stopped() -> Cancelled:
    return Cancelled(WHAT, "it was cancelled", "")


def _error(fault: OSError) -> KvmError:
    why = fault.strerror or str(fault)
    if fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return NoSpace(WHAT, f"the file could not be written to its end: {why}", "write it to a place with more room")
    if fault.errno in (errno.EPIPE, errno.ECONNRESET):
        return Cancelled(WHAT, "whoever was to read it has gone", "")
    return ZfsFailed(WHAT, why, "")
