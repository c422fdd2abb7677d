"""polkit's text agent: asks for a password on the terminal, for as long as a call needs it."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

START_TIME = 5.0
"""Seconds for the agent to register with polkit."""
END_TIME = 2.0
"""Seconds for the agent to end."""


@contextmanager
def text_agent() -> Iterator[None]:
    """Let polkit ask on this terminal, unless a desktop's agent does. Does nothing for root, or with no terminal."""
    if os.geteuid() == 0 or not sys.stdin.isatty():
        yield
        return
    terminal = termios.tcgetattr(sys.stdin)
    agent = _start()
    try:
        yield
    finally:
        if agent is not None:
            _end(agent)
        # An agent that was interrupted at its prompt leaves the echo off.
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, terminal)


def _start() -> int | None:
    """Start the agent and wait until it is registered. Gives its process id, or None if it is not installed."""
    ready, notify = os.pipe()
    os.set_inheritable(notify, True)
    command = ["pkttyagent", "--process", str(os.getpid()), "--fallback", "--notify-fd", str(notify)]
    try:
        pid = os.posix_spawnp(command[0], command, os.environ)
    except FileNotFoundError:
        os.close(ready)
        return None
    finally:
        os.close(notify)
    select.select([ready], [], [], START_TIME)  # readable when the agent has closed its end
    os.close(ready)
    return pid


def _end(pid: int) -> None:
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)
        deadline = time.monotonic() + END_TIME
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return
            time.sleep(0.02)
