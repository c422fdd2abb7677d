"""Bridges by ifupdown: what is understood of /etc/network/interfaces, what is not, and the file that is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from kldload_kvm.host.bridging import __main__ as bridging
from kldload_kvm.host.bridging import ifupdown, links, tool
from kldload_kvm.model.wiring import IFUPDOWN, Owner
from memory_network import INTERFACES, MAC, MemoryIfupdown


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "PATIENCE", 0.0)


@pytest.fixture
def network(tmp_path: Path) -> MemoryIfupdown:
    return MemoryIfupdown(tmp_path)


def owners(network: MemoryIfupdown) -> tuple[Owner, ...]:
    return links.read(str(network.root), links.tools(str(network.root), network.run)).links["eth7"].owners


def hindrance(network: MemoryIfupdown) -> str:
    (owner,) = owners(network)
    return owner.hindrance


def test_the_file_that_is_kept_is_else_as_it_was(network: MemoryIfupdown) -> None:
    for do in ("try", "keep"):
        request = {"do": do, "bridge": "br7", "port": "eth7", "tool": IFUPDOWN, "settings": ifupdown.MAIN}
        bridging.act(request, str(network.root), network.run)
    assert network.text(ifupdown.BEFORE.format("br7")) == INTERFACES
    assert (
        network.text(ifupdown.MAIN)
        == f"""\
# by hand
auto lo
iface lo inet loopback

allow-hotplug eth7
# Made by kvm-host bridge: br7 has what eth7 had, as it was in /etc/network/kldload-kvm-before-br7
auto br7
iface eth7 inet manual

iface br7 inet static
    bridge_ports eth7
    bridge_hw {MAC}
    bridge_stp off
    bridge_fd 0
    address 192.168.77.1/24
    # a word
    mtu 1400
iface br7 inet6 auto
# the end
"""
    )


def test_a_stanza_that_ends_the_file_without_a_line_end(network: MemoryIfupdown) -> None:
    text = ifupdown.turned("iface eth7 inet dhcp", "br7", "eth7", MAC, "/x")
    made = ("bridge_ports eth7", f"bridge_hw {MAC}", "bridge_stp off", "bridge_fd 0")
    assert text.endswith("\n    ".join(("iface br7 inet dhcp", *made)) + "\n")


def test_the_trial_is_told_what_bridge_utils_takes_from_the_port(network: MemoryIfupdown) -> None:
    request = {"do": "try", "bridge": "br7", "port": "eth7", "tool": IFUPDOWN, "settings": ifupdown.MAIN}
    bridging.act(request, str(network.root), network.run)
    assert network.text(ifupdown.TRIAL.format("br7")).startswith(f"{ifupdown.MODE}0\niface br7 inet static\n")
    assert network.text(ifupdown.GENERATED.format("eth7")) == "1"
    bridging.act({**request, "do": "take-back"}, str(network.root), network.run)
    assert network.text(ifupdown.GENERATED.format("eth7")) == "0"


def test_what_is_understood(network: MemoryIfupdown) -> None:
    assert owners(network) == (Owner(IFUPDOWN, ifupdown.MAIN),)
    network.put(ifupdown.MAIN, "source /etc/network/interfaces.d/*\n")
    network.put(f"{ifupdown.MORE}/card", "iface eth7 inet dhcp\n")
    assert owners(network) == (Owner(IFUPDOWN, f"{ifupdown.MORE}/card"),)


@pytest.mark.parametrize("path", [ifupdown.PROGRAM, f"{ifupdown.STATE}/ifstate", ifupdown.MAIN])
def test_who_has_no_ifupdown_has_nothing_by_it(network: MemoryIfupdown, path: str) -> None:
    network.path(path).unlink()
    assert owners(network) == ()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("source /etc/network/other/*\n", "reads /etc/network/other/*"),
        ("source-directory /srv\n", "reads /srv"),
        ("mapping eth*\n    script x\n", "a stanza mapping"),
        ("rename eth7=lan\n", "a stanza rename"),
        ("iface eth7.5 inet manual\n", "a stanza eth7.5, on top of eth7"),
        ("iface eth7:1 inet manual\n", "a stanza eth7:1"),
        ("iface vlan5 inet manual\n    vlan-raw-device eth7\n", "vlan5 is on top of eth7"),
        ("iface br1 inet manual\n    bridge_ports eth6 eth7\n", "br1 is on top of eth7"),
        ("iface bond0 inet manual\n    bond-slaves eth7\n", "bond0 is on top of eth7"),
        ("iface eth7 inet static inherits x\n", "is not understood here"),
        ("iface eth7 inet manual\n    up ip link set eth7 promisc on\n", "names eth7 itself"),
        ("iface eth7 inet manual\n    wpa-ssid x\n", "has wpa-ssid"),
        ("iface eth7 inet manual\n    bond-mode 1\n", "has bond-mode"),
        ("auto a \\\n  b\n", "lines that go on"),
    ],
)
def test_what_is_not_understood_is_refused(network: MemoryIfupdown, more: str, why: str) -> None:
    network.put(ifupdown.MAIN, INTERFACES + more)
    assert why in hindrance(network)


def test_what_is_missing_for_bridges_is_told(network: MemoryIfupdown) -> None:
    network.path(ifupdown.BRIDGE_UTILS).unlink()
    assert "apt install bridge-utils" in hindrance(network)
    network.put(f"{ifupdown.OTHER_KIND}/x")
    assert "ifupdown2" in hindrance(network)


def test_a_port_in_several_files(network: MemoryIfupdown) -> None:
    network.put(ifupdown.MAIN, f"source-directory interfaces.d\n{INTERFACES}")
    network.put(f"{ifupdown.MORE}/card", "iface eth7 inet6 auto\n")
    assert "in several files" in hindrance(network)
