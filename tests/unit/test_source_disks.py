"""The disks of domains of others: which can be copied into volumes, and what their elements become on these."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from kldload_kvm.model.domain_xml import facts
from kldload_kvm.model.source_disks import (
    CannotBeCopied,
    SourceDisk,
    elements,
    on_volumes,
    source_disks,
    with_elements,
)

VARIABLES = "/var/lib/libvirt/qemu/nvram/old_VARS.fd"
DISK = """
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='writeback' discard='ignore' copy_on_read='on' iothread='1'>
        <metadata_cache><max_size unit='bytes'>1024</max_size></metadata_cache>
      </driver>
      <source file='/img/old.qcow2' startupPolicy='mandatory'><seclabel model='dac' relabel='no'/></source>
      <backingStore/>
      <target dev='sda' bus='sata'/>
      <serial>WD-1234</serial>
      <boot order='1'/>
      <address type='drive' controller='0' bus='0' target='0' unit='0'/>
    </disk>"""
LVM = "<disk type='block' device='disk'><source dev='/dev/vg/old'/><target dev='vdb' bus='virtio'/></disk>"
DRIVES = """
    <disk type='file' device='cdrom'><source file='/isos/a.iso'/><target dev='sdb' bus='sata'/><readonly/></disk>
    <disk type='file' device='floppy'><source file='/img/a.vfd'/><target dev='fda' bus='fdc'/></disk>"""


def domain(*disks: str, nvram: str = f"<nvram template='/fw/vars.fd'>{VARIABLES}</nvram>") -> str:
    return f"<domain type='qemu'><name>old</name><os>{nvram}</os>\n  <devices>{''.join(disks)}\n  </devices>\n</domain>"


def refusal(*disks: str, **more: str) -> CannotBeCopied:
    with pytest.raises(CannotBeCopied) as caught:
        source_disks(domain(*disks, **more))
    return caught.value


def test_files_and_devices_in_the_order_of_their_targets_and_the_variables_last() -> None:
    assert source_disks(domain(LVM, DRIVES, DISK)) == (
        SourceDisk("sda", "file", "/img/old.qcow2", "qcow2"),
        SourceDisk("vdb", "block", "/dev/vg/old", "raw"),
        SourceDisk("nvram", "file", VARIABLES, "raw"),
    )


def test_drives_are_no_disks() -> None:
    assert source_disks(domain(DRIVES, nvram="")) == ()
    assert facts(domain(DRIVES)).disks == {"nvram": VARIABLES}
    assert facts(domain(DRIVES)).cdroms == ("/isos/a.iso", "/img/a.vfd")


def test_variables_as_libvirt_writes_them_where_their_kind_is_said() -> None:
    said = "<nvram type='file' format='qcow2'><source file='/v.qcow2'/></nvram>"
    assert source_disks(domain(nvram=said)) == (SourceDisk("nvram", "file", "/v.qcow2", "qcow2"),)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("type='qcow2'", "type='vmdk'"), "is a vmdk image"),
        (("type='file'", "type='network'"), "is of the type network"),
        (("type='file'", "type='volume'"), "named by a storage pool"),
        (("device='disk'", "device='lun'"), "passed through"),
        (("<backingStore/>", "<transient/>"), "transient"),
        (("<backingStore/>", "<encryption format='luks'/>"), "encrypted by libvirt"),
        (("<seclabel model='dac' relabel='no'/>", "<slices><slice type='storage'/></slices>"), "part of its file"),
        (("file='/img/old.qcow2'", ""), "names no file"),
        (("file='/img/old.qcow2'", "file='json:{}'"), "names no file"),
    ],
)
def test_what_cannot_be_copied_is_named(change: tuple[str, str], why: str) -> None:
    refused = refusal(DISK.replace(*change))
    assert refused.why.startswith("its disk sda ")
    assert why in refused.why


def test_an_image_on_a_device_and_variables_elsewhere() -> None:
    assert "image on a device" in refusal(LVM.replace("<source", "<driver type='qcow2'/><source")).why
    assert "network" in refusal(nvram="<nvram type='network'><source file='x'/></nvram>").why


class TestElements:
    @pytest.fixture
    def new(self) -> dict[str, str]:
        return on_volumes(domain(DISK, LVM), {each: f"/dev/zvol/p/{each}" for each in ("sda", "vdb", "nvram")})

    def test_a_disk_stays_what_it_is_to_the_guest(self, new: dict[str, str]) -> None:
        disk = ET.fromstring(new["sda"])
        assert (disk.get("type"), disk.get("device")) == ("block", "disk")
        assert disk.findtext("serial") == "WD-1234"
        for tag, value in {"target": {"dev": "sda", "bus": "sata"}, "boot": {"order": "1"}}.items():
            assert disk.find(tag).attrib == value  # type: ignore[union-attr]
        assert disk.find("address") is not None

    def test_qemu_uses_it_as_with_all_our_vms(self, new: dict[str, str]) -> None:
        for target in ("sda", "vdb"):
            disk = ET.fromstring(new[target])
            driver, source = disk.find("driver"), disk.find("source")
            assert driver is not None and source is not None
            used = {"name": "qemu", "type": "raw", "cache": "none", "io": "native", "discard": "unmap"}
            assert driver.attrib == used | ({"iothread": "1"} if target == "sda" else {})
            assert source.attrib == {"dev": f"/dev/zvol/p/{target}"}
            assert [len(driver), len(source)] == [0, 0]
            assert disk.find("backingStore") is None

    @pytest.mark.parametrize(
        ("nvram", "named"),
        [
            ("<nvram template='/fw/vars.fd'>/v.fd</nvram>", ""),
            ("<loader format='qcow2'>/code</loader><nvram>/v.fd</nvram>", ' format="raw"'),
            ("<nvram type='file' format='qcow2'><source file='/v.fd'/></nvram>", ' format="raw"'),
        ],
    )
    def test_the_variables_have_a_format_where_this_libvirt_names_one(self, nvram: str, named: str) -> None:
        new = on_volumes(domain(nvram=nvram), {"nvram": "/dev/zvol/p/nvram"})
        assert new["nvram"] == f'<nvram type="block"{named}><source dev="/dev/zvol/p/nvram" /></nvram>'

    def test_there_and_back(self, new: dict[str, str]) -> None:
        was = domain(DISK, DRIVES, LVM)
        there = with_elements(was, new)
        assert facts(there).disks == {each: f"/dev/zvol/p/{each}" for each in ("sda", "vdb", "nvram")}
        assert facts(there).cdroms == ("/isos/a.iso", "/img/a.vfd")
        back = with_elements(there, elements(was, new))
        assert ET.canonicalize(back) == ET.canonicalize(was)
