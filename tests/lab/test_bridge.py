"""A bridge on the bench's second card, the cable, so that its ssh is not touched: by each of the three tools, confirmed
or not, with the service killed meanwhile.

The bench has systemd-networkd. The other two tools are tried where they are installed.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import kill
from pathlib import Path

import pytest

from host import ROOT, call, daemon_pid, data, get, libvirt_is_there, run, wait_until

HOST = f"{ROOT}/host"
BRIDGE = "brtest"
ADDRESS = "192.168.77."
CABLE = "52:54:00:6b:77:0"
NETWORK = Path("/etc/systemd/network")
RELEASED = NETWORK / "05-test.network"
INTERFACES = Path("/etc/network/interfaces")
CONNECTIONS = Path("/etc/NetworkManager/system-connections")


def card() -> str:
    """The cable's card."""
    found = [each.parent.name for each in Path("/sys/class/net").glob("*/address") if CABLE in each.read_text()]
    return next(name for name in found if not Path(f"/sys/class/net/{name}/bridge").exists())


def addresses(name: str) -> list[str]:
    done = run("ip", "-j", "addr", "show", "dev", name, check=False)
    rows = json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else []
    return [f"{each['local']}/{each['prefixlen']}" for row in rows if row for each in row["addr_info"]]


def master(name: str) -> str:
    path = Path(f"/sys/class/net/{name}/master")
    return path.readlink().name if path.is_symlink() else ""


def picture() -> dict[str, object]:
    """The network as the kernel has it, and every file that says how it is to be."""
    rows = json.loads(run("ip", "-j", "addr").stdout)
    links = {
        row["ifname"]: (row["address"], row.get("master", ""), sorted(a["local"] for a in row.get("addr_info", ())))
        for row in rows
        if not row["ifname"].startswith("vnet")
    }
    where = ("/etc/systemd/network", "/run/systemd/network", "/etc/network", "/etc/NetworkManager/system-connections",
             "/run/NetworkManager/system-connections")  # fmt: skip
    files = {str(f): f.read_text() for each in where for f in sorted(Path(each).rglob("*")) if f.is_file()}
    return {"links": links, "files": files}


def guards() -> str:
    return run("systemctl", "list-units", "--all", "--no-legend", "kldload-kvm-network@*").stdout.strip()


@dataclass(frozen=True)
class Way:
    """prepare: gives the card to the tool; clean: takes a bridge of a test away, and the card back."""

    tool: str
    program: str
    prepare: Callable[[], None]
    clean: Callable[[], None]


def nothing() -> None:
    return None


def has_address(name: str) -> None:
    wait_until(lambda: any(each.startswith(ADDRESS) for each in addresses(name)), 60, f"{name} has the cable's address")


def managed(name: str) -> str:
    """What networkd says of a card, its own doing last: "3 enp0s6 ether routable configured"."""
    return run("networkctl", "list", "--no-legend", name).stdout.rstrip()


def without_networkd() -> str:
    """networkd lets the card go, which loses its address; it is not to take a bridge with the card's address either.
    Without networkd the kernel gives a card its link-local address, unless NetworkManager has forbidden it."""
    name = card()
    RELEASED.write_text(f"[Match]\nName={name} {BRIDGE}\n\n[Link]\nUnmanaged=yes\n")
    run("networkctl", "reload")
    wait_until(lambda: managed(name).endswith(" unmanaged"), 30, "networkd has let go")
    run("ip", "addr", "flush", "dev", name)
    run("ip", "link", "set", "dev", name, "down")
    run("ip", "link", "set", "dev", name, "addrgenmode", "eui64")
    Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("0")
    return name


def clean_networkd() -> None:
    for file in NETWORK.glob("00-kldload-kvm-*"):
        file.unlink()
    RELEASED.unlink(missing_ok=True)
    run("networkctl", "reload")
    run("ip", "link", "delete", BRIDGE, check=False)
    run("networkctl", "reconfigure", card())
    wait_until(lambda: managed(card()).endswith(" configured"), 60, "networkd is done with the card")
    has_address(card())


