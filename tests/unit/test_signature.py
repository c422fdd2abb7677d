"""D-Bus signatures as the linter reads them, against the specification."""

from __future__ import annotations

import pytest

from linter.signature import single, types


@pytest.mark.parametrize(
    ("signature", "parts"),
    [
        ("", ()),
        ("s", ("s",)),
        ("sa{sv}", ("s", "a{sv}")),
        ("aa{sv}o", ("aa{sv}", "o")),
        ("(s(iu)a{sas})ah", ("(s(iu)a{sas})", "ah")),
        ("ybnqiuxtdsoghv", tuple("ybnqiuxtdsoghv")),
        ("a" * 32 + "s", ("a" * 32 + "s",)),
    ],
)
def test_the_types_of_a_signature(signature: str, parts: tuple[str, ...]) -> None:
    assert types(signature) == parts


@pytest.mark.parametrize(
    "signature",
    [
        "z",
        "a",
        "()",
        "(s",
        "s)",
        "{sv}",
        "a{s}",
        "a{vs}",
        "a{(i)s}",
        "a{sss}",
        "a{",
        "a{s",
        "aa",
        "a" * 33 + "s",
        "s" * 256,
    ],
)
def test_what_is_no_signature(signature: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        types(signature)


@pytest.mark.parametrize("signature", ["", "ss", "a{sv}o"])
def test_a_type_is_one(signature: str) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        single(signature)
