"""Names: which are taken, which are refused and in which words, and what may be relied on afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import libvirt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bad_names import BAD_VM_NAMES
from kldload_kvm.model import names
from kldload_kvm.model.cloud_init import check_hostname, hostname_from
from kldload_kvm.model.errors import InvalidArgument


class TestVmNames:
    @pytest.mark.parametrize(
        "name",
        ["web-1", "a", "0", "_", "db.example.org", "x" * 63, "web.vd", "vda", "nvram", "web.nvram2", "isos2", "A-_.b"],
    )  # fmt: skip
    def test_good(self, name: str) -> None:
        assert names.vm_name(name) == name

    @pytest.mark.parametrize(("name", "why"), BAD_VM_NAMES)
    def test_bad(self, name: str, why: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            names.vm_name(name)
        assert why in caught.value.why
        assert caught.value.hint
        assert str(caught.value).isprintable() or "\n" in str(caught.value)
        assert len(caught.value.what) < 200


VALID = st.from_regex(names.VM_NAME, fullmatch=True).filter(lambda name: _passes(name))
ANY = st.text(max_size=70) | st.from_regex(r"[A-Za-z0-9_.%@/ -]{0,70}", fullmatch=True)


def _passes(name: str) -> bool:
    try:
        names.vm_name(name)
    except InvalidArgument:
        return False
    return True


@pytest.fixture(scope="module")
def driver() -> Iterator[libvirt.virConnect]:
    """libvirt's own pretended hypervisor."""
    connection = libvirt.open("test:///default")
    yield connection
    connection.close()


class TestWhatPasses:
    @given(ANY)
    def test_is_a_component_of_zfs_and_the_name_of_a_file_and_no_option(self, name: str) -> None:
        if not _passes(name):
            return
        assert re.fullmatch(r"[A-Za-z0-9_.:-]+", name)  # zfs(8), Naming Conventions
        assert name not in (".", "..") and "/" not in name and len(name.encode()) <= 63
        assert name[0] not in "-."
        assert check_hostname(hostname_from(name))

    @given(VALID, VALID)
    def test_never_stands_in_another_s_way(self, one: str, other: str) -> None:
        suffixes = ("", ".nvram", ".seed", ".vdb", ".vdaa")
        if one != other:
            assert not {one + suffix for suffix in suffixes} & {other + suffix for suffix in suffixes}

    @settings(deadline=None)
    @given(name=VALID)
    def test_is_a_name_that_libvirt_takes(self, driver: libvirt.virConnect, name: str) -> None:
        domain = driver.defineXML(
            f"<domain type='test'><name>{name}</name><memory>1024</memory><os><type>hvm</type></os></domain>"
        )
        assert domain.name() == name
        domain.undefine()


class TestSnapshotNames:
    @pytest.mark.parametrize(
        "text", ["stable", "@stable", "2026-04-01_153022", "auto-20260402T100000Z", "a:b", "x" * 100]
    )
    def test_good_with_or_without_its_at(self, text: str) -> None:
        assert names.snapshot_name(text) == text.removeprefix("@")

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "it is empty"), ("@", "it is empty"), ("@@a", "it has '@' in it"), ("a@b", "it has '@' in it"),
            ("-r", "it begins with '-'"), ("%", "it has '%' in it"), ("a,b", "it has ',' in it"), (".a", "begins with"),
            ("a/b", "it has '/' in it"), ("x" * 101, "101 characters"), ("a b", "a space"), ("a\0", r"'\x00'"),
        ],
    )  # fmt: skip
    def test_bad(self, text: str, why: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            names.snapshot_name(text)
        assert why in caught.value.why

    @pytest.mark.parametrize("text", ["auto-1", "@clone-x", "repl-"])
    def test_those_of_the_service_cannot_be_chosen(self, text: str) -> None:
        assert names.snapshot_name(text)
        with pytest.raises(InvalidArgument, match="are made by the service, which also removes them"):
            names.new_snapshot_name(text)

    @given(st.text(max_size=120))
    def test_what_passes_is_one_snapshot_and_nothing_more(self, text: str) -> None:
        try:
            name = names.snapshot_name(text)
        except InvalidArgument:
            return
        # zfs destroy would take "a,b" and "a%b" for several snapshots.
        assert re.fullmatch(r"[A-Za-z0-9_.:-]{1,100}", name) and name[0] not in "-."


class TestMadeNames:
    NOW = datetime(2026, 4, 1, 15, 30, 22, tzinfo=UTC)

    def test_forms(self) -> None:
        assert names.timestamp(self.NOW, "manual") == "2026-04-01_153022"
        assert names.timestamp(self.NOW, "auto") == "auto-20260401T153022Z"
        assert names.timestamp(self.NOW, "clone") == "clone-20260401_153022"

    def test_a_second_one_in_the_same_second_gets_a_suffix(self) -> None:
        assert names.unused("a", set()) == "a"
        assert names.unused("a", {"a"}) == "a-2"
        assert names.unused("a", {"a", "a-2", "a-3", "b"}) == "a-4"

    @given(st.sets(st.sampled_from(["a", "a-2", "a-3", "a-4", "b"])))
    def test_what_is_unused_is_unused(self, taken: set[str]) -> None:
        assert names.unused("a", taken) not in taken


class TestDatasets:
    @pytest.mark.parametrize("text", ["rpool/vms", "tank", "a/b/c", "a-b/c_d.e:f"])
    def test_good(self, text: str) -> None:
        assert names.dataset_name(text) == text

    @pytest.mark.parametrize(
        "text", ["", "/", "/a", "a/", "a//b", "a@b", "-r", "a/-r", "a b", "a/../b", "a" * 151, "a/%b"]
    )
    def test_bad(self, text: str) -> None:
        with pytest.raises(InvalidArgument, match="is no name of a ZFS dataset"):
            names.dataset_name(text)


class TestShown:
    def test_is_quoted_and_cut_and_forges_no_line(self) -> None:
        assert names.shown("a\nb\x1b\x7f") == r"'a\x0ab\x1b\x7f'"
        assert names.shown("a" * 200) == "'" + "a" * 77 + "...'"

    @given(st.text(max_size=300))
    def test_is_always_one_short_printable_line(self, text: str) -> None:
        found = names.shown(text)
        assert found.isprintable()
        assert len(found) <= 82 * 9
