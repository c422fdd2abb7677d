"""A pool filled to its last block: what is refused, what works all the same, and a guest that goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from host import GUEST, ROOT, agent_is_up, domains, find, get, in_guest, restart_service, run, wait_until, zfs

CONF = Path("/etc/kldload-kvm/kvm.conf.d/90-lab-full.conf")
MIB = 1 << 20
pytestmark = pytest.mark.slow


@pytest.fixture
def pool(request: pytest.FixtureRequest) -> Iterator[str]:
    """A storage named labfull, of so many MiB."""
    disk = Path("/var/tmp/lab-full.img")
    run("truncate", "-s", f"{request.param}M", str(disk))
    run("zpool", "create", "-f", "-O", "mountpoint=none", "labfull", str(disk))
    run("zfs", "create", "labfull/vms")
    CONF.parent.mkdir(exist_ok=True)
    CONF.write_text("[storage labfull]\ndataset = labfull/vms\n")
    try:
        restart_service()
        yield "labfull/vms"
    finally:
        for name in run("virsh", "list", "--all", "--name").stdout.split():
            if name.startswith("full-"):
                run("virsh", "destroy", name, check=False)
                run("virsh", "undefine", "--keep-nvram", name, check=False)
        CONF.unlink()
        restart_service()
        run("zpool", "destroy", "-f", "labfull")
        disk.unlink()


def fill(volume: str) -> None:
    """Write noise to a volume until ZFS has no space any more, and then in smaller bites."""
    for block, seek in (("1M", 0), ("64K", 8000), ("4K", 140000)):
        command = ("dd", "if=/dev/urandom", f"of=/dev/zvol/{volume}", f"bs={block}", f"seek={seek}", "oflag=direct")
        done = run(*command, check=False)
        assert "No space left" in done.stderr
    run("zpool", "sync", volume.partition("/")[0])


@pytest.mark.parametrize("pool", [256], indirect=True)
def test_deleting_always_works(pool: str) -> None:
    run("kvm-create", "full-web", "--disk", "1", "--storage", "labfull")
    run("kvm-create", "full-other", "--disk", "1", "--storage", "labfull")
    run("kvm-snap", "full-web", "create", "@first")
    fill(f"{pool}/full-web")
    assert int(zfs("get", "-Hpo", "value", "available", pool)[0]) < 64 * 1024
    plain = run("zfs", "create", "-o", "canmount=off", f"{pool}/plain", check=False)
    assert "out of space" in plain.stderr, "the pool is really full"
    # It looks each minute, but after a look only where 8 MiB were written since, or five minutes are over.
    wait_until(
        lambda: get(f"{ROOT}/storage/labfull", "Storage", "Free") < 64 * 1024,
        400,
        "the service samples how full it is",
    )
    assert get(f"{ROOT}/storage/labfull", "Storage", "Overcommit") > 8
    names = zfs("list", "-H", "-r", "-t", "all", "-o", "name", "labfull")
    for command in (
        ("kvm-create", "full-new", "--storage", "labfull"),
        ("kvm-clone", "full-web", "full-copy", "--snap", "@first"),
        ("kvm-snap", "full-web", "create", "@second"),
        ("kvm-snap", "full-web", "rollback", "@first"),
    ):
        done = run(*command, check=False)
        assert done.returncode == 7, (command, done.stderr)
        assert "kept free" in done.stderr or command[0] == "kvm-snap", done.stderr
        assert zfs("list", "-H", "-r", "-t", "all", "-o", "name", "labfull") == names, command
    run("kvm-snap", "full-web", "delete", "@first", "--yes")
    run("kvm-delete", "full-web", "--yes")
    left = zfs("list", "-H", "-r", "-t", "all", "-o", "name", "labfull")
    assert any("/.trash/full-web-" in name and name.endswith("/full-web") for name in left)
    assert f"{pool}/full-web" not in left
    assert domains() == {"full-other": "shut off"}


@pytest.mark.soak
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("pool", [512], indirect=True)
def test_a_guest_that_stopped_for_want_of_space_says_so_and_goes_on(pool: str) -> None:
    if GUEST.name not in run("kvm-image", "list").stdout:
        run("kvm-image", "add", str(GUEST))
    options = ("--image", GUEST.name, "--ram", "384", "--cpus", "1", "--disk", "1", "--storage", "labfull")
    run("kvm-create", "full-guest", *options)
    wait_until(lambda: agent_is_up("full-guest"), 900, "the guest's agent answers")
    run("zfs", "create", "-s", "-V", "2G", "-o", "volmode=dev", "labfull/filler")
    run("udevadm", "settle")
    fill("labfull/filler")
    in_guest("full-guest", "(head -c 8000000 /dev/urandom > /data/letter; sync) > /dev/null 2>&1 &")
    wait_until(lambda: domains()["full-guest"] == "paused", 120, "QEMU pauses the guest")
    path = find("full-guest")
    wait_until(lambda: "it is paused: the pool was full" in str(get(path, "Vm", "Problem")), 30, "its Problem says so")
    assert "the pool was full" in run("kvm-list").stderr
    run("zfs", "destroy", "labfull/filler")
    wait_until(lambda: domains()["full-guest"] == "running", 60, "it goes on by itself")
    assert "so it goes on" in run("journalctl", "-u", "kldload-kvmd", "-o", "cat", "-n", "50", "--no-pager").stdout
    wait_until(lambda: agent_is_up("full-guest"), 120, "its agent answers again")
    wait_until(lambda: in_guest("full-guest", "wc -c < /data/letter") == "8000000", 180, "what it wrote is whole")
    in_guest("full-guest", "sync")
