"""Commands inside a node, by ssh over one kept connection.

The kept connection's process is started apart, with no stream of the caller's: one that grew out of a caller's own ssh
would hold that caller's pipes open for ever.
"""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Sequence
from typing import IO

from .node import Node, last_words
from .say import LabError

SSH_FAILED = 255
USERS = ("root", "alice", "bob")


def options(node: Node, user: str = "root") -> list[str]:
    """What every ssh to this node is called with: its key, its port, no trace in the caller's own files."""
    key = f"{node.image}/key"
    settings = {
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "GlobalKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
        "ConnectTimeout": "10",
        "ServerAliveInterval": "20",
        "ServerAliveCountMax": "9",
        "ControlPath": str(node.ssh_socket(user)),
    }
    return ["-F", "none", "-i", key, *(f"-o{name}={value}" for name, value in settings.items())]


def ssh(node: Node, *, user: str = "root") -> list[str]:
    """The ssh command up to and with its destination."""
    return ["ssh", *options(node, user), "-p", str(node.ssh_port), f"{user}@127.0.0.1"]


def answers(node: Node, patience: float = 10.0) -> bool:
    """Whether a command can be run inside, now."""
    return _quietly([*ssh(node), "true"], patience)


def keep_connection(node: Node, user: str = "root") -> None:
    """Start the kept connection of that user, unless it is there."""
    socket = node.ssh_socket(user)
    if socket.exists() and control(node, "check", user):
        return
    socket.unlink(missing_ok=True)
    *command, destination = ssh(node, user=user)
    _quietly([*command, "-oControlMaster=yes", "-oControlPersist=yes", "-fN", destination], 60)


def control(node: Node, word: str, user: str = "root") -> bool:
    """Say `check` or `exit` to the kept connection; whether it obeyed."""
    return _quietly([*ssh(node, user=user), "-O", word], 10)


def run(node: Node, command: Sequence[str], *, user: str = "root") -> int:
    """Run a command inside on the caller's own streams; give its exit status.

    Each word arrives as it is. Without words a shell reads its script from stdin.
    """
    keep_connection(node, user)
    words = shlex.join(command) if command else "exec bash -s"
    status = subprocess.run([*ssh(node, user=user), words], check=False).returncode
    if status == SSH_FAILED and not answers(node):
        raise lost(node)
    return status


def output(node: Node, script: str, *, stdin: IO[bytes] | None = None, why: str = "") -> str:
    """Run a shell script inside, for the bench's own use; give its stdout or raise LabError with what it said."""
    keep_connection(node)
    done = subprocess.run(
        [*ssh(node), script],
        stdin=stdin or subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == SSH_FAILED and not answers(node):
        raise lost(node)
    if done.returncode != 0:
        tail = "\n       ".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise LabError(f"{why or 'a command'} failed inside {node.label} (exit {done.returncode})", tail)
    return done.stdout


def copy(node: Node, sources: Sequence[str], target: str) -> None:
    """Copy by scp, folders included; the side inside is written `root@127.0.0.1:PATH`."""
    keep_connection(node)
    command = ["scp", *options(node), "-P", str(node.ssh_port), "-q", "-r", *sources, target]
    if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        raise LabError("the copy failed") if answers(node) else lost(node)


def wait_for(node: Node, seconds: float) -> None:
    """Wait until ssh answers; raise LabError as soon as QEMU has died or the kernel has panicked."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not node.alive():
            raise LabError(f"{node.label}: its QEMU ended while it was starting", last_words(node))
        if answers(node, 5):
            return
        if node.console.exists() and b"Kernel panic" in node.console.read_bytes():
            raise LabError(f"{node.label}: its kernel panicked", last_words(node))
        time.sleep(0.3)
    raise LabError(f"{node.label}: no answer by ssh after {seconds:.0f} s", last_words(node))


def lost(node: Node) -> LabError:
    """The error for a node that was there a moment ago."""
    if node.alive():
        return LabError(f"{node.label} does not answer by ssh", last_words(node), "`lab/lab up` starts it anew")
    return LabError(f"{node.label}: its QEMU has died", last_words(node), "`lab/lab up` starts it anew")


def _quietly(command: Sequence[str], seconds: float) -> bool:
    """Run an ssh in a session of its own, with no stream of the caller's; whether it succeeded in time."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
