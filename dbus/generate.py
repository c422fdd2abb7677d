#!/usr/bin/python3
"""Makes from the introspection XML in this folder what must agree with it.

    generate.py client [--check]    the Python clients, service/kldload_kvm/client/api.py and aio.py (committed)
    generate.py reference FILE      the API reference, in Markdown
    generate.py man DIR             the man pages of the commands
    generate.py completions DIR     the completions of the commands, for bash, zsh and fish

--check writes nothing: it fails if the committed clients are not what the XML gives.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "service")]

CLIENTS = CHECKOUT / "service" / "kldload_kvm" / "client"


def main() -> int:
    parser = argparse.ArgumentParser(description="Make what must agree with the introspection XML.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    client = commands.add_parser("client", help="the Python clients")
    client.add_argument("--check", action="store_true", help="only say whether the committed ones are current")
    reference = commands.add_parser("reference", help="the API reference, in Markdown")
    reference.add_argument("file", type=Path)
    for name, text in (("man", "the man pages"), ("completions", "the shell completions")):
        commands.add_parser(name, help=text).add_argument("dir", type=Path)
    args = parser.parse_args()
    if args.command == "client":
        return clients(check=args.check)
    if args.command == "reference":
        from generator.reference import text as reference_text

        args.file.write_text(reference_text(), encoding="utf-8")
    elif args.command == "man":
        from generator.man import write as write_man

        write_man(args.dir)
    else:
        from generator.completions import write as write_completions

        write_completions(args.dir)
    return 0


def clients(*, check: bool) -> int:
    """Write both clients, or only compare them."""
    from generator import client

    stale = []
    for name, asynchronous in (("api.py", False), ("aio.py", True)):
        text = client.text(asynchronous=asynchronous)
        file = CLIENTS / name
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            file.write_text(text, encoding="utf-8")
    if stale and check:
        print(f"{CLIENTS}: {' and '.join(stale)} not as dbus/*.xml: run dbus/generate.py client", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
