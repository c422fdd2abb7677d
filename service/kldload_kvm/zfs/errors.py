"""What zfs prints on stderr, turned into errors. The one table in which its words are parsed.

Each row: a pattern (its group 1, if any, is what the matter is with), the error, and the hint.
"""

from __future__ import annotations

import re

from ..model.errors import AlreadyExists, Busy, HasClones, KvmError, NoSpace, NotFound, ZfsFailed, ZfsUnavailable

TABLE: tuple[tuple[re.Pattern[str], type[KvmError], str], ...] = (
    (re.compile(r"(?:dataset|snapshot|parent)\b.* does not exist|could not find any snapshots"), NotFound,
     "it was removed or renamed meanwhile: look again"),
    (re.compile(r"dataset already exists"), AlreadyExists, "choose another name, or remove what has it"),
    (re.compile(r"being held"), Busy, "zfs holds names who holds it, and zfs release lets it go"),
    (re.compile(r"dataset is busy|pool or dataset is busy"), Busy,
     "a program on the host has the device open: fuser -v /dev/zvol/… names it"),
    (re.compile(r"out of space|quota exceeded|size is greater than available space"), NoSpace,
     "make room in the pool: kvm-list shows what uses it"),
    (re.compile(r"has dependent clones|has children"), HasClones, "delete its clones first"),
    (re.compile(r"no such pool|no pools available"), NotFound, "import the pool: zpool import"),
    (re.compile(r"/dev/zfs and /proc/self/mounts|ZFS modules (?:are not loaded|cannot be auto-loaded)"), ZfsUnavailable,
     "load the module: modprobe zfs"),
)  # fmt: skip


def error_from(what: str, stderr: str) -> KvmError:
    """The error that a failed zfs command stands for. what: what was to be done, in words."""
    text = " ".join(stderr.split()) or "it said nothing"
    for pattern, kind, hint in TABLE:
        if pattern.search(text):
            return kind(what, text, hint)
    return ZfsFailed(what, text, "zpool status -x tells whether the pool is well")
