"""What is generated from the contract: it is committed as it would be made, and it is right."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from generator import client, commands, completions, man, reference
from kldload_kvm import contract_files
from kldload_kvm.cli.failures import STATUSES
from kldload_kvm.model import contract

CHECKOUT = Path(__file__).resolve().parents[2]

XML = """
<node>
  <!-- A thing. -->
  <interface name="org.kldload.Kvm1.Thing">
    <!-- Its size. -->
    <property name="{property}" type="a{{sv}}" access="read"/>
    <!-- Do it. -->
    <method name="{method}">
      <annotation name="org.kldload.Kvm1.Action" value="org.kldload.kvm.read"/>
      <annotation name="org.kldload.Kvm1.Option.some-class" value="as Some."/>
      <!-- Options. -->
      <arg name="options" type="a{{sv}}" direction="in"/>
      <!-- How many. -->
      <arg name="count" type="t" direction="out"/>
    </method>
  </interface>
</node>
"""


def thing(monkeypatch: pytest.MonkeyPatch, *, property: str = "Size", method: str = "DoIt") -> str:
    """The sync client of a contract with one small interface."""
    interfaces = {each.name: each for each in contract.parse(XML.format(property=property, method=method))}
    monkeypatch.setattr(contract_files, "interfaces", lambda: interfaces)
    return client.text(asynchronous=False)


# The clients.


@pytest.mark.parametrize("what", ["client", "hook", "texts"])
def test_what_is_committed_is_as_it_would_be_made(what: str) -> None:
    done = subprocess.run(
        [sys.executable, CHECKOUT / "dbus" / "generate.py", what, "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_method_has_its_options_by_name_and_its_types(monkeypatch: pytest.MonkeyPatch) -> None:
    text = thing(monkeypatch)
    assert "def do_it(self, *, some_class: list[str] | None = None) -> int:" in text
    assert '("some-class", "as", some_class),' in text
    assert "def size(self) -> dict[str, Any]:" in text
    assert "asks=True" not in text


@pytest.mark.parametrize(("property", "method"), [("Path", "DoIt"), ("Size", "Reload"), ("Same", "Same")])
def test_a_name_that_would_hide_another_is_refused(monkeypatch: pytest.MonkeyPatch, property: str, method: str) -> None:
    with pytest.raises(ValueError, match="would hide"):
        thing(monkeypatch, property=property, method=method)


@pytest.mark.parametrize(
    ("name", "python"),
    [
        ("SetAutostart", "set_autostart"),
        ("ssh-keys", "ssh_keys"),
        ("auth.no_user_interaction", "no_user_interaction"),
        ("CanI", "can_i"),
        ("UsedAt", "used_at"),
        ("from", "from_"),
    ],
)
def test_names_become_pythons(name: str, python: str) -> None:
    assert client.snake(name) == python


def test_both_clients_have_the_same_methods() -> None:
    sync, asynchronous = client.text(asynchronous=False), client.text(asynchronous=True)
    names = [line.split("(")[0].split()[-1] for line in sync.splitlines() if line.startswith("    def ")]
    for name in names:
        assert f"def {name}(" in asynchronous
    assert "await" not in sync


# The reference.


def test_the_committed_reference_is_what_the_contract_gives() -> None:
    committed = (CHECKOUT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert committed == reference.text(), "run: dbus/generate.py reference docs/reference.md"


def test_the_reference_has_every_method_property_and_signal() -> None:
    text = reference.text()
    for interface in contract_files.interfaces().values():
        for name in (*interface.methods, *interface.signals):
            assert f" {name}(" in text
        for name in interface.properties:
            assert f"`{name}`" in text


# The man pages.


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    man.write(folder)
    return folder


def test_every_command_has_a_page_with_all_its_options(pages: Path) -> None:
    for name, parser in commands.parsers().items():
        text = (pages / f"{name}.1").read_text(encoding="utf-8").replace("\\-", "-")
        for each in commands.actions(parser).values() or [parser]:
            for action in each._actions:
                assert all(option in text for option in action.option_strings)
        for status, meaning in STATUSES:
            assert f".B {status}\n{meaning}" in text


def test_the_pages_are_good_roff(pages: Path) -> None:
    if not shutil.which("groff"):
        pytest.skip("groff is not installed")
    for page in sorted(pages.iterdir()):
        done = subprocess.run(
            ["groff", "-man", "-ww", "-Tutf8", "-z", page], capture_output=True, text=True, check=False
        )
        assert done.stderr == "", page


def test_the_pages_of_the_daemon_and_its_configuration_are_there(pages: Path) -> None:
    for name in ("kldload-kvmd.8", "kvm.conf.5"):
        assert "@" not in (pages / name).read_text(encoding="utf-8").splitlines()[0]


# The completions.


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The completions, with commands beside them that know two VMs, one snapshot and one image."""
    folder = tmp_path_factory.mktemp("completions")
    completions.write(folder)
    (folder / "bin").mkdir()
    for name, names in (
        ("kvm-list", "web-1 web-2"),
        ("kvm-snap", "stable"),
        ("kvm-image", "debian.iso"),
        ("kvm-job", "7"),
    ):
        script = folder / "bin" / name
        script.write_text(f"#!/bin/sh\nprintf '%s\\n' {names}\n")
        script.chmod(0o755)
    (folder / "file.qcow2").touch()
    return folder


