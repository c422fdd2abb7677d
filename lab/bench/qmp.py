"""QEMU's control socket: one command, one answer."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from .say import LabError


def ask(path: Path, command: str, timeout: float = 5.0, **arguments: Any) -> Any:
    """Send one command and give what it returned.

    Raises LabError when nobody answers in time or QEMU refuses.
    """
    try:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(timeout)
            channel.connect(str(path))
            lines = channel.makefile("rw", encoding="utf-8")
            lines.readline()  # the greeting
            _exchange(lines, "qmp_capabilities", {})
            return _exchange(lines, command, arguments)
    except (OSError, ValueError) as error:
        raise LabError(f"QEMU does not answer to {command}", str(error)) from error


def _exchange(lines: Any, command: str, arguments: dict[str, Any]) -> Any:
    lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    lines.flush()
    while True:
        answer = json.loads(lines.readline())
        if "return" in answer:
            return answer["return"]
        if "error" in answer:
            raise LabError(f"QEMU refused {command}", answer["error"].get("desc", ""))
