"""What the system's journal is told of a job that has ended, and the catalog that explains it."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from kldload_kvm import job_log
from kldload_kvm.engine.job import Job, State
from kldload_kvm.engine.plan import Plan
from kldload_kvm.model.errors import NoSpace

CATALOG = Path(__file__).resolve().parents[2] / "systemd" / "kldload-kvm.catalog"
IDS = {job_log.ENDED_WELL, job_log.FAILED, job_log.CANCELLED, job_log.RECOVERED}


def job(state: State, **more: object) -> Job:
    made = Job("5f3a", Plan("vm.delete", "delete web-1", objects=("id-1",)), 1000, 501, **more)  # type: ignore[arg-type]
    made.state, made.started, made.ended = state, 100.0, 101.5
    return made


@pytest.mark.parametrize(
    ("state", "id_", "level"),
    [
        (State.SUCCEEDED, job_log.ENDED_WELL, logging.INFO),
        (State.FAILED, job_log.FAILED, logging.WARNING),
        (State.CANCELLED, job_log.CANCELLED, logging.WARNING),
    ],
)
def test_one_entry_with_fields_to_search_for(
    state: State, id_: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    error = None if state is State.SUCCEEDED else NoSpace("not done", "it is full", "make room")
    job_log.ended(job(state, error=error))
    (entry,) = caplog.records
    assert (entry.MESSAGE_ID, entry.levelno) == (id_, level)  # type: ignore[attr-defined]
    fields = {key: value for key, value in vars(entry).items() if key.startswith("KLDLOAD_KVM_")}
    assert fields == {
        "KLDLOAD_KVM_JOB": "5f3a", "KLDLOAD_KVM_OPERATION": "vm.delete", "KLDLOAD_KVM_STATE": state.value,
        "KLDLOAD_KVM_OBJECTS": "id-1", "KLDLOAD_KVM_UID": "1000", "KLDLOAD_KVM_LOGIN_UID": "501",
        "KLDLOAD_KVM_SECONDS": "1.500",
    }  # fmt: skip
    assert ("it is full" in entry.getMessage()) == (error is not None)


def test_one_that_was_recovered_says_so(caplog: pytest.LogCaptureFixture) -> None:
    job_log.ended(job(State.FAILED, recovered=True))
    (entry,) = caplog.records
    assert entry.MESSAGE_ID == job_log.RECOVERED  # type: ignore[attr-defined]
    assert "taken up again" in entry.getMessage()


def test_each_id_is_explained_and_each_explanation_is_of_one() -> None:
    text = CATALOG.read_text(encoding="utf-8")
    assert set(re.findall(r"^-- ([0-9a-f]{32})$", text, flags=re.M)) == IDS
    named = set(re.findall(r"@(KLDLOAD_KVM_[A-Z_]+)@", text))
    assert named <= {f"KLDLOAD_KVM_{each}" for each in ("JOB", "OPERATION", "UID", "SECONDS")}
