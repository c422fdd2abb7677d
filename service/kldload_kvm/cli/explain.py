"""kvm-explain: why a finding, an error or an entry of the journal came about, and what can be done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..model import catalogue
from ..model.constants import DOCS
from ..model.errors import KvmError, NotFound
from .common import failed
from .options import Parser, add_common, close, completed

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
  kvm-explain arc-unlimited                    a finding of kvm-host check
  kvm-explain HasClones                        an error, also as org.kldload.Kvm1.Error.HasClones
  kvm-explain 88b376a4585b4f81aff2795640322fa9 a MESSAGE_ID of the journal: journalctl -u kldload-kvmd -o verbose"""

DESCRIPTION = """\
Explain a finding, an error or an entry of the journal: what it is, why it matters, and what can be done.

It needs no service, and asks none."""


def parser() -> argparse.ArgumentParser:
    made = Parser("kvm-explain", description=DESCRIPTION, examples=EXAMPLES)
    text = "id of a finding, name of an error, or MESSAGE_ID"
    completed(
        " ".join(each for each in catalogue.everything() if len(each) < 32),
        made.add_argument("id", metavar="ID", help=text),
    )
    add_common(made, changes=False)
    return made


def main() -> int:
    made = parser()
    return explain(made.prog, made.parse_args())


def explain(prog: str, args: Any) -> int:
    """Print one entry of the catalogue; the exit status."""
    try:
        text = found(args.id)
    except KvmError as error:
        return failed(prog, args, error)
    if args.json:
        import json

        print(json.dumps(vars(text), indent=2, ensure_ascii=False))
    else:
        print("\n".join(lines(text)))
    return 0


def found(id_: str) -> catalogue.Text:
    """Raises NotFound."""
    known = catalogue.everything()
    wanted = id_.rpartition(".")[2]
    for each in (wanted, wanted.replace("-", "").lower()):
        if each in known:
            return known[each]
    names = [each for each in known if len(each) < 32]
    hint = close(wanted, names) or f"the ids of findings stand in kvm-host(1), those of errors in {DOCS}/reference.md"
    raise NotFound(f"nothing is known by the name {id_[:80]!r}", "", hint)


def lines(text: catalogue.Text) -> list[str]:
    """For people."""
    told = [f"{text.id}: {text.title}", "", *_wrapped(text.why), "", "What to do:", *_wrapped(text.todo)]
    return [*told, "", f"See: {text.source}"] if text.source else told


def _wrapped(text: str) -> list[str]:
    import textwrap

    text = text.replace("{object}", "NAME")
    return textwrap.wrap(text, 92, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
