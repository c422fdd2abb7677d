"""The configuration: what it means, which file has the last word, and how each bad value is refused by its name."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from kldload_kvm import config
from kldload_kvm.config import Config, StorageConfig
from kldload_kvm.model.errors import InvalidArgument
from kldload_kvm.model.sizes import GIB, KIB, MIB


def read(text: str) -> Config:
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    parser.read_string(text)
    return config.read(parser)


def test_nothing_configured_is_the_default() -> None:
    assert read("") == Config()
    assert Config().parents == {"rpool": "rpool/vms"}


def test_every_setting() -> None:
    assert read("""
        [storage rpool]
        dataset = rpool/vms
        [storage fast-1]
        dataset = vmpool/vms
        default = yes
        [guests]
        accelerator = qemu
        network = bridge=lan0
        bridge = lan0
        vnc_listen = ::1
        [defaults]
        memory = 512M
        vcpus = 8
        disk = 1.5T
        volblocksize = 16K
        compression = zstd-3
        [pool]
        floor = 12%
        [trash]
        grace = 36h
        [snapshots]
        keep = 14d
        [limits]
        jobs_per_user = 3
        jobs_kept = 7
    """) == Config(
        storages=(StorageConfig("rpool", "rpool/vms"), StorageConfig("fast-1", "vmpool/vms", True)),
        accelerator="qemu", network="bridge=lan0", bridge="lan0", vnc_listen="::1", memory=512 * MIB, vcpus=8,
        disk=1536 * GIB, volblocksize=16 * KIB, compression="zstd-3", floor=0.12, grace=36 * 3600,
        keep=14 * 86400, jobs_per_user=3, jobs_kept=7,
    )  # fmt: skip


def test_bare_numbers_are_mib_of_memory_and_gib_of_disk() -> None:
    made = read("[defaults]\nmemory = 1024\ndisk = 40")
    assert (made.memory, made.disk) == (GIB, 40 * GIB)


def test_the_default_storage_comes_first() -> None:
    made = read("[storage a]\ndataset = a/vms\n[storage b]\ndataset = b/vms\ndefault = yes")
    assert list(made.parents.items()) == [("b", "b/vms"), ("a", "a/vms")]


def test_the_only_storage_is_the_default_one_whatever_it_says() -> None:
    assert read("[storage a]\ndataset = a/vms\ndefault = no").storages == (StorageConfig("a", "a/vms", True),)


class TestFiles:
    def test_the_last_word_counts_setting_by_setting(self, tmp_path: Path) -> None:
        first, second = tmp_path / "kvm.conf", tmp_path / "local.conf"
        first.write_text("[defaults]\nmemory = 1G\nvcpus = 4\n[storage a]\ndataset = a/vms\n")
        second.write_text("[defaults]\nmemory = 8G\n[storage b]\ndataset = b/vms\ndefault = yes\n")
        made = config.load([first, second])
        assert (made.memory, made.vcpus, list(made.parents)) == (8 * GIB, 4, ["b", "a"])

    def test_one_that_is_not_there_is_passed_over(self, tmp_path: Path) -> None:
        assert config.load([tmp_path / "kvm.conf"]) == Config()

    def test_the_vendor_s_before_the_administrator_s_and_drop_ins_in_the_order_of_their_names(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("VENDOR", "DROP_INS"):
            (tmp_path / name).mkdir()
            monkeypatch.setattr(config, name, tmp_path / name)
        monkeypatch.setattr(config, "ADMIN", tmp_path / "kvm.conf")
        for file in ("VENDOR/50.conf", "DROP_INS/20.conf", "DROP_INS/10.conf", "DROP_INS/10.conf.bak"):
            (tmp_path / file).touch()
        found = [str(path.relative_to(tmp_path)) for path in config.files()]
        assert found == ["VENDOR/50.conf", "kvm.conf", "DROP_INS/10.conf", "DROP_INS/20.conf"]

    @pytest.mark.parametrize(
        "contents", [b"memory = 1G\n", b"[defaults\n", b"[a]\nx = 1\nx = 2\n", b"[a]\n[a]\n", b"[defaults]\n\xff = 1\n"]
    )
    def test_one_that_cannot_be_parsed_is_named(self, tmp_path: Path, contents: bytes) -> None:
        path = tmp_path / "broken.conf"
        path.write_bytes(contents)
        with pytest.raises(InvalidArgument, match=r"broken\.conf cannot be read") as caught:
            config.load([path])
        assert "\n" not in caught.value.why

    def test_the_file_that_is_wrong_is_named(self, tmp_path: Path) -> None:
        first, second = tmp_path / "kvm.conf", tmp_path / "kvm.conf.d-10.conf"
        first.write_text("[defaults]\nmemory = 1G\n[guests]\naccelerator = fast\n")
        second.write_text("[defaults]\nmemory = 2G\n[storage a]\n")
        with pytest.raises(InvalidArgument, match=r"kvm\.conf is not valid: accelerator in \[guests\]"):
            config.load([first, second])
        first.write_text("[defaults]\nmemory = much\n")
        with pytest.raises(InvalidArgument, match=r"10\.conf is not valid: dataset in \[storage a\]"):
            config.load([first, second])
        first.write_text("[storage  a]\ndataset = a/vms\n[storage b]\ndataset = b/vms\n")
        second.write_text("")
        with pytest.raises(InvalidArgument, match=r"default in \[storage b\]"):
            config.load([first, second])


STORAGES = "[storage a]\ndataset = a/vms\n[storage b]\ndataset = b/vms\n"

BAD = [
    ("[defaults]\nmemory = much", "memory in [defaults]", "'much' is not a size"),
    ("[defaults]\nmemory = 1K", "memory in [defaults]", "'1K' is not from 64M to 16T"),
    ("[defaults]\nmemory = 65.5M", "memory in [defaults]", "in steps of 1M"),
    ("[defaults]\nmemory = 17T", "memory in [defaults]", "'17T' is not from"),
    ("[defaults]\nmemory = -1", "memory in [defaults]", "is not a size"),
    ("[defaults]\nmemory =", "memory in [defaults]", "'' is not a size"),
    ("[defaults]\ndisk = 0", "disk in [defaults]", "it must be more than 0"),
    ("[defaults]\ndisk = 2P", "disk in [defaults]", "from 1M to 1P"),
    ("[defaults]\nvcpus = 0", "vcpus in [defaults]", "'0' is not a number from 1 to 255"),
    ("[defaults]\nvcpus = 256", "vcpus in [defaults]", "from 1 to 255"),
    ("[defaults]\nvcpus = two", "vcpus in [defaults]", "'two'"),
    ("[defaults]\nvcpus = ²", "vcpus in [defaults]", "'²'"),
    ("[defaults]\nvcpus = ٣", "vcpus in [defaults]", "'٣'"),
    ("[defaults]\nvolblocksize = 48K", "volblocksize in [defaults]", "a power of two from 4K to 128K"),
    ("[defaults]\nvolblocksize = 2K", "volblocksize in [defaults]", "a power of two from 4K to 128K"),
    ("[defaults]\nvolblocksize = 256K", "volblocksize in [defaults]", "a power of two from 4K to 128K"),
    ("[defaults]\ncompression = lz5", "compression in [defaults]", "there is no compression 'lz5'"),
    ("[defaults]\ncompression = lz4 -o x=y", "compression in [defaults]", "there is no compression"),
    ("[defaults]\ncolour = red", "colour in [defaults]", "there is no such setting"),
    ("[guests]\naccelerator = xen", "accelerator in [guests]", "'xen' is not one of auto, kvm, qemu"),
    ("[guests]\nnetwork = br0", "network in [guests]", "'br0' is no network"),
    ("[guests]\nnetwork = bridge=", "network in [guests]", "is no network"),
    ("[guests]\nbridge = a/b", "bridge in [guests]", "is no name of a bridge"),
    ("[guests]\nbridge = longer-than-an-interface", "bridge in [guests]", "is no name of a bridge"),
    ("[guests]\nvnc_listen = everywhere", "vnc_listen in [guests]", "is no IP address"),
    ("[pool]\nfloor = 5", "floor in [pool]", "'5' is not a share from 0% to 50%"),
    ("[pool]\nfloor = 51%", "floor in [pool]", "is not a share"),
    ("[trash]\ngrace = 7", "grace in [trash]", "'7' is no length of time"),
    ("[trash]\ngrace = -1d", "grace in [trash]", "is no length of time"),
    ("[trash]\ngrace = 10001d", "grace in [trash]", "is not from 1h to ten years"),
    ("[pool]\nfloor = -1%", "floor in [pool]", "is not a share"),
    ("[snapshots]\nkeep = 48", "keep in [snapshots]", "'48' is no length of time"),
    ("[snapshots]\nkeep = h", "keep in [snapshots]", "is no length of time"),
    ("[snapshots]\nkeep = -1h", "keep in [snapshots]", "is no length of time"),
    ("[snapshots]\nkeep = 0d", "keep in [snapshots]", "is not from 1h to ten years"),
    ("[snapshots]\nkeep = 600w", "keep in [snapshots]", "is not from 1h to ten years"),
    ("[limits]\njobs_per_user = 0", "jobs_per_user in [limits]", "'0' is not a number"),
    ("[limits]\njobs_kept = 1000000", "jobs_kept in [limits]", "is not a number"),
    ("[storage a]", "dataset in [storage a]", "it is missing"),
    ("[storage a]\ndataset = -r", "dataset in [storage a]", "is no name of a ZFS dataset"),
    ("[storage a]\ndataset = a//b", "dataset in [storage a]", "is no name of a ZFS dataset"),
    ("[storage a]\ndataset = a@b", "dataset in [storage a]", "is no name of a ZFS dataset"),
    ("[storage a]\ndataset = a/vms\ndefault = perhaps", "default in [storage a]", "'perhaps' is neither yes nor no"),
    ("[storage a]\ndataset = a/vms\nsize = 1", "size in [storage a]", "there is no such setting"),
    ("[storage a b]\ndataset = a/vms", "[storage a b]", "is no name for a storage"),
    ("[storage ]\ndataset = a/vms", "[storage ]", "'' is no name for a storage"),
    ("[storage -a]\ndataset = a/vms", "[storage -a]", "is no name for a storage"),
    ("[storages]\n", "[storages]", "there is no section [storages]"),
    ("[DEFAULT]\nmemory = 1G", "[DEFAULT]", "there is no section [DEFAULT]"),
    (STORAGES, "default in [storage b]", "no storage says yes"),
    (STORAGES.replace("vms\n", "vms\ndefault = yes\n"), "default in [storage b]", "a, b say yes"),
    (STORAGES.replace("b/vms", "a/vms\ndefault = 1"), "dataset in [storage b]", "it is that of [storage a] already"),
]


@pytest.mark.parametrize(("text", "where", "why"), BAD, ids=[f"{text.splitlines()[-1]}" for text, _, _ in BAD])
def test_a_bad_value_names_its_section_and_setting(text: str, where: str, why: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read(text)
    assert caught.value.what == f"the configuration is not valid: {where}"
    assert why in caught.value.why
    assert caught.value.hint
