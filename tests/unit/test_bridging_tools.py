"""Bridges by any of the tools: tried, kept, taken back, and the power cut at every moment."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kldload_kvm.host.bridging import __main__ as bridging
from kldload_kvm.host.bridging import links, tool
from kldload_kvm.model.errors import AlreadyExists, KvmError
from kldload_kvm.model.wiring import Wiring
from memory_network import MAC, NETWORKS, MemoryNetwork


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "PATIENCE", 0.0)


@pytest.fixture(params=NETWORKS, ids=lambda each: each.tool)
def network(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryNetwork:
    made: MemoryNetwork = request.param(tmp_path)
    return made


def names(network: MemoryNetwork) -> dict[str, str]:
    return {"bridge": "br7", "port": "eth7", "tool": network.tool, "settings": network.settings}


def act(network: MemoryNetwork, do: str, **changed: Any) -> None:
    bridging.act({"do": do, **names(network), **changed}, str(network.root), network.run, lambda seconds: None)


def seen(network: MemoryNetwork) -> Wiring:
    return links.read(str(network.root), links.tools(str(network.root), network.run))


class TestDoing:
    def test_tried_and_taken_back(self, network: MemoryNetwork) -> None:
        before = network.picture()
        act(network, "try")
        assert network.text("/addresses/br7") == "192.168.77.1/24"
        assert network.text("/addresses/eth7") == ""
        assert seen(network).links["eth7"].master == "br7"
        act(network, "take-back")
        act(network, "take-back")
        assert network.picture() == before
        act(network, "try")

    def test_tried_and_kept(self, network: MemoryNetwork) -> None:
        act(network, "try")
        act(network, "keep")
        after = network.picture()
        assert seen(network).kept == ("br7",)
        for do in ("keep", "take-back", "guard"):
            act(network, do, seconds=1)
            assert network.picture() == after
        network.boot()
        assert network.picture() == after

    def test_a_reboot_forgets_the_trial(self, network: MemoryNetwork) -> None:
        before = network.picture()
        act(network, "try")
        network.boot()
        assert network.picture() == before
        act(network, "take-back")
        assert network.picture() == before

    def test_the_guard_takes_back(self, network: MemoryNetwork) -> None:
        before = network.picture()
        act(network, "try")
        act(network, "guard", seconds=60)
        assert network.picture() == before

    def test_nothing_is_taken_back_that_was_not_tried(self, network: MemoryNetwork) -> None:
        network.add("br7", "52:54:00:00:00:07", kind="bridge")
        before = network.picture()
        with pytest.raises(AlreadyExists):
            act(network, "try")
        act(network, "take-back")
        assert (network.picture(), network.changes()) == (before, [])

    def test_a_tool_that_does_not_do_it(self, network: MemoryNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(network, "enslave", lambda name, master: None)
        with pytest.raises(TimeoutError, match="not put eth7 into br7"):
            act(network, "try")

    @pytest.mark.parametrize(
        "changed",
        [
            {"settings": "/etc/systemd/network/other.network"},
            {"do": "run"},
            {"tool": "sh"},
            {"bridge": "../x"},
            {"port": "-rf"},
            {"bridge": "eth7"},
        ],
    )
    def test_anything_else_is_refused(self, network: MemoryNetwork, changed: dict[str, Any]) -> None:
        before = network.picture()
        with pytest.raises((ValueError, KeyError, KvmError)):
            bridging.act({"do": "try", **names(network), **changed}, str(network.root), network.run)
        assert (network.picture(), network.changes()) == (before, [])


class PowerCut(BaseException):
    """Nothing runs after it."""


@pytest.mark.parametrize("kind", NETWORKS, ids=lambda each: each.tool)
def test_a_power_cut_at_any_moment_leaves_the_host_as_before_or_as_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[MemoryNetwork]
) -> None:
    """Then the host boots, and the daemon takes back what is not kept."""
    write, remove = tool.Tool.write, tool.Tool.remove
    for last in range(1000):
        network = kind(tmp_path / str(last))
        before, seen_moments = network.picture(), 0

        def moment(what: str, last: int = last) -> None:
            nonlocal seen_moments
            seen_moments += 1
            if seen_moments > last:
                raise PowerCut(what)

        def written(self: tool.Tool, path: str, *rest: Any, moment: Any = moment) -> None:
            moment(f"before {path}")
            write(self, path, *rest)
            moment(f"after {path}")

        def removed(self: tool.Tool, *paths: str, moment: Any = moment) -> None:
            for path in paths:
                moment(f"before {path}")
                remove(self, path)

        monkeypatch.setattr(tool.Tool, "write", written)
        monkeypatch.setattr(tool.Tool, "remove", removed)
        network.moment = moment
        try:
            act(network, "try")
            act(network, "keep")
            cut = False
        except PowerCut:
            cut = True
        monkeypatch.undo()
        network.moment = lambda what: None
        network.boot()
        act(network, "take-back")
        found = network.picture()
        if "br7" in found:
            assert (found["br7"], found["eth7"]) == (f"{MAC} 192.168.77.1/24 ", f"{MAC}  br7"), last
        else:
            assert found == before, last
        if not cut:
            assert "br7" in found
            return
    raise AssertionError


def test_a_failure_is_an_answer_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "request").write_text(json.dumps({"do": "try", "bridge": "a/b", "port": "eth7", "settings": ""}))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(bridging.signal, "signal", lambda number, handler: None)
    bridging.main()
    assert "it has '/' in it" in json.loads(capsys.readouterr().out)["error"]


class TestRunning:
    def test_what_it_prints(self) -> None:
        assert tool.started(["/bin/echo", "a"]) == "a\n"

    def test_what_it_complains_of_is_told(self) -> None:
        with pytest.raises(subprocess.SubprocessError, match="no such thing"):
            tool.started(["/bin/sh", "-c", "echo no such thing >&2; exit 3"])

    def test_a_child_that_is_left_behind_is_not_waited_for(self) -> None:
        assert tool.started(["/bin/sh", "-c", "sleep 5 & echo $!"], 3.0).strip().isdigit()


ENDS = """
import sys
from kldload_kvm.host.bridging import tool
import signal
signal.signal(signal.SIGTERM, tool.ENDING.ask)
print("ready", flush=True)
tool.started(["/bin/sh", "-c", f"sleep 1; echo done > {sys.argv[1]}"])
print("never")
"""


def test_told_to_stop_it_lets_the_command_end_that_is_at_work_and_begins_no_other(tmp_path: Path) -> None:
    """Else it would go on by itself, beside what takes it back."""
    command = [sys.executable, "-c", ENDS, str(tmp_path / "file")]
    environment = {"PYTHONPATH": str(Path(bridging.__file__).parents[3])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout
        assert running.stdout.readline() == "ready\n"
        time.sleep(0.3)
        running.terminate()
        assert running.stdout.read() == ""
    assert running.returncode == 143
    assert (tmp_path / "file").read_text() == "done\n"


def test_told_to_stop_a_guard_that_waits_ends_at_once(tmp_path: Path) -> None:
    request = {"do": "guard", "bridge": "br7", "port": "eth7", "tool": "ifupdown", "settings": "", "seconds": 600}
    (tmp_path / "request").write_text(json.dumps(request))
    environment = {"PYTHONPATH": str(Path(bridging.__file__).parents[3]), "CREDENTIALS_DIRECTORY": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-m", "kldload_kvm.host.bridging"], env=environment) as running:
        time.sleep(1)
        assert running.poll() is None
        running.terminate()
        assert running.wait(10) in (143, -15)
