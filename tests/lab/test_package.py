"""The package as it is installed on the bench: what is where, who may what on the bus, the sandbox, removal and purge.

Runs on the bench as root, against the installed service. alice is a user without any rights there.
"""

from __future__ import annotations

import random
import re
import shutil
import stat
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

import image_files
from host import datasets, domains, libvirt_is_there, wait_until

SERVICE = "org.kldload.Kvm1"
ROOT = "/org/kldload/Kvm1"
UNIT = "kldload-kvmd.service"
PACKAGE = Path("/opt/kldload-kvm/kldload-kvm.deb")
LONG = 120.0


def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done


def as_alice(*command: str) -> subprocess.CompletedProcess[str]:
    return run("runuser", "-u", "alice", "--", *command, check=False)


def shown(unit: str, setting: str) -> str:
    return run("systemctl", "show", unit, f"--property={setting}", "--value").stdout.strip()


def version() -> str:
    """What the service answers, on the bus, which starts it if need be."""
    asked = ("busctl", "--timeout=120", "get-property", SERVICE, ROOT, f"{SERVICE}.Manager", "Version")
    answer = run(*asked, check=False)
    for _ in range(3):
        if "timed out" in answer.stderr.lower():  # on a slow machine the bus waits less than a start takes
            answer = run(*asked, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def wait_until_active() -> None:
    end = time.monotonic() + LONG
    while shown(UNIT, "ActiveState") != "active":
        assert time.monotonic() < end, run("journalctl", "-b", "-u", UNIT, "-n", "30", check=False).stdout
        time.sleep(0.5)


class TestFiles:
    @pytest.mark.parametrize(
        "path",
        [
            "/etc/kldload-kvm/kvm.conf",
            "/usr/share/dbus-1/interfaces/org.kldload.Kvm1.Vm.xml",
            "/usr/share/dbus-1/system.d/org.kldload.Kvm1.conf",
            "/usr/share/dbus-1/system-services/org.kldload.Kvm1.service",
            "/usr/share/polkit-1/actions/org.kldload.kvm.policy",
            "/usr/share/bash-completion/completions/kvm-create",
            "/usr/share/zsh/vendor-completions/_kvm-create",
            "/usr/share/fish/vendor_completions.d/kvm-create.fish",
            "/usr/share/man/man1/kvm-create.1.gz",
            "/usr/share/man/man5/kvm.conf.5.gz",
            "/usr/share/man/man8/kldload-kvmd.8.gz",
        ],
    )
    def test_is_there_for_all_to_read_and_for_root_to_write(self, path: str) -> None:
        about = Path(path).stat()
        assert (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (0, 0, 0o644)

    @pytest.mark.parametrize(
        ("path", "mode"),
        [("/var/lib/kldload-kvm", 0o700), ("/run/kldload-kvm", 0o755), ("/run/kldload-kvm/image", 0o700)],
    )
    def test_the_service_s_folders_are_closed(self, path: str, mode: int) -> None:
        about = Path(path).stat()
        assert (about.st_uid, stat.S_IMODE(about.st_mode)) == (0, mode)

    def test_no_file_of_the_package_was_changed(self) -> None:
        """But for documentation, which the bench's dpkg leaves out."""
        changed = run("dpkg", "--verify", "kldload-kvm").stdout.splitlines()
        assert [line for line in changed if "/usr/share/doc/" not in line] == []

    def test_the_image_helper_s_user_cannot_log_in(self) -> None:
        assert run("getent", "passwd", "kldload-kvm-image").stdout.endswith(":/:/usr/sbin/nologin\n")

    @pytest.mark.parametrize(
        "name", ["create", "list", "snap", "clone", "delete", "export", "image", "job", "metrics", "vm"]
    )
    def test_commands_start(self, name: str) -> None:
        assert as_alice(f"kvm-{name}", "--help").returncode == 0


class TestService:
    def test_it_is_enabled_active_and_answers(self) -> None:
        assert run("systemctl", "is-enabled", UNIT).stdout == "enabled\n"
        wait_until_active()
        installed = run("dpkg-query", "-f", "${Version}", "-W", "kldload-kvm").stdout
        assert version() == f's "{installed}"\n'

    def test_it_is_watched(self) -> None:
        assert shown(UNIT, "Type") == "notify"
        assert shown(UNIT, "WatchdogUSec") == "1min"
        assert shown(UNIT, "NotifyAccess") == "main"

    def test_it_comes_up_before_libvirt_and_does_not_need_it(self) -> None:
        assert "libvirtd.service" in shown(UNIT, "Before").split()
        assert "libvirtd.service" not in (shown(UNIT, "Requires") + shown(UNIT, "Wants")).split()

    def test_a_call_starts_it(self) -> None:
        run("systemctl", "stop", UNIT)
        assert version().startswith('s "')
        wait_until_active()  # it answers a moment before it says that it is ready

    def test_it_comes_back_after_it_was_killed(self) -> None:
        before = shown(UNIT, "MainPID")
        run("systemctl", "kill", "--signal=SIGKILL", "--kill-whom=main", UNIT)
        end = time.monotonic() + LONG
        while shown(UNIT, "MainPID") in ("0", before):
            assert time.monotonic() < end
            time.sleep(0.2)
        wait_until_active()


class TestSandbox:
    def test_its_exposure(self) -> None:
        last = run("systemd-analyze", "security", "--no-pager", UNIT).stdout.splitlines()[-1]
        found = re.search(r": (\d+\.\d+) ", last)
        assert found
        assert float(found[1]) <= 2.3

    def test_its_capabilities(self) -> None:
        status = Path("/proc", shown(UNIT, "MainPID"), "status").read_text(encoding="utf-8")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        admin, dac_override, dac_read_search, ptrace = 21, 1, 2, 19
        expected = sum(1 << bit for bit in (admin, dac_override, dac_read_search, ptrace))
        assert {int(fields[each], 16) for each in ("CapPrm", "CapEff", "CapBnd")} == {expected}
        assert fields["NoNewPrivs"] == "1"
        assert fields["Seccomp"] == "2"

    @pytest.mark.parametrize("path", ["/etc", "/usr", "/var/lib/libvirt/images", "/var/lib/dpkg", "/boot"])
    def test_what_it_may_not_write(self, path: str) -> None:
        done = self._inside(f"touch {path}/kldload-kvm-test", check=False)
        assert "Read-only file system" in done.stderr

    @pytest.mark.parametrize("path", ["/var/lib/kldload-kvm", "/run/kldload-kvm/image", "/var/lib/libvirt/isos"])
    def test_what_it_may_write(self, path: str) -> None:
        self._inside(f"touch {path}/kldload-kvm-test && rm {path}/kldload-kvm-test")

    def _inside(self, script: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run in the service's mount namespace."""
        return run("nsenter", f"--target={shown(UNIT, 'MainPID')}", "--mount", "sh", "-c", script, check=check)


class TestBusPolicy:
    def test_nobody_but_root_can_take_the_name(self) -> None:
        bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
        done = as_alice("busctl", "call", *bus, "RequestName", "su", SERVICE, "4")
        assert "Access denied" in done.stderr

    @pytest.mark.parametrize("interface", ["Hook", "Anything"])
    def test_what_is_not_named_is_out_of_everybody_s_reach(self, interface: str) -> None:
        done = as_alice("busctl", "call", SERVICE, ROOT, f"{SERVICE}.{interface}", "Prepare")
        assert "Access denied" in done.stderr or "rejected" in done.stderr.lower()

    def test_everybody_may_read(self) -> None:
        assert as_alice("busctl", "introspect", SERVICE, ROOT).returncode == 0
        assert as_alice("busctl", "tree", SERVICE).returncode == 0

    def test_nobody_may_create_without_a_password(self) -> None:
        done = as_alice("busctl", "call", SERVICE, ROOT, f"{SERVICE}.Manager", "CreateVm", "sa{sv}", "alices", "0")
        assert done.returncode != 0
        assert "alices" not in run("zfs", "list", "-H", "-o", "name").stdout


class TestPolkit:
    def test_every_action_is_known_to_polkit_with_its_defaults(self) -> None:
        policy = ET.parse("/usr/share/polkit-1/actions/org.kldload.kvm.policy").getroot()
        for action in policy.findall("action"):
            id_ = action.get("id", "")
            told = run("pkaction", "--verbose", "--action-id", id_).stdout
            for who in ("any", "inactive", "active"):
                default = action.findtext(f"defaults/allow_{who}")
                assert re.search(rf"implicit {who}: +{default}$", told, flags=re.M), id_


@pytest.fixture
def volume() -> Iterator[str]:
    """Something of a user's in the storage: a volume with contents and a snapshot."""
    parent, name = "rpool/vms", "rpool/vms/package-test"
    made_parent = run("zfs", "list", parent, check=False).returncode != 0
    if made_parent:
        run("zfs", "create", "-o", "mountpoint=none", parent)
    run("zfs", "create", "-s", "-V", "16M", "-o", "volmode=dev", name)
    run("zfs", "snapshot", f"{name}@kept")
    yield name
    run("zfs", "destroy", "-r", name)
    if made_parent:
        run("zfs", "destroy", parent)


def units(pattern: str) -> str:
    return run("systemctl", "list-units", "--plain", "--no-legend", pattern).stdout


@pytest.fixture
def image(tmp_path: Path) -> Iterator[str]:
    """The name of an image in the store whose conversion takes some seconds."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(random.Random(0).randbytes(48 << 20))
    run("kvm-image", "add", str(image_files.converted(disk, tmp_path / "lab-upgrade.qcow2")))
    yield "lab-upgrade.qcow2"
    run("kvm-image", "remove", "lab-upgrade.qcow2", "--yes")


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[None]:
    """The package and the bench's own configuration, put back after a purge."""
    shutil.copytree("/etc/kldload-kvm", tmp_path / "etc")
    yield
    shutil.copytree(tmp_path / "etc", "/etc/kldload-kvm", dirs_exist_ok=True)
    if not Path("/usr/sbin/kldload-kvmd").exists():
        run("dpkg", "--install", "--force-confold", str(PACKAGE))
    wait_until_active()
    libvirt_is_there()


@pytest.mark.skipif(not PACKAGE.exists(), reason=f"{PACKAGE} is not there: `make test` puts it there")
class TestRemoval:
    def test_installing_again_keeps_the_configuration_and_restarts_the_service(self, kept: None) -> None:
        own = Path("/etc/kldload-kvm/kvm.conf")
        with own.open("a", encoding="utf-8") as file:
            file.write("\n# a line of the administrator's\n")
        before = shown(UNIT, "MainPID")
        run("dpkg", "--install", "--force-confold", str(PACKAGE))
        wait_until_active()
        assert shown(UNIT, "MainPID") != before
        assert "administrator's" in own.read_text(encoding="utf-8")

    def test_an_upgrade_lets_a_job_end_or_undoes_it(self, kept: None, image: str) -> None:
        """Nothing in between: the VM is there with the image's contents, or nothing of it is."""
        before = datasets().keys(), domains().keys()
        run("kvm-create", "lab-upgraded", "--image", image, "--disk", "64M", "--no-start", "--no-wait")
        begun = (
            lambda: units("kldload-kvm-convert@*"),
            lambda: "lab-upgraded" in domains(),
        )  # a fast host has ended it
        wait_until(lambda: any(each() for each in begun), LONG, "the conversion begins")
        run("dpkg", "--install", "--force-confold", str(PACKAGE))
        wait_until_active()
        assert units("kldload-kvm-convert@*") == ""
        assert list(Path("/run/kldload-kvm/image").iterdir()) == []
        if "lab-upgraded" in domains():
            compared = run("qemu-img", "compare", f"/var/lib/libvirt/isos/{image}", "/dev/zvol/rpool/vms/lab-upgraded")
            assert "identical" in compared.stdout
            run("kvm-delete", "lab-upgraded", "--now", "--yes")
        else:
            assert (datasets().keys(), domains().keys()) == before

    @pytest.mark.soak
    def test_a_version_that_mends_a_service_that_gave_up_starts_it(self, kept: None) -> None:
        override = Path("/run/systemd/system", f"{UNIT}.d", "broken.conf")
        override.parent.mkdir()
        try:
            override.write_text("[Service]\nExecStart=\nExecStart=/bin/false\nRestartSec=0\n", encoding="utf-8")
            run("systemctl", "daemon-reload")
            run("systemctl", "restart", UNIT, check=False)
            end = time.monotonic() + LONG
            while shown(UNIT, "ActiveState") != "failed":
                assert time.monotonic() < end
                time.sleep(0.2)
        finally:
            shutil.rmtree(override.parent)
            run("systemctl", "daemon-reload")
        assert run("systemctl", "start", UNIT, check=False).returncode != 0
        run("dpkg", "--install", "--force-confold", str(PACKAGE))
        wait_until_active()

    def test_neither_removal_nor_purge_touches_volumes_and_domains(self, kept: None, volume: str) -> None:
        listing = ("zfs", "list", "-Hp", "-t", "all", "-o", "name,guid,createtxg")
        volumes, domains = run(*listing).stdout, run("virsh", "list", "--all", "--name").stdout
        assert f"{volume}@kept" in volumes

        run("dpkg", "--remove", "kldload-kvm")
        assert run("busctl", "status", SERVICE, check=False).returncode != 0
        assert not Path("/usr/sbin/kldload-kvmd").exists()
        assert Path("/etc/kldload-kvm/kvm.conf").exists()
        assert Path("/var/lib/kldload-kvm").is_dir()

        run("dpkg", "--purge", "kldload-kvm")
        for gone in ("/etc/kldload-kvm", "/var/lib/kldload-kvm", "/run/kldload-kvm"):
            assert not Path(gone).exists()
        assert Path("/var/lib/libvirt/isos").is_dir()
        assert run(*listing).stdout == volumes
        assert run("virsh", "list", "--all", "--name").stdout == domains
