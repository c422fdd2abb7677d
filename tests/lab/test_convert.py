"""Domains on files and devices become VMs on volumes: real qcow2 files, as libvirt leaves them."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import image_files as files
from host import (
    DEVICE,
    ROOT,
    call,
    data,
    datasets,
    domains,
    fingerprint,
    foreign,
    get,
    run,
    vms,
    wait_until,
    zfs,
)
from killable import arm, killable

MIB = 1 << 20
IMAGES = Path("/var/lib/libvirt/images/theirs")
NVRAM = Path("/var/lib/libvirt/qemu/nvram/old_VARS.fd")
XML = """<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os{firmware}><type arch='x86_64' machine='q35'>hvm</type>{loader}</os>
  <features><acpi/><smm state='off'/></features>
  <devices>{disks}
    <disk type='file' device='cdrom'><target dev='sdz' bus='sata'/><readonly/></disk>
  </devices>
</domain>
"""
FILE = """<disk type='file' device='disk'><driver name='qemu' type='{}'/><source file='{}'/>
  <target dev='{}' bus='virtio'/><serial>of-{}</serial></disk>"""
BLOCK = "<disk type='block' device='disk'><source dev='{}'/><target dev='{}' bus='virtio'/></disk>"
LOADER = f"""<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>
  <nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'>{NVRAM}</nvram>"""


def define(*disks: str, name: str = "old", loader: str = "", firmware: str = "") -> None:
    text = XML.format(name=name, disks="".join(disks), loader=loader, firmware=firmware)
    run("virsh", "define", "/dev/stdin", stdin=text)
    wait_until(lambda: name in {each["name"]["data"] for each in foreign()}, 45, f"{name} is listed as foreign")


def disk(kind: str, path: Path, target: str) -> str:
    return FILE.format(kind, path, target, target)


def definition(name: str = "old") -> str:
    return run("virsh", "dumpxml", "--inactive", "--security-info", name).stdout


def sums() -> dict[str, str]:
    """Each old file with what it holds, its mode and time."""
    return {
        str(path): f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mode:o} {path.stat().st_mtime_ns}"
        for path in [*IMAGES.iterdir(), *NVRAM.parent.glob("old_*")]
        if path.is_file()
    }


def volumes() -> list[str]:
    return [name for name in datasets() if name.startswith(("rpool/vms/old", "vmpool/vms/old"))]


@pytest.fixture
def theirs(vm: Callable[..., str]) -> Iterator[Path]:
    """A folder of their images, as libvirt leaves them: for root alone. It goes with the test."""
    IMAGES.mkdir(exist_ok=True)
    yield IMAGES
    run("rm", "-rf", str(IMAGES), str(NVRAM))


@pytest.fixture
def image(theirs: Path) -> Path:
    """A disk of 64 MiB with something on it, in a qcow2 file."""
    raw = files.disk(theirs / "reference.raw", 64 * MIB, 12 * MIB)
    path = files.converted(raw, theirs / "old.qcow2")
    for each in (raw, path):
        each.chmod(0o600)
    return path


@pytest.fixture
def large(theirs: Path) -> Path:
    """One that takes a while to be copied."""
    raw = theirs / "large.raw"
    with raw.open("wb") as file:
        for number in range(300):
            file.write(random.Random(number).randbytes(MIB))
    path = files.converted(raw, theirs / "large.qcow2")
    raw.unlink()
    path.chmod(0o600)
    return path


def refused(name: str = "old", *options: str) -> str:
    """The words of a refusal, which has changed nothing."""
    before = (fingerprint()["datasets"], fingerprint()["definitions"], sums())
    done = run("kvm-adopt", name, *options, check=False)
    assert done.returncode != 0, done.stdout
    assert (fingerprint()["datasets"], fingerprint()["definitions"], sums()) == before
    return done.stderr


def copying() -> bool:
    units = run("systemctl", "list-units", "--plain", "--no-legend", "kldload-kvm-convert@*").stdout
    return "kldload-kvm-convert@" in units


