"""What identify() takes, and each kind of file that it refuses, with the words it does so."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import image_files as files
from kldload_kvm.model.errors import BadImage, InvalidArgument
from kldload_kvm.model.image_header import HEAD, TAIL, Header, identify
from kldload_kvm.model.image_name import Format, image_format, image_name, new_image_name

MIB = 1 << 20
TIB = 1 << 40


def look(path: Path, wanted: Format | None = None) -> Header:
    contents = path.read_bytes()
    return identify(contents[:HEAD], len(contents), path.name, wanted, contents[-TAIL:])


def refusal(path: Path, wanted: Format | None = None) -> BadImage:
    with pytest.raises(BadImage) as caught:
        look(path, wanted)
    error = caught.value
    assert path.name in error.what
    assert error.why
    assert "\n" not in error.what + error.why + error.hint
    return error


class TestTaken:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"compat": "0.10"},
            {"cluster_size": "512"},
            {"cluster_size": "2M"},
            {"extended_l2": "on", "cluster_size": "128k"},
            {"compression_type": "zstd"},
            {"lazy_refcounts": "on"},
            {"preallocation": "metadata"},
        ],
        ids=str,
    )
    def test_qcow2_however_it_was_made(self, tmp_path: Path, options: dict[str, str]) -> None:
        image = files.create(tmp_path / "web.qcow2", **options)
        assert look(image) == Header("qcow2", 64 * MIB, image.stat().st_size)

    def test_qcow2_under_a_name_that_tells_nothing(self, tmp_path: Path) -> None:
        assert look(files.create(tmp_path / "noble.img")).format == "qcow2"

    def test_qcow2_with_compressed_data(self, tmp_path: Path) -> None:
        raw = files.disk(tmp_path / "disk.raw")
        assert look(files.converted(raw, tmp_path / "disk.qcow2", "qcow2", "-c")).virtual_size == 8 * MIB

    def test_qcow2_of_the_largest_size(self, tmp_path: Path) -> None:
        assert look(files.create(tmp_path / "web.qcow2", size=16 * TIB)).virtual_size == 16 * TIB

    def test_raw_when_it_is_named_so(self, tmp_path: Path) -> None:
        assert look(files.disk(tmp_path / "disk.raw")) == Header("raw", 8 * MIB, 8 * MIB)

    def test_raw_when_it_is_asked_for(self, tmp_path: Path) -> None:
        assert look(files.disk(tmp_path / "disk.img"), "raw").format == "raw"

    def test_raw_in_whole_sectors(self, tmp_path: Path) -> None:
        assert look(files.disk(tmp_path / "disk.raw", size=MIB + 1)).virtual_size == MIB + 512

    def test_raw_with_a_partition_table(self, tmp_path: Path) -> None:
        assert look(files.gpt_disk(tmp_path / "disk.raw")).virtual_size == 8 * MIB

    def test_iso(self, tmp_path: Path) -> None:
        assert look(files.iso(tmp_path / "debian.iso")) == Header("iso", 128 << 10, 128 << 10)

    def test_iso_that_is_also_a_disk(self, tmp_path: Path) -> None:
        hybrid = files.patched(files.iso(tmp_path / "debian.iso"), 510, b"\x55\xaa")
        assert look(hybrid).format == "iso"

    def test_iso_that_counts_a_run_out_it_does_not_have(self, tmp_path: Path) -> None:
        image = files.iso(tmp_path / "debian.iso", blocks=500)
        assert look(files.cut(image, 350 * 2048)).format == "iso"


class TestRefused:
    def test_backing_file(self, tmp_path: Path) -> None:
        base = files.create(tmp_path / "base.qcow2")
        over = files.create(tmp_path / "over.qcow2", backing_file=str(base), backing_fmt="qcow2")
        error = refusal(over)
        assert "backing file" in error.why
        assert "base.qcow2" in error.why
        assert "qemu-img convert" in error.hint

    def test_backing_file_that_is_json(self, tmp_path: Path) -> None:
        over = files.create(tmp_path / "over.qcow2")
        text = b'json:{"driver":"file","filename":"/etc/shadow"}'
        files.patched(files.patched(over, 1024, text), 8, struct.pack(">QI", 1024, len(text)))
        assert "json:" in refusal(over).why

    def test_backing_file_beyond_the_header(self, tmp_path: Path) -> None:
        over = files.patched(files.create(tmp_path / "over.qcow2"), 8, struct.pack(">QI", 1 << 40, 20))
        assert "backing file" in refusal(over).why

    def test_external_data_file(self, tmp_path: Path) -> None:
        image = files.create(tmp_path / "web.qcow2", data_file=str(tmp_path / "data"), data_file_raw="on")
        assert "external data file" in refusal(image).why

    def test_external_data_file_named_without_its_flag(self, tmp_path: Path) -> None:
        image = files.create(tmp_path / "web.qcow2", data_file=str(tmp_path / "data"), data_file_raw="on")
        files.patched(image, 72, bytes(8))
        assert "external data file" in refusal(image).why

    def test_encrypted(self, tmp_path: Path) -> None:
        image = tmp_path / "web.qcow2"
        files.qemu_img(
            *("create", "-q", "--object", "secret,id=s,data=geheim", "-f", "qcow2"),
            *("-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", str(image), "64M"),
        )
        assert "encrypted" in refusal(image).why

    @pytest.mark.parametrize(
        ("format_", "said"),
        [
            ("vmdk", "VMDK"),
            ("vdi", "VDI"),
            ("vhdx", "VHDX"),
            ("vpc", "VHD"),
            ("qed", "QED"),
            ("parallels", "Parallels"),
        ],
    )
    def test_other_formats_disguised(self, tmp_path: Path, format_: str, said: str) -> None:
        image = files.create(tmp_path / "web.qcow2", format_)
        error = refusal(image)
        assert said in error.why
        assert "qemu-img convert" in error.hint
        for name in ("web.img", "web.raw", "web.iso"):
            assert said in refusal(image.rename(tmp_path / name)).why
            image = tmp_path / name

    def test_vhd_that_only_its_end_tells(self, tmp_path: Path) -> None:
        image = files.create(tmp_path / "web.raw", "vpc", subformat="fixed")
        assert "VHD" in refusal(image).why
        assert "VHD" in refusal(files.cut(image, image.stat().st_size - 1)).why

    def test_vmdk_descriptor(self, tmp_path: Path) -> None:
        files.create(tmp_path / "web.vmdk", "vmdk", subformat="monolithicFlat")
        assert "descriptor" in refusal((tmp_path / "web.vmdk").rename(tmp_path / "web.qcow2")).why

    def test_luks(self, tmp_path: Path) -> None:
        image = tmp_path / "web.raw"
        files.qemu_img(
            *("create", "-q", "--object", "secret,id=s,data=geheim", "-f", "luks"),
            *("-o", "key-secret=s,iter-time=10", str(image), "64M"),
        )
        assert "LUKS" in refusal(image).why

    def test_old_qcow(self, tmp_path: Path) -> None:
        assert "version 1" in refusal(files.create(tmp_path / "web.qcow2", "qcow")).why

    @pytest.mark.parametrize("text", ['json:{"driver":"nbd"}', ' \n{"driver":"nbd"}'])
    def test_json(self, tmp_path: Path, text: str) -> None:
        image = tmp_path / "web.qcow2"
        image.write_text(text)
        assert "json:" in refusal(image).why

    @pytest.mark.parametrize("magic", [b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"BZh91AY"])
    def test_compressed(self, tmp_path: Path, magic: bytes) -> None:
        image = tmp_path / "web.raw"
        image.write_bytes(magic.ljust(MIB, b"x"))
        error = refusal(image)
        assert "compressed" in error.why
        assert "unpack" in error.hint

    def test_ova(self, tmp_path: Path) -> None:
        image = files.patched(files.disk(tmp_path / "web.ova"), 257, b"ustar")
        assert "OVA" in refusal(image).why

    @pytest.mark.parametrize("size", [100 * TIB, 16 * TIB + 512])
    def test_larger_than_anyone_needs(self, tmp_path: Path, size: int) -> None:
        error = refusal(files.create(tmp_path / "web.qcow2", size=size, cluster_size="2M"))
        assert "16T is the most" in error.why

    def test_size_that_only_the_header_claims(self, tmp_path: Path) -> None:
        image = files.patched(files.create(tmp_path / "web.qcow2"), 24, struct.pack(">Q", 100 * TIB))
        assert "16T is the most" in refusal(image).why

    def test_no_size(self, tmp_path: Path) -> None:
        assert "no size" in refusal(files.create(tmp_path / "web.qcow2", size=0)).why

    @pytest.mark.parametrize("size", [1, 60, 71, 90, 103, 4096, 65536, 196608])
    def test_truncated_qcow2(self, tmp_path: Path, size: int) -> None:
        assert refusal(files.cut(files.create(tmp_path / "web.qcow2"), size))

    def test_truncated_iso(self, tmp_path: Path) -> None:
        assert "cut off" in refusal(files.cut(files.iso(tmp_path / "a.iso", blocks=4000), 3000 * 2048)).why

    def test_truncated_raw(self, tmp_path: Path) -> None:
        assert "cut off" in refusal(files.cut(files.gpt_disk(tmp_path / "a.raw"), 5 * MIB)).why

    @pytest.mark.parametrize("name", ["web.qcow2", "web.raw", "web.iso", "web"])
    def test_empty(self, tmp_path: Path, name: str) -> None:
        image = tmp_path / name
        image.touch()
        assert "empty" in refusal(image).why

    def test_too_small(self, tmp_path: Path) -> None:
        assert "that small" in refusal(files.disk(tmp_path / "web.raw", 4096, 4096)).why

    @pytest.mark.parametrize("name", ["web", "web.img", "web.qcow2", "web.iso"])
    def test_noise(self, tmp_path: Path, name: str) -> None:
        image = tmp_path / name
        image.write_bytes(random.Random(name).randbytes(MIB))
        assert refusal(image)

    def test_raw_disk_that_is_not_named_so(self, tmp_path: Path) -> None:
        for make in (files.disk, files.gpt_disk):
            error = refusal(make(tmp_path / "web.img"))
            assert "raw disk" in error.why
            assert "format=raw" in error.hint

    def test_asked_for_as_something_else(self, tmp_path: Path) -> None:
        assert "it is a qcow2 image" in refusal(files.create(tmp_path / "a"), "iso").why
        assert "it is an ISO 9660 image" in refusal(files.iso(tmp_path / "b"), "qcow2").why
        assert "it is a qcow2 image" in refusal(files.create(tmp_path / "c"), "raw").why

    def test_named_as_something_else(self, tmp_path: Path) -> None:
        assert "it is a qcow2 image" in refusal(files.create(tmp_path / "a.iso")).why
        assert "it is an ISO 9660 image" in refusal(files.iso(tmp_path / "b.qcow2")).why
        assert "its name ends in .qcow2" in refusal(files.create(tmp_path / "c.qcow2"), "raw").why

    @pytest.mark.parametrize(
        ("offset", "contents"),
        [
            (20, struct.pack(">I", 40)),  # clusters of 2^40 bytes
            (20, struct.pack(">I", 0)),
            (36, struct.pack(">I", 0)),  # no L1 table
            (36, struct.pack(">I", 0xFFFFFFFF)),
            (40, struct.pack(">Q", 0)),
            (40, struct.pack(">Q", 12345)),
            (40, struct.pack(">Q", 1 << 62)),
            (48, struct.pack(">Q", 1 << 62)),
            (56, struct.pack(">I", 0)),
            (56, struct.pack(">I", 0xFFFFFFFF)),
            (72, struct.pack(">Q", 1 << 63)),  # a feature from the future
            (72, struct.pack(">Q", 1)),  # dirty
            (72, struct.pack(">Q", 2)),  # corrupt
            (100, struct.pack(">I", 7)),
            (100, struct.pack(">I", 1 << 31)),
            (112, struct.pack(">II", 5, 0xFFFFFFF0)),  # an extension without end
        ],
    )
    def test_damaged(self, tmp_path: Path, offset: int, contents: bytes) -> None:
        assert refusal(files.patched(files.create(tmp_path / "web.qcow2"), offset, contents))


MAGICS = [b"QFI\xfb\0\0\0\2", b"QFI\xfb\0\0\0\3", b"KDMV", b"conectix", b"vhdxfile", b"json:", b"# Disk DescriptorFile"]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return files.create(tmp_path_factory.mktemp("good") / "a.qcow2").read_bytes()


class TestAnyBytes:
    """Whatever comes in, a Header or a BadImage comes out."""

    @given(
        head=st.binary(max_size=600).flatmap(lambda rest: st.sampled_from([b"", *MAGICS]).map(lambda m: m + rest)),
        file_size=st.integers(min_value=-1, max_value=1 << 64),
        name=st.text(max_size=12) | st.sampled_from(["a.raw", "a.qcow2", "a.iso"]),
        wanted=st.sampled_from(["iso", "qcow2", "raw", None]),
        tail=st.binary(max_size=520),
    )
    @example(head=b"", file_size=1 << 20, name="\x1b[2J", wanted="raw", tail=b"")
    def test_beginnings(self, head: bytes, file_size: int, name: str, wanted: Format | None, tail: bytes) -> None:
        self.check(head, file_size, name, wanted, tail)

    @given(fields=st.tuples(*[st.integers(0, (1 << bits) - 1) for bits in (64, 32, 32, 64, 32, 32, 64, 64, 32)]),
           rest=st.binary(max_size=400), file_size=st.integers(0, 1 << 50))  # fmt: skip
    def test_qcow2_headers(self, fields: tuple[int, ...], rest: bytes, file_size: int) -> None:
        self.check(b"QFI\xfb\0\0\0\3" + struct.pack(">QIIQIIQQI", *fields) + rest, file_size, "a", None, b"")

    @given(data=st.data())
    def test_good_headers_with_bytes_changed(self, data: st.DataObject, good: bytes) -> None:
        contents = bytearray(good)
        for _ in range(data.draw(st.integers(0, 4))):
            at = data.draw(st.integers(0, 250))
            contents[at] = data.draw(st.integers(0, 255))
        self.check(bytes(contents[:HEAD]), len(contents), "a.qcow2", None, bytes(contents[-TAIL:]))

    def check(self, head: bytes, file_size: int, name: str, wanted: Format | None, tail: bytes) -> None:
        try:
            header = identify(head, file_size, name, wanted, tail)
        except BadImage as error:
            assert error.why
            assert str(error).isprintable() or "\n" in str(error)
        else:
            assert 0 < header.virtual_size <= 16 * TIB
            assert header.virtual_size % 512 == 0 or header.format == "qcow2"


class TestNames:
    @pytest.mark.parametrize("name", ["debian-13.qcow2", "a", "_x", "+x", "A" * 128, "Windows_11+virtio.iso"])
    def test_good(self, name: str) -> None:
        assert image_name(name) == name

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("", "empty"),
            (".hidden", "begins with '.'"),
            ("-rf", "begins with '-'"),
            ("..", "begins with '.'"),
            ("a/b", "'/'"),
            ("a b", "space"),
            ("a\nb", "\\x0a"),
            ("a,file.filename=b", "','"),
            ("ü", "'ü'"),
            ("A" * 129, "129 characters"),
            ("a\n", "\\x0a"),
        ],
    )
    def test_bad(self, name: str, said: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            image_name(name)
        assert said in caught.value.why

    def test_name_and_format_must_agree(self) -> None:
        assert new_image_name("disk.img", "qcow2") == "disk.img"
        assert new_image_name("disk.img", "raw") == "disk.img"
        assert new_image_name("disk.raw", None) == "disk.raw"
        with pytest.raises(InvalidArgument):
            new_image_name("disk.iso", "qcow2")

    def test_formats(self) -> None:
        assert image_format("") is None
        assert image_format("raw") == "raw"
        with pytest.raises(InvalidArgument):
            image_format("vmdk")
