"""What changes the host where the daemon may not: a few actions, of which none takes a path."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from kldload_kvm.host import applier, applying, sources
from kldload_kvm.model.errors import Failed
from kldload_kvm.model.modprobe import DROP_INS
from loops import in_loop


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path in (*DROP_INS.values(), *applier.PARAMETERS.values()):
        (tmp_path / path.removeprefix("/")).parent.mkdir(parents=True, exist_ok=True)
    return tmp_path


def act(root: Path, **request: Any) -> None:
    applier.act(request, str(root))


def test_a_drop_in_is_replaced_whole_and_removed(root: Path) -> None:
    file = root / DROP_INS["sysctl"].removeprefix("/")
    act(root, do="write", **{"drop-in": "sysctl", "text": "a\n"})
    act(root, do="write", **{"drop-in": "sysctl", "text": "b\n"})
    assert file.read_text() == "b\n"
    assert file.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    act(root, do="remove", **{"drop-in": "sysctl"})
    act(root, do="remove", **{"drop-in": "sysctl"})
    assert not file.exists()


def test_a_parameter_is_set(root: Path) -> None:
    act(root, do="set", parameter="vm.swappiness", value=1)
    assert (root / sources.SWAPPINESS.removeprefix("/")).read_text() == "1\n"


@pytest.mark.parametrize(
    "request_",
    [
        {"do": "run"},
        {"do": "write", "drop-in": "../../etc/passwd", "text": "x"},
        {"do": "write", "drop-in": "modprobe", "text": "x" * 5000},
        {"do": "set", "parameter": "kernel.core_pattern", "value": 1},
        {"do": "set", "parameter": "vm.swappiness", "value": "1\n2"},
        {"do": "initramfs"},
        {},
    ],
)
def test_anything_else_is_refused(root: Path, request_: dict[str, Any]) -> None:
    before = sorted(str(each) for each in root.rglob("*"))
    with pytest.raises((ValueError, KeyError)):
        applier.act(request_, str(root))
    assert sorted(str(each) for each in root.rglob("*")) == before


def test_a_failure_is_an_answer_too(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "request").write_text(json.dumps({"do": "set", "parameter": "nothing", "value": 1}))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    applier.main()
    assert json.loads(capsys.readouterr().out) == {"error": "'nothing'"}


class Units:
    """Runs nothing; answer: what the unit would print, or None for one that says nothing."""

    def __init__(self, directory: Path, answer: str | None) -> None:
        self.directory, self.answer = directory, answer
        self.calls: list[str] = []
        self.started = asyncio.Event()

    async def start(self, unit: str) -> None:
        self.calls.append(f"start {unit}")
        self.started.set()
        if self.answer is not None:
            (self.directory / "t1x0.out").write_text(self.answer)

    async def stop(self, unit: str) -> None:
        self.calls.append(f"stop {unit}")


@pytest.mark.parametrize(
    ("answer", "why"),
    [('{"error": "no space left"}', "no space left"), ("{", "has not ended"), (None, "has not ended")],
)
@in_loop
async def test_the_daemon_is_told_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str | None, why: str
) -> None:
    monkeypatch.setattr(applying, "BOUND", 0.2)
    units = Units(tmp_path, answer)
    with pytest.raises(Failed) as caught:
        await applying.apply(units, "t1x0", {"do": "initramfs"}, tmp_path)
    assert why in caught.value.why
    assert list(tmp_path.iterdir()) == []
    unit = "kldload-kvm-host@t1x0.service"
    assert units.calls == [f"stop {unit}", f"start {unit}", f"stop {unit}"]


@in_loop
async def test_a_caller_that_is_cancelled_stops_it(tmp_path: Path) -> None:
    units = Units(tmp_path, None)
    task = asyncio.ensure_future(applying.apply(units, "t1x0", {"do": "initramfs"}, tmp_path))
    await asyncio.wait_for(units.started.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert units.calls[-1].startswith("stop")
    assert list(tmp_path.iterdir()) == []
