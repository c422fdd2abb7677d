"""Operating systems by short id."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kldload_kvm.images import os_files
from kldload_kvm.model import os_index
from kldload_kvm.model.errors import InvalidArgument
from kldload_kvm.model.os_index import Os

DEBIAN = """<?xml version="1.0"?>
<libosinfo version="0.0.1">
  <!-- Licensed under the GNU General Public License version 2 or later. -->
  <os id="http://debian.org/debian/13">
    <short-id>debian13</short-id>
    <short-id>debiantrixie</short-id>
    <name>Debian 13</name>
    <name xml:lang="uk">Дебіан 13</name>
"""
SYSTEMS = os_index.index([DEBIAN, DEBIAN.replace("13", "12").replace("trixie", "bookworm")])


def place(root: Path, vendor: str, text: str) -> Path:
    (root / vendor).mkdir(parents=True, exist_ok=True)
    (root / vendor / "os.xml").write_text(text)
    return root


def test_every_short_id_leads_to_the_system() -> None:
    assert os_index.parse(DEBIAN) == dict.fromkeys(
        ("debian13", "debiantrixie"), Os("http://debian.org/debian/13", "Debian 13")
    )


def test_entities_are_read() -> None:
    text = '<os id="http://x.org/a&amp;b"><short-id>ab</short-id><name>A &amp; B</name></os>'
    assert os_index.parse(text) == {"ab": Os("http://x.org/a&b", "A & B")}


@pytest.mark.parametrize("text", ["", "<os>", '<device id="http://x.org/1"><short-id>x</short-id>', "\x00\xff"])
def test_what_is_no_operating_system_has_no_ids(text: str) -> None:
    assert os_index.parse(text) == {}


@given(st.text(alphabet='<os id="x">short-/\n', max_size=200))
def test_any_text(text: str) -> None:
    assert isinstance(os_index.parse(text), dict)


def test_find() -> None:
    assert os_index.find(SYSTEMS, "debian12").id == "http://debian.org/debian/12"


def test_a_slip_is_met_with_what_comes_close() -> None:
    with pytest.raises(InvalidArgument) as caught:
        os_index.find(SYSTEMS, "Debian-13")
    assert "'Debian-13'" in caught.value.what
    assert "debian13" in caught.value.hint


def test_nothing_close() -> None:
    with pytest.raises(InvalidArgument) as caught:
        os_index.find(SYSTEMS, "\x1b[2J" + "z" * 10_000)
    assert "osinfo-query" in caught.value.hint
    assert len(caught.value.what) < 200
    assert "\x1b" not in str(caught.value)


def test_without_osinfo_db_the_package_is_named() -> None:
    with pytest.raises(InvalidArgument) as caught:
        os_index.find({}, "debian13")
    assert caught.value.hint == "apt install osinfo-db"


def test_the_administrator_s_files_count_more(tmp_path: Path) -> None:
    packaged = place(tmp_path / "usr", "debian.org", DEBIAN)
    local = place(tmp_path / "etc", "debian.org", DEBIAN.replace("<name>Debian 13", "<name>Our Debian"))
    place(tmp_path / "etc", "example.org", DEBIAN.replace("debian", "ours"))
    (tmp_path / "etc" / "example.org" / "broken.xml").symlink_to("/nowhere")
    systems = os_files.load((packaged, local, tmp_path / "none"))
    assert systems["debian13"].name == "Our Debian"
    assert systems["ours13"].id == "http://ours.org/ours/13"
    assert len(systems) == 4


def test_all_of_osinfo_db() -> None:
    systems = os_files.load()
    if not systems:
        pytest.skip("osinfo-db is not installed")
    assert systems["debian11"].id == "http://debian.org/debian/11"
    assert systems["win10"].name == "Microsoft Windows 10"
    assert len(systems) > 500
