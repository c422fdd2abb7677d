"""A guest's addresses: what is taken of what it says, and that nothing else of it is ever shown."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kldload_kvm.model.addresses import MOST, from_agent, from_libvirt


def said(*addresses: tuple[Any, Any]) -> str:
    given = [{"ip-address": address, "prefix": prefix, "ip-address-type": "ipv4"} for address, prefix in addresses]
    return json.dumps({"return": [{"name": "lo"}, {"name": "eth0", "ip-addresses": given}]})


@pytest.mark.parametrize(
    ("address", "prefix", "found"),
    [
        ("10.0.0.2", 24, ["10.0.0.2/24"]),
        ("2001:db8::7", 64, ["2001:db8::7/64"]),
        ("2001:DB8:0::7", 64, ["2001:db8::7/64"]),
        ("127.0.0.1", 8, []),
        ("::1", 128, []),
        ("fe80::1", 64, []),
        ("169.254.3.4", 16, []),
        ("10.0.0.2", 33, []),
        ("10.0.0.2", -1, []),
        ("10.0.0.2\x1b[2J", 24, []),
        ("web-1", 24, []),
        ("", 24, []),
        (None, 24, []),
        ("10.0.0.2", "24\n", []),
    ],
)
def test_an_address(address: Any, prefix: Any, found: list[str]) -> None:
    assert from_agent(said((address, prefix))) == found


def test_each_once_in_the_order_said_and_not_too_many() -> None:
    assert from_agent(said(("10.0.0.2", 24), ("10.0.0.1", 24), ("10.0.0.2", 24))) == ["10.0.0.2/24", "10.0.0.1/24"]
    many = said(*((f"10.{n // 256}.{n % 256}.1", 24) for n in range(1000)))
    assert len(from_agent(many)) == MOST


@pytest.mark.parametrize(
    "answer",
    ["", "x", "null", "[]", "{}", '{"return": null}', '{"return": {}}', '{"return": [1]}', '{"return": [null]}',
     '{"return": [{"ip-addresses": 7}]}', '{"return": [{"ip-addresses": [{}]}]}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_answer_says_nothing(answer: str) -> None:
    assert from_agent(answer) == []


@given(st.recursive(st.none() | st.text() | st.integers() | st.floats(), lambda inner: st.lists(inner, max_size=3)
       | st.dictionaries(st.sampled_from(["return", "ip-addresses", "ip-address", "prefix"]), inner)))  # fmt: skip
def test_whatever_a_guest_says_only_addresses_come_of_it(answer: Any) -> None:
    for each in from_agent(json.dumps({"return": answer})):
        ipaddress.ip_interface(each)


def test_libvirt_s_own() -> None:
    assert from_libvirt({"vnet0": {"addrs": [{"addr": "10.0.0.2", "prefix": 24}]}, "lo": {"addrs": None}, "x": {}}) == [
        "10.0.0.2/24"
    ]