def by_ifupdown() -> None:
    name = without_networkd()
    INTERFACES.parent.mkdir(exist_ok=True)
    INTERFACES.write_text(
        f"# by hand\nauto lo\niface lo inet loopback\n\nauto {name}\niface {name} inet static\n"
        f"    address {ADDRESS}1/24\n    # a word\n    mtu 1400\n"
    )
    run("ifup", name)
    has_address(name)
    for mode in ("1", "0"):  # a change makes the kernel give it its own address, whoever has set what meanwhile
        Path(f"/proc/sys/net/ipv6/conf/{name}/addr_gen_mode").write_text(mode)
    wait_until(lambda: any(each.startswith("fe80:") for each in addresses(name)), 30, f"{name} has its own address")


def clean_ifupdown() -> None:
    run("ifdown", "--force", BRIDGE, check=False)
    run("ip", "link", "delete", BRIDGE, check=False)
    run("ifdown", "--force", card(), check=False)
    for file in INTERFACES.parent.glob("kldload-kvm-*"):
        file.unlink()
    INTERFACES.write_text("auto lo\niface lo inet loopback\n")
    clean_networkd()


def by_network_manager() -> None:
    """NetworkManager sees no other card than the cable's."""
    name = without_networkd()
    conf = Path("/etc/NetworkManager/conf.d/test.conf")
    conf.write_text(f"[keyfile]\nunmanaged-devices=*,except:interface-name:{name},except:interface-name:{BRIDGE}\n")
    run("systemctl", "restart", "NetworkManager")
    run("nmcli", "connection", "add", "type", "ethernet", "con-name", "cable", "ifname", name, "ipv4.method", "manual",
        "ipv4.addresses", f"{ADDRESS}1/24", "ipv6.method", "disabled")  # fmt: skip
    run("nmcli", "--wait", "30", "connection", "up", "cable")
    has_address(name)


def clean_network_manager() -> None:
    run("nmcli", "connection", "delete", "cable", check=False)
    for file in CONNECTIONS.glob("kldload-kvm-*"):
        file.unlink()
    run("nmcli", "connection", "reload", check=False)
    run("systemctl", "stop", "NetworkManager")
    Path("/etc/NetworkManager/conf.d/test.conf").unlink(missing_ok=True)
    clean_networkd()


WAYS = (
    Way("systemd-networkd", "networkctl", nothing, clean_networkd),
    Way("ifupdown", "ifup", by_ifupdown, clean_ifupdown),
    Way("NetworkManager", "nmcli", by_network_manager, clean_network_manager),
)


@pytest.fixture(
    params=[pytest.param(way, id=way.tool, marks=[] if way is WAYS[0] else [pytest.mark.soak]) for way in WAYS]
)
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    found: Way = request.param
    if not shutil.which(found.program):
        pytest.skip(f"{found.tool} is not installed")
    try:
        found.prepare()
        yield found
    finally:  # else every test after one whose network could not be made ready would fail too
        found.clean()
    assert guards() == ""


