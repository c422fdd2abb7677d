"""Images on the real thing: what the store refuses, what a conversion writes, and what is left when one fails."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import image_files as files
from host import datasets, remove_everything, restart_service, run, wait_until, zfs

MIB = 1 << 20
STORE = Path("/var/lib/libvirt/isos")
RUNS = Path("/run/kldload-kvm/image")
DISK = "/dev/zvol/rpool/vms/lab-web"
pytestmark = pytest.mark.slow


def noise(path: Path, size: int = 8 * MIB) -> Path:
    with path.open("wb") as file:
        for number in range(size // MIB):
            file.write(random.Random(number).randbytes(MIB))
    return path


def cut_in_its_data(path: Path) -> Path:
    """A qcow2 image whose header and tables are whole, and whose data are not."""
    files.converted(noise(path.with_suffix(".raw")), path)
    return files.cut(path, 5 * MIB)


def json_text(path: Path) -> Path:
    path.write_text('json:{"driver":"nbd","host":"example.org"}')
    return path


def fifo(path: Path) -> Path:
    run("mkfifo", str(path))
    return path


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "backing-file": (
        lambda d: files.create(d / "x.qcow2", backing_file=str(files.create(d / "base", "raw")), backing_fmt="raw"),
        "it has a backing file, '/",
    ),
    "external-data-file": (lambda d: files.create(d / "x.qcow2", data_file=str(d / "data")), "external data file"),
    "json": (lambda d: json_text(d / "x.qcow2"), "json:"),
    "vmdk": (lambda d: files.create(d / "x.qcow2", "vmdk"), "a VMDK image"),
    "vdi": (lambda d: files.create(d / "x.qcow2", "vdi"), "a VDI image"),
    "vhdx": (lambda d: files.create(d / "x.qcow2", "vhdx"), "a VHDX image"),
    "100-TB": (lambda d: files.create(d / "x.qcow2", size=100 << 40), "16T is the most"),
    "truncated-header": (lambda d: files.cut(files.create(d / "x.qcow2"), 5000), "cut off"),
    "truncated-data": (lambda d: cut_in_its_data(d / "x.qcow2"), "damaged or cut off"),
    "empty": (lambda d: noise(d / "x.qcow2", 0), "it is empty"),
    "noise": (lambda d: noise(d / "x.qcow2"), "not a qcow2 image"),
    "raw-disk-not-named-so": (lambda d: files.disk(d / "x.img"), "looks like a raw disk"),
    "pipe": (lambda d: fifo(d / "x.qcow2"), "a pipe"),
    "directory": (lambda d: d, "a directory"),
    "device": (lambda d: Path("/dev/zero"), "a device"),
}


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """lab-good.qcow2 in the store; its disk is the file given."""
    raw = noise(tmp_path / "disk.raw", 24 * MIB)
    files.cut(raw, 256 * MIB)
    run("kvm-image", "add", str(files.converted(raw, tmp_path / "lab-good.qcow2")))
    yield raw
    run("kvm-image", "remove", "lab-good.qcow2", "--yes")


@pytest.fixture
def large(tmp_path: Path) -> Iterator[str]:
    """The name of an image in the store that takes a while to convert."""
    run("kvm-image", "add", str(files.converted(noise(tmp_path / "disk.raw", 300 * MIB), tmp_path / "lab-large.qcow2")))
    yield "lab-large.qcow2"
    run("kvm-image", "remove", "lab-large.qcow2", "--yes")


@pytest.fixture
def tiny() -> Iterator[str]:
    """A storage with less room than the large image needs."""
    disk, conf = Path("/var/tmp/lab-tiny.img"), Path("/etc/kldload-kvm/kvm.conf.d/90-lab-tiny.conf")
    disk.touch()
    files.cut(disk, 256 * MIB)
    run("zpool", "create", "-f", "-O", "mountpoint=none", "labtiny", str(disk))
    run("zfs", "create", "labtiny/vms")
    conf.parent.mkdir(exist_ok=True)
    conf.write_text("[storage labtiny]\ndataset = labtiny/vms\n")
    try:
        restart_service()
        yield "labtiny"
    finally:
        conf.unlink()
        restart_service()
        run("zpool", "destroy", "-f", "labtiny")
        disk.unlink()


def state() -> tuple[object, ...]:
    """All that a refused image must leave as it was."""
    return datasets(), sorted(STORE.iterdir()), sorted(RUNS.iterdir())


def at_work() -> bool:
    return "kldload-kvm-convert@" in run("systemctl", "list-units", "--plain", "--no-legend", "kldload-kvm-*").stdout


def stored() -> list[dict[str, object]]:
    return list(json.loads(run("kvm-image", "list", "--json").stdout))


class TestTheStore:
    @pytest.mark.parametrize("bad", BAD)
    def test_refuses_in_words_of_its_own_and_nothing_changes(self, tmp_path: Path, bad: str) -> None:
        make, said = BAD[bad]
        source = make(tmp_path)
        before = state()
        done = run("kvm-image", "add", str(source), "--name", f"bad{source.suffix}", check=False)
        assert done.returncode != 0
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) <= 3, "what, why and hint"
        assert state() == before

    def test_takes_an_image_with_its_checksum(self, image: Path) -> None:
        found = next(each for each in stored() if each["name"] == "lab-good.qcow2")
        assert (found["format"], found["virtual-size"]) == ("qcow2", 256 * MIB)
        both = (image.with_name("lab-good.qcow2"), STORE / "lab-good.qcow2")
        sums = [run("sha256sum", str(path)).stdout.split()[0] for path in both]
        assert sums[0] == sums[1]
        done = run("kvm-image", "add", str(image), "--name", "lab-other.raw", "--sha256", sums[0], check=False)
        assert "its checksum is" in done.stderr

    def test_takes_raw_when_it_is_named_so(self, tmp_path: Path) -> None:
        disk = str(files.disk(tmp_path / "lab-disk.raw"))
        try:
            run("kvm-image", "add", disk)
            run("kvm-image", "add", disk, "--format", "raw", "--name", "lab-appliance")
            restart_service()
            found = {(each["name"], each["format"]) for each in stored()}
            assert found >= {("lab-disk.raw", "raw"), ("lab-appliance", "raw")}
            run("kvm-create", "lab-web", "--image", "lab-appliance", "--disk", "1", "--no-start")
            run("cmp", "-n", str(8 * MIB), disk, DISK)
        finally:
            for name in ("lab-disk.raw", "lab-appliance"):
                run("kvm-image", "remove", name, "--yes", check=False)
            remove_everything()


class TestConverting:
    def test_the_disk_is_the_image_s_and_stays_thin(self, image: Path, vm: Callable[..., str]) -> None:
        run("kvm-create", "lab-web", "--image", "lab-good.qcow2", "--disk", "1", "--no-start")
        run("cmp", "-n", str(256 * MIB), str(image), DISK)
        assert int(zfs("get", "-Hpo", "value", "referenced", "rpool/vms/lab-web")[0]) < 32 * MIB
        assert list(RUNS.iterdir()) == []
        assert run("blkid", "-p", "-o", "value", "-s", "LABEL", f"{DISK}.seed").stdout.strip() == "cidata"

    def test_an_image_put_there_by_hand_is_looked_at_first(self, tmp_path: Path) -> None:
        bad = STORE / "lab-bad.qcow2"
        bad.write_bytes(cut_in_its_data(tmp_path / "x.qcow2").read_bytes())
        try:
            restart_service()
            before = zfs("list", "-H", "-r", "-o", "name", "rpool/vms")
            done = run("kvm-create", "lab-web", "--image", bad.name, "--no-start", check=False)
            assert "damaged or cut off" in done.stderr
            assert zfs("list", "-H", "-r", "-o", "name", "rpool/vms") == before
        finally:
            bad.unlink()

    def test_a_cancelled_one_leaves_nothing(self, large: str) -> None:
        before = zfs("list", "-H", "-r", "-o", "name", "rpool/vms")
        started = run("kvm-create", "lab-web", "--image", large, "--no-start", "--no-wait", "--json")
        wait_until(at_work, 60, "the image is converted")
        run("kvm-job", "cancel", str(json.loads(started.stdout)["job"]))
        wait_until(lambda: not at_work(), 30, "the helper has ended")
        wait_until(lambda: zfs("list", "-H", "-r", "-o", "name", "rpool/vms") == before, 30, "the volumes are gone")
        assert list(RUNS.iterdir()) == []

    def test_a_pool_that_fills_up_is_said_and_undone(self, large: str, tiny: str) -> None:
        done = run("kvm-create", "lab-web", "--image", large, "--storage", tiny, "--no-start", check=False)
        assert done.returncode != 0
        assert "became full" in done.stderr
        assert zfs("list", "-H", "-r", "-o", "name", "labtiny/vms") == ["labtiny/vms"]
        assert "lab-web" not in run("virsh", "list", "--all", "--name").stdout
        assert list(RUNS.iterdir()) == []
