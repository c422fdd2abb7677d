"""The files of the package that no import would miss: configuration, units, polkit's actions, Debian's."""

from __future__ import annotations

import configparser
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import kldload_kvm
from kldload_kvm import config
from kldload_kvm.model.constants import DOCS

CHECKOUT = Path(__file__).resolve().parents[2]
CONF = CHECKOUT / "etc" / "kvm.conf"
UNITS = sorted((CHECKOUT / "systemd").glob("*.service"))
DAEMON = CHECKOUT / "systemd" / "kldload-kvmd.service"
PURGE = CHECKOUT / "systemd" / "kldload-kvm-trash.service"
METRICS = CHECKOUT / "systemd" / "kldload-kvm-metrics.service"
FACTS = CHECKOUT / "systemd" / "kldload-kvm-facts.service"
SNAPSHOTS = CHECKOUT / "systemd" / "kldload-kvm-snapshot.service"
TIMERS = sorted((CHECKOUT / "systemd").glob("*.timer"))
HELPERS = [CHECKOUT / "systemd" / f"kldload-kvm-{name}@.service" for name in ("convert", "inspect")]
CHANGES = [CHECKOUT / "systemd" / f"kldload-kvm-{name}@.service" for name in ("host", "mount", "network")]
"""What changes the host as the daemon may not: more open than all others."""
POLICY = CHECKOUT / "polkit" / "org.kldload.kvm.policy"
EVERY_TIME = {"rollback", "delete", "purge", "delete-snapshot", "export", "remove-image", "cancel-job", "fix-host"}


def test_the_configuration_as_delivered_is_the_default() -> None:
    assert config.load([CONF]) == config.Config()


def test_what_is_commented_out_in_the_configuration_is_the_default() -> None:
    text = re.sub(
        r"^#(\w+ = )", r"\1", CONF.read_text(encoding="utf-8").replace("#dataset = vmpool/vms", ""), flags=re.M
    )
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    assert sum(len(parser[name]) for name in parser.sections()) > 10
    assert config.read(parser) == config.Config()


def test_one_version_everywhere() -> None:
    first = (CHECKOUT / "debian" / "changelog").read_text(encoding="utf-8").splitlines()[0]
    assert f"({kldload_kvm.__version__})" in first


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_valid(unit: Path, tmp_path: Path) -> None:
    """Outside of the package neither its man pages nor its programs are there."""
    copy = tmp_path / unit.name
    text = re.sub(r"^(Documentation=.*)$", "", unit.read_text(encoding="utf-8"), flags=re.M)
    text = re.sub(r"/usr/s?bin/(kldload-kvmd|kvm-\w+)|/sbin/zfs", "/bin/true", text)
    copy.write_text(text, encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("timer", TIMERS, ids=lambda timer: timer.name)
def test_timers_are_valid_and_start_a_unit_of_ours(timer: Path, tmp_path: Path) -> None:
    for unit in (timer, timer.with_suffix(".service")):
        text = re.sub(r"^(Documentation=.*)$", "", unit.read_text(encoding="utf-8"), flags=re.M)
        (tmp_path / unit.name).write_text(re.sub(r"/usr/bin/kvm-\w+", "/bin/true", text), encoding="utf-8")
    command = ["systemd-analyze", "verify", str(tmp_path / timer.name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""
    assert "WantedBy=timers.target" in timer.read_text(encoding="utf-8")
    enabled, disabled = re.findall(
        r"\tdh_installsystemd (.*)", (CHECKOUT / "debian" / "rules").read_text(encoding="utf-8")
    )
    assert timer.name in (disabled if timer.stem == METRICS.stem else enabled).split()
    assert disabled.split()[0] == "--no-enable"


@pytest.mark.parametrize(
    ("unit", "most"),
    [
        (DAEMON, 2.3),
        (FACTS, 2.0),
        (SNAPSHOTS, 1.1),
        (PURGE, 0.8),
        (METRICS, 0.8),
        *((helper, 0.5) for helper in HELPERS),
        (CHANGES[0], 3.0),
        (CHANGES[1], 6.0),
        (CHANGES[2], 6.0),
    ],
)
def test_units_are_sandboxed(unit: Path, most: float) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    last = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    found = re.search(r": (\d+\.\d+) ", last)
    assert found
    assert float(found[1]) <= most


@pytest.mark.parametrize("left_out", ["PrivateDevices", "PrivateNetwork", "PrivateUsers", "ProtectProc", "User"])
def test_what_the_daemon_s_sandbox_leaves_out_has_its_reason(left_out: str) -> None:
    lines = DAEMON.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if line.startswith(f"{left_out}=")]
    assert [line for line in lines if line.startswith("#") and f"{left_out}=" in line]


@pytest.mark.parametrize("unit", HELPERS, ids=lambda unit: unit.name)
@pytest.mark.parametrize(
    "line",
    [
        "User=kldload-kvm-image",
        "RootDirectory=/run/kldload-kvm/root",
        "PrivateNetwork=yes",
        "PrivateDevices=yes",
        "CapabilityBoundingSet=",
        "NoNewPrivileges=yes",
        "RestrictAddressFamilies=none",
        "MemorySwapMax=0",
    ],
)
def test_the_image_helper_has_nothing(unit: Path, line: str) -> None:
    assert line in unit.read_text(encoding="utf-8").splitlines()


def test_polkit_s_classes() -> None:
    """Reading is free; what gives up data asks every time, because a kept grant would not look at the details."""
    for action in ET.parse(POLICY).getroot().findall("action"):
        name = action.get("id", "").removeprefix("org.kldload.kvm.")
        active = "yes" if name == "read" else "auth_admin" if name in EVERY_TIME else "auth_admin_keep"
        assert action.findtext("defaults/allow_active") == active, name


def test_polkit_s_messages_name_only_details_that_the_service_gives() -> None:
    said = set(re.findall(r"\$\((\w+)\)", POLICY.read_text(encoding="utf-8")))
    assert said <= {"vm", "uuid", "dataset", "operation", "target"}


def test_everything_of_the_checkout_that_is_installed_is_there() -> None:
    for line in (CHECKOUT / "debian" / "kldload-kvm.install").read_text(encoding="utf-8").splitlines():
        assert list(CHECKOUT.glob(line.split()[0])), line


def test_what_the_texts_refer_to_is_packaged() -> None:
    referred = {
        name
        for folder in ("model", "ops", "cli")
        for path in (CHECKOUT / "service" / "kldload_kvm" / folder).rglob("*.py")
        for name in re.findall(rf"(?:{DOCS}|{{DOCS}})/([\w-]+\.md)", path.read_text())
    }
    assert {"host.md", "install.md", "libvirt.md", "reference.md"} <= referred
    assert all((CHECKOUT / "docs" / name).is_file() for name in referred)
    assert "docs/*.md" in (CHECKOUT / "debian" / "kldload-kvm.docs").read_text()
    assert "%doc docs/*.md" in (CHECKOUT / "rpm" / "kldload-kvm.spec").read_text()
    assert "dh_compress -X.md" in (CHECKOUT / "debian" / "rules").read_text()
