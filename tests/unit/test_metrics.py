"""The text that kvm-metrics makes: every metric named as OpenMetrics wants it, documented, escaped, and understood by
parsers that are not ours."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from kldload_kvm import contract_files
from kldload_kvm.cli.metric_list import METRICS, PREFIX, Metric
from kldload_kvm.cli.metrics import DOWN, exposition, family, write
from kldload_kvm.model.constants import PREFIX as SERVICE
from kldload_kvm.model.errors import InvalidArgument

CHECKOUT = Path(__file__).resolve().parents[2]
ODD = 'we"b\\1\nx'
VM = {"vm": "web-1", "id": "id-1"}
TABLES: dict[str, list[dict[str, Any]]] = {
    "service": [{
        "up": True, "version": "0.1.0", "zfs": "2.3.9", "libvirt": "", "started": 1_775_057_422, "problems": 1,
        "jobs-running": 0, "libvirt-connected": False, "usage-problem": "libvirt is away",
    }],
    "storage": [{
        "storage": "rpool", "capacity": (1 << 53) + 1, "free": 5, "floor": 1, "provisioned": 9, "sampled-at": 7,
        "problem": "", "trash-entries": 2, "trash-used": 3,
    }],
    "vm": [{
        "vm": name, "id": name, "uuid": "u", "state": "running", "storage": "rpool", "template": False, "problem": "",
        "memory": 1, "vcpus": 2, "size": 3, "used": 4, "used-at": 5, "snapshots": 6,
    } for name in ("web-1", ODD)],
    "snapshot": [{**VM, "kind": "auto", "count": 3, "newest": 1_775_057_422}],
    "held": [{**VM, "how": "frozen", "count": 2, "seconds": 0.75, "last": 0.25}],
    "usage": [{**VM, "cpu-time": 1_500_000_000, "cpu-user": 1, "cpu-system": 2, "memory-current": 3,
               "memory-resident": 4, "memory-unused": 5, "memory-usable": 6}],
    "disk": [{**VM, "target": "vda", "reads": (1 << 64) - 1, "read-bytes": 1, "read-time": 2, "writes": 3,
              "write-bytes": 4, "write-time": 5, "flushes": 6, "flush-time": 7}],
    "interface": [{**VM, "device": "vnet0", **{f"{way}-{what}": 1 for way in ("received", "sent")
                                              for what in ("bytes", "packets", "errors", "dropped")}}],
    "job": [{"operation": "vm.start", "outcome": "failed", "count": 1, "seconds": 2.5}],
    "event": [{"source": "zfs", "events": 9, "measured": 4, "lag": 1.25, "worst": 0.5, "late": 0}],
    "reload": [{"reason": "gap", "count": 0}],
}  # fmt: skip
"""A row of every table with every column."""


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value
        for made in open_metrics(text)
        for each in made.samples
    }


class TestList:
    @pytest.mark.parametrize("metric", METRICS, ids=lambda each: each.name)
    def test_is_named_and_typed_as_both_formats_want_it(self, metric: Metric) -> None:
        """node-exporter refuses a whole file for a type that the older format has not, such as info."""
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", metric.name)
        assert metric.type in ("gauge", "counter", "summary")
        assert not metric.name.endswith(("_total", "_sum", "_count"))
        assert (
            metric.name.endswith(f"_{metric.unit}") if metric.unit else not metric.name.endswith(("_bytes", "_seconds"))
        )
        assert bool(metric.count) == (metric.type == "summary")
        assert re.fullmatch(r"[^\"\\\n]+[.]", metric.help), "the two formats escape a quote differently"
        assert all(re.fullmatch(r"[a-z]+", label) for label in metric.labels)

    def test_no_two_have_one_name(self) -> None:
        names = [each.family for each in METRICS]
        assert len(names) == len(set(names))

    def test_every_column_is_told_in_the_contract(self) -> None:
        doc = contract_files.interfaces()[f"{SERVICE}.Manager"].methods["GetStatistics"].doc
        assert {metric.table for metric in METRICS} == set(re.findall(r"^([a-z]+)[:,]", doc, flags=re.M))
        words = set(re.findall(r"[a-z]+(?:-[a-z]+)*", doc))
        used = {c for m in METRICS for c in (m.column, m.count, *m.labels) if c} - {"up"}
        assert used <= words

    def test_every_column_but_names_is_a_metric(self) -> None:
        used = {(m.table, column) for m in METRICS for column in (m.column, m.count, *m.labels)}
        left = {(table, column) for table, rows in TABLES.items() for row in rows for column in row} - used
        assert left == {("snapshot", "count")}

    def test_is_the_table_in_the_documentation(self) -> None:
        text = (CHECKOUT / "docs" / "metrics.md").read_text(encoding="utf-8")
        told = [line for line in text.splitlines() if line.startswith(f"| `{PREFIX}")]
        assert told == [documented(metric) for metric in METRICS]


def documented(metric: Metric) -> str:
    """A row of the table in docs/metrics.md."""
    name = {"counter": f"{metric.family}_total", "summary": f"{metric.family}_sum`, `_count"}.get(
        metric.type, metric.family
    )
    return f"| `{name}` | {metric.type} | {', '.join(f'`{each}`' for each in metric.labels)} | {metric.help} |"


class TestText:
    def test_is_what_openmetrics_asks_for(self) -> None:
        text = exposition(TABLES)
        assert text.endswith("\n# EOF\n")
        found = {made.name: made for made in open_metrics(text)}
        assert found.keys() == {metric.family for metric in METRICS}
        for metric in METRICS:
            made = found[metric.family]
            assert (made.type, made.unit, made.documentation) == (metric.type, metric.unit, metric.help)
            assert made.samples

    def test_is_understood_as_the_older_format_too(self) -> None:
        text = exposition(TABLES)
        older = {(s.name, tuple(sorted(s.labels.items()))): s.value for made in plain_text(text) for s in made.samples}
        assert older == samples(text)
        for line in text.splitlines():
            assert re.match(r"(# (HELP|TYPE|UNIT) |# EOF$|kldload_kvm_)", line)
            assert not line.startswith("# TYPE") or line.split()[3] in ("gauge", "counter", "summary")

    def test_names_may_be_anything(self) -> None:
        text = exposition(TABLES)
        assert r'vm="we\"b\\1\nx"' in text
        assert samples(text)["kldload_kvm_vm_snapshots", (("id", ODD), ("vm", ODD))] == 6

    def test_values_are_in_the_unit_of_the_name(self) -> None:
        found = samples(exposition(TABLES))
        vm = (("id", "id-1"), ("vm", "web-1"))
        assert found["kldload_kvm_vm_cpu_seconds_total", vm] == 1.5
        assert found["kldload_kvm_vm_disk_reads_total", (("id", "id-1"), ("target", "vda"), ("vm", "web-1"))] == 2.0**64
        assert found["kldload_kvm_inventory_lag_seconds_sum", (("source", "zfs"),)] == 1.25
        assert found["kldload_kvm_inventory_lag_seconds_count", (("source", "zfs"),)] == 4
        assert found["kldload_kvm_jobs_total", (("operation", "vm.start"), ("outcome", "failed"))] == 1

    def test_a_text_is_whether_there_is_one(self) -> None:
        found = samples(exposition(TABLES))
        assert found["kldload_kvm_usage_problem", ()] == 1
        assert found["kldload_kvm_storage_problem", (("storage", "rpool"),)] == 0
        assert found["kldload_kvm_libvirt_connected", ()] == 0
        assert found["kldload_kvm_info", (("libvirt", ""), ("version", "0.1.0"), ("zfs", "2.3.9"))] == 1

    def test_what_is_not_known_is_not_there(self) -> None:
        cpu = next(each for each in METRICS if each.name == "vm_cpu_user_seconds")
        assert family(cpu, [{**VM, "cpu-time": 1}]).samples == []
        assert samples(exposition({**TABLES, "usage": []})).keys() < samples(exposition(TABLES)).keys()

    def test_of_a_service_that_does_not_answer_it_is_one_line(self) -> None:
        assert samples(exposition(DOWN)) == {("kldload_kvm_up", ()): 0}


class TestFile:
    def test_is_replaced_as_a_whole_and_readable_by_all(self, tmp_path: Path) -> None:
        file = tmp_path / "kvm.prom"
        for text in ("one\n", "another\n"):
            before = file.stat().st_ino if file.exists() else 0
            write(str(file), text)
            assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (text, 0o644)
            assert file.stat().st_ino != before
            assert [each.name for each in tmp_path.iterdir()] == ["kvm.prom"]

    @pytest.mark.parametrize("kind", ["device", "directory", "link", "pipe", "missing", "nul"])
    def test_what_is_no_plain_file_is_left_alone(self, tmp_path: Path, kind: str) -> None:
        """Root's -o /dev/null would put a file in its place."""
        target = tmp_path / "there"
        aim = tmp_path / "aim"
        aim.write_text("precious")
        match kind:
            case "device":
                target = Path("/dev/null")
            case "directory":
                target.mkdir()
            case "link":
                target.symlink_to(aim)
            case "pipe":
                os.mkfifo(target)
            case "missing":
                target = tmp_path / "no" / "where"
            case "nul":
                target = Path(f"{tmp_path}/a\0b")
        before = sorted(tmp_path.iterdir())
        with pytest.raises(InvalidArgument, match="cannot be written"):
            write(str(target), "text\n")
        assert sorted(tmp_path.iterdir()) == before
        assert aim.read_text() == "precious"
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)

    def test_on_a_full_disk_the_old_one_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "kvm.prom"
        file.write_text("old")

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fchmod", full)
        with pytest.raises(InvalidArgument) as caught:
            write(str(file), "new")
        assert caught.value.why == "No space left on device"
        assert [each.read_text() for each in tmp_path.iterdir()] == ["old"]
