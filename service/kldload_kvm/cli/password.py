"""Passwords for a guest's user: asked for on the terminal, and hashed before they go anywhere."""

from __future__ import annotations

import sys
from ctypes import CDLL, c_char_p, c_int, c_ulong
from pathlib import Path

from ..model.errors import Failed, InvalidArgument

METHOD = b"$6$"
"""sha512crypt, which every guest's C library knows; see crypt(5)."""


def read_hash(source: str) -> str:
    """A crypt(5) hash from the first line of a file, or of standard input for "-". Raises InvalidArgument."""
    try:
        if source == "-":
            line = sys.stdin.readline(1024)
        else:
            with Path(source).open(encoding="ascii") as file:
                line = file.readline(1024)
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"the password hash cannot be read from {source!r}", str(error)) from error
    if not line.strip():
        hint = "it looks like $6$SALT$HASH, and is made with: openssl passwd -6"
        raise InvalidArgument(f"there is no password hash in {source!r}", hint=hint)
    return line.strip()


def ask_hash() -> str:
    """Ask for a password twice, and hash it. Raises InvalidArgument, Failed."""
    from getpass import getpass

    if not sys.stdin.isatty():
        hint = "use --password-hash with a file, or with - for standard input"
        raise InvalidArgument("a password can be asked for on a terminal only", hint=hint)
    password = getpass("Password for the guest's user: ")
    if not password or getpass("Once more: ") != password:
        raise InvalidArgument("the two passwords are not the same, or empty", hint="nothing was changed; try again")
    return hashed(password)


def hashed(password: str) -> str:
    """The crypt(5) hash of a password, by libcrypt, which PAM brings to every Debian. Raises Failed."""
    try:
        library = CDLL("libcrypt.so.1")
    except OSError as error:
        hint = "hash it elsewhere, and use --password-hash"
        raise Failed("the password cannot be hashed", str(error), hint) from error
    library.crypt_gensalt.argtypes = (c_char_p, c_ulong, c_char_p, c_int)
    library.crypt_gensalt.restype = library.crypt.restype = c_char_p
    library.crypt.argtypes = (c_char_p, c_char_p)
    salt = library.crypt_gensalt(METHOD, 0, None, 0)  # None: the kernel's random numbers
    made = library.crypt(password.encode(), salt) if salt else None
    if not made or not made.startswith(METHOD):
        raise Failed("the password cannot be hashed", "crypt(3) refused", "use --password-hash")
    return str(made.decode("ascii"))
