#!/usr/bin/python3
"""Makes from the introspection XML in this folder what must agree with it.

    generate.py client [--check]    the Python clients, service/kldload_kvm/client/api.py and aio.py (committed)
    generate.py hook [--check]      libvirt's qemu hook, hooks/qemu (committed)
    generate.py texts [--check]     the table in docs/host.md, and the journal's catalog (committed)
    generate.py reference FILE      the API reference, in Markdown
    generate.py man DIR             the man pages of the commands
    generate.py completions DIR     the completions of the commands, for bash, zsh and fish

--check writes nothing: it fails if what is committed is not what the XML gives.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "service")]

HOOK = CHECKOUT / "hooks" / "qemu"
CLIENTS = CHECKOUT / "service" / "kldload_kvm" / "client"


def main() -> int:
    parser = argparse.ArgumentParser(description="Make what must agree with the introspection XML.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (("client", "the Python clients"), ("hook", "libvirt's qemu hook"), ("texts", "the texts")):
        committed = commands.add_parser(name, help=text)
        committed.add_argument("--check", action="store_true", help="only say whether what is committed is current")
    reference = commands.add_parser("reference", help="the API reference, in Markdown")
    reference.add_argument("file", type=Path)
    for name, text in (("man", "the man pages"), ("completions", "the shell completions")):
        commands.add_parser(name, help=text).add_argument("dir", type=Path)
    args = parser.parse_args()
    if args.command == "client":
        return clients(check=args.check)
    if args.command == "hook":
        return hook(check=args.check)
    if args.command == "texts":
        return texts(check=args.check)
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

    texts = {CLIENTS / name: client.text(asynchronous=name == "aio.py") for name in ("api.py", "aio.py")}
    return committed(texts, "client", check=check)


def hook(*, check: bool) -> int:
    """Write the hook, or only compare it."""
    from generator import hook

    status = committed({HOOK: hook.text()}, "hook", check=check)
    if not check:
        HOOK.chmod(0o755)
    return status


def texts(*, check: bool) -> int:
    """Write what is made from the catalogue, or only compare it."""
    from generator.texts import files

    return committed(files(CHECKOUT), "texts", check=check)


def committed(texts: dict[Path, str], command: str, *, check: bool) -> int:
    """Write files that are committed, or only compare them."""
    stale = [file for file, text in texts.items() if not file.exists() or file.read_text(encoding="utf-8") != text]
    for file in stale:
        if check:
            print(f"{file}: out of date: run dbus/generate.py {command}", file=sys.stderr)
        else:
            file.write_text(texts[file], encoding="utf-8")
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
