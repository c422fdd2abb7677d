"""From the catalogue: the table of findings in docs/host.md, and the journal's catalog."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from kldload_kvm.model.catalogue import Text, findings, messages
from kldload_kvm.model.constants import DOCS

BEGIN, END = "<!-- findings: made by dbus/generate.py texts -->\n", "<!-- end -->\n"


def files(checkout: Path) -> dict[Path, str]:
    """Each file with the text that it should have."""
    page = checkout / "docs" / "host.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return {page: f"{before}{BEGIN}{table()}{END}{after}", checkout / "systemd" / "kldload-kvm.catalog": catalog()}


def table() -> str:
    rows = (f"| `{t.id}` | {_cell(t.title)} | {_cell(_linked(t.why))} | {_source(t)} |" for t in findings().values())
    return "\n".join(("| finding | what | why it matters | source |", "|---|---|---|---|", *rows)) + "\n"


def catalog() -> str:
    lines = [
        "# What the entries of kldload-kvmd mean: journalctl -x -u kldload-kvmd",
        "# Made by dbus/generate.py texts.",
    ]
    for each in messages.TEXTS:
        lines += [f"-- {each.id}", f"Subject: {each.title}", "Defined-By: kldload-kvm", f"Documentation: {each.source}"]
        lines += ["", *_wrapped(each.why), "", *_wrapped(each.todo), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 84, break_on_hyphens=False)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _source(text: Text) -> str:
    if text.source.startswith("http"):
        return f"[{text.source.removeprefix('https://')}]({text.source})"
    return _linked(text.source)


def _linked(text: str) -> str:
    """The installed pages lie side by side, as they do here."""
    return re.sub(rf"{DOCS}/(\S+\.md)", r"[\1](\1)", text)
