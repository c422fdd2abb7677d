"""kvm-metrics: numbers for monitoring, as OpenMetrics text, on standard output or in a file for node-exporter."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..model.errors import InvalidArgument, KvmError
from .common import Command, perform
from .failures import INTERRUPTED, report, status
from .metric_list import METRICS, Metric
from .options import Parser, add_common, completed

if TYPE_CHECKING:
    import argparse

    from prometheus_client.core import Metric as Family

EXAMPLES = """\
  kvm-metrics
  kvm-metrics -o /var/lib/prometheus/node-exporter/kldload-kvm.prom
  kvm-metrics --json | jq '.snapshot[] | select(.kind == "auto") | {vm, age: (now - .newest | floor)}'
  systemctl enable --now kldload-kvm-metrics.timer"""

DESCRIPTION = """\
Print capacity, how jobs ended, snapshots, and what VMs use, as OpenMetrics text, for Prometheus.

node-exporter takes the text from a file in its textfile directory; the last of the examples has it written there every
minute. A service that is not running is not started for it: the file then says kldload_kvm_up 0, and nothing else."""

PROG = "kvm-metrics"
DOWN = {"service": [{"up": False}]}
"""What is known when the service does not answer."""


def parser() -> argparse.ArgumentParser:
    made = Parser(PROG, description=DESCRIPTION, examples=EXAMPLES)
    output = made.add_argument(
        "--output", "-o", metavar="FILE", default="-",
        help="write to FILE, which is replaced as a whole and may be read by all; - is standard output",
    )  # fmt: skip
    completed("file", output)
    add_common(made, changes=False)
    return made


def main() -> int:
    args = parser().parse_args()
    ended = perform(PROG, args, show, start=False)
    if ended in (0, status(InvalidArgument("")), INTERRUPTED) or args.output == "-" or args.json:
        return ended
    try:
        write(args.output, exposition(DOWN))
    except KvmError as error:
        return report(PROG, error)
    return ended


def show(command: Command) -> None:
    tables = command.manager.get_statistics()
    for row in tables["service"]:
        row["up"] = True
    text = in_json(tables) if command.args.json else exposition(tables)
    if command.args.output == "-":
        sys.stdout.write(text)
    else:
        write(command.args.output, text)


def in_json(tables: dict[str, list[dict[str, Any]]]) -> str:
    import json

    return json.dumps(tables, indent=2, ensure_ascii=False) + "\n"


def exposition(tables: dict[str, list[dict[str, Any]]]) -> str:
    """The tables of GetStatistics as OpenMetrics text."""
    from prometheus_client.core import CollectorRegistry
    from prometheus_client.openmetrics.exposition import generate_latest

    class Collector:
        def collect(self) -> Iterator[Family]:
            made = (family(metric, tables.get(metric.table, [])) for metric in METRICS)
            return (each for each in made if each.samples)

    registry = CollectorRegistry()
    registry.register(Collector())
    text: bytes = generate_latest(registry)
    return text.decode()


def family(metric: Metric, rows: list[dict[str, Any]]) -> Family:
    """One family of metrics: a sample for each row in which its labels and its value are known, of a summary two."""
    from prometheus_client.core import Metric as Family

    made = Family(metric.family, metric.help, metric.type, metric.unit)
    for row in rows:
        if any(column and column not in row for column in (*metric.labels, metric.column, metric.count)):
            continue
        labels = {column.replace("-", "_"): str(row[column]) for column in metric.labels}
        made.add_sample(metric.sample, labels, number(row[metric.column], metric.per) if metric.column else 1)
        if metric.count:
            made.add_sample(f"{metric.family}_count", labels, row[metric.count])
    return made


def number(value: float | str, per: float) -> float:
    """A text is 1 if it is not empty."""
    return int(bool(value)) if isinstance(value, bool | str) else value if per == 1 else value / per


def write(path: str, text: str) -> None:
    """Replace a file by one with this text: whoever reads it has the old one or the new one. Raises InvalidArgument."""
    target = Path(path)
    try:
        if target.is_symlink() or (target.exists() and not stat.S_ISREG(target.stat().st_mode)):
            raise InvalidArgument(
                f"{path!r} cannot be written", "it is there, and is no plain file", "name another one"
            )
        file, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(file, "w", encoding="utf-8") as stream:
                os.fchmod(file, 0o644)
                stream.write(text)
            Path(name).replace(target)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidArgument(f"{path!r} cannot be written", str(why), "is its directory there?") from error
