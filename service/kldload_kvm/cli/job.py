"""kvm-job: running and finished operations, and plans not yet carried out."""

from __future__ import annotations

import pwd
import time
from typing import TYPE_CHECKING

from ..client.api import Job
from ..model.constants import ROOT
from ..model.errors import InvalidArgument, NotFound, WrongState
from . import failures
from .common import Command, described, plan_lines, run
from .options import Parser, add_common, completed
from .tables import moment, table

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
  kvm-job list
  kvm-job show 42
  kvm-job wait $(kvm-clone --no-wait template web-1)
  kvm-clone template web-1 --dry-run && kvm-job apply 42"""

NO_LOGIN = 0xFFFFFFFF
"""No login, or none that is known: a service's."""

ACTIONS = {
    "list": "list running jobs, plans and those that ended not long ago",
    "show": "show a job: its steps, what it destroys, how it ended",
    "wait": "wait until a job has ended; its error is the command's",
    "cancel": "stop a job and undo what it did",
    "apply": "carry out a plan, as --dry-run showed it",
}


def parser() -> argparse.ArgumentParser:
    made = Parser("kvm-job", description="Look at the jobs of the service, and act on them.", examples=EXAMPLES)
    actions = made.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in ACTIONS.items():
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name != "list":
            completed("job", action.add_argument("job", metavar="JOB", help="id of a job"))
        else:
            action.add_argument("--names", action="store_true", help="print the ids alone, one a line")
        add_common(action, changes=False)
    return made


def main() -> int:
    return run(parser(), act)


def act(command: Command) -> int | None:
    if command.args.action == "list":
        show_all(command)
        return None
    job = find(command, command.args.job)
    if command.args.action == "show":
        show(command, job)
        return None
    planned = job.state == "planned"
    if command.args.action == "cancel":
        job.cancel()
        undone = f"job {job.id} is being undone; see: kvm-job show {job.id}"
        command.done({"job": job.id}, f"the plan {job.id} was given up" if planned else undone)
        return None
    if command.args.action == "apply":
        job.apply()
    elif planned:
        what, why = f"job {job.id} cannot be waited for", "it is only planned, and nobody has started it"
        raise WrongState(what, why, f"carry it out: kvm-job apply {job.id}")
    interrupted = command.follow(job)
    if command.args.json:
        command.emit(described(job))
    else:
        command.say(f"job {job.id} is done: {job.description}")
    return failures.INTERRUPTED if interrupted else None


def find(command: Command, name: str) -> Job:
    """A job by its id or its path. Raises NotFound."""
    name = name.removeprefix(f"{ROOT}/job/")
    if not (name.isascii() and name.replace("_", "").isalnum()):
        raise InvalidArgument(f"{name!r} is not the id of a job", hint="see: kvm-job list")
    try:
        return Job(command.connection, f"{ROOT}/job/{name}").reload()
    except NotFound as error:
        raise NotFound(f"there is no job {name}", error.why, "see: kvm-job list") from error


def show_all(command: Command) -> None:
    jobs = command.connection.objects(Job).of(Job)
    jobs.sort(key=lambda job: (job.start_time or 1 << 63, len(job.id), job.id))
    if command.args.json:
        command.emit([described(job) for job in jobs])
    elif command.args.names:
        print("".join(f"{job.id}\n" for job in jobs), end="")
    elif jobs:
        rows = [[job.id, job.state, f"{job.progress:.0%}", started(job), job.description] for job in jobs]
        print(table(["JOB", "STATE", "DONE", "STARTED", "WHAT"], rows, right=("DONE",)))
    else:
        command.note("there are no jobs")


def show(command: Command, job: Job) -> None:
    if command.args.json:
        command.emit(described(job))
        return
    if job.state == "planned":
        print("\n".join(plan_lines(job)))
        return
    now = job.end_time or time.time_ns() // 1000
    print(f"Job {job.id}: {job.description}")
    seconds = (now - job.start_time) / 1e6
    print(f"  {job.state}, {seconds:.1f} s, started {started(job)} by {_user(job.started_by_uid)}{_login(job)}")
    for number, step in enumerate(job.steps, 1):
        print(f"  {number}. [{step['state']}] {step['description']}")
    for name in job.destroys:
        print(f"  destroys {name}")
    for line in job.error_message.splitlines():
        print(f"  {line}")


def _login(job: Job) -> str:
    """Who had logged in, where that was somebody else, such as before sudo."""
    login = job.started_by_login_uid
    return "" if login in (NO_LOGIN, job.started_by_uid) else f", logged in as {_user(login)}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def started(job: Job) -> str:
    return moment(job.start_time // 1_000_000) if job.start_time else "-"
