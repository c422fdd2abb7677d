"""Sizes as people write them, and as they are shown."""

import pytest

from kldload_kvm.model.errors import InvalidArgument
from kldload_kvm.model.sizes import GIB, KIB, LARGEST, MIB, TIB, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "unit", "size"),
    [
        ("40", GIB, 40 * GIB),
        ("4096", MIB, 4 * GIB),
        ("4096", 1, 4096),
        ("8G", MIB, 8 * GIB),
        ("8g", MIB, 8 * GIB),
        ("512M", GIB, 512 * MIB),
        ("1.5T", GIB, TIB + TIB // 2),
        ("64K", 1, 64 * KIB),
        ("64 KiB", 1, 64 * KIB),
        ("64kb", 1, 64 * KIB),
        ("512b", GIB, 512),
        (" 2 ", GIB, 2 * GIB),
        ("0.5", GIB, GIB // 2),
        ("1.", GIB, GIB),
        ("0.1K", 1, 102),
        ("7.5E", 1, 15 << 59),
    ],
)
def test_sizes_are_read_with_and_without_a_unit(text: str, unit: int, size: int) -> None:
    assert parse_size(text, unit) == size


NO_SIZES = """
    0 0G -1 -1G +1 +1G 1- G . .5G 1.5.5G 1,5G ten 1X 1GG 1BB 1GiBB 1ib 1bib
    1e9 0x10 1_000 ١٢ ² 8E 99999E nan inf
"""


@pytest.mark.parametrize("text", [*NO_SIZES.split(), "", " ", "1 2", "1\n2", "1\0", "9" * 33, "9" * 1000])
def test_what_is_no_size_is_refused_and_says_what_to_write(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_size(text, GIB)
    assert "512M" in caught.value.hint
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1, "1B"),
        (1023, "1023B"),
        (1024, "1K"),
        (1536, "1.50K"),
        (42 * MIB, "42M"),
        (40 * GIB, "40G"),
        (int(18.7 * GIB), "18.7G"),
        (TIB + TIB // 2, "1.50T"),
        (10 * MIB - 1, "10.0M"),
        (100 * MIB - 1, "100M"),
        (GIB - 1, "1024M"),
        (LARGEST, "8.00E"),
        (1 << 70, "1024E"),
    ],
)
def test_sizes_are_shown_as_zfs_shows_them(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize("size", [1, 4095, 64 * KIB, 3 * MIB + 5 * KIB, 40 * GIB, 15 << 59])
def test_a_size_shown_exactly_reads_back_as_itself(size: int) -> None:
    shown = format_size(size)
    if "." not in shown:
        assert parse_size(shown, 1) == size