WORDS = [
    ("kvm-snap ", ["web-1", "web-2"]),
    ("kvm-snap web-1 ", ["create", "delete", "list", "rollback"]),
    ("kvm-snap web-1 ro", ["rollback"]),
    ("kvm-snap web-1 rollback ", ["stable"]),
    ("kvm-snap web-1 create --consistency ", ["app", "off", "paused"]),
    ("kvm-vm sh", ["shutdown"]),
    ("kvm-vm start web-1 web-", ["web-1", "web-2"]),
    ("kvm-vm autostart web-1 o", ["off", "on"]),
    ("kvm-clone web-", ["web-1", "web-2"]),
    ("kvm-clone web-1 --st", ["--start"]),
    ("kvm-delete web-1 web-2 web-", ["web-1", "web-2"]),
    ("kvm-create x --im", ["--image"]),
    ("kvm-create x --iso deb", ["debian.iso"]),
    ("kvm-create x --iso fil", ["file.qcow2"]),
    ("kvm-image remove ", ["debian.iso"]),
    ("kvm-image add fil", ["file.qcow2"]),
    ("kvm-job show ", ["7"]),
]


def shell(folder: Path, words: list[str]) -> list[str]:
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        words, cwd=folder, env={"PATH": path, "HOME": str(folder)}, capture_output=True, text=True, check=True
    )
    return sorted({line.split("\t")[0] for line in done.stdout.splitlines() if line})


@pytest.mark.parametrize(("line", "words"), WORDS)
def test_bash_completes(completed: Path, line: str, words: list[str]) -> None:
    typed = line.split() + ([""] if line.endswith(" ") else [])
    script = (
        f'source bash/{typed[0]}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        f'_{typed[0].replace("-", "_")}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    assert shell(completed, ["bash", "--norc", "-c", script, "bash", *typed]) == words


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
@pytest.mark.parametrize(("line", "words"), WORDS)
def test_fish_completes(completed: Path, line: str, words: list[str]) -> None:
    found = shell(completed, ["fish", "-N", "-c", f"source fish/{line.split()[0]}.fish; complete -C '{line}'"])
    assert set(words) <= set(found)


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_can_read_its_completions(completed: Path) -> None:
    for file in sorted((completed / "zsh").iterdir()):
        assert file.read_text(encoding="utf-8").startswith(f"#compdef {file.name.removeprefix('_')}\n")
        subprocess.run(["zsh", "-n", file], check=True)
