"""kldload-kvmd itself, as a process on a bus of its own: libvirt's pretended hypervisor, and no polkit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kldload_kvm import __version__
from kldload_kvm.client.api import Connection, Manager
from kldload_kvm.client.faults import ServiceUnavailable
from kldload_kvm.model.errors import NotAuthorized
from private_bus import private_bus

SERVICE = Path(__file__).resolve().parents[2] / "service"


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[str]:
    with private_bus(tmp_path) as address:
        yield address


@contextmanager
def daemon(bus: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "kldload_kvm.daemon"]
    with TemporaryDirectory() as state, subprocess.Popen(
        command, env={
            "PATH": os.environ["PATH"], "PYTHONPATH": str(SERVICE), "DBUS_SYSTEM_BUS_ADDRESS": bus,
            "STATE_DIRECTORY": state, "KLDLOAD_KVM_LIBVIRT": "test:///default", **environment,
        },
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def until_ready(process: subprocess.Popen[str], words: str = "is ready") -> list[str]:
    """What it says until those words are among it."""
    assert process.stdout
    said: list[str] = []
    for line in process.stdout:
        said.append(line)
        if words in line:
            return said
    pytest.fail(f"it ended: {''.join(said)}")


def wait_for(check: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not check():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen in its time"
        time.sleep(0.02)


@pytest.mark.skipif(Path("/usr/sbin/zfs").exists(), reason="this machine has ZFS, and its pools are none of a test's")
class TestWithoutZfs:
    def test_it_serves_and_says_what_is_missing(self, bus: str) -> None:
        with daemon(bus) as process:
            until_ready(process)
            with Connection() as connection:
                manager = Manager(connection)
                assert manager.version == __version__
                assert any("the zfs command is not installed" in problem for problem in manager.problems)
                # The client keeps what it has read until it is told to read again.
                wait_for(lambda: manager.reload().libvirt_version)
                assert not any("libvirt" in problem for problem in manager.problems)

    def test_without_polkit_it_allows_nothing(self, bus: str) -> None:
        with daemon(bus) as process:
            until_ready(process)
            with Connection() as connection:
                with pytest.raises(NotAuthorized, match="nothing was changed"):
                    Manager(connection).create_vm("new")
                with pytest.raises(NotAuthorized):
                    Manager(connection).find_vm("new")

    def test_without_libvirt_it_is_ready_as_well_and_says_so(self, bus: str) -> None:
        with daemon(bus, KLDLOAD_KVM_LIBVIRT="test:///nowhere.xml") as process:
            until_ready(process)
            with Connection() as connection:
                manager = Manager(connection)
                assert any(problem.startswith("VMs cannot be started or changed") for problem in manager.problems)
                assert manager.libvirt_version == ""


class TestEnding:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_when_told_to_it_ends_well(self, bus: str, number: signal.Signals) -> None:
        with daemon(bus) as process:
            until_ready(process)
            process.send_signal(number)
            assert process.wait(20) == 0
        with Connection() as connection, pytest.raises(ServiceUnavailable):
            Manager(connection).find_vm("x")

    def test_cut_off_from_the_bus_it_ends_for_systemd_to_start_it_again(self, tmp_path: Path) -> None:
        folder = tmp_path / "fragile"
        folder.mkdir()
        with private_bus(folder) as address, daemon(address) as process:
            until_ready(process)
            os.kill(daemon_of_bus(folder), signal.SIGKILL)
            assert process.wait(20) == 1

    def test_a_second_one_ends_at_once(self, bus: str) -> None:
        with daemon(bus) as first:
            until_ready(first)
            with daemon(bus) as second:
                said = until_ready(second, "is taken")
                assert "another kldload-kvmd runs" in said[-1]
                assert second.wait(20) == 1

    def test_without_a_bus_it_ends(self, tmp_path: Path) -> None:
        with daemon(f"unix:path={tmp_path}/none") as process:
            assert process.wait(20) != 0


def daemon_of_bus(folder: Path) -> int:
    """The dbus-daemon that was started with the configuration in that folder."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"dbus-daemon") and f"--config-file={folder}/bus.conf".encode() in words:
            return int(process.name)
    raise AssertionError("there is no such dbus-daemon")
