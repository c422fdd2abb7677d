"""Command lines: the parser all commands share, the options they have in common, and the types of arguments."""

from __future__ import annotations

import argparse
import os
import sys

from ..model.errors import InvalidArgument, KvmError
from ..model.sizes import MIB, parse_size
from .failures import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal. Told the width, argparse does without shutil, which would cost every start 2 ms."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=_columns() - 2)


class Parser(argparse.ArgumentParser):
    """An argument parser that reports errors as the commands do. `examples` are shown at the end of the help."""

    def __init__(self, prog: str | None = None, *, examples: str = "", **settings: object) -> None:
        settings.setdefault("formatter_class", _Help)
        if examples:
            settings["epilog"] = f"examples:\n{examples}"
        super().__init__(prog, allow_abbrev=False, **settings)  # type: ignore[arg-type]  # as argparse takes them
        self.examples = examples
        self.sections: dict[str, list[tuple[str, str]]] = {}  # of the man page: terms with their texts, by heading

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]  # as argparse has it
        """An empty value is that of a variable which a script has not set: to go on as if nothing had been asked for
        would leave a checksum unchecked, or take all disks for one."""
        found, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            value = getattr(found, action.dest, None)
            if value == "" or (isinstance(value, list) and "" in value):
                name = "/".join(action.option_strings) or str(action.metavar)
                self.error(f"{name}: it is empty\n\nleave it out, or give a value")
        return found, rest

    def error(self, message: str) -> NoReturn:
        what, why, hint = f"{message.removeprefix('argument ')}\n\n".split("\n")[:3]
        self.fail(InvalidArgument(what, why, hint or f"see: {self.prog} --help"))

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """argparse's check of a choice; for what a command shall do the error says what may have been meant."""
        if action.choices is None or value in action.choices or not isinstance(action, argparse._SubParsersAction):
            super()._check_value(action, value)
            return
        actions = list(action.choices)
        later = next((word for word in sys.argv[2:] if word in actions), None)
        hint = f"write: {self.prog} {later} {value}" if later else close(str(value), actions)
        what = f"{value!r} is not something that {self.prog} does"
        self.fail(InvalidArgument(what, f"it is one of {', '.join(actions)}", hint or f"see: {self.prog} --help"))

    def fail(self, error: KvmError) -> NoReturn:
        """End the command with an error of usage."""
        sys.exit(report(self.prog, error))


def add_common(parser: argparse.ArgumentParser, *, changes: bool) -> None:
    """Add what every command takes; changes: whether it starts operations."""
    group = parser.add_argument_group("common options")
    group.add_argument(
        "--json", action="store_true", help="print JSON, with sizes in bytes and times in seconds since 1970"
    )
    group.add_argument("--quiet", "-q", action="store_true", help="print nothing but errors and what was asked for")
    if changes:
        group.add_argument(
            "--dry-run", "-n", action="store_true", help="print the plan, and what it would destroy; change nothing"
        )
        group.add_argument("--yes", "-y", action="store_true", help="do not ask before something is destroyed for good")
        group.add_argument(
            "--no-wait", action="store_true", help="print the job's id and do not wait until it has ended"
        )
        group.add_argument("--no-ask-password", action="store_true", help="fail if a password would be needed")
    group.add_argument("--version", action="version", version=_version(), help="print the version")


def add_vm(parser: argparse._ActionsContainer, name: str = "vm", *, nargs: str | None = None, text: str) -> None:
    """Add a positional argument that names an existing VM, and is completed so."""
    completed("vm", parser.add_argument(name, metavar="VM", nargs=nargs, help=text))


def completed(kind: str, action: argparse.Action) -> None:
    """Tell how shells complete an argument: "vm", "snapshot", "image", "image-or-file", "job", "trash", "file", or
    words."""
    action.completed = kind  # type: ignore[attr-defined]  # read by dbus/generator/completions.py


def size(unit: int) -> Callable[[str], int]:
    """A type for sizes; a bare number counts in `unit` bytes. A fraction, such as 1.3G, is rounded up to a whole MiB,
    which all memory and disks can have."""

    def convert(text: str) -> int:
        try:
            found = parse_size(text, unit)
            return found if "." not in text or found < MIB else found + -found % MIB
        except InvalidArgument as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def count(text: str) -> int:
    """A type for a number of things, 1 to 2³²-1."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 0 < int(text) < 1 << 32):
        raise argparse.ArgumentTypeError(f"{text[:32]!r} is not a number of 1 or more")
    return int(text)


def snapshot(text: str) -> str:
    """A type for the name of a snapshot, with or without its '@'."""
    return text.removeprefix("@")


def close(name: str, names: Iterable[str]) -> str:
    """A hint with names like a mistyped one, or the empty string."""
    from difflib import get_close_matches

    found = get_close_matches(name, list(names), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(found)}?" if found else ""


def _columns() -> int:
    """The width of the terminal, at most 120."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 20:
        return min(int(columns), 120)
    try:
        return min(os.get_terminal_size().columns or 80, 120)
    except OSError:
        return 80


def _version() -> str:
    from .. import __version__

    return f"%(prog)s (kldload-kvm) {__version__}"
