"""The commands and their parsers, from which man pages and completions are made."""

from __future__ import annotations

import argparse
import os
from importlib import import_module

NAMES = (
    "create", "list", "snap", "clone", "delete", "trash", "adopt", "export", "image", "job", "metrics", "vm", "host",
    "explain",
)  # fmt: skip


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Each command's parser by the command's name, "kvm-create" and so on. The terminal's width has no part in them."""
    os.environ["COLUMNS"] = "80"
    return {f"kvm-{name}": import_module(f"kldload_kvm.cli.{name}").parser() for name in NAMES}


def actions(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of what a command does, such as "add" of kvm-image; empty for a command that does one thing."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def groups(parser: argparse.ArgumentParser) -> list[tuple[str, list[argparse.Action]]]:
    """The titled groups of arguments that are not empty, in the order of the help."""
    found = ((group.title or "", group._group_actions) for group in parser._action_groups)
    shown = (
        (title, [each for each in members if not isinstance(each, argparse._SubParsersAction)])
        for title, members in found
    )
    return [(title, members) for title, members in shown if members]
