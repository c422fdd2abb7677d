"""The main job by busctl alone, as docs/busctl.md has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from host import datasets, domains, nothing_on_the_bus, remove_everything, run, wait_until

SCRIPT = Path(__file__).parent / "main_job.sh"


@pytest.fixture(autouse=True)
def nothing_left() -> object:
    yield
    remove_everything()
    wait_until(nothing_on_the_bus, 120, "the service sees that the VMs are gone")


def test_the_documented_script_does_the_main_job() -> None:
    done = run("bash", str(SCRIPT))
    assert "undefine" in done.stdout
    names = {"template", *(f"web-{number}" for number in range(2, 11))}
    assert domains() == dict.fromkeys(names, "shut off")
    assert {f"rpool/vms/{name}" for name in names} <= datasets().keys()
    assert "rpool/vms/template@stable" in datasets()
    assert "web-2 shutoff" in done.stdout.splitlines()
    assert "web-1 shutoff" not in done.stdout.splitlines()
