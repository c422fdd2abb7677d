"""What zfs says on stderr, and which of our errors that is. The sentences are OpenZFS's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kldload_kvm.model.errors import (
    AlreadyExists,
    Busy,
    HasClones,
    KvmError,
    NoSpace,
    NotFound,
    ZfsFailed,
    ZfsUnavailable,
)
from kldload_kvm.zfs.errors import error_from

SAID = [
    ("cannot open 'rpool/vms/web': dataset does not exist", NotFound),
    ("cannot open 'rpool/vms/web@s1': dataset does not exist", NotFound),
    ("cannot open 'rpool/vms/web@s1': snapshot does not exist", NotFound),
    ("cannot create 'rpool/vms/web': parent does not exist", NotFound),
    ("could not find any snapshots to destroy; check snapshot names.", NotFound),
    ("cannot open 'tank': no such pool", NotFound),
    ("no pools available", NotFound),
    ("cannot create 'rpool/vms/web': dataset already exists", AlreadyExists),
    ("cannot create snapshot 'rpool/vms/web@s1': dataset already exists\nno snapshots were created", AlreadyExists),
    ("cannot destroy 'rpool/vms/web': dataset is busy", Busy),
    ("cannot rename 'rpool/vms/web': pool or dataset is busy", Busy),
    ("cannot destroy snapshot rpool/vms/web@s1: it's being held. Run 'zfs holds -r rpool/vms/web@s1' to …", Busy),
    ("cannot create 'rpool/vms/web': out of space", NoSpace),
    ("cannot set property for 'rpool/vms/web': size is greater than available space", NoSpace),
    ("cannot create 'rpool/vms/web': quota exceeded", NoSpace),
    ("cannot destroy 'rpool/vms/web': volume has children\nuse '-r' to destroy …", HasClones),
    ("cannot destroy snapshot rpool/vms/web@s1: snapshot has dependent clones\nuse '-R' …", HasClones),
    ("/dev/zfs and /proc/self/mounts are required.\nTry 'udevadm trigger' …", ZfsUnavailable),
    ("The ZFS modules are not loaded.\nTry running 'modprobe zfs' as root to load them.", ZfsUnavailable),
    ("The ZFS modules cannot be auto-loaded.", ZfsUnavailable),
    ("cannot open 'rpool': pool I/O is currently suspended", ZfsFailed),
    ("cannot create 'rpool/vms/web': permission denied", ZfsFailed),
    ("cannot rename 'rpool/vms/web': dataset name is too long", ZfsFailed),
    ("internal error: Invalid exchange", ZfsFailed),
    ("", ZfsFailed),
]


@pytest.mark.parametrize(("said", "kind"), SAID, ids=[said[:50] or "nothing" for said, _ in SAID])
def test_what_is_said_is_that_error(said: str, kind: type[KvmError]) -> None:
    error = error_from("the volume was not made", said)
    assert type(error) is kind
    assert error.what == "the volume was not made"
    assert error.why == (" ".join(said.split()) or "it said nothing")
    assert error.hint


@given(st.text(max_size=200))
def test_anything_else_is_one_line_of_an_error(said: str) -> None:
    assert "\n" not in error_from("what", said).why
