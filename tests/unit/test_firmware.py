"""The choice of UEFI firmware from QEMU's descriptors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kldload_kvm.images import firmware_files
from kldload_kvm.model import firmware
from kldload_kvm.model.errors import NotFound
from kldload_kvm.model.firmware import FirmwarePair


def descriptor(code: str, template: str = "/vars.fd", *features: str, **changes: Any) -> dict[str, Any]:
    mapping = {
        "device": "flash",
        "executable": {"filename": code, "format": "raw"},
        "nvram-template": {"filename": template, "format": "raw"},
    }
    return {
        "description": "UEFI firmware",
        "interface-types": ["uefi"],
        "mapping": {**mapping, **changes.pop("mapping", {})},
        "targets": [{"architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"]}],
        "features": ["acpi-s3", *features],
        "tags": [],
        **changes,
    }


PLAIN = descriptor("/plain.fd")
SECURE = descriptor("/secure.fd", "/vars.fd", "secure-boot", "requires-smm")
ENROLLED = descriptor("/enrolled.fd", "/enrolled-vars.fd", "secure-boot", "enrolled-keys")


def test_that_which_enforces_nothing_wherever_it_stands() -> None:
    assert firmware.choose([SECURE, ENROLLED, PLAIN]) == FirmwarePair("/plain.fd", "/vars.fd")


def test_the_first_of_several() -> None:
    assert firmware.choose([PLAIN, descriptor("/other.fd")]).code == "/plain.fd"


def test_enforcing_is_better_than_none() -> None:
    assert firmware.choose([SECURE, ENROLLED]) == FirmwarePair("/enrolled.fd", "/enrolled-vars.fd", secure=True)


@pytest.mark.parametrize(
    "unfit",
    [
        SECURE,
        descriptor("/a", **{"interface-types": ["bios"]}),
        descriptor("/a", mapping={"device": "memory"}),
        descriptor("/a", mapping={"mode": "stateless"}),
        descriptor("/a", mapping={"executable": {"filename": "/a.qcow2", "format": "qcow2"}}),
        descriptor("/a", mapping={"nvram-template": {"filename": "/v.qcow2", "format": "qcow2"}}),
        descriptor("/a", targets=[{"architecture": "aarch64", "machines": ["virt-*"]}]),
        descriptor("/a", targets=[{"architecture": "x86_64", "machines": ["pc-i440fx-*"]}]),
        descriptor("relative.fd"),
        {},
        {"mapping": None},
        {"mapping": {"device": "flash"}, "features": 7},
    ],
)
def test_what_fits_no_vm_of_ours(unfit: dict[str, Any]) -> None:
    with pytest.raises(NotFound) as caught:
        firmware.choose([unfit])
    assert caught.value.hint == "apt install ovmf"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["flash", "uefi", "x86_64", "pc-q35-*", "raw", "/a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["mapping", "features", "device", "targets", "machines", "architecture", "filename", "format"]
            ),
            inner,
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(list(PLAIN)), JSON))
def test_malformed_descriptors_are_passed_over(changes: dict[str, Any]) -> None:
    assert firmware.choose([{**PLAIN, **changes}, PLAIN])


def write(place: Path, name: str, contents: dict[str, Any] | str) -> Path:
    place.mkdir(exist_ok=True)
    (place / name).write_text(contents if isinstance(contents, str) else json.dumps(contents))
    return place


def test_etc_comes_before_usr_and_an_empty_file_hides_one(tmp_path: Path) -> None:
    for name in ("a.fd", "b.fd", "vars.fd"):
        (tmp_path / name).touch()
    usr, etc = tmp_path / "usr", tmp_path / "etc"
    first, second = (descriptor(str(tmp_path / name), str(tmp_path / "vars.fd")) for name in ("a.fd", "b.fd"))
    write(usr, "60-plain.json", first)
    write(usr, "70-other.json", second)
    assert firmware_files.load((etc, usr)).code.endswith("/a.fd")
    write(etc, "60-plain.json", "")
    assert firmware_files.load((etc, usr)).code.endswith("/b.fd")
    write(etc, "50-mine.json", first)
    assert firmware_files.load((etc, usr)).code.endswith("/a.fd")


def test_a_descriptor_whose_files_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "usr", "60-plain.json", PLAIN)
    monkeypatch.setattr(firmware, "DEBIAN_CODE", str(tmp_path / "CODE.fd"))
    monkeypatch.setattr(firmware, "DEBIAN_VARS", str(tmp_path / "VARS.fd"))
    with pytest.raises(NotFound):
        firmware_files.load((tmp_path / "usr",))
    (tmp_path / "CODE.fd").touch()
    (tmp_path / "VARS.fd").touch()
    assert firmware_files.load((tmp_path / "usr",)) == FirmwarePair(firmware.DEBIAN_CODE, firmware.DEBIAN_VARS)


def test_debian_s_own() -> None:
    try:
        pair = firmware_files.load()
    except NotFound:
        pytest.skip("ovmf is not installed")
    assert not pair.secure
    assert Path(pair.vars_template).stat().st_size == 528 << 10
