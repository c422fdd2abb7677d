"""The commands' parts that need no service: options, texts, statuses, tables, and how fast they start."""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from kldload_kvm.cli import create, failures, progress, snap, tables, vm
from kldload_kvm.cli import list as listing
from kldload_kvm.cli.password import hashed, read_hash
from kldload_kvm.client.api import Job
from kldload_kvm.client.faults import ServiceUnavailable, from_dbus
from kldload_kvm.model import errors
from kldload_kvm.model.errors import InvalidArgument, KvmError

NAMES = ("create", "list", "snap", "clone", "delete", "export", "image", "job", "vm")
GIB = 1 << 30


def parsed(line: str) -> argparse.Namespace:
    name, *words = line.split()
    parser: argparse.ArgumentParser = import_module(f"kldload_kvm.cli.{name.removeprefix('kvm-')}").parser()
    return parser.parse_args(words)


# Options.


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("kvm-create myvm", {"name": "myvm", "ram": None, "disk": None, "start": None}),
        ("kvm-create webserver --ram 4096 --cpus 4 --disk 40", {"ram": 4 * GIB, "cpus": 4, "disk": 40 * GIB}),
        (
            "kvm-create x --ram 8G --disk 1.5T --volblocksize 16K",
            {"ram": 8 * GIB, "disk": 1536 * GIB, "volblocksize": 16384},
        ),
        ("kvm-create x --ram 512M --disk 512M", {"ram": GIB // 2, "disk": GIB // 2}),
        ("kvm-create x --start", {"start": True}),
        ("kvm-create x --no-start", {"start": False}),
        ("kvm-clone template web-3 --snap @stable", {"source": "template", "names": ["web-3"], "snap": "stable"}),
        ("kvm-clone template a b c", {"names": ["a", "b", "c"], "snap": None}),
        ("kvm-snap web-1", {"vm": "web-1", "action": "create", "snapshot": None}),
        ("kvm-snap web-1 rollback @2026-04-01_153022", {"action": "rollback", "snapshot": "2026-04-01_153022"}),
        ("kvm-snap web-1 delete stable", {"action": "delete", "snapshot": "stable"}),
        ("kvm-delete web-1 --force", {"vms": ["web-1"], "force": True}),
        ("kvm-vm autostart web-1", {"switch": None}),
        ("kvm-vm shutdown web-1 --timeout 60", {"vms": ["web-1"], "timeout": 60}),
    ],
)
def test_a_command_line_means(line: str, values: dict[str, object]) -> None:
    found = vars(parsed(line))
    assert {name: found[name] for name in values} == values


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_with_examples_that_it_understands(name: str) -> None:
    parser = import_module(f"kldload_kvm.cli.{name}").parser()
    assert "examples:" in parser.format_help()
    lines = [line.split("   ")[0].split("$(")[0].split("|")[0].split("&&")[0] for line in parser.examples.split("\n")]
    for line in (each.strip() for each in lines):
        if line.startswith(parser.prog) and not line.endswith("wait"):
            parsed(line)


@pytest.mark.parametrize("line", ["kvm-create x --disk 0", "kvm-create x --cpus -1", "kvm-list --wid", "kvm-image add"])
def test_what_is_not_understood_is_status_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(line)
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == "" and 1 <= len(said.err.splitlines()) <= 3


@pytest.mark.parametrize(
    "line",
    [
        "kvm-snap web-1 list @a",
        "kvm-snap web-1 create --force",
        "kvm-snap web-1 list --consistency app",
        "kvm-snap web-1 rollback --names",
        "kvm-snap web-1 delete",
    ],
)
def test_combinations_that_mean_nothing_are_refused(line: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        snap.check(parsed(line))
    assert caught.value.hint


def test_the_short_cut_past_the_parser_gives_what_it_gives() -> None:
    assert vars(listing.PLAIN) == vars(parsed("kvm-list"))


# How a command ends.


def every_error() -> list[type[KvmError]]:
    return [each for each in KvmError.__subclasses__() if each.__module__ == errors.__name__] + [ServiceUnavailable]


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_that_is_documented(kind: type[KvmError]) -> None:
    assert failures.status(kind("what")) in dict(failures.STATUSES)


def test_an_error_is_told_in_three_lines_and_empty_ones_are_left_out() -> None:
    error = errors.Busy("web-1 is busy", "job 7 holds it", "see: kvm-job show 7")
    text = "kvm-vm: web-1 is busy\n  why:  job 7 holds it\n  hint: see: kvm-job show 7"
    assert failures.lines("kvm-vm", error, colour=False) == text
    assert failures.lines("kvm-vm", errors.Busy("web-1 is busy"), colour=False) == "kvm-vm: web-1 is busy"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("org.kldload.Kvm1.Error.Busy", errors.Busy),
        ("org.kldload.Kvm1.Error.NewerThanThis", errors.Failed),
        ("org.freedesktop.DBus.Error.ServiceUnknown", ServiceUnavailable),
        ("org.freedesktop.DBus.Error.Spawn.ChildExited", ServiceUnavailable),
        ("org.freedesktop.systemd1.NoSuchUnit", ServiceUnavailable),
        ("org.freedesktop.DBus.Error.NoReply", errors.TimedOut),
        ("org.freedesktop.DBus.Error.AccessDenied", errors.NotAuthorized),
        ("org.freedesktop.DBus.Error.UnknownObject", errors.NotFound),
        ("org.freedesktop.DBus.Error.UnknownMethod", errors.Failed),
        ("org.freedesktop.DBus.Error.InvalidArgs", errors.InvalidArgument),
        ("com.example.Other", errors.Failed),
    ],
)
def test_errors_of_the_bus_become_ours(name: str, kind: type[KvmError]) -> None:
    error = from_dbus(name, "what\nwhy\nhint")
    assert type(error) is kind
    assert error.what