def make(*options: tuple[str, str, str], user: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    given = (str(len(options)), *(word for option in options for word in option))
    return call(HOST, "Host", "CreateBridge", "ssa{sv}", BRIDGE, card(), *given, user=user, check=check)


def within(seconds: int) -> tuple[str, str, str]:
    return ("confirm-within", "u", str(seconds))


def tried(seconds: int = 60) -> str:
    """The job of a bridge that has the card's address and waits to be confirmed."""
    (job,) = data(make(within(seconds)))
    wait_until(lambda: waits(job), 60, "it waits to be confirmed")
    has_address(BRIDGE)
    return str(job)


def waits(job: str) -> bool:
    state = get(job, "Job", "State")
    assert state == "running", get(job, "Job", "ErrorMessage")
    steps = get(job, "Job", "Steps")
    return any(s["kind"]["data"] == "bridge.await" and s["state"]["data"] == "running" for s in steps)  # type: ignore[attr-defined]


def ended(job: str, seconds: float = 120) -> str:
    wait_until(lambda: get(job, "Job", "State") not in ("running", "undoing"), seconds, "the job ends")
    return str(get(job, "Job", "State"))


def as_before(before: dict[str, object]) -> None:
    has_address(card())
    wait_until(lambda: picture() == before, 30, "the network is as before")


def killed() -> None:
    """By SIGKILL; systemd starts it again, and it answers."""
    pid = daemon_pid()
    kill(pid, signal.SIGKILL)
    wait_until(lambda: daemon_pid() not in (0, pid), 60, "the service is started again")
    wait_until(lambda: run("busctl", "status", "org.kldload.Kvm1", check=False).returncode == 0, 60, "it answers")


def test_confirmed_it_is_kept(way: Way) -> None:
    name = card()
    mine = addresses(name)
    assert mine
    address = Path(f"/sys/class/net/{name}/address").read_text()
    job = tried()
    wait_until(lambda: addresses(BRIDGE) == mine, 30, "the bridge has all that the card had")
    assert (addresses(name), master(name)) == ([], BRIDGE)
    assert Path(f"/sys/class/net/{BRIDGE}/address").read_text() == address
    assert guards() != ""
    said = run("kvm-host", "bridge", BRIDGE, "--confirm").stdout
    assert said == f"{BRIDGE} is kept\n"
    assert get(job, "Job", "State") == "succeeded"
    result = {key: each["data"] for key, each in get(job, "Job", "Result").items()}  # type: ignore[attr-defined]
    assert result == {"bridge": BRIDGE, "port": name, "tool": way.tool, "used": False}
    assert (addresses(BRIDGE), master(name)) == (mine, BRIDGE)
    error = run("kvm-host", "bridge", BRIDGE, "--port", name, check=False)
    assert (error.returncode != 0, "there is a network interface" in error.stderr) == (True, True)
    if way is WAYS[0]:
        run("systemctl", "restart", "systemd-networkd")
        wait_until(lambda: (addresses(BRIDGE), master(name)) == (mine, BRIDGE), 60, "the bridge has it again")


def test_not_confirmed_the_network_is_as_before(way: Way) -> None:
    before = picture()
    job = tried(30)
    assert ended(job) == "failed"
    assert "nobody has confirmed within 30 s" in str(get(job, "Job", "ErrorMessage"))
    as_before(before)


def test_cancelled_the_network_is_as_before(way: Way) -> None:
    before = picture()
    job = tried()
    call(job, "Job", "Cancel", "a{sv}", "0")
    assert ended(job) == "cancelled"
    as_before(before)


def test_killed_while_it_waits_the_network_is_as_before(way: Way) -> None:
    before = picture()
    job = tried(300)
    killed()
    assert ended(job) == "failed"
    as_before(before)
    assert guards() == ""


@pytest.mark.soak
def test_killed_with_libvirt_away_too(way: Way) -> None:
    """Whoever is cut off must not wait for it."""
    before = picture()
    job = tried(300)
    sockets = ("libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket", "libvirtd.service")
    run("systemctl", "stop", *sockets)
    try:
        killed()
        assert ended(job) == "failed"
        as_before(before)
    finally:
        run("systemctl", "start", *sockets)
        libvirt_is_there()


@pytest.mark.soak
def test_killed_for_good_the_guard_takes_it_back(way: Way) -> None:
    """The service does not come back: the guard's time is 240 s longer than that to confirm in."""
    before = picture()
    job = tried(10)
    drop_in = Path("/run/systemd/system/kldload-kvmd.service.d/test.conf")
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text("[Service]\nRestart=no\n")
    run("systemctl", "daemon-reload")
    try:
        kill(daemon_pid(), signal.SIGKILL)
        wait_until(lambda: not Path(f"/sys/class/net/{BRIDGE}").exists(), 300, "the guard takes the bridge away")
        as_before(before)
    finally:
        drop_in.unlink()
        run("systemctl", "daemon-reload")
        run("systemctl", "start", "kldload-kvmd")
        libvirt_is_there()
    assert ended(job) == "failed"
    as_before(before)


def test_a_user_without_rights_neither_makes_nor_confirms_one(way: Way) -> None:
    before = picture()
    assert make(user="alice", check=False).returncode != 0
    assert picture() == before
    job = tried(30)
    done = call(HOST, "Host", "ConfirmBridge", "sa{sv}", BRIDGE, "0", user="alice", check=False)
    assert done.returncode != 0
    assert get(job, "Job", "State") == "running"
    call(job, "Job", "Cancel", "a{sv}", "0")
    ended(job)
    as_before(before)


@pytest.mark.parametrize(
    ("name", "port", "why"),
    [
        ("lo", "CARD", "is the name of something else"),
        ("CARD", "CARD", "there is a network interface"),
        (BRIDGE, "lo", "is the name of something else"),
        (BRIDGE, "eth99", "there is no network interface eth99"),
        ("../x", "CARD", "is no name of one"),
        ("a" * 16, "CARD", "16 characters"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_changed(name: str, port: str, why: str) -> None:
    before, words = picture(), {"CARD": card()}
    done = run("kvm-host", "bridge", words.get(name, name), "--port", words.get(port, port), "--yes", check=False)
    assert done.returncode != 0
    assert why in done.stderr
    assert (picture(), guards()) == (before, "")


def test_a_port_of_a_bridge_is_refused() -> None:
    run("ip", "link", "add", "brother", "type", "bridge")
    run("ip", "link", "add", "fault0", "type", "dummy")
    run("ip", "link", "set", "fault0", "master", "brother")
    try:
        done = run("kvm-host", "bridge", BRIDGE, "--port", "fault0", check=False)
        assert "fault0 is in brother already" in done.stderr
        done = run("kvm-host", "bridge", BRIDGE, "--port", "brother", check=False)
        assert "brother is a bridge itself" in done.stderr
    finally:
        run("ip", "link", "delete", "fault0")
        run("ip", "link", "delete", "brother")


def test_a_plan_changes_nothing_and_setup_leaves_it_out(way: Way) -> None:
    before = picture()
    plan = json.loads(run("kvm-host", "bridge", BRIDGE, "--port", card(), "--dry-run", "--json").stdout)
    assert [each["kind"] for each in plan["steps"]] == [
        "bridge.guard", "bridge.try", "bridge.await", "bridge.keep", "bridge.dismiss",
    ]  # fmt: skip
    assert plan["destroys"] == []
    lines = json.loads(run("kvm-host", "setup", "--profile", "kvm", "--dry-run", "--json").stdout)["result"]["lines"]
    (line,) = [each for each in lines if each["line"] == "bridge br0"]
    assert (line["state"], "kvm-host bridge br0 --port" in line["why"]) == ("left-out", True)
    assert picture() == before


@pytest.mark.soak
def test_a_new_vm_is_put_on_it(way: Way, vm: Callable[..., str]) -> None:
    tried()
    run("kvm-host", "bridge", BRIDGE, "--confirm")
    vm("web", "--network", f"bridge={BRIDGE}")
    assert BRIDGE in run("virsh", "domiflist", "--inactive", "web").stdout


@pytest.mark.soak
def test_the_other_end_of_the_bench_is_reached_all_the_while(way: Way) -> None:
    """The card that ssh goes over has the same address, and is not taken down."""
    first = next(row for row in json.loads(run("ip", "-j", "addr").stdout) if "10.0.2.15" in json.dumps(row))
    changes = Path(f"/sys/class/net/{first['ifname']}/carrier_changes")
    before = changes.read_text()
    job = tried(10)
    assert ended(job) == "failed"
    time.sleep(1)
    now = next(row for row in json.loads(run("ip", "-j", "addr").stdout) if row["ifname"] == first["ifname"])
    assert [a["local"] for a in now["addr_info"]] == [a["local"] for a in first["addr_info"]]
    assert changes.read_text() == before
