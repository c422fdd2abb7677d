"""The image helper with real images, and what qemu-img finds that a header does not tell.

Here it runs without its sandbox; that its unit holds it is proven on the bench (tests/lab/test_images.py).
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import image_files as files
from kldload_kvm.images import helper, qemu_img
from kldload_kvm.model.errors import BadImage, Failed, KvmError, NoSpace, TimedOut
from kldload_kvm.zfs import devices

MIB = 1 << 20


def inspect(image: Path, format_: str = "", name: str = "") -> dict[str, Any]:
    with image.open("rb") as file:
        return helper.inspect({"name": name or image.name, "format": format_}, file.fileno())


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that stands for a new volume's device."""
    path = tmp_path / "zd16"
    path.touch()
    files.cut(path, 64 * MIB)
    monkeypatch.setattr(qemu_img, "TARGET_DRIVER", "file")
    monkeypatch.setattr(devices, "is_node_of", lambda node, dataset: dataset == "rpool/vms/web")
    return path


def convert(image: Path, volume: Path, size: int = 8 * MIB, dataset: str = "rpool/vms/web") -> dict[str, Any]:
    with image.open("rb") as file:
        return helper.convert({"name": image.name, "virtual_size": size, "dataset": dataset}, volume, file.fileno())


class TestInspecting:
    @pytest.mark.parametrize(
        "options", [{}, {"compat": "0.10"}, {"cluster_size": "512"}, {"extended_l2": "on"}], ids=str
    )
    def test_qcow2(self, tmp_path: Path, options: dict[str, str]) -> None:
        image = files.create(tmp_path / "web.qcow2", **options)
        assert inspect(image) == {"format": "qcow2", "virtual_size": 64 * MIB}

    def test_qcow2_with_data(self, tmp_path: Path) -> None:
        for args in ((), ("-c",)):
            image = files.converted(files.disk(tmp_path / "a.raw"), tmp_path / "web.qcow2", "qcow2", *args)
            assert inspect(image, "qcow2") == {"format": "qcow2", "virtual_size": 8 * MIB}

    def test_iso_and_raw(self, tmp_path: Path) -> None:
        assert inspect(files.iso(tmp_path / "debian.iso"))["format"] == "iso"
        assert inspect(files.disk(tmp_path / "disk.raw"))["format"] == "raw"

    def test_a_name_is_only_a_name(self, tmp_path: Path) -> None:
        image = files.create(tmp_path / 'json:{"driver":"nbd"},x=y')
        assert inspect(image, name="a")["format"] == "qcow2"

    def test_leaked_clusters_do_no_harm(self, tmp_path: Path) -> None:
        image = files.create(tmp_path / "web.qcow2")
        with image.open("ab") as file:
            file.truncate(-(-image.stat().st_size // 65536) * 65536 + 65536)
        files.patched(image, 2 * 65536 + 40, b"\0\1")  # the count of a cluster that nobody uses
        assert inspect(image)["format"] == "qcow2"

    @pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
    @pytest.mark.parametrize("args", [(), ("-c",)], ids=["plain", "compressed"])
    def test_cut_off_in_its_data(self, tmp_path: Path, keep: float, args: tuple[str, ...]) -> None:
        raw = tmp_path / "a.raw"
        raw.write_bytes(random.Random(1).randbytes(8 * MIB))
        image = files.converted(raw, tmp_path / "web.qcow2", "qcow2", *args)
        files.cut(image, int(image.stat().st_size * keep))
        with pytest.raises(BadImage) as caught:
            inspect(image)
        assert caught.value.hint.startswith("copy it again")

    def test_tables_that_lead_nowhere(self, tmp_path: Path) -> None:
        image = files.converted(files.disk(tmp_path / "a.raw"), tmp_path / "web.qcow2")
        l1 = int.from_bytes(image.read_bytes()[40:48], "big")
        files.patched(image, l1, b"\x80\0\0\x7f\xff\xff\0\0")
        with pytest.raises(BadImage):
            inspect(image)

    @pytest.mark.parametrize(
        "make",
        [
            lambda d: files.create(d / "x.qcow2", backing_file=str(files.create(d / "b.qcow2")), backing_fmt="qcow2"),
            lambda d: files.create(d / "x.qcow2", data_file=str(d / "data")),
            lambda d: files.create(d / "x.qcow2", "vmdk"),
            lambda d: files.create(d / "x.qcow2", "vdi"),
            lambda d: files.create(d / "x.qcow2", "vhdx"),
            lambda d: files.create(d / "x.qcow2", size=100 << 40),
            lambda d: files.cut(files.create(d / "x.qcow2"), 100),
            lambda d: files.cut(files.create(d / "x.qcow2"), 0),
            lambda d: files.disk(d / "x.qcow2"),
        ],
    )
    def test_what_the_header_tells(self, tmp_path: Path, make: Callable[[Path], Path]) -> None:
        with pytest.raises(BadImage):
            inspect(make(tmp_path))

    def test_a_device(self) -> None:
        with pytest.raises(BadImage, match="not a regular file"):
            inspect(Path("/dev/zero"))

    def test_what_qemu_img_reads_otherwise(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        image = files.create(tmp_path / "web.qcow2")
        run = qemu_img._run
        for change in (
            {"virtual-size": 1},
            {"format": "raw"},
            {"backing-filename": "/etc/shadow"},
            {"encrypted": True},
            {"format-specific": {"data": {"data-file": "x"}}},
            {"format-specific": {"data": {"corrupt": True}}},
        ):

            def changed(*args: Any, change: dict[str, Any] = change) -> tuple[int, bytes, str]:
                status, out, errors = run(*args)
                return status, json.dumps({**json.loads(out), **change}).encode(), errors

            monkeypatch.setattr(qemu_img, "_run", changed)
            with pytest.raises(BadImage):
                inspect(image)

    def test_a_qemu_img_that_never_ends(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        image = files.create(tmp_path / "web.qcow2")
        (tmp_path / "qemu-img").write_text("#!/bin/sh\nexec sleep 60\n")
        (tmp_path / "qemu-img").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        monkeypatch.setattr(qemu_img, "ENVIRONMENT", dict(os.environ))
        monkeypatch.setattr(qemu_img, "INFO_SECONDS", 0.2)
        with pytest.raises(TimedOut):
            inspect(image)


class TestConverting:
    @pytest.mark.parametrize("args", [(), ("-c",)], ids=["plain", "compressed"])
    def test_qcow2(
        self, tmp_path: Path, volume: Path, args: tuple[str, ...], capfd: pytest.CaptureFixture[str]
    ) -> None:
        raw = files.disk(tmp_path / "a.raw")
        image = files.converted(raw, tmp_path / "web.qcow2", "qcow2", *args)
        assert convert(image, volume) == {"format": "qcow2", "virtual_size": 8 * MIB}
        assert volume.read_bytes()[: 8 * MIB] == raw.read_bytes()
        assert volume.stat().st_size == 64 * MIB
        assert volume.stat().st_blocks * 512 < 2 * MIB, "zeroes were written"
        said = [json.loads(line)["progress"] for line in capfd.readouterr().out.splitlines()]
        assert all(0 <= share <= 1 for share in said)

    def test_raw(self, tmp_path: Path, volume: Path) -> None:
        raw = files.disk(tmp_path / "web.raw")
        convert(raw, volume)
        assert volume.read_bytes()[: 8 * MIB] == raw.read_bytes()

    def test_a_raw_disk_that_became_a_qcow2_stays_raw_or_is_refused(self, tmp_path: Path, volume: Path) -> None:
        with pytest.raises(BadImage):
            convert(files.create(tmp_path / "web.raw"), volume, 64 * MIB)

    def test_into_the_volume_meant_or_not_at_all(self, tmp_path: Path, volume: Path) -> None:
        image = files.converted(files.disk(tmp_path / "a.raw"), tmp_path / "web.qcow2")
        with pytest.raises(Failed, match="is not the volume rpool/vms/other"):
            convert(image, volume, dataset="rpool/vms/other")
        assert volume.stat().st_blocks == 0

    def test_not_into_one_that_is_too_small(self, tmp_path: Path, volume: Path) -> None:
        files.cut(volume, MIB)
        with pytest.raises(Failed, match="smaller"):
            convert(files.disk(tmp_path / "web.raw"), volume)

    def test_an_image_that_is_another_one_now(self, tmp_path: Path, volume: Path) -> None:
        with pytest.raises(BadImage, match="no longer"):
            convert(files.create(tmp_path / "web.qcow2"), volume, 63 * MIB)

    def test_data_that_cannot_be_unpacked(self, tmp_path: Path, volume: Path) -> None:
        image = files.converted(files.disk(tmp_path / "a.raw"), tmp_path / "web.qcow2", "qcow2", "-c")
        size = image.stat().st_size
        files.patched(image, size - 6000, b"\xff" * 4000)
        with pytest.raises(BadImage, match="damaged"):
            convert(image, volume)

    @pytest.mark.parametrize(
        ("said", "kind"),
        [
            ("qemu-img: error while writing at byte 0: No space left on device", NoSpace),
            ("qemu-img: error while writing at byte 0: Input/output error", Failed),
            ("qemu-img: error while reading at byte 512: Input/output error", BadImage),
            ("", Failed),
        ],
    )
    def test_what_qemu_img_says(self, said: str, kind: type[KvmError]) -> None:
        error = qemu_img._failure("web was not converted", said)
        assert type(error) is kind
        assert error.why

    def test_progress(self) -> None:
        read, write = os.pipe()
        os.write(write, b"    (0.00/100%)\r    (12.5")
        os.write(write, b"0/100%)\r\x1b[2J(999.99/100%)\r    (100.00/100%)\r")
        os.close(write)
        said: list[float] = []
        with os.fdopen(read, "rb", buffering=0) as output:
            qemu_img._follow(output, said.append)
        assert said[-1] == 1.0
        assert all(0 <= share <= 1 for share in said)