def test_a_service_that_ended_before_it_answered_is_told_from_a_slow_one() -> None:
    name = "org.freedesktop.DBus.Error.NoReply"
    for gone in ("Message recipient disconnected from message bus without replying", "Remote peer disconnected"):
        error = from_dbus(name, gone)
        assert type(error) is ServiceUnavailable
        assert "kvm-job list" in error.hint


# Texts.


def test_a_table_is_aligned_and_cannot_move_the_cursor() -> None:
    text = tables.table(["NAME", "SIZE"], [["a\033[2J", "1G"], ["long-name", "100M"]], right=("SIZE",))
    assert text == "NAME       SIZE\na?[2J        1G\nlong-name  100M"


def test_names_are_sorted_as_people_count() -> None:
    names = ["web-10", "web-2", "web", "db-1", "10", "9", "web-2a"]
    assert sorted(names, key=tables.natural) == ["9", "10", "db-1", "web", "web-2", "web-2a", "web-10"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("x", "x created, and not started, as its disk is blank\nStart it: kvm-vm start x"),
        ("x --no-start", "x created, and not started\nStart it: kvm-vm start x"),
        ("x --iso a.iso", "x created and started; its screen is at: kvm-vm vnc x"),
        ("x --image a.qcow2", "x created and started; its console is at: kvm-vm console x"),
        ("x --image a.qcow2 --no-start", "x created, and not started\nStart it: kvm-vm start x"),
        ("x --start", "x created and started; its console is at: kvm-vm console x"),
    ],
)
def test_what_is_said_of_a_new_vm(words: str, text: str) -> None:
    assert create.created(parsed(f"kvm-create {words}"), {"name": "x"}) == text


def test_every_power_action_is_told() -> None:
    assert set(vm.POWER) == {"start", "shutdown", "off", "reboot", "pause", "resume"}


def job(**values: object) -> Job:
    known = {
        "State": "running",
        "Description": "clone web-1",
        "Steps": [],
        "Progress": 0.5,
        "Bytes": 0,
        "Rate": 0,
        "BytesTotal": 0,
    }
    return Job(None, "/", known | values)  # type: ignore[arg-type]  # it is not asked


@pytest.mark.parametrize(
    ("values", "columns", "line"),
    [
        ({}, 80, "clone web-1  ############------------  50%  0:07"),
        ({"State": "undoing"}, 80, "undoing  ############------------  50%  0:07"),
        ({"Progress": 1.0}, 80, "clone web-1  ######################## 100%  0:07"),
        (
            {
                "Bytes": GIB,
                "BytesTotal": 3 * GIB,
                "Rate": 95 << 20,
                "Steps": [{"description": "convert", "state": "running"}],
            },
            80,
            "convert  ############------------  50%  1G of 3G, 95M/s  0:07",
        ),
        ({"Description": "clone " * 20}, 50, "clone clone…  ############------------  50%  0:07"),
        ({}, 20, "############-------"),
    ],
)
def test_progress_is_one_line_that_fits(values: dict[str, object], columns: int, line: str) -> None:
    assert progress.drawn(job(**values), 7.5, columns) == line
    assert len(line) < columns


# Passwords.


def test_a_password_is_hashed_so_that_every_guest_knows_it() -> None:
    first, second = hashed("secret"), hashed("secret")
    assert first.startswith("$6$") and len(first) > 90
    assert first != second


def test_a_hash_is_the_first_line_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "hash").write_text("$6$a$b\nmore\n")
    assert read_hash(str(tmp_path / "hash")) == "$6$a$b"
    (tmp_path / "hash").write_text("\n")
    with pytest.raises(InvalidArgument):
        read_hash(str(tmp_path / "hash"))
    with pytest.raises(InvalidArgument):
        read_hash(str(tmp_path / "none"))


# The start.

SLOW = {
    "argparse", "asyncio", "dataclasses", "dbus_next", "difflib", "email", "importlib.metadata", "inspect", "json",
    "logging", "pathlib", "rich", "shutil", "subprocess", "tabulate", "tempfile", "urllib", "xml",
}  # fmt: skip
"""What costs a command that only lists more than it may: kvm-list is to take at most four times as long as Python."""


def imported(code: str) -> set[str]:
    """The modules there are after that code has run."""
    lines = f"import sys; sys.path[:0] = {sys.path!r}\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", lines], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_listing_imports_nothing_that_is_slow() -> None:
    assert (imported("from kldload_kvm.cli import list") - imported("")) & SLOW == set()
