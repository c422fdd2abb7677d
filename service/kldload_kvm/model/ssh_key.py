"""Public SSH keys, as lines of authorized_keys without options. Pure; the forms are those of sshd(8) and RFC 4253."""

from __future__ import annotations

import base64
import binascii
import re

from .errors import InvalidArgument

LONGEST = 16 << 10

# How many strings and numbers follow the type inside the key, and how long the one is whose length is fixed.
_TYPES: dict[str, tuple[int, dict[int, int]]] = {
    "ssh-ed25519": (1, {0: 32}),
    "ssh-rsa": (2, {}),
    "ecdsa-sha2-nistp256": (2, {1: 65}),
    "ecdsa-sha2-nistp384": (2, {1: 97}),
    "ecdsa-sha2-nistp521": (2, {1: 133}),
    "sk-ssh-ed25519@openssh.com": (2, {0: 32}),
    "sk-ecdsa-sha2-nistp256@openssh.com": (3, {1: 65}),
}
_HINT = "give the one line of a file such as ~/.ssh/id_ed25519.pub"


def check(text: str, number: int = 1) -> str:
    """The key, without blanks around it. `number` is what it is called in an error, which never repeats it.

    Raises InvalidArgument.
    """
    if why := _fault(text.strip()):
        raise InvalidArgument(f"SSH key {number} cannot be used", why, _HINT)
    return text.strip()


def _fault(line: str) -> str:
    if "PRIVATE KEY" in line:
        return "it is a private key: keep it to yourself, and consider it known from now on"
    if not line or len(line) > LONGEST:
        return "it is empty" if not line else "it is longer than any key"
    if not all(c.isprintable() or c == "\t" for c in line):
        return "it has more than one line, or control characters"
    type_, _, rest = line.replace("\t", " ").partition(" ")
    if type_ not in _TYPES:
        if re.match(r'[a-z-]+(="|,|=)|(restrict|cert-authority|no-[a-z-]+) ', line):
            return "it has options before its type, which are not taken"
        known = type_ in {"ssh-dss", "ssh-rsa1"} or type_.endswith("-cert-v01@openssh.com")
        return f"keys of type {type_} are not taken" if known else "it does not begin with the type of a key"
    try:
        blob = base64.b64decode(rest.lstrip().partition(" ")[0], validate=True)
    except (binascii.Error, ValueError):
        return "its second part is not base64: something was lost in copying"
    return _fault_inside(type_, blob)


def _fault_inside(type_: str, blob: bytes) -> str:
    parts: list[bytes] = []
    at = 0
    while at + 4 <= len(blob) and len(parts) <= 4:
        end = at + 4 + int.from_bytes(blob[at : at + 4], "big")
        parts.append(blob[at + 4 : end])
        at = end
    count, lengths = _TYPES[type_]
    if at != len(blob) or not parts:
        return "it is not whole: something was lost in copying"
    if parts[0] != type_.encode():
        return f"it says {type_}, and is of another type inside"
    if len(parts) != count + 1 or any(len(parts[1 + i]) != n for i, n in lengths.items()):
        return "it is not whole: something was lost in copying"
    if type_ == "ssh-rsa" and len(parts[2].lstrip(b"\0")) * 8 < 2048:
        return "RSA keys of less than 2048 bits are no longer safe"
    return ""
