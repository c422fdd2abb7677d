"""The bench, ready for a test: two empty storages, VMs that go with the test, polkit rules that go with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host import (
    SETUP,
    left_behind,
    libvirt_is_there,
    nothing_on_the_bus,
    remove_everything,
    run,
    wait_until,
)


@pytest.fixture(scope="session", autouse=True)
def host() -> Iterator[None]:
    """The two storages of the bench, empty, and the service at work on them, without a history."""
    run("sh", "-c", SETUP)
    # A guest without anything to boot is never idle; all that is under test goes first.
    run("systemctl", "set-property", "--runtime", "machine.slice", "CPUWeight=1")
    remove_everything()
    run("systemctl", "start", "kldload-kvm-trash.timer")  # nothing of a test is due
    run("systemctl", "stop", "kldload-kvm-snapshot.timer")  # an hour may strike in a test
    run("systemctl", "stop", "kldload-kvmd")
    for file in Path("/var/lib/kldload-kvm").glob("journal.db*"):
        file.unlink()
    run("systemctl", "start", "kldload-kvmd")
    libvirt_is_there()
    yield
    remove_everything()


@pytest.fixture
def vm(request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """Makes VMs with a small blank disk; with the test, they and all that was made of them go."""
    made: list[str] = []
    run("systemctl", "stop", "kldload-kvm-snapshot.timer")  # to install the package anew starts it
    run("virsh", "net-start", "default", check=False)  # virsh start does not, and a test before may have stopped it
    if left := left_behind():
        warnings.warn(f"the test before {request.node.name} has left {', '.join(left)}", stacklevel=1)
        remove_everything()
        wait_until(nothing_on_the_bus, 120, "the service sees that what another test left is gone")

    def make(name: str, *options: str) -> str:
        run("kvm-create", name, "--disk", "64M", "--ram", "256", "--cpus", "1", *options)
        made.append(name)
        return name

    yield make
    remove_everything()
    wait_until(nothing_on_the_bus, 120, "the service sees that the VMs are gone")


@pytest.fixture
def rule() -> Iterator[Callable[[str], None]]:
    """Installs a polkit rule for the length of a test."""
    file = Path("/etc/polkit-1/rules.d/00-test.rules")

    def install(text: str) -> None:
        file.write_text(text)
        file.chmod(0o644)
        run("systemctl", "restart", "polkit")

    yield install
    file.unlink(missing_ok=True)
    run("systemctl", "restart", "polkit")
