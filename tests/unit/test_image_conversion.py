"""Asking the image helper: what is believed of its answers, and how a run is followed, stopped and taken up again."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import image_files as files
import kldload_kvm
from kldload_kvm.images import answer, conversion, run_files
from kldload_kvm.images.answer import Disk, last_answer
from kldload_kvm.images.conversion import UnitState
from kldload_kvm.images.run_files import Run
from kldload_kvm.model.errors import BadImage, Failed, KvmError, TimedOut
from kldload_kvm.waiting import until

MIB = 1 << 20
T = TypeVar("T")
SERVICE = Path(kldload_kvm.__file__).parents[1]


class TestAnswers:
    @pytest.mark.parametrize(
        ("said", "meant"),
        [
            (b"", None),
            (b'{"progress": 0.5}', None),
            (b'{"progress": 0.5}\n', 0.5),
            (b'{"progress": 1}\n{"progr', 1.0),
            (b'{"progress": 0.5}\n{"result": {"format": "raw", "virtual_size": 512}}\n', Disk("raw", 512)),
        ],
    )
    def test_good(self, said: bytes, meant: object) -> None:
        assert last_answer(said) == meant

    def test_errors_are_ours(self) -> None:
        said = {"name": "BadImage", "what": "a\x1b[2J\nb", "why": "c" * 1000, "hint": ""}
        error = last_answer(json.dumps({"error": said}).encode() + b"\n")
        assert isinstance(error, BadImage)
        assert error.what == "a [2J b"
        assert len(error.why) == answer.LONGEST_TEXT

    @pytest.mark.parametrize(
        "said",
        [
            "x", "[]", "{}", "1", "null", '{"progress": true}', '{"progress": -0.1}', '{"progress": 1.1}',
            '{"progress": NaN}',             '{"progress": "1"}', '{"progress": 0, "result": {}}',
            '{"result": []}', '{"result": {}}', '{"other": {}}',
            '{"result": {"format": "vmdk", "virtual_size": 1}}', '{"result": {"format": [], "virtual_size": 1}}',
            '{"result": {"format": "raw", "virtual_size": 0}}', '{"result": {"format": "raw", "virtual_size": true}}',
            '{"result": {"format": "raw", "virtual_size": 1e3}}',
            '{"result": {"format": "raw", "virtual_size": 99999999999999}}',
            '{"error": {"name": "NotAuthorized", "what": "", "why": "", "hint": ""}}',
            '{"error": {"name": [], "what": ""}}',
            '{"error": {"name": "BadImage", "what": 1, "why": "", "hint": ""}}', '{"error": "x"}',
            "[" * 8000, '{"progress":' * 600, " " * 9000 + "1",
        ],
    )  # fmt: skip
    def test_nonsense(self, said: str) -> None:
        with pytest.raises(Failed, match="what it never says"):
            last_answer(said.encode() + b"\n")

    def test_a_line_without_end(self) -> None:
        with pytest.raises(Failed):
            last_answer(b"x" * answer.LONGEST_LINE)

    @given(st.binary(max_size=200) | st.recursive(st.none() | st.text(max_size=5) | st.floats() | st.integers(),
           lambda inner: st.dictionaries(st.sampled_from(["progress", "result", "error", "name", "format"]), inner),
           ).map(lambda value: json.dumps(value).encode()))  # fmt: skip
    def test_any_bytes(self, said: bytes) -> None:
        try:
            meant = last_answer(said + b"\n")
        except Failed:
            return
        assert meant is None or isinstance(meant, float | Disk | KvmError)


class Systemd:
    """Runs the helper as its units would, with the files that its units name; or does whatever `instead` says."""

    def __init__(self, directory: Path, instead: str = "") -> None:
        self.directory, self.instead = directory, instead
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.calls: list[str] = []

    async def start(self, unit: str) -> None:
        self.calls.append(f"start {unit}")
        match = re.fullmatch(r"kldload-kvm-(inspect|convert)@([a-z0-9]+)\.service", unit)
        assert match
        operation, instance = match.groups()
        credentials = self.directory / f"{instance}.credentials"
        credentials.mkdir()
        (credentials / "request").write_bytes((self.directory / f"{instance}.json").read_bytes())
        command = [sys.executable, "-m", "kldload_kvm.images.helper", operation, instance]
        environment = {
            "CREDENTIALS_DIRECTORY": str(credentials),
            "PYTHONPATH": str(SERVICE),
            "PATH": os.environ["PATH"],
        }
        with (
            (self.directory / f"{instance}.source").open("rb") as source,
            (self.directory / f"{instance}.status").open("ab") as status,
        ):
            script = ["sh", "-c", self.instead] if self.instead else command
            self.processes[unit] = subprocess.Popen(  # noqa: ASYNC220 -- a test
                script, stdin=source, stdout=status, env=environment, start_new_session=True
            )

    async def state(self, unit: str) -> UnitState:
        process = self.processes.get(unit)
        return UnitState("activating" if process and process.poll() is None else "inactive", "success")

    async def stop(self, unit: str) -> None:
        self.calls.append(f"stop {unit}")
        if process := self.processes.pop(unit, None):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    (tmp_path / "run").mkdir()
    return Systemd(tmp_path / "run")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def left(systemd: Systemd) -> list[str]:
    return [path.name for path in systemd.directory.iterdir() if not path.name.endswith(".credentials")]


class TestAskingForAnInspection:
    def ask(self, systemd: Systemd, image: Path) -> Disk:
        return run(conversion.inspect(systemd, image, image.name, directory=systemd.directory))

    def test_an_answer(self, systemd: Systemd, tmp_path: Path) -> None:
        assert self.ask(systemd, files.create(tmp_path / "web.qcow2")) == Disk("qcow2", 64 * MIB)
        assert left(systemd) == []

    def test_a_refusal(self, systemd: Systemd, tmp_path: Path) -> None:
        with pytest.raises(BadImage, match=r"'web\.qcow2' cannot be used.*\n.*VDI"):
            self.ask(systemd, files.create(tmp_path / "web.qcow2", "vdi"))
        assert left(systemd) == []

    @pytest.mark.parametrize(
        ("instead", "said"),
        [
            ("exit 1", "ended without an answer"),
            ("echo '{\"progress\": 0.5}'", "ended without an answer"),
            ("kill -9 $$", "ended without an answer"),
            ("echo garbage; sleep 60", "what it never says"),
            ("yes | head -c 3000000", "what it never says"),
            ("printf '{\"progress\": 0'", "ended without an answer"),
        ],
    )
    def test_a_helper_gone_wrong(self, systemd: Systemd, tmp_path: Path, instead: str, said: str) -> None:
        systemd.instead = instead
        with pytest.raises(Failed, match=said):
            self.ask(systemd, files.create(tmp_path / "web.qcow2"))
        assert left(systemd) == []
        assert systemd.processes == {}

    def test_a_helper_that_never_ends(self, systemd: Systemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(conversion, "SECONDS_TO_INSPECT", 0.6)
        systemd.instead = "exec sleep 60"
        with pytest.raises(TimedOut):
            self.ask(systemd, files.create(tmp_path / "web.qcow2"))
        assert systemd.processes == {}

    def test_a_helper_that_never_starts(
        self, systemd: Systemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def nothing(unit: str) -> None:
            return None

        monkeypatch.setattr(conversion, "SECONDS_TO_START", 0.3)
        monkeypatch.setattr(systemd, "start", nothing)
        with pytest.raises(Failed, match="did not start"):
            self.ask(systemd, files.create(tmp_path / "web.qcow2"))


class TestAskingForAConversion:
    ZD, TAG = "zd16", "1x0"

    async def ask(self, systemd: Systemd, image: Path, tag: str = TAG, report: Any = lambda done, total: None) -> None:
        disk = Disk("qcow2", 64 * MIB)
        await conversion.convert(
            systemd, image, image.name, disk, "rpool/vms/web", self.ZD, tag, report, systemd.directory
        )

    def test_progress_and_the_end(self, systemd: Systemd, tmp_path: Path) -> None:
        systemd.instead = (
            "for i in 25 50; do echo '{\"progress\": 0.'$i'}'; sleep 0.4; done;"
            'echo \'{"result": {"format": "qcow2", "virtual_size": 67108864}}\''
        )
        said: list[tuple[int, int]] = []
        run(self.ask(systemd, files.create(tmp_path / "web.qcow2"), report=lambda *bytes_: said.append(bytes_)))
        assert said == [(16 * MIB, 64 * MIB), (32 * MIB, 64 * MIB), (64 * MIB, 64 * MIB)]
        assert left(systemd) == []

    def test_the_helper_asks_the_kernel_whose_node_it_is(self, systemd: Systemd, tmp_path: Path) -> None:
        with pytest.raises(Failed, match="/dev/zd16 is not the volume rpool/vms/web"):
            run(self.ask(systemd, files.create(tmp_path / "web.qcow2")))

    def test_another_disk_than_asked_for(self, systemd: Systemd, tmp_path: Path) -> None:
        systemd.instead = 'echo \'{"result": {"format": "qcow2", "virtual_size": 512}}\''
        with pytest.raises(Failed, match="another disk"):
            run(self.ask(systemd, files.create(tmp_path / "web.qcow2")))

    def test_a_cancellation_stops_the_helper_first(self, systemd: Systemd, tmp_path: Path) -> None:
        systemd.instead = "echo '{\"progress\": 0.5}'; exec sleep 60"

        async def running() -> bool:
            return bool(systemd.processes)

        async def main() -> None:
            task = asyncio.create_task(self.ask(systemd, files.create(tmp_path / "web.qcow2")))
            await until(running, 10, 0.05)
            process = next(iter(systemd.processes.values()))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert process.poll() is not None

        run(main())
        assert left(systemd) == []

    def survivor(self, systemd: Systemd, image: Path, tag: str = TAG) -> Run:
        """What a daemon that was killed leaves: a run under way."""
        request = {"operation": "convert", "name": image.name, "format": "qcow2", "virtual_size": 64 * MIB}
        there = Run("convert", self.ZD, image, {**request, "dataset": "rpool/vms/web", "tag": tag}, systemd.directory)
        run_files.write(there)
        run(systemd.start(there.unit))
        return there

    def test_a_run_that_survived_is_taken_up(self, systemd: Systemd, tmp_path: Path) -> None:
        image = files.create(tmp_path / "web.qcow2")
        systemd.instead = 'sleep 1; echo \'{"result": {"format": "qcow2", "virtual_size": 67108864}}\''
        self.survivor(systemd, image)
        run(self.ask(systemd, image))
        assert [call for call in systemd.calls if call.startswith("start")] == [
            "start kldload-kvm-convert@zd16.service"
        ]

    def test_a_run_that_ended_meanwhile_has_its_answer(self, systemd: Systemd, tmp_path: Path) -> None:
        image = files.create(tmp_path / "web.qcow2")
        systemd.instead = 'echo \'{"result": {"format": "qcow2", "virtual_size": 67108864}}\''
        there = self.survivor(systemd, image)
        systemd.processes[there.unit].wait()
        systemd.instead = "exit 1"
        run(self.ask(systemd, image))
        assert left(systemd) == []

    def test_a_run_that_never_came_to_start_is_started(self, systemd: Systemd, tmp_path: Path) -> None:
        image = files.create(tmp_path / "web.qcow2")
        systemd.instead = 'echo \'{"result": {"format": "qcow2", "virtual_size": 67108864}}\''
        there = self.survivor(systemd, image)
        run(systemd.stop(there.unit))
        there.file("status").unlink()
        (systemd.directory / "zd16.credentials" / "request").unlink()
        (systemd.directory / "zd16.credentials").rmdir()
        run(self.ask(systemd, image))

    def test_another_job_s_run_is_not(self, systemd: Systemd, tmp_path: Path) -> None:
        image = files.create(tmp_path / "web.qcow2")
        systemd.instead = "exec sleep 60"
        there = self.survivor(systemd, image, tag="0x7")
        old = systemd.processes[there.unit]
        (systemd.directory / "zd16.credentials").rename(tmp_path / "old")
        systemd.instead = 'echo \'{"result": {"format": "qcow2", "virtual_size": 67108864}}\''
        run(self.ask(systemd, image))
        assert old.poll() is not None

    def test_what_nobody_takes_up_is_ended(self, systemd: Systemd, tmp_path: Path) -> None:
        systemd.instead = "exec sleep 60"
        there = self.survivor(systemd, files.create(tmp_path / "web.qcow2"))
        (systemd.directory / "junk.json").write_text("{")
        keep = frozenset({self.TAG})
        assert run(conversion.abandon(systemd, keep, directory=systemd.directory)) == []
        assert run(conversion.abandon(systemd, directory=systemd.directory)) == [there.unit]
        assert left(systemd) == ["junk.json"]
        assert systemd.processes == {}

    @pytest.mark.parametrize("name", ["", "../x", "zd16.service", "-x", "zd", "web", "zd" + "1" * 20])
    def test_no_other_unit_can_be_named(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(Failed):
            Run("convert", name, tmp_path, {}, tmp_path)
