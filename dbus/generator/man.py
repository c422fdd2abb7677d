"""The man pages: those of the commands from their parsers; the daemon's and the configuration's are in docs/man/."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from kldload_kvm import __version__
from kldload_kvm.cli.failures import STATUSES

from .commands import actions, groups, parsers

COMMON = "common options"
"""The group that cli/options.py makes for every command."""

HAND_WRITTEN = Path(__file__).resolve().parents[2] / "docs" / "man"

ENVIRONMENT = (
    ("NO_COLOR", "If it is set and not empty, errors and progress have no colour."),
    ("COLUMNS", "The width of the help."),
    ("DBUS_SYSTEM_BUS_ADDRESS", "Where the system bus is, if not at its usual place."),
)

NOTES = """\
Sizes are in powers of 1024, and are written as 512M, 40G or 1.5T. The names that snapshots are given by themselves are
in UTC; the times in tables are local.

An operation runs in the service, not in the command. Ctrl-C cancels it, and waits until what it did is undone; once
more Ctrl-C leaves it to itself. A command that starts several operations, such as for several VMs, tells of each: with
--json it prints one document for each, one after the other. Who may do what is decided by polkit; where it wants a
password, it is asked for on the terminal."""


def write(folder: Path) -> None:
    """Write every page to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    made = parsers()
    for name, parser in made.items():
        (folder / f"{name}.1").write_text(page(parser, list(made)), encoding="utf-8")
    for source in sorted(HAND_WRITTEN.glob("*.[158]")):
        text = source.read_text(encoding="utf-8").replace("@VERSION@", __version__)
        (folder / source.name).write_text(text, encoding="utf-8")


def page(parser: argparse.ArgumentParser, names: list[str]) -> str:
    """A command's page. `names` are all commands, for SEE ALSO."""
    summary, _, more = (parser.description or "").partition("\n\n")
    if not more:
        more = parser.description or ""
    others = [f"{name}(1)" for name in names if name != parser.prog]
    lines = [
        f'.TH {parser.prog.upper()} 1 "" "kldload-kvm {__version__}" "kldload-kvm"',
        ".SH NAME",
        f"{escaped(parser.prog)} \\- {escaped(_first_sentence(summary))}",
        ".SH SYNOPSIS",
        *_synopsis(parser),
        ".SH DESCRIPTION",
        *_paragraphs(more),
        *_paragraphs(NOTES),
        *_options(parser),
        *_actions(parser),
        *(line for title, terms in parser.sections.items() for line in (f".SH {title}", *_terms(terms))),
        ".SH EXAMPLES",
        *_block(str(getattr(parser, "examples", ""))),
        ".SH EXIT STATUS",
        *_terms((str(status), text) for status, text in STATUSES),
        ".SH ENVIRONMENT",
        *_terms(ENVIRONMENT),
        ".SH SEE ALSO",
        escaped(", ".join([*others, "kvm.conf(5)", "kldload-kvmd(8)", "polkit(8)"])),
    ]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Text that roff prints as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    return re.sub(r"(?m)^([.'])", r"\\&\1", text)


def _first_sentence(text: str) -> str:
    """What goes behind the name: no capital, no full stop, no clause that explains."""
    sentence = re.split(r"[.:](?:\s|$)", " ".join(text.split()))[0]
    return sentence[:1].lower() + sentence[1:]


def _synopsis(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The usage without the options that all commands have."""
    for each in actions(parser).values() or [parser]:
        words = " ".join(each.format_usage().removeprefix("usage: ").removeprefix(each.prog).split())
        common = [option for action in dict(groups(each))[COMMON] for option in action.option_strings]
        for option in ("-h", *common):
            words = words.replace(f"[{option}]", "")
        yield ".PP"
        yield f".B {escaped(each.prog)}"
        yield escaped(f"{' '.join(words.split())} [COMMON OPTIONS]".strip())


def _actions(parser: argparse.ArgumentParser) -> Iterator[str]:
    """What a command does, each with its own arguments; those that all have are told once, at the end."""
    found = actions(parser)
    if not found:
        return
    yield ".SH ACTIONS"
    for name, each in found.items():
        yield f".SS {escaped(name)}"
        yield from _paragraphs(each.description or "")
        yield from _terms(
            (_invocation(action), _help(each, action))
            for title, members in groups(each)
            for action in members
            if title != COMMON and action.dest != "help"
        )
    longest = max(found.values(), key=lambda each: len(dict(groups(each))[COMMON]))
    yield ".SH COMMON OPTIONS"
    asking = [action for action in longest._actions if action.dest == "help"]
    yield from _terms(
        (_invocation(action), _help(longest, action)) for action in asking + dict(groups(longest))[COMMON]
    )


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for title, members in [] if actions(parser) else groups(parser):
        yield f".SH {escaped(title.removeprefix('positional ').upper())}"
        yield from _terms((_invocation(each), _help(parser, each)) for each in members)


def _invocation(action: argparse.Action) -> str:
    argument = "" if action.nargs == 0 else str(action.metavar or _choices(action) or action.dest.upper())
    if not action.option_strings:
        return argument + (" ..." if action.nargs == "+" else "")
    return ", ".join(f"{option} {argument}".rstrip() for option in action.option_strings)


def _choices(action: argparse.Action) -> str:
    return "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return (action.help or "").replace("%(prog)s", parser.prog).replace("%%", "%")


def _terms(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    for term, text in pairs:
        yield ".TP"
        yield f".B {escaped(term)}"
        yield escaped(text)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield ".PP"
        yield escaped(" ".join(paragraph.split()))


def _block(text: str) -> Iterator[str]:
    """Lines as they are."""
    yield ".nf"
    yield from (escaped(line.removeprefix("  ")) for line in text.split("\n"))
    yield ".fi"
