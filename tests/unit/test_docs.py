"""What the documentation shows is what is tested."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def test_the_documented_busctl_script_is_the_one_the_bench_runs() -> None:
    shown = (CHECKOUT / "docs" / "busctl.md").read_text(encoding="utf-8").split("```sh\n")[1].split("```")[0]
    script = (CHECKOUT / "tests" / "lab" / "main_job.sh").read_text(encoding="utf-8")
    assert script.split("\n", 2)[2] == shown
