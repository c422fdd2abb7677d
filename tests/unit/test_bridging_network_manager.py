"""Bridges by NetworkManager: which connection a card has, what of it a bridge gets, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from kldload_kvm.host.bridging import __main__ as bridging
from kldload_kvm.host.bridging import links, tool
from kldload_kvm.host.bridging import network_manager as nm
from kldload_kvm.model.wiring import NETWORK_MANAGER, Owner
from memory_network import CONNECTION, CONNECTION_FILE, CONNECTION_TEXT, MAC, MemoryNetworkManager

REQUEST = {"do": "try", "bridge": "br7", "port": "eth7", "tool": NETWORK_MANAGER, "settings": CONNECTION}


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "PATIENCE", 0.0)


@pytest.fixture
def network(tmp_path: Path) -> MemoryNetworkManager:
    return MemoryNetworkManager(tmp_path)


def owners(network: MemoryNetworkManager) -> tuple[Owner, ...]:
    return links.read(str(network.root), links.tools(str(network.root), network.run)).links["eth7"].owners


def test_the_two_connections(network: MemoryNetworkManager) -> None:
    bridging.act(REQUEST, str(network.root), network.run)
    bridge, port = (network.text(f"{nm.TRIAL}/{file}") for file in nm.NetworkManager().files("br7"))
    first, second = nm.uuids("br7")
    assert bridge == (
        f"{nm.HEAD}\n[connection]\nid=br7\nuuid={first}\ntype=bridge\ninterface-name=br7\nzone=home\n"
        f"\n[ethernet]\ncloned-mac-address={MAC}\nmtu=1400\n\n[bridge]\nstp=false\n"
        "\n[ipv4]\naddress1=192.168.77.1/24\nmethod=manual\n\n[ipv6]\nmethod=link-local\n\n[proxy]\n"
    )
    assert port == (
        f"{nm.HEAD}\n[connection]\nid=br7, port eth7\nuuid={second}\ntype=ethernet\ninterface-name=eth7\nmaster=br7\n"
        "slave-type=bridge\nautoconnect-priority=999\n\n[ethernet]\nmtu=1400\n\n[bridge-port]\n"
    )
    assert network.path(f"{nm.TRIAL}/{nm.NetworkManager().files('br7')[0]}").stat().st_mode & 0o777 == 0o600


def test_what_is_kept_is_readable_for_root_alone(network: MemoryNetworkManager) -> None:
    for do in ("try", "keep"):
        bridging.act({**REQUEST, "do": do}, str(network.root), network.run)
    assert {network.path(f"{nm.KEPT}/{file}").stat().st_mode & 0o777 for file in nm.NetworkManager().files("br7")} == {
        0o600
    }


def test_the_connection_that_the_card_has(network: MemoryNetworkManager) -> None:
    assert owners(network) == (Owner(NETWORK_MANAGER, CONNECTION),)
    network.on.clear()
    assert owners(network) == ()


def test_what_others_gave_the_card_is_not_its_own(
    network: MemoryNetworkManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "effect", lambda command: f"eth7:connected (externally):{CONNECTION}\n")
    assert owners(network) == ()


def test_one_that_does_not_run_is_not_asked(network: MemoryNetworkManager) -> None:
    network.path("/run/systemd/units/invocation:NetworkManager.service").unlink()
    network.commands.clear()
    assert (owners(network), network.commands) == ((), [])


def test_one_that_does_not_answer_is_told(network: MemoryNetworkManager) -> None:
    network.fails = "nmcli"
    (owner,) = owners(network)
    assert "cannot be asked" in owner.hindrance


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (CONNECTION_TEXT.replace("type=ethernet", "type=vlan"), "of the type vlan"),
        (f"{CONNECTION_TEXT}\n[802-1x]\neap=tls\n", "a section [802-1x]"),
    ],
)
def test_what_cannot_be_given_to_a_bridge(network: MemoryNetworkManager, text: str, why: str) -> None:
    network.put(CONNECTION_FILE, text)
    (owner,) = owners(network)
    assert why in owner.hindrance


def test_a_connection_that_is_in_no_keyfile(network: MemoryNetworkManager) -> None:
    network.known[CONNECTION]["file"] = "/etc/sysconfig/network-scripts/ifcfg-eth7"
    (owner,) = owners(network)
    assert f"nmcli connection migrate {CONNECTION}" in owner.hindrance
