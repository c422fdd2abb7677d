"""Shell completions from the commands' parsers, for bash, zsh and fish.

Not by a library: shtab as in Debian 12 completes only the first of several choices, and has nothing for fish.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from .commands import actions, parsers

NAMES = {
    "vm": "kvm-list --names",
    "image": "kvm-image list --names",
    "image-or-file": "kvm-image list --names",
    "job": "kvm-job list --names",
    "trash": "kvm-trash list --names",
    "foreign": "kvm-adopt --names",
}
"""What prints the names of a kind. It is given two seconds, so that Tab never hangs."""

WITH_FILES = ("file", "image-or-file")


def write(folder: Path) -> None:
    """Write bash/kvm-list, zsh/_kvm-list and fish/kvm-list.fish for every command."""
    shells: tuple[tuple[str, str, Callable[[argparse.ArgumentParser], str]], ...] = (
        ("bash", "{}", bash),
        ("zsh", "_{}", zsh),
        ("fish", "{}.fish", fish),
    )
    for name, parser in parsers().items():
        for shell, file, made in shells:
            target = folder / shell / file.format(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(made(parser), encoding="utf-8")


def bash(parser: argparse.ArgumentParser) -> str:
    """A function that finds the action and the place of the word under the cursor, and two tables: values and words."""
    found = actions(parser)
    function = "_" + parser.prog.replace("-", "_")
    valued = "|".join(
        option for each in (found.values() or [parser]) for action in each._actions for option in _valued(action)
    )
    lines = [
        f"# Completions of {parser.prog} for bash.",
        f"{function}() {{",
        '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" action="" first="" place=0 i',
        "  local IFS=$'\\n'",
        "  COMPREPLY=()",
        "  for ((i = 1; i < COMP_CWORD; i++)); do",
        '    case "${COMP_WORDS[i]}" in',
        *([f"      {valued}) ((i++)) ;;"] if valued else []),
        "      -*) ;;",
        *(['      *) if [[ -z $action ]]; then action="${COMP_WORDS[i]}"; else ((place++)); fi ;;'] if found else []),
        *([] if found else ['      *) ((place++)); [[ -n $first ]] || first="${COMP_WORDS[i]}" ;;']),
        "    esac",
        "  done",
        '  case "$action:$before" in',
    ]
    for name, each in (found or {"": parser}).items():
        for action in each._actions:
            if options := _valued(action):
                patterns = "|".join(f"{name}:{option}" for option in options)
                lines.append(f"    {patterns}) {_bash_values(action)}return ;;")
    lines += ["  esac", "  if [[ $word == -* ]]; then", '    case "$action" in']
    for name, each in (found or {"": parser}).items():
        options = [option for action in each._actions for option in action.option_strings]
        lines.append(f'      "{name}") {_bash_words(options)};;')
    lines += ["    esac", "    return", "  fi", '  case "$action:$place" in']
    if found:
        lines.append(f"    :*) {_bash_words(list(found))};;")
    for name, each in (found or {"": parser}).items():
        for place, action in _places(each):
            lines.append(f"    {name}:{place}) {_bash_values(action)};;")
    lines += ["  esac", "}", f"complete -o filenames -F {function} {parser.prog}"]
    return "\n".join(lines) + "\n"


def zsh(parser: argparse.ArgumentParser) -> str:
    """One call of _arguments for each action."""
    found = actions(parser)
    lines = [f"#compdef {parser.prog}", f"# Completions of {parser.prog} for zsh."]
    if not found:
        return "\n".join([*lines, *_zsh_arguments(parser, "")]) + "\n"
    lines += [
        "local state line",
        f"_arguments -C '1:action:({' '.join(found)})' '*::argument:->argument'",
        "[[ $state == argument ]] || return",
        'case "${line[1]}" in',
    ]
    for name, each in found.items():
        lines += [f"  {name})", *_zsh_arguments(each, "    "), "    ;;"]
    return "\n".join([*lines, "esac"]) + "\n"


def fish(parser: argparse.ArgumentParser) -> str:
    """A line for each argument."""
    lines = [f"# Completions of {parser.prog} for fish.", f"complete -c {parser.prog} -f"]
    found = actions(parser)
    if not found:
        lines += _fish_arguments(parser.prog, parser, "")
    for name, each in found.items():
        text = _quoted((each.description or "").split("\n")[0])
        lines.append(f"complete -c {parser.prog} -n __fish_use_subcommand -a {name} -d {text}")
        lines += _fish_arguments(parser.prog, each, name)
    return "\n".join(lines) + "\n"


def _valued(action: argparse.Action) -> list[str]:
    """The options that a value follows."""
    return [] if action.nargs == 0 else list(action.option_strings)


def _places(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """The positional arguments, each with its place as a pattern: 0, 1, or * for one that takes all further ones."""
    positional = [each for each in parser._actions if not each.option_strings]
    for place, action in enumerate(positional):
        yield ("*" if action.nargs == "+" else str(place)), action


def _kind(action: argparse.Action) -> str:
    return str(getattr(action, "completed", ""))


def _words(action: argparse.Action) -> list[str]:
    """The values it may have, if they are fixed."""
    kind = _kind(action)
    if kind and kind != "snapshot" and kind not in NAMES and kind not in WITH_FILES:
        return kind.split()
    return [str(each) for each in action.choices or ()]


def _bash_words(words: list[str]) -> str:
    return f'COMPREPLY=($(IFS=\' \' compgen -W "{" ".join(words)}" -- "$word")) '


def _bash_values(action: argparse.Action) -> str:
    kind = _kind(action)
    if words := _words(action):
        return f"{_bash_words(words)}; ".replace(" ; ", "; ")
    text = ""
    if kind in NAMES:
        text += f'COMPREPLY=($(compgen -W "$(timeout 2 {NAMES[kind]} 2>/dev/null)" -- "$word")); '
    if kind == "snapshot":
        names = '"$(timeout 2 kvm-snap "$first" list --names 2>/dev/null)"'
        text += f'COMPREPLY=($(compgen -W {names} -- "$word")); '
    if kind in WITH_FILES:
        text += 'COMPREPLY+=($(compgen -f -- "$word")); '
    return text


def _zsh_arguments(parser: argparse.ArgumentParser, margin: str) -> Iterator[str]:
    yield f"{margin}_arguments \\"
    for action in parser._actions:
        text = (action.help or "").replace("[", "(").replace("]", ")").replace(":", "\\:")
        for option in action.option_strings:
            value = f":{action.dest}:{_zsh_values(action)}" if action.nargs != 0 else ""
            yield f"{margin}  {_shell_quoted(f'{option}[{text}]{value}')} \\"
    for place, action in _places(parser):
        number = "*" if place == "*" else str(int(place) + 1)
        colons = "::" if action.nargs == "?" else ":"
        yield f"{margin}  {_shell_quoted(f'{number}{colons}{action.dest}:{_zsh_values(action)}')} \\"
    yield f"{margin}  && return"


def _zsh_values(action: argparse.Action) -> str:
    kind = _kind(action)
    if words := _words(action):
        return f"({' '.join(words)})"
    if kind == "file":
        return "_files"
    command = "kvm-snap ${words[2]} list --names" if kind == "snapshot" else NAMES.get(kind)
    if command is None:
        return ""
    found = f'compadd -- ${{(f)"$(timeout 2 {command} 2>/dev/null)"}}'
    return f"{{{found}; _files}}" if kind in WITH_FILES else f"{{{found}}}"


def _fish_arguments(command: str, parser: argparse.ArgumentParser, name: str) -> Iterator[str]:
    """name: the action these are of, or the empty string."""
    seen = f"__fish_seen_subcommand_from {name}" if name else ""
    for action in parser._actions:
        if action.option_strings:
            flags = [f"-l {each[2:]}" if each.startswith("--") else f"-s {each[1:]}" for each in action.option_strings]
            yield _fish_line(command, [seen], [*flags, *([] if action.nargs == 0 else ["-r"])], _kind(action), action)
    for place, action in _places(parser):
        before = "" if place == "*" else f"test (count (commandline -opc)) -eq {int(place) + (2 if name else 1)}"
        yield _fish_line(command, [seen, before], [], _kind(action), action)


def _fish_line(command: str, conditions: list[str], flags: list[str], kind: str, action: argparse.Action) -> str:
    values = " ".join(_words(action)) or (f"(timeout 2 {NAMES[kind]} 2>/dev/null)" if kind in NAMES else "")
    if kind == "snapshot":
        values = "(timeout 2 kvm-snap (commandline -opc)[2] list --names 2>/dev/null)"
    words = [f"complete -c {command}"]
    if condition := "; and ".join(filter(None, conditions)):
        words.append(f"-n {_quoted(condition)}")
    words += flags
    if kind in WITH_FILES:
        words.append("-F")
    if values:
        words.append(f"-a {_quoted(values)}")
    if action.help:
        words.append(f"-d {_quoted(action.help)}")
    return " ".join(words)


def _quoted(text: str) -> str:
    """Text in quotes for fish."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _shell_quoted(text: str) -> str:
    """Text in quotes for zsh."""
    escaped = text.replace("'", "'\\''")
    return f"'{escaped}'"
