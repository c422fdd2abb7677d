"""A guest's serial console on this terminal."""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from select import select

LEAVE = b"\x1d"
"""Ctrl-], as in virsh and telnet."""


def attach(console: int) -> bool:
    """Join a console with the terminal, and close it. True if the user left, False if the console ended."""
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    try:
        with _raw(keyboard):
            return _carry(keyboard, screen, console)
    finally:
        os.close(console)


def _carry(keyboard: int, screen: int, console: int) -> bool:
    while True:
        ready, _, _ = select([keyboard, console], [], [])
        if console in ready:
            try:
                data = os.read(console, 4096)
            except OSError:  # a terminal whose other end is closed gives EIO
                return False
            if not data:
                return False
            _write(screen, data)
        if keyboard in ready:
            data = os.read(keyboard, 4096)
            typed, left, _ = data.partition(LEAVE)
            if typed:
                _write(console, typed)
            if left or not data:
                return True


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


@contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Every key goes to the guest; the terminal is as before afterwards, whatever happens."""
    if not os.isatty(terminal):
        yield
        return
    before = termios.tcgetattr(terminal)
    try:
        tty.setraw(terminal)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
        _write(sys.stdout.fileno(), b"\r\n")
