"""Settings of kernel and ZFS module that do nothing, or the opposite; and drop-ins of ours that somebody changed."""

from __future__ import annotations

from collections.abc import Iterator

from ...model.finding import Finding
from ...model.host_facts import HostFacts
from ...model.modprobe import DROP_INS, is_sealed, options
from ..sources import TXG_TIMEOUT

DEFAULT_TIMEOUT = 5


def check(facts: HostFacts) -> Iterator[Finding]:
    for path, name, value in options(facts.system.files, "zfs"):
        if name == "zfs_vdev_scheduler":
            yield Finding("zfs-option-useless", "notice", path, f"{name}={value}")
    for path in DROP_INS.values():
        if path in facts.system.files and not is_sealed(facts.system.files[path]):
            yield Finding("drop-in-edited", "notice", path, "it is not as kvm-host has made it")
    timeout = facts.system.number(TXG_TIMEOUT)
    if timeout is not None and timeout > DEFAULT_TIMEOUT:
        yield Finding("txg-timeout", "notice", "zfs_txg_timeout", f"it is {timeout} seconds")
