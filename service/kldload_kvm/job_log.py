"""What the system's journal is told of jobs: one entry for each that ended, with fields to search for.

    journalctl MESSAGE_ID=… KLDLOAD_KVM_VM=web-1

The texts that explain each are in systemd/kldload-kvm.catalog (journalctl -x).
"""

from __future__ import annotations

import logging

from .engine.job import Job, State

log = logging.getLogger(__name__)

ENDED_WELL = "8602a57922c246128e77f6d8bf778aed"
FAILED = "88b376a4585b4f81aff2795640322fa9"
CANCELLED = "8a8a14c241e34954b1b3075f68dd0430"
RECOVERED = "694cc7b609a7480da0f2e8ef06cb086a"
_IDS = {State.SUCCEEDED: ENDED_WELL, State.FAILED: FAILED, State.CANCELLED: CANCELLED}


def ended(job: Job) -> None:
    """One entry. Names come from names.py and errors are made by us, so that nobody can forge a line."""
    level = logging.INFO if job.state is State.SUCCEEDED else logging.WARNING
    fields = {
        "MESSAGE_ID": RECOVERED if job.recovered else _IDS[job.state],
        "KLDLOAD_KVM_JOB": job.id,
        "KLDLOAD_KVM_OPERATION": job.plan.operation,
        "KLDLOAD_KVM_STATE": job.state.value,
        "KLDLOAD_KVM_OBJECTS": " ".join(job.plan.objects),
        "KLDLOAD_KVM_UID": str(job.uid),
        "KLDLOAD_KVM_LOGIN_UID": str(job.login),
        "KLDLOAD_KVM_SECONDS": f"{max(job.ended - job.started, 0):.3f}",
    }
    why = f": {' — '.join(filter(None, (job.error.what, job.error.why, job.error.hint)))}" if job.error else ""
    taken_up = "taken up again and " if job.recovered else ""
    log.log(level, "job %s (%s) %s%s%s", job.id, job.plan.description, taken_up, job.state.value, why, extra=fields)