def test_a_domain_on_files_becomes_a_vm_that_starts(image: Path) -> None:
    data_disk = files.disk(image.with_name("data.img"), 32 * MIB, 3 * MIB)
    data_disk.chmod(0o600)
    define(disk("qcow2", image, "vda"), disk("raw", data_disk, "vdb"), loader=LOADER)
    run("virsh", "start", "old")  # libvirt makes the file of the UEFI variables, and gives the files to QEMU's user
    run("virsh", "destroy", "old")
    before, was = sums(), definition()
    (listed,) = [each for each in foreign() if each["name"]["data"] == "old"]
    assert listed["kind"]["data"] == "files"
    assert "kvm-adopt old" in listed["hint"]["data"]

    planned = run("kvm-adopt", "old", "--dry-run").stdout
    for path in (image, data_disk, NVRAM):
        assert f"left: {path}" in planned
        assert f"copy {path} to rpool/vms/old" in planned
    assert (volumes(), definition()) == ([], was)

    done = run("kvm-adopt", "old", "--json")
    result = json.loads(done.stdout)["result"]
    assert result["left"] == [str(image), str(data_disk), str(NVRAM)]
    assert sums() == before
    run("cmp", str(image.with_name("reference.raw")), f"{DEVICE}old", "-n", str(64 * MIB))
    run("cmp", str(data_disk), f"{DEVICE}old.vdb", "-n", str(32 * MIB))
    run("cmp", str(NVRAM), f"{DEVICE}old.nvram")
    assert zfs("get", "-Ho", "value", "volsize", "rpool/vms/old.nvram") == ["528K"]
    assert int(zfs("get", "-Hpo", "value", "referenced", "rpool/vms/old")[0]) < 20 * MIB, "it is thin"
    now = definition()
    assert now.count("/dev/zvol/rpool/vms/old") == 3
    assert "theirs" not in now and "<serial>of-vda</serial>" in now
    uuid = [line for line in was.splitlines() if "<uuid>" in line]
    assert uuid == [line for line in now.splitlines() if "<uuid>" in line]
    assert "old" not in {each["name"]["data"] for each in foreign()}

    run("kvm-snap", "old", "@first")
    run("virsh", "start", "old")
    wait_until(
        lambda: any(each["Name"]["data"] == "old" and each["State"]["data"] == "running" for each in vms()), 20,
        "it runs, on the bus too",
    )  # fmt: skip
    run("virsh", "destroy", "old")
    assert sums() == before


@pytest.mark.soak
def test_a_device_and_firmware_that_libvirt_has_chosen_to_another_storage(theirs: Path) -> None:
    run("zfs", "create", "-s", "-V", "64M", "vmpool/theirs")
    device = Path("/dev/zvol/vmpool/theirs")
    try:
        wait_until(device.exists, 30, "the device appears")
        reference = files.disk(theirs / "reference.raw", 64 * MIB, 12 * MIB)
        run("dd", f"if={reference}", f"of={device}", "bs=1M", "conv=fsync", "status=none")
        define(BLOCK.format(device, "vda"), firmware=" firmware='efi'")
        said = run("kvm-adopt", "old", "--storage", "vmpool").stdout
        assert "old is a VM now, on vmpool/vms/old" in said
        run("cmp", str(reference), "/dev/zvol/vmpool/vms/old", "-n", str(64 * MIB))
        run("virsh", "start", "old")
        run("virsh", "destroy", "old")
        assert "vmpool/theirs" in zfs("list", "-H", "-o", "name")
    finally:
        run("virsh", "destroy", "old", check=False)
        wait_until(lambda: not run("zfs", "destroy", "vmpool/theirs", check=False).returncode, 30, "the disk is gone")


@pytest.mark.soak
def test_what_is_refused_before_anything_is_done(image: Path) -> None:
    overlay = files.create(image.with_name("overlay.qcow2"), backing_file=str(image), backing_fmt="qcow2")
    define(disk("qcow2", overlay, "vda"), name="over")
    said = refused("over")
    assert "is an overlay of another file" in said and f"qemu-img rebase -f qcow2 -b '' {overlay}" in said

    link = image.with_name("link.qcow2")
    link.symlink_to(image)
    define(disk("qcow2", link, "vda"), name="linked")
    assert "is a symbolic link" in refused("linked")

    define(disk("qcow2", Path("/home/none.qcow2"), "vda"), name="hidden")
    assert "sandbox" in refused("hidden")

    define(disk("qcow2", image, "vda"))
    with subprocess.Popen(["sh", "-c", f"exec 3<>{image}; echo; sleep 60"], stdout=subprocess.PIPE) as writer:
        assert writer.stdout and writer.stdout.readline()
        done = run("kvm-adopt", "old", check=False)
        assert f"is in use: sh ({writer.pid})" in done.stderr or "is in use: sleep" in done.stderr, done.stderr
        writer.kill()
    wait_until(lambda: volumes() == [], 30, "nothing is left of it")

    run("virsh", "snapshot-create-as", "old", "before")
    said = refused()
    assert "snapshots of it, which cannot be carried over: before" in said
    run("virsh", "snapshot-delete", "old", "before", "--metadata")
    assert "has 1 snapshots inside" in run("kvm-adopt", "old", "--dry-run").stdout

    define(disk("qcow2", image, "vda"), name="twin")
    run("virsh", "start", "twin")
    assert "the domain twin, which is running" in refused()
    run("virsh", "destroy", "twin")
    run("virsh", "start", "old")
    assert "it is running, and its disks are to be copied" in refused()
    run("virsh", "managedsave", "old")
    wait_until(lambda: domains()["old"] == "shut off", 30, "it is saved")
    assert "its memory is saved" in refused()
    run("virsh", "managedsave-remove", "old")


