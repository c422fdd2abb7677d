"""What is counted of each job that ended: how, how long it took, and how long it held guests still."""

from __future__ import annotations

from .engine.job import Job
from .model.inventory import Inventory
from .model.tally import Tally
from .steps.guests import Quiesce


def ended(tally: Tally, inventory: Inventory, job: Job) -> None:
    """A job that failed is counted like any other: its guests were held as well."""
    tally.job_ended(job.plan.operation, job.state.value, job.ended - job.started)
    for uuid, (consistency, seconds) in held(job).items():
        if vm := inventory.vm_of_domain(uuid):
            tally.was_held(vm.id, "frozen" if consistency == "app" else "paused", seconds)
    tally.forget_all_but(inventory.vm_ids())


def held(job: Job) -> dict[str, tuple[str, float]]:
    """The consistency that holding a guest still gave, and for how many seconds it was held, by its domain's UUID."""
    guests: dict[str, dict[str, object]] = job.result.get("_guests", {})
    found = {
        uuid: (str(each["consistency"]), float(str(each["held"]))) for uuid, each in guests.items() if each.get("held")
    }
    if "held" in job.result:
        quiesced = (step.uuid for step in job.plan.steps if isinstance(step, Quiesce))
        found |= {uuid: (job.result.get("consistency", ""), job.result["held"]) for uuid in quiesced}
    return found
