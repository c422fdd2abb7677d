"""D-Bus type signatures, by the D-Bus Specification, "Type System". Knows nothing of our interfaces."""

from __future__ import annotations

BASIC = frozenset("ybnqiuxtdsogh")
LONGEST = 255
DEEPEST = 32


def types(signature: str) -> tuple[str, ...]:
    """The complete types in a signature, in order: types("sa{sv}") is ("s", "a{sv}"). Raises ValueError, saying why."""
    if len(signature) > LONGEST:
        raise ValueError(f"a signature has at most {LONGEST} characters")
    found, rest = [], signature
    while rest:
        length = _length(rest, arrays=0, structs=0)
        found.append(rest[:length])
        rest = rest[length:]
    return tuple(found)


def single(signature: str) -> str:
    """The signature, if it is exactly one complete type. Raises ValueError."""
    if len(types(signature)) != 1:
        raise ValueError("it is not exactly one complete type")
    return signature


def _length(text: str, arrays: int, structs: int) -> int:
    """How many characters the first complete type in text takes."""
    if max(arrays, structs) > DEEPEST:
        raise ValueError(f"it is nested more than {DEEPEST} deep")
    kind = text[:1]
    if kind in BASIC or kind == "v":
        return 1
    if kind == "(":
        return _struct_length(text, arrays, structs + 1)
    if kind == "a":
        return 1 + (
            _entry_length(text[1:], arrays + 1, structs) if text[1:2] == "{" else _length(text[1:], arrays + 1, structs)
        )
    raise ValueError(f"{kind!r} is no type" if kind else "it ends within a type")


def _struct_length(text: str, arrays: int, structs: int) -> int:
    end = 1
    while text[end : end + 1] != ")":
        end += _length(text[end:], arrays, structs)
    if end == 1:
        raise ValueError("a struct cannot be empty")
    return end + 1


def _entry_length(text: str, arrays: int, structs: int) -> int:
    if text[1:2] not in BASIC or not text[1:2]:
        raise ValueError("a dictionary's key must be of a basic type")
    end = 2 + _length(text[2:], arrays, structs + 1)
    if text[end : end + 1] != "}":
        raise ValueError("a dictionary's entry must be a key and one value")
    return end + 1
