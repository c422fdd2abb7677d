"""Changes the host's network in the few ways there are. Run by kldload-kvm-network@.service; prints {"error": …}, "" if
all is well.

The request, in $CREDENTIALS_DIRECTORY/request, is one action and what it is about: names of network interfaces, and
what the port was configured by when it was planned. Nothing in it is opened or run; what is written follows from the
host.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...model.errors import KvmError
from ...model.wiring import link_name, owner_of
from .links import read, tools
from .tool import ENDING, Names, Runs, Tool


def main() -> None:
    signal.signal(signal.SIGTERM, ENDING.ask)
    request = json.loads(Path(os.environ["CREDENTIALS_DIRECTORY"], "request").read_bytes())
    try:
        act(request)
        error = ""
    except KvmError as fault:
        error = fault.why or fault.what
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as fault:
        error = str(fault) or type(fault).__name__
    print(json.dumps({"error": error}))


def act(
    request: dict[str, Any], root: str = "", run: Runs | None = None, sleep: Callable[[float], None] = time.sleep
) -> None:
    """root, run, sleep: for tests. Raises KvmError, OSError, ValueError, KeyError or SubprocessError."""
    what = "the request is none"
    names = Names(link_name(request["bridge"], what), link_name(request["port"], what), str(request["settings"]))
    tool = {each.name: each for each in tools(root, run)}[request["tool"]]
    match request["do"]:
        case "try":
            begin(tool, names, root, run)
        case "keep":
            keep(tool, names, root, run)
        case "take-back":
            take_back(tool, names)
        case "guard":
            sleep(min(max(int(request["seconds"]), 1), 1800))
            take_back(tool, names)
        case other:
            raise ValueError(f"there is no action {other!r}")


def begin(tool: Tool, names: Names, root: str, run: Runs | None) -> None:
    """The host is looked at once more: what was planned may have been long ago."""
    seen = read(root, tools(root, run))
    owner = owner_of(seen, names.bridge, names.port)
    if (owner.tool, owner.settings) != (tool.name, names.settings):
        raise ValueError(f"{names.port} is configured by {owner.tool} ({owner.settings}) now: make a new plan")
    tool.mark(names.bridge)
    tool.begin(names, seen.links[names.port])


def keep(tool: Tool, names: Names, root: str, run: Runs | None) -> None:
    if names.bridge not in tool.kept():
        tool.keep(names, read(root, tools(root, run)).links[names.port])
    tool.unmark(names.bridge)


def take_back(tool: Tool, names: Names) -> None:
    """A bridge that was kept stays: it is no trial any more, or was not this one's. What fails can be tried again, so
    the mark is the last to go."""
    if names.bridge not in tool.kept() and (tool.marked(names.bridge) or tool.tried(names.bridge)):
        tool.mark(names.bridge)
        tool.take_back(names)
        tool.unmark(names.bridge)


if __name__ == "__main__":
    main()
