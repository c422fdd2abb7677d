"""What a guest has on its disk is its own: the host's LVM neither finds nor holds it, with what the package ships."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host import DEVICE, run, wait_until

LOCAL = Path("/etc/lvm/lvmlocal.conf")
EXAMPLE = Path("/usr/share/doc/kldload-kvm/examples/lvmlocal.conf")
pytestmark = pytest.mark.soak
ALL = ("--config", 'devices { global_filter = [ "a|.*|" ] }')


@pytest.fixture
def guest(vm: Callable[..., str]) -> Iterator[str]:
    """A volume whose guest has made it an LVM physical volume, and what the host's LVM was configured to."""
    vm("web-1", "--disk", "256M")
    before = LOCAL.read_bytes()
    run("pvcreate", "-y", *ALL, f"{DEVICE}web-1")
    run("vgcreate", *ALL, "guestvg", f"{DEVICE}web-1")
    run("lvcreate", "-y", *ALL, "-an", "-Zn", "-n", "guestlv", "-L", "16M", "guestvg")
    yield "guestvg"
    LOCAL.write_bytes(before)
    run("vgchange", "-an", *ALL, "guestvg", check=False)


def groups() -> list[str]:
    return run("vgs", "--noheadings", "-o", "vg_name").stdout.split()


def test_nothing_of_it_is_activated_by_itself(guest: str) -> None:
    run("udevadm", "trigger", "--subsystem-match=block", "--settle")
    assert not Path("/dev/guestvg").exists()


def test_the_example_hides_it_from_lvm_s_own_commands(guest: str) -> None:
    LOCAL.write_bytes(EXAMPLE.read_bytes())
    assert guest not in groups()
    run("vgchange", "-ay")
    assert not Path("/dev/guestvg").exists()
    run("kvm-delete", "web-1", "--yes")


def test_one_that_is_held_all_the_same_is_busy_and_says_by_whom(guest: str) -> None:
    run("vgchange", "-ay", *ALL, guest)
    wait_until(Path("/dev/guestvg/guestlv").exists, 30, "its logical volume is active on the host")
    refused = run("kvm-delete", "web-1", "--yes", check=False)
    assert "guestvg-guestlv (device mapper" in refused.stderr, refused.stderr
    run("vgchange", "-an", *ALL, guest)
    run("kvm-delete", "web-1", "--yes")


def test_multipath_is_told_to_leave_zvols_alone() -> None:
    assert 'devnode "^zd[0-9]"' in Path("/etc/multipath/conf.d/kldload-kvm.conf").read_text()
