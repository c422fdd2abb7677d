"""Bridges by systemd-networkd: what is read of the host, which cards are refused, and the files that are written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kldload_kvm.host import sources
from kldload_kvm.host.bridging import __main__ as bridging
from kldload_kvm.host.bridging import links, networkd, tool
from kldload_kvm.model.errors import AlreadyExists, InvalidArgument, KvmError, NotFound, WrongState
from kldload_kvm.model.wiring import NETWORKD, Link, Owner, Wiring, link_name, owner_of
from memory_network import CARD_FILE, CARD_TEXT, MAC, MemoryNetwork, MemoryNetworkd

NAMES = {"bridge": "br7", "port": "eth7", "tool": NETWORKD, "settings": CARD_FILE}
GIVEN = Link("eth7", 2, mac=MAC, owners=(Owner(NETWORKD, CARD_FILE),))


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "PATIENCE", 0.0)


@pytest.fixture
def network(tmp_path: Path) -> MemoryNetworkd:
    return MemoryNetworkd(tmp_path)


def act(network: MemoryNetwork, do: str, **changed: Any) -> None:
    bridging.act({"do": do, **NAMES, **changed}, str(network.root), network.run, lambda seconds: None)


def seen(network: MemoryNetwork) -> Wiring:
    return links.read(str(network.root), links.tools(str(network.root), network.run))


class TestReading:
    def test_links_and_who_has_them(self, network: MemoryNetworkd) -> None:
        assert seen(network).links == {"eth7": GIVEN, "lo": Link("lo", 1, 772, mac="00:00:00:00:00:00")}

    def test_it_goes_through_json(self, network: MemoryNetworkd) -> None:
        network.put(f"{sources.NET}/eth7/upper_eth7.5/x")
        found = seen(network)
        assert found.links["eth7"].uppers == ("eth7.5",)
        assert links.parse(json.loads(json.dumps(links.plain(found)))) == found

    @pytest.mark.parametrize(
        ("path", "kind"), [("phy80211/x", "wlan"), ("wireless/x", "wlan"), ("tun_flags", "tun"), ("x", "")]
    )
    def test_kinds(self, network: MemoryNetworkd, path: str, kind: str) -> None:
        network.put(f"{sources.NET}/eth7/{path}")
        assert seen(network).links["eth7"].kind == kind

    def test_networkd_that_does_not_run_has_nothing(self, network: MemoryNetworkd) -> None:
        network.path("/run/systemd/units/invocation:systemd-networkd.service").unlink()
        assert seen(network).links["eth7"].owners == ()

    def test_a_link_that_is_unmanaged(self, network: MemoryNetworkd) -> None:
        network.put(f"{networkd.STATE}/2", f"ADMIN_STATE=unmanaged\nNETWORK_FILE={CARD_FILE}\n")
        assert seen(network).links["eth7"].owners == ()

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("[Network]\nVLAN=eth7.5\n", "has VLAN= in it"),
            ("[Network]\nBridge=br1\n", "has Bridge= in it"),
            ("[QDisc]\nParent=root\n", "has a section [QDisc]"),
        ],
    )
    def test_what_cannot_be_given_to_a_bridge(self, network: MemoryNetworkd, text: str, why: str) -> None:
        network.put(f"{CARD_FILE}.d/more.conf", text)
        (owner,) = seen(network).links["eth7"].owners
        assert owner.hindrance.startswith(f"{CARD_FILE} {why}")
        with pytest.raises(WrongState, match="by hand"):
            owner_of(seen(network), "br7", "eth7")

    def test_a_file_that_would_be_read_before_ours(self, network: MemoryNetworkd) -> None:
        network.put(f"{networkd.KEPT}/00-a.network", CARD_TEXT)
        network.load()
        (owner,) = seen(network).links["eth7"].owners
        assert "rename it" in owner.hindrance


class TestRefusals:
    def refusal(self, bridge: str = "br7", port: str = "eth7", **changed: Any) -> KvmError:
        others = {"br1": Link("br1", kind="bridge"), "lo": Link("lo", type=772), "vnet0": Link("vnet0", kind="tun")}
        wiring = Wiring({**others, "eth7": replace(GIVEN, **changed)}, ("old",))
        with pytest.raises(KvmError) as caught:
            owner_of(wiring, bridge, port)
        assert caught.value.what == f"the bridge {bridge} was not made"
        assert caught.value.hint
        return caught.value

    def test_a_name_that_is_taken(self) -> None:
        assert type(self.refusal("br1")) is AlreadyExists
        assert type(self.refusal("old")) is AlreadyExists

    def test_a_card_that_is_not_there(self) -> None:
        error = self.refusal(port="eth9")
        assert (type(error), error.hint) == (NotFound, "a bridge can be made on: eth7")

    @pytest.mark.parametrize(
        ("port", "why"), [("lo", "no Ethernet"), ("br1", "bridge itself"), ("vnet0", "guest's end")]
    )
    def test_what_is_no_card(self, port: str, why: str) -> None:
        assert why in self.refusal(port=port).why

    @pytest.mark.parametrize(
        ("changed", "why"),
        [
            ({"kind": "wlan"}, "wireless"),
            ({"kind": "macvlan"}, "macvlan"),
            ({"master": "bond0"}, "in bond0 already"),
            ({"uppers": ("eth7.5",)}, "eth7.5 on top"),
            ({"owners": ()}, "nothing that is known"),
            ({"owners": (Owner(NETWORKD, "a"), Owner("ifupdown", "b"))}, "systemd-networkd and ifupdown"),
            ({"owners": (Owner(NETWORKD, "a", "it is so"),)}, "it is so"),
        ],
    )
    def test_a_card_that_cannot_be(self, changed: dict[str, Any], why: str) -> None:
        error = self.refusal(**changed)
        assert type(error) is WrongState
        assert why in error.why

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "a/b", "a b", "-x", "br0\n", "a" * 16, "ü", "all", "default", "lo", "a:1", "$(id)"]
    )
    def test_names(self, name: str) -> None:
        with pytest.raises(InvalidArgument):
            link_name(name, "it was not done")

    def test_names_that_can_be(self) -> None:
        assert [link_name(name, "") for name in ("br0", "enp3s0", "eth0.5", "a" * 15)]


class TestTexts:
    def test_the_three_files(self, network: MemoryNetworkd) -> None:
        act(network, "try")
        netdev, bridge, port = (network.text(f"{networkd.TRIAL}/{name}") for name in networkd.Networkd().files("br7"))
        assert netdev == f"{networkd.HEAD}\n[NetDev]\nName=br7\nKind=bridge\nMACAddress={MAC}\n"
        assert bridge == (
            f"{networkd.HEAD}# The addresses are those of {CARD_FILE}.\n\n[Match]\nName=br7\n\n"
            "[Network]\nAddress=192.168.77.1/24\nLinkLocalAddressing=no\n\n[Link]\nRequiredForOnline=no\n"
        )
        assert port == (
            f"{networkd.HEAD}\n[Match]\nName=eth7\n\n[Network]\nBridge=br7\nLinkLocalAddressing=no\n\n"
            "[Link]\nRequiredForOnline=no\n"
        )

    def test_drop_ins_come_along_and_one_in_etc_hides_its_namesake(self, network: MemoryNetworkd) -> None:
        network.put(f"/usr/lib/systemd/network/{networkd.PREFIX}.x")
        name = CARD_FILE.rpartition("/")[2]
        network.put(f"/usr/lib/systemd/network/{name}.d/a.conf", "[Network]\nDNS=1.1.1.1\n")
        network.put(f"{networkd.KEPT}/{name}.d/a.conf", "[Network]\nDNS=9.9.9.9\n")
        network.put(f"/run/systemd/network/{name}.d/b.conf", "[Route]\n# to\nDestination=10.0.0.0/8\n")
        act(network, "try")
        text = network.text(f"{networkd.TRIAL}/{networkd.Networkd().files('br7')[1]}")
        assert "1.1.1.1" not in text
        assert text.endswith("[Network]\nDNS=9.9.9.9\n\n[Route]\nDestination=10.0.0.0/8\n")

    @pytest.mark.parametrize(
        ("client", "iaid"),
        [("ff1a2b3c4d0002000000ab11", 0x1A2B3C4D), ("01525400000001", None), ("", None), ("ff1a2b", None)],
    )
    def test_dhcp_knows_the_bridge_as_it_knew_the_port(
        self, network: MemoryNetworkd, client: str, iaid: int | None
    ) -> None:
        network.put(f"{networkd.LEASES}/2", f"ADDRESS=192.168.77.9\nCLIENTID={client}\n")
        act(network, "try")
        text = network.text(f"{networkd.TRIAL}/{networkd.Networkd().files('br7')[1]}")
        assert text.count("[DHCPv4]") == int(iaid is not None)
        assert (f"\nIAID={iaid}\n" in text) == (iaid is not None)

    def test_a_number_that_is_set_stays(self, network: MemoryNetworkd) -> None:
        network.put(f"{CARD_FILE}.d/a.conf", "[DHCPv4]\nIAID=7\n")
        network.put(f"{networkd.LEASES}/2", "CLIENTID=ff1a2b3c4d0002000000ab11\n")
        act(network, "try")
        assert network.text(f"{networkd.TRIAL}/{networkd.Networkd().files('br7')[1]}").count("IAID=") == 1

    def test_lines_that_go_on(self) -> None:
        text = "[A]\nx=1 \\\n  2\n; no\n\n[B]\n[C]\ny=\n"
        assert list(networkd.sections(text)) == [("A", ["x=1 2"]), ("B", []), ("C", ["y="])]
