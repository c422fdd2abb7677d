"""What all commands do alike: connect, carry out an operation or only show its plan, and end with a status."""

from __future__ import annotations

import os
import sys

from ..client.api import Connection, Job, Manager, Vm
from ..model.errors import KvmError, NotFound
from . import failures

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any, Protocol

    class Start(Protocol):
        """A method that starts an operation, with its own arguments bound."""

        def __call__(self, *, plan_only: bool | None = None) -> Job: ...


OF_FILES = ("image.add", "vm.export")
"""Operations on a file that the caller has open. Their plans cannot be applied later."""


class Declined(Exception):
    """The answer to a question was no."""


def run(parser: argparse.ArgumentParser, act: Callable[[Command], int | None]) -> int:
    """The body of a command's main(): parse, connect and act. Gives the exit status."""
    return perform(parser.prog, parser.parse_args(), act)


def perform(prog: str, args: Any, act: Callable[[Command], int | None], *, start: bool = True) -> int:
    """Connect and act; any error of ours becomes lines and a status. args: what add_common() and the command added;
    start: whether a service that is not running is started."""
    interactive = not getattr(args, "no_ask_password", False)
    try:
        with Connection(interactive=interactive, agent=_agent, start=start) as connection:
            ended = act(Command(prog, args, connection)) or 0
        sys.stdout.flush()
        return ended
    except KvmError as error:
        return failed(prog, args, error)
    except KeyboardInterrupt:
        print(f"\n{prog}: interrupted", file=sys.stderr)
        return failures.INTERRUPTED
    except Declined:
        print(f"{prog}: nothing was changed", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does; say nothing more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


class Command:
    """One run of a command: its arguments, its connection, and how it speaks."""

    def __init__(self, prog: str, args: Any, connection: Connection) -> None:
        self.prog = prog
        self.args = args
        self.connection = connection

    @property
    def manager(self) -> Manager:
        return Manager(self.connection)

    def vm(self, name: str) -> Vm:
        """The VM of that name. Raises NotFound, with names that are close."""
        try:
            return self.manager.find_vm(name)
        except NotFound as error:
            from .options import close

            names = (each.name for each in self.connection.objects(Vm).of(Vm))
            raise NotFound(error.what, error.why, close(name, names) or error.hint or "see: kvm-list") from error

    def say(self, text: str) -> None:
        """Tell what was done."""
        if not (self.args.quiet or self.args.json):
            print(text)

    def done(self, data: object, text: str) -> None:
        """Tell what was done without a job."""
        if self.args.json:
            self.emit(data)
        else:
            self.say(text)

    def note(self, text: str) -> None:
        """Tell something beside it, on standard error."""
        if not self.args.quiet:
            print(f"{self.prog}: {text}", file=sys.stderr)

    def emit(self, data: object) -> None:
        """Print as JSON."""
        _print_json(data)

    def fail(self, error: KvmError) -> int:
        """Report an error, and give its status."""
        return failed(self.prog, self.args, error)

    def operate(self, start: Start, told: Callable[[dict[str, Any]], str], *, destroys: bool = False,
                meanwhile: Callable[[Job], None] = lambda job: None) -> int:  # fmt: skip
        """Carry out an operation as the options say, and give the exit status.

        told: the text for the job's result. destroys: ask first, showing what the plan destroys for good. meanwhile:
        called again and again until it has ended.
        """
        if self.args.dry_run:
            self._show_plan(start(plan_only=True))
            return 0
        job = self._confirmed(start) if destroys and self._may_ask() else start()
        if self.args.no_wait:
            self._leave(job)
            return 0
        interrupted = self.follow(job, meanwhile)
        if self.args.json:
            self.emit(described(job))
        else:
            self.say(told(job.result))
        return failures.INTERRUPTED if interrupted else 0

    def follow(self, job: Job, meanwhile: Callable[[Job], None] = lambda job: None) -> bool:
        """Wait for a job, with progress and warnings. True if Ctrl-C came too late to stop it."""
        from .progress import Interrupted, follow

        try:
            interrupted = follow(self.prog, job, show=sys.stderr.isatty() and not self.args.quiet, meanwhile=meanwhile)
        except Interrupted as interruption:
            print(f"{self.prog}: {interruption}", file=sys.stderr)
            sys.exit(failures.INTERRUPTED)
        for warning in job.warnings:
            self.note(f"warning: {warning}")
        return interrupted

    def _may_ask(self) -> bool:
        return not self.args.yes and sys.stdin.isatty()

    def _confirmed(self, start: Start) -> Job:
        """Plan, show what is destroyed, ask, and start exactly that plan."""
        job = start(plan_only=True)
        print("\n".join(plan_lines(job)), file=sys.stderr)
        print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise Declined
        job.apply()
        return job

    def _leave(self, job: Job) -> None:
        name = job.path.rpartition("/")[2]
        if self.args.json:
            self.emit({"job": name, "path": job.path})
        else:
            print(name)

    def _show_plan(self, job: Job) -> None:
        if self.args.json:
            self.emit(described(job))
            return
        print("\n".join(plan_lines(job)))
        again = "the same without --dry-run" if job.operation in OF_FILES else f"kvm-job apply {job.id}"
        self.note(f"nothing was changed; to carry it out: {again}")


def each(command: Command, names: list[str], act: Callable[[Command, str], int | None]) -> int:
    """Act on one after another, going on after a failure. Gives the status of the first that failed."""
    if len(names) == 1:
        return act(command, names[0]) or 0
    worst = 0
    for name in names:
        try:
            ended = act(command, name) or 0
        except KvmError as error:
            ended = command.fail(error)
        if ended == failures.INTERRUPTED:
            return ended
        worst = worst or ended
    return worst


def described(job: Job) -> dict[str, Any]:
    """A job for JSON."""
    described = {
        "job": job.id,
        "path": job.path,
        "operation": job.operation,
        "description": job.description,
        "state": job.state,
        "steps": job.steps,
        "destroys": job.destroys,
        "warnings": job.warnings,
        "progress": job.progress,
        "started": job.start_time // 1_000_000,
        "ended": job.end_time // 1_000_000,
        "uid": job.started_by_uid,
        "result": job.result,
    }
    if job.error_name:
        what, why, hint = f"{job.error_message}\n\n".split("\n")[:3]
        described["error"] = {"name": job.error_name, "what": what, "why": why, "hint": hint}
    return described


def plan_lines(job: Job) -> list[str]:
    """A plan for people: the steps, all that would be destroyed, and the warnings."""
    lines = [f"Plan {job.id}: {job.description}"]
    lines += [f"  {number}. {step['description']}" for number, step in enumerate(job.steps, 1)]
    lines += ["Destroys for good:", *(f"  {name}" for name in job.destroys)] if job.destroys else ["Destroys nothing."]
    lines += [f"Warning: {warning}" for warning in job.warnings]
    return lines


def failed(prog: str, args: Any, error: KvmError) -> int:
    if args.json:
        _print_json({"error": {"name": error.dbus_name, "what": error.what, "why": error.why, "hint": error.hint}})
    return failures.report(prog, error)


def _print_json(data: object) -> None:
    import json

    print(json.dumps(data, indent=2, ensure_ascii=False))


def _agent() -> Any:
    from .agent import text_agent

    return text_agent()
