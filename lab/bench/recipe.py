"""The cache: a thing built once, kept under a key made from everything that it is built from.

A build happens in a directory with a temporary name, renamed when it is whole: what stands under its key is complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from . import places
from .say import note, step

KEPT_UNUSED_DAYS = 14


def key_of(*sources: Path | str) -> str:
    """A short key of files, of whole folders, and of plain strings, in the order given.

    >>> key_of("a") == key_of("a") != key_of("b")
    True
    """
    digest = hashlib.sha256()
    for source in sources:
        if isinstance(source, str):
            digest.update(source.encode() + b"\0")
            continue
        for path in _files(source):
            digest.update(str(path.relative_to(places.CHECKOUT)).encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def cached(kind: str, key: str) -> Path | None:
    """The finished directory of that kind and key, or None."""
    path = places.cache() / kind / key
    if not path.is_dir():
        return None
    os.utime(path)
    return path


def built(kind: str, key: str, what: str, build: Callable[[Path], None]) -> Path:
    """The finished directory, built now if it is not in the cache; one builder at a time.

    `build` fills the directory that it is given; if it fails nothing is kept.
    """
    base = places.cache() / kind
    base.mkdir(parents=True, exist_ok=True)
    with locked(base / "lock", f"another build of {what}"):
        found = cached(kind, key)
        if found is not None:
            return found
        for left in base.glob(".building-*"):
            shutil.rmtree(left)
        growing = base / f".building-{key}"
        growing.mkdir()
        try:
            with step(f"building {what}"):
                build(growing)
            growing.rename(base / key)
        finally:
            shutil.rmtree(growing, ignore_errors=True)
        _forget_unused(base, but=key)
        return base / key


@contextlib.contextmanager
def locked(path: Path, waiting_for: str) -> Iterator[None]:
    """Hold an exclusive lock file; say what is waited for if somebody else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(f"waiting for {waiting_for}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _files(source: Path) -> Iterable[Path]:
    if source.is_file():
        return [source]
    return sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _forget_unused(base: Path, *, but: str) -> None:
    """Drop what nothing has asked for in two weeks. (A running bench asks for its image at each `up`.)"""
    oldest = time.time() - KEPT_UNUSED_DAYS * 86400
    for path in base.iterdir():
        if path.is_dir() and path.name != but and path.stat().st_mtime < oldest:
            note(f"dropping {path}, unused for {KEPT_UNUSED_DAYS} days")
            shutil.rmtree(path)
