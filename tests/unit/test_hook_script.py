"""libvirt's hook as libvirt runs it, with a busctl that answers as the service would, or does not answer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

HOOK = Path(__file__).resolve().parents[2] / "hooks" / "qemu"
DOMAIN = """<domain><name>web</name><devices>
  <disk type='block'><source dev='{}'/><target dev='vda'/></disk>
</devices></domain>"""
OURS = DOMAIN.format("/dev/zvol/rpool/vms/web")


def hook(tmp_path: Path, busctl: str, *arguments: str, domain: str = OURS) -> subprocess.CompletedProcess[str]:
    """busctl: the body of a script that stands for it; it can tell that it was called in `called`."""
    fake = tmp_path / "busctl"
    fake.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {tmp_path}/called\n{busctl}\n")
    fake.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    given = arguments or ("web", "prepare", "begin", "-")
    return subprocess.run(
        ["/bin/sh", HOOK, *given],
        input=domain,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=20,
    )


def test_an_empty_refusal_lets_it_start(tmp_path: Path) -> None:
    done = hook(tmp_path, """echo 's ""'""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    asked = (tmp_path / "called").read_text()
    assert "org.kldload.Kvm1.Hook\nPrepare\ns\n<domain>" in asked
    assert "--timeout=60" in asked


def test_a_refusal_is_what_the_user_of_virsh_sees(tmp_path: Path) -> None:
    done = hook(tmp_path, """echo 's "web was not started: it is a template"'""")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "web was not started: it is a template\n")


@pytest.mark.parametrize(
    "operation",
    [("start", "begin"), ("started", "begin"), ("stopped", "end"), ("release", "end"), ("migrate", "end"),
     ("restore", "begin"), ("reconnect", "begin"), ("attach", "begin"), ("prepare", "end")],
)  # fmt: skip
def test_other_operations_ask_nobody_and_hinder_nothing(tmp_path: Path, operation: tuple[str, str]) -> None:
    done = hook(tmp_path, "exit 1", "web", *operation, "-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "called").exists()


def test_a_domain_whose_volumes_a_pool_names_is_asked_about(tmp_path: Path) -> None:
    named = OURS.replace("type='block'", "type='volume'").replace(
        "dev='/dev/zvol/rpool/vms/web'", "pool='p' volume='web'"
    )
    done = hook(tmp_path, """echo 's "web was not started: it is a template"'""", domain=named)
    assert (done.returncode, done.stderr) == (1, "web was not started: it is a template\n")
    assert hook(tmp_path, "exit 1", domain=named).returncode == 0, (
        "nobody answers, and no device is known to be missing"
    )


def test_a_domain_without_volumes_of_zfs_asks_nobody(tmp_path: Path) -> None:
    done = hook(tmp_path, "exit 1", domain=DOMAIN.format("/var/lib/libvirt/images/web.qcow2"))
    assert (done.returncode, done.stdout) == (0, "")
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("trouble", ["echo 'Call failed: Connection timed out' >&2; exit 1", "kill -9 $$"])
def test_without_an_answer_a_volume_that_is_missing_refuses_the_start(tmp_path: Path, trouble: str) -> None:
    done = hook(tmp_path, trouble)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "web was not started: its volume /dev/zvol/rpool/vms/web is not there; kldload-kvmd does not" in done.stderr


def test_a_guest_is_not_taken_over_without_its_volumes_and_the_service_that_would_make_them_is_not_asked(
    tmp_path: Path,
) -> None:
    done = hook(tmp_path, "exit 1", "web", "migrate", "begin", "-")
    assert (done.returncode, done.stdout) == (1, "")
    assert "web was not taken over: its volume /dev/zvol/rpool/vms/web is not there; send it here" in done.stderr
    assert not (tmp_path / "called").exists()


def test_without_an_answer_it_starts_if_all_is_there(tmp_path: Path) -> None:
    """What stands for the device node is a block device that every machine has, or none: then this cannot be told."""
    node = next((str(path) for path in sorted(Path("/dev").iterdir()) if path.is_block_device()), "")
    if not node:
        pytest.skip("this machine has no block device")
    text = HOOK.read_text().replace("/dev/zvol/", "/dev/")
    (tmp_path / "hook").write_text(text)
    (tmp_path / "busctl").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "busctl").chmod(0o755)
    what = ("prepare", "migrate")
    for path, status, operation in ((p, s, w) for p, s in ((node, 0), (f"{node}-gone", 1)) for w in what):
        done = subprocess.run(
            ["/bin/sh", tmp_path / "hook", "web", operation, "begin", "-"], input=DOMAIN.format(path),
            capture_output=True, text=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False, timeout=20,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (status, "")
