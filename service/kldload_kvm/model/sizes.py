"""Sizes as people write them, such as "8G" and "1.5T", to bytes and back. Units are powers of 1024, as in ZFS."""

from __future__ import annotations

from .errors import InvalidArgument

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

LARGEST = (1 << 63) - 1
"""What ZFS can hold in a size."""

_LETTERS = "bkmgtpe"
_FACTORS = {"b": 1} | {
    letter + more: 1 << 10 * power for power, letter in enumerate(_LETTERS) if power for more in ("", "b", "ib")
}
_LONGEST = 32
_FORM = "write it as 512M, 40G or 1.5T"


def parse_size(text: str, unit: int) -> int:
    """Bytes, 1 to LARGEST, of a size as written; a bare number counts in `unit` bytes.

    Suffixes, in either case: B, K, M, G, T, P, E, each also as in KB and KiB; all are powers of 1024. Fractions are
    rounded down to a whole byte. Raises InvalidArgument.

    >>> parse_size("40", GIB) == parse_size("40G", MIB) == parse_size("40 GiB", 1) == 42949672960
    True
    """
    what = f"{text[:_LONGEST]!r} is not a size"
    written = text.strip().lower()
    number = written.rstrip("".join(_FACTORS))
    factor = _FACTORS.get(written[len(number) :], 0) if number != written else unit
    whole, _, fraction = number.rstrip().partition(".")
    digits = whole + fraction
    if not factor or len(text) > _LONGEST or not (whole and digits.isascii() and digits.isdigit()):
        raise InvalidArgument(what, "a size is a number and a unit, in powers of 1024", _FORM)
    size: int = int(digits) * factor // 10 ** len(fraction)
    if not 0 < size <= LARGEST:
        raise InvalidArgument(what, "it must be more than 0 and less than 8E", _FORM)
    return size


def format_size(size: int) -> str:
    """A size in at most five characters, as ZFS prints it: "0B", "42M", "18.7G", "1.50T".

    >>> format_size(42949672960), format_size(20078982758)
    ('40G', '18.7G')
    """
    power = min(max(size.bit_length() - 1, 0) // 10, len(_LETTERS) - 1)
    scale = 1 << 10 * power
    if size % scale == 0:
        return f"{size >> 10 * power}{_LETTERS[power].upper()}"
    value = size / scale
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f}{_LETTERS[power].upper()}"