@pytest.mark.soak
def test_a_raw_disk_that_looks_like_an_image_is_copied_as_it_is(theirs: Path) -> None:
    """What a guest writes to its disk is data, whatever header it has."""
    trap = files.create(theirs / "trap.img", size=64 * MIB, backing_file="/etc/shadow", backing_fmt="raw")
    define(disk("raw", trap, "vda"))
    run("kvm-adopt", "old")
    size = trap.stat().st_size
    run("cmp", str(trap), f"{DEVICE}old", "-n", str(size))
    assert "backing" not in run("virsh", "dumpxml", "old").stdout.replace("<backingStore", "")


@pytest.mark.soak
def test_a_caller_without_rights_may_plan_and_nothing_more(image: Path) -> None:
    define(disk("qcow2", image, "vda"))
    wanted = ("Adopt", "sa{sv}", "old", "1", "plan-only", "b", "true")
    plan = str(data(call(ROOT, "Manager", *wanted, user="alice"))[0])
    assert f"left: {image}" in get(plan, "Job", "Warnings")  # type: ignore[operator]
    done = call(ROOT, "Manager", "Adopt", "sa{sv}", "old", "1", "auth.no_user_interaction", "b", "true",
                user="alice", check=False)  # fmt: skip
    assert done.returncode != 0
    assert "needs an administrator's password" in done.stderr
    assert call(plan, "Job", "Apply", "a{sv}", "0", user="bob", check=False).returncode != 0
    assert volumes() == []


@pytest.mark.soak
def test_a_plan_does_not_fit_once_a_file_has_changed(image: Path) -> None:
    define(disk("qcow2", image, "vda"))
    plan = json.loads(run("kvm-adopt", "old", "--dry-run", "--json").stdout)["job"]
    image.touch()
    done = run("kvm-job", "apply", plan, check=False)
    assert f"{image} has been changed" in done.stderr
    assert volumes() == []


@pytest.mark.soak
def test_cancelled_in_the_middle_nothing_is_left_of_it(large: Path) -> None:
    define(disk("qcow2", large, "vda"))
    before, was = sums(), definition()
    job = json.loads(run("kvm-adopt", "old", "--no-wait", "--json").stdout)["job"]
    wait_until(copying, 45, "the disk is copied")
    wait_until(lambda: int(str(get(f"{ROOT}/job/{job}", "Job", "BytesTotal"))) == 300 * MIB, 45, "bytes are counted")
    run("kvm-job", "cancel", job)
    wait_until(lambda: volumes() == [] and not copying(), 45, "nothing is left of it")
    assert (sums(), definition()) == (before, was)
    assert list(Path("/run/kldload-kvm/image").iterdir()) == []


@pytest.mark.soak
def test_started_in_the_middle_it_stays_what_it_was(large: Path) -> None:
    define(disk("qcow2", large, "vda"))
    was = definition()
    job = json.loads(run("kvm-adopt", "old", "--no-wait", "--json").stdout)["job"]
    wait_until(copying, 45, "the disk is copied")
    run("virsh", "start", "old")
    done = run("kvm-job", "wait", job, check=False)
    assert done.returncode != 0
    assert "meanwhile" in done.stderr or "while it was copied" in done.stderr or "lock" in done.stderr, done.stderr
    assert domains()["old"] == "running"
    assert (volumes(), definition()) == ([], was)


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize(("step", "moment"), [(1, "during"), (3, "before"), (3, "during"), (3, "after")])
def test_killed_in_the_middle_it_is_what_it_was_or_a_vm(large: Path, step: int, moment: str) -> None:
    """The steps: create, copy, note, point at the volumes."""
    define(disk("qcow2", large, "vda"))
    before, was = sums(), definition()
    with killable():
        arm("vm.adopt", step, moment, 3.0 if step == 1 else 0.05)
        run("kvm-adopt", "old", check=False)
        wait_until(
            lambda: run("systemctl", "is-active", "kldload-kvmd", check=False).stdout == "active\n", 60, "it is back"
        )
        wait_until(
            lambda: not [job for job in json.loads(run("kvm-job", "list", "--json").stdout)
                         if job["state"] in ("running", "undoing")], 120, "the job has come to its end",
        )  # fmt: skip
    assert sums() == before
    assert not copying()
    if volumes():
        assert volumes() == ["rpool/vms/old"]
        assert "/dev/zvol/rpool/vms/old" in definition()
        assert moment == "after" or step == 3
    else:
        assert definition() == was
