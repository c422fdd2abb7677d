"""The optional storage pool: virsh sees the volumes in it, and whatever it deletes there, nothing is lost."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host import DEVICE, configured, datasets, digest, domains, remove_everything, run, vms, wait_until, write

pytestmark = pytest.mark.soak
POOL = "kldload-rpool"
FOLDER = Path(DEVICE)
DOMAIN = """<domain type='qemu'><name>new</name><memory unit='MiB'>128</memory><os><type arch='x86_64'>hvm</type></os>
  <devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/>
  <target dev='vda' bus='virtio'/></disk></devices></domain>
"""
NAMED = """<domain type='qemu'><name>thief</name><memory unit='MiB'>128</memory><os><type arch='x86_64'>hvm</type></os>
  <devices><disk type='volume' device='disk'><driver name='qemu' type='raw'/><source pool='{}' volume='web-1'/>
  <target dev='vda' bus='virtio'/></disk></devices></domain>
"""


def virsh(*words: str) -> str:
    """What virsh says, whether it did it or not."""
    done = run("virsh", "-q", *words, check=False)
    return done.stdout + done.stderr


def pools() -> dict[str, str]:
    rows = (row.split() for row in virsh("pool-list", "--all").splitlines())
    return {name: state for name, state, _ in rows}


def relinked() -> None:
    """udev makes its links again, as at each start of the host."""
    run("udevadm", "trigger", "--subsystem-match=block", "--settle")


def volumes() -> dict[str, str]:
    return {name: guid for name, guid in datasets().items() if "@" not in name and "/.trash" not in name}


@pytest.fixture
def pool(vm: Callable[..., str]) -> Iterator[str]:
    """A VM with a snapshot, and the pool."""
    with configured("[libvirt]\npool = yes\n"):
        vm("web-1")
        write("web-1", 65)
        run("kvm-snap", "web-1", "@kept")
        write("web-1", 66)
        vm("web-2")
        write("web-2", 67)
        wait_until(lambda: pools().get(POOL) == "active", 60, "the pool is there")
        virsh("pool-refresh", POOL)
        yield POOL
    virsh("pool-destroy", POOL)
    virsh("pool-undefine", POOL)
    relinked()
    remove_everything()


def test_it_shows_the_volumes_by_the_paths_that_domains_have(pool: str) -> None:
    shown = dict(row.split()[:2] for row in virsh("vol-list", pool).splitlines())
    for name in ("web-1", "web-1.nvram", "web-2"):
        assert shown[name] == f"{DEVICE}{name}"
    assert "67108864" in virsh("vol-dumpxml", "--pool", pool, "web-1")
    path = run("virsh", "vol-pool", f"{DEVICE}web-1").stdout.strip()
    assert path == pool


@pytest.mark.parametrize("name", ["web-1", "web-2"])
def test_what_virsh_deletes_in_it_is_not_lost(pool: str, name: str) -> None:
    """web-2 has no snapshot that would keep ZFS from destroying it."""
    good, before = digest(f"{DEVICE}{name}"), datasets()
    virsh("vol-delete", "--pool", pool, name)
    virsh("vol-delete", "--pool", pool, f"{name}.nvram")
    virsh("pool-delete", pool)
    virsh("pool-destroy", pool)
    virsh("pool-delete", pool)
    assert datasets() == before
    refused = virsh("start", name)
    if not (FOLDER / name).exists():
        assert "udevadm trigger" in refused, refused
    relinked()
    assert digest(f"{DEVICE}{name}") == good
    if domains()[name] != "running":
        run("virsh", "start", name)


def test_undefined_with_all_its_storage_it_waits_in_the_trash(pool: str) -> None:
    good, before = digest(f"{DEVICE}web-2"), datasets()
    virsh("undefine", "web-2", "--nvram", "--remove-all-storage")
    if "web-2" in domains():
        virsh("undefine", "web-2", "--keep-nvram")
    assert "web-2" not in domains()
    wait_until(lambda: "rpool/vms/web-2" not in datasets(), 30, "its volumes are in the trash")
    assert set(before.values()) <= set(datasets().values())
    run("kvm-trash", "restore", "web-2")
    assert volumes().items() >= {each for each in before.items() if each[0].startswith("rpool/vms/web-2")}
    wait_until((FOLDER / "web-2").exists, 30, "its device is back")
    assert digest(f"{DEVICE}web-2") == good
    run("virsh", "start", "web-2")


@pytest.mark.timeout(600)
def test_a_domain_that_names_its_disk_by_the_pool_is_the_vm_s(pool: str) -> None:
    """As Cockpit does for disks that it adds. libvirt takes the volume for a file, and does not start it."""
    whole = run("virsh", "dumpxml", "--inactive", "web-2").stdout
    named = re.sub(
        "<disk type='block'(.*?)dev='/dev/zvol/rpool/vms/web-2'",
        rf"<disk type='volume'\1pool='{pool}' volume='web-2'",
        whole,
        count=1,
        flags=re.DOTALL,
    )
    assert f"pool='{pool}' volume='web-2'" in named
    run("virsh", "define", "/dev/stdin", stdin=named)
    assert "volume='web-2'" in run("virsh", "dumpxml", "--inactive", "web-2").stdout
    time.sleep(3)
    assert [(each["State"]["data"], each["Problem"]["data"]) for each in vms()] == [("shutoff", "")] * 2
    run("virsh", "start", "web-1")
    run("virsh", "define", "/dev/stdin", stdin=NAMED.format(pool))
    assert "its volume rpool/vms/web-1 is in use by web-1, which is running" in virsh("start", "thief")
    virsh("undefine", "thief")
    run("virsh", "destroy", "web-1")
    virsh("start", "web-2")
    assert domains()["web-2"] == "shut off", "as docs/libvirt.md says"
    run("kvm-vm", "rename", "web-2", "shop")
    assert f"dev='{DEVICE}shop'" in run("virsh", "dumpxml", "--inactive", "shop").stdout
    run("virsh", "start", "shop")
    run("virsh", "destroy", "shop")
    virsh("undefine", "shop", "--keep-nvram")
    wait_until(lambda: "rpool/vms/shop" not in datasets(), 60, "its volumes are in the trash")


def test_a_disk_that_is_made_in_it_is_a_file_in_memory_and_never_started_on(pool: str) -> None:
    virsh("vol-create-as", pool, "new.qcow2", "16M", "--format", "qcow2")
    path = FOLDER / "new.qcow2"
    try:
        assert path.is_file()
        run("virsh", "define", "/dev/stdin", stdin=DOMAIN.format(path))
        assert "is a file in memory, and no volume" in virsh("start", "new")
        assert domains()["new"] == "shut off"
    finally:
        path.unlink(missing_ok=True)
        virsh("undefine", "new")


def test_once_defined_it_is_never_touched(pool: str) -> None:
    virsh("pool-destroy", pool)
    virsh("pool-autostart", pool, "--disable")
    run("systemctl", "restart", "kldload-kvmd")
    wait_until(lambda: len(vms()) == 2, 60, "the service is back")
    run("kvm-create", "web-3", "--disk", "64M", "--ram", "256")
    assert pools()[pool] == "inactive"
