"""Domain XML: what a new VM's says, what a clone's says that its origin's does not, and what is kept of one in ZFS."""

from __future__ import annotations

import base64
import random
import subprocess
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kldload_kvm.model import domain_xml
from kldload_kvm.model.domain_xml import build, facts, for_clone, pack, unpack, without_secrets
from kldload_kvm.model.errors import InvalidArgument
from kldload_kvm.model.sizes import GIB, MIB
from world import spec, uuid_of

SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "bridge, seed and ISO": {
        "network": ("bridge", "br0"), "seed": "rpool/vms/web.seed", "iso": "/isos/a.iso",
        "os": "http://debian.org/debian/13",
    },
    "emulated, without a network": {"accelerator": "qemu", "network": None},
    "Secure Boot": {"secure_boot": True},
    "two disks": {"disks": {"vda": "rpool/vms/web", "vdb": "rpool/vms/web.vdb"}},
    "the most CPUs": {"vcpus": 255, "memory": 64 * MIB},
}  # fmt: skip


@pytest.fixture(params=SHAPES, scope="module")
def shape(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SHAPES[request.param]


@pytest.fixture(scope="module")
def driver() -> Iterator[libvirt.virConnect]:
    libvirt.registerErrorHandler(lambda *_: None, None)
    connection = libvirt.open("test:///default")
    yield connection
    connection.close()


def for_this_libvirt(xml: str) -> str:
    """Before 9.2 the schema did not know that the variables' format can be named."""
    return xml if libvirt.getVersion() >= 9_002_000 else xml.replace(' format="raw">', ">")


def devices(xml: str, path: str) -> list[ET.Element]:
    return ET.fromstring(xml).findall(f"devices/{path}")


class TestBuild:
    @pytest.mark.skipif(not SCHEMA.exists(), reason="libvirt's schemas are not installed (libvirt0 has them)")
    def test_fits_libvirt_s_schema(self, shape: dict[str, Any], tmp_path: Path) -> None:
        path = tmp_path / "domain.xml"
        path.write_text(for_this_libvirt(build(spec(**shape))))
        command = ["xmllint", "--noout", "--nonet", "--relaxng", str(SCHEMA), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_is_taken_by_libvirt(self, driver: libvirt.virConnect, shape: dict[str, Any]) -> None:
        xml = for_this_libvirt(build(spec(**{**shape, "accelerator": "test"})))
        domain = driver.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
        assert (domain.name(), domain.UUIDString()) == ("web", uuid_of("web"))
        read = facts(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        given = spec(**shape)
        assert (read.memory, read.vcpus) == (given.memory, given.vcpus)
        assert read.disks["vda"] == "/dev/zvol/rpool/vms/web"
        domain.undefine()

    def test_facts_are_what_it_was_built_from(self) -> None:
        xml = build(spec(seed="rpool/vms/web.seed", iso="/isos/a.iso", os="http://debian.org/debian/13"))
        assert facts(xml) == domain_xml.Facts(
            memory=2 * GIB, vcpus=2, os="http://debian.org/debian/13",
            disks={"vda": "/dev/zvol/rpool/vms/web", "vdb": "/dev/zvol/rpool/vms/web.seed",
                   "nvram": "/dev/zvol/rpool/vms/web.nvram"},
            cdroms=("/isos/a.iso",), networks=("default",),
        )  # fmt: skip

    def test_disks_are_raw_block_devices_without_the_host_s_cache_that_give_space_back(self) -> None:
        for disk in devices(build(spec(**SHAPES["two disks"])), "disk"):
            driver = disk.find("driver")
            assert (disk.get("type"), driver is not None and dict(driver.attrib)) == (
                "block",
                {"name": "qemu", "type": "raw", "cache": "none", "io": "native", "discard": "unmap"},
            )

    def test_the_disk_boots_first_then_the_cd_and_the_seed_never(self) -> None:
        xml = build(spec(seed="rpool/vms/web.seed", iso="/isos/a.iso"))
        orders = {}
        for disk in devices(xml, "disk"):
            target, boot = disk.find("target"), disk.find("boot")
            assert target is not None
            orders[target.get("dev")] = boot.get("order") if boot is not None else None
        assert orders == {"vda": "1", "vdb": None, "sda": "2"}

    def test_the_seed_and_the_cd_cannot_be_written(self) -> None:
        xml = build(spec(seed="rpool/vms/web.seed", iso="/isos/a.iso"))
        assert [disk.find("readonly") is not None for disk in devices(xml, "disk")] == [False, True, True]

    def test_the_display_is_on_loopback_alone(self) -> None:
        (graphics,) = devices(build(spec()), "graphics")
        (listen,) = graphics.findall("listen")
        assert (graphics.get("listen"), listen.get("address")) == ("127.0.0.1", "127.0.0.1")

    @pytest.mark.parametrize(("vcpus", "most"), [(1, 4), (2, 8), (63, 252), (64, 255), (255, 255)])
    def test_cpus_can_be_added_as_far_as_the_machine_goes(self, vcpus: int, most: int) -> None:
        domain = ET.fromstring(build(spec(vcpus=vcpus)))
        vcpu, cell = domain.find("vcpu"), domain.find("cpu/numa/cell")
        assert vcpu is not None and cell is not None
        assert (vcpu.text, vcpu.get("current"), cell.get("cpus")) == (str(most), str(vcpus), f"0-{most - 1}")

    def test_smm_only_where_the_firmware_enforces_secure_boot(self) -> None:
        for secure, state in ((True, "on"), (False, "off")):
            domain = ET.fromstring(build(spec(secure_boot=secure)))
            smm, loader = domain.find("features/smm"), domain.find("os/loader")
            assert smm is not None and loader is not None
            assert (smm.get("state"), loader.get("secure")) == (state, "yes" if secure else None)

    def test_names_in_it_are_escaped(self) -> None:
        assert facts(build(spec(iso="/isos/<&>'\".iso"))).cdroms == ("/isos/<&>'\".iso",)


def clone(xml: str, **more: Any) -> str:
    given: dict[str, Any] = {
        "name": "copy", "uuid": uuid_of("copy"), "macs": ["52:54:00:99:99:99"],
        "sources": {"/dev/zvol/rpool/vms/web": "/dev/zvol/rpool/vms/copy",
                    "/dev/zvol/rpool/vms/web.nvram": "/dev/zvol/rpool/vms/copy.nvram"},
    }  # fmt: skip
    return for_clone(xml, **{**given, **more})


def with_device(text: str, **shape: Any) -> str:
    return build(spec(**shape)).replace("<devices>", f"<devices>{text}", 1)


class TestClone:
    def test_has_a_name_uuid_addresses_and_volumes_of_its_own(self) -> None:
        origin = build(spec())
        made = clone(origin)
        assert (ET.fromstring(made).findtext("name"), ET.fromstring(made).findtext("uuid")) == ("copy", uuid_of("copy"))
        assert facts(made).disks == {"vda": "/dev/zvol/rpool/vms/copy", "nvram": "/dev/zvol/rpool/vms/copy.nvram"}
        assert [mac.get("address") for mac in devices(made, "interface/mac")] == ["52:54:00:99:99:99"]
        assert [serial.text for serial in devices(made, "disk/serial")] == ["copy-vda"]

    def test_has_nothing_left_of_its_origin_s_identity(self) -> None:
        origin = build(spec(seed="rpool/vms/web.seed"))
        seeds = {"/dev/zvol/rpool/vms/web.seed": "/dev/zvol/rpool/vms/copy.seed"}
        made = clone(origin, sources={
            "/dev/zvol/rpool/vms/web": "/dev/zvol/rpool/vms/copy",
            "/dev/zvol/rpool/vms/web.nvram": "/dev/zvol/rpool/vms/copy.nvram", **seeds,
        })  # fmt: skip
        assert not any(word in made for word in ("web", uuid_of("web"), "52:54:00:00:00:01"))

    def test_is_otherwise_as_its_origin(self) -> None:
        origin = build(spec(iso="/isos/a.iso", os="http://debian.org/debian/13", vcpus=6))
        made = facts(clone(origin))
        assert (made.memory, made.vcpus, made.os, made.cdroms, made.networks) == (
            2 * GIB, 6, "http://debian.org/debian/13", ("/isos/a.iso",), ("default",),
        )  # fmt: skip

    def test_is_taken_by_libvirt(self, driver: libvirt.virConnect) -> None:
        made = for_this_libvirt(clone(build(spec(accelerator="test", seed="", iso="/isos/a.iso"))))
        domain = driver.defineXMLFlags(made, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
        domain.undefine()

    def test_of_a_clone_is_again_one(self) -> None:
        once = clone(build(spec()))
        twice = for_clone(
            once, name="third", uuid=uuid_of("third"), macs=["52:54:00:11:11:11"],
            sources={"/dev/zvol/rpool/vms/copy": "/dev/zvol/rpool/vms/third",
                     "/dev/zvol/rpool/vms/copy.nvram": "/dev/zvol/rpool/vms/third.nvram"},
        )  # fmt: skip
        assert "copy" not in twice

    def test_title_description_and_generation_id_are_not_taken_along(self) -> None:
        origin = build(spec()).replace(
            "<name>", "<title>T</title><description>D</description><genid>G</genid><name>", 1
        )
        made = ET.fromstring(clone(origin))
        assert [made.find(tag) for tag in ("title", "description", "genid")] == [None] * 3

    def test_a_static_security_label_is_not_taken_along(self) -> None:
        static = "<seclabel type='static' model='apparmor'><label>libvirt-web</label></seclabel>"
        dynamic = "<seclabel type='dynamic' model='apparmor' relabel='yes'/>"
        origin = build(spec()).replace("</domain>", f"{static}{dynamic}</domain>")
        labels = ET.fromstring(clone(origin)).findall("seclabel")
        assert [each.get("type") for each in labels] == ["dynamic"]

    def test_sockets_and_host_devices_of_channels_and_interfaces_are_not_taken_along(self) -> None:
        origin = build(spec())
        origin = origin.replace('<channel type="unix">', '<channel type="unix"><source mode="bind" path="/x/web"/>')
        origin = origin.replace("<mac ", '<target dev="vnet7"/><alias name="net0"/><mac ')
        made = clone(origin)
        assert "/x/web" not in made and "vnet7" not in made and "net0" not in made

    @pytest.mark.parametrize(
        "disk",
        [
            "<disk type='file' device='disk'><source file='/data.img'/><target dev='vdx'/></disk>",
            "<disk type='block' device='disk'><source dev='/dev/zvol/rpool/other'/><target dev='vdx'/></disk>",
            "<disk type='block' device='lun'><source dev='/dev/sdx'/><target dev='vdx'/></disk>",
            "<disk type='network' device='disk'><source protocol='rbd' name='pool/image'/><target dev='vdx'/></disk>",
            "<disk type='volume' device='disk'><source pool='p' volume='v'/><target dev='vdx'/></disk>",
            "<disk type='nvme' device='disk'><source type='pci' namespace='1'/><target dev='vdx'/></disk>",
        ],
    )
    def test_a_disk_that_both_could_write_is_refused(self, disk: str) -> None:
        with pytest.raises(InvalidArgument, match="the VM has a disk that is no volume of it"):
            clone(with_device(disk))
        assert clone(with_device(disk.replace("<target", "<readonly/><target")))

    @pytest.mark.parametrize(
        "drive",
        [
            "<disk type='file' device='cdrom'><target dev='sdx'/><readonly/></disk>",
            "<disk type='file' device='cdrom'><source file='/isos/a.iso'/><target dev='sdx'/><readonly/></disk>",
            "<disk type='file' device='floppy'><target dev='fda'/></disk>",
            "<disk type='file' device='floppy'><source/><target dev='fda'/></disk>",
        ],
    )
    def test_a_drive_that_is_empty_or_a_cd_is_taken_along(self, drive: str) -> None:
        assert clone(with_device(drive)).count("<disk ") == 2

    def test_a_volume_given_as_a_file_is_the_clone_s_own(self) -> None:
        origin = build(spec()).replace('type="block" device="disk"', 'type="file" device="disk"')
        made = clone(origin.replace('dev="/dev/zvol/rpool/vms/web"', 'file="/dev/zvol/rpool/vms/web"'))
        (disk,) = devices(made, "disk")
        source = disk.find("source")
        assert source is not None
        assert (disk.get("type"), source.attrib) == ("block", {"dev": "/dev/zvol/rpool/vms/copy"})

    @pytest.mark.parametrize(
        "nvram",
        [
            "<nvram>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram>",
            "<nvram type='file'><source file='/var/lib/libvirt/qemu/nvram/web_VARS.fd'/></nvram>",
            "<nvram template='/fw/vars.fd'>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram>",
        ],
    )
    def test_variables_in_a_file_are_made_anew_by_libvirt(self, nvram: str) -> None:
        origin = ET.fromstring(build(spec()))
        os = origin.find("os")
        old = origin.find("os/nvram")
        assert os is not None and old is not None
        os.remove(old)
        os.append(ET.fromstring(nvram))
        made = ET.fromstring(clone(ET.tostring(origin, encoding="unicode"))).find("os/nvram")
        assert made is not None
        assert (made.text, list(made), made.get("type")) == (None, [], None)
        assert made.get("template") == ET.fromstring(nvram).get("template")

    @pytest.mark.parametrize(
        ("graphics", "address"),
        [
            ("<graphics type='vnc' port='5900' listen='0.0.0.0'><listen address='0.0.0.0'/></graphics>", "127.0.0.1"),
            ("<graphics type='spice' listen='192.168.1.1'/>", None),
            ("<graphics type='vnc'><listen type='network' network='lan' address='10.1.2.3'/></graphics>", "127.0.0.1"),
            ("<graphics type='vnc' listen='::1'><listen type='address' address='::1'/></graphics>", "::1"),
            ("<graphics type='vnc'/>", None),
        ],
    )  # fmt: skip
    def test_no_display_of_it_listens_to_the_world(self, graphics: str, address: str | None) -> None:
        origin = ET.fromstring(build(spec()))
        old, parent = origin.find("devices/graphics"), origin.find("devices")
        assert old is not None and parent is not None
        parent.remove(old)
        parent.append(ET.fromstring(graphics))
        (made,) = devices(clone(ET.tostring(origin, encoding="unicode")), "graphics")
        assert made.get("listen") in (None, "127.0.0.1", "::1")
        assert [each.get("address") for each in made.findall("listen")] == ([address] if address else [])
        assert (made.get("port"), made.get("autoport")) == (None, "yes")

    def test_a_display_moves_to_where_displays_are_configured_to_listen(self) -> None:
        (graphics,) = devices(clone(build(spec(vnc_listen="10.0.0.1")), vnc_listen="10.0.0.2"), "graphics")
        assert graphics.get("listen") == "10.0.0.2"

    def test_interfaces_are_counted_for_their_addresses(self) -> None:
        assert domain_xml.interface_count(build(spec())) == 1
        assert domain_xml.interface_count(build(spec(network=None))) == 0
        two = with_device("<interface type='user'/>")
        made = clone(two, macs=["52:54:00:00:00:0a", "52:54:00:00:00:0b"])
        assert [each.get("address") for each in devices(made, "interface/mac")] == [
            "52:54:00:00:00:0a",
            "52:54:00:00:00:0b",
        ]


class TestLive:
    def test_console_and_display_of_a_running_domain(self) -> None:
        live = build(spec()).replace('<serial type="pty">', '<serial type="pty"><source path="/dev/pts/3"/>')
        live = live.replace('port="-1"', 'port="5901"')
        assert domain_xml.console_path(live) == "/dev/pts/3"
        assert domain_xml.display_address(live) == "127.0.0.1:5901"

    def test_of_one_that_has_none(self) -> None:
        assert domain_xml.console_path(build(spec())) == ""
        assert domain_xml.display_address(build(spec())) == ""
        assert domain_xml.display_address("<domain><devices/></domain>") == ""


class TestFacts:
    def test_memory_in_any_unit(self) -> None:
        for text, size in [("<memory unit='GiB'>2</memory>", 2 * GIB), ("<memory>1024</memory>", MIB),
                           ("<memory unit='b'>512</memory>", 512),
                           ("<memory>8192</memory><currentMemory>4096</currentMemory>", 4 * MIB)]:  # fmt: skip
            assert facts(f"<domain>{text}</domain>").memory == size

    def test_of_a_domain_that_says_little(self) -> None:
        assert facts("<domain/>") == domain_xml.Facts()
        assert facts("<domain><vcpu>3</vcpu></domain>").vcpus == 3


SECRET = "s3cr3t"
QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
SECRETS = [
    f"<devices><graphics type='vnc' passwd='{SECRET}' passwdValidTo='2026-01-01'/></devices>",
    f"<devices><graphics type='spice' passwd='{SECRET}'/></devices>",
    f"<devices><disk><encryption format='luks'><secret uuid='{SECRET}'/></encryption></disk></devices>",
    f"<devices><disk><source><auth username='a'><secret usage='{SECRET}'/></auth></source></disk></devices>",
    f"<devices><disk><source><cookies><cookie name='c'>{SECRET}</cookie></cookies></source></disk></devices>",
    f"<qemu:commandline xmlns:qemu='{QEMU}'><qemu:arg value='{SECRET}'/></qemu:commandline>",
    f"<launchSecurity type='sev'><session>{SECRET}</session></launchSecurity>",
    f"<sysinfo type='smbios'><oemStrings><entry>io.systemd.credential:x={SECRET}</entry></oemStrings></sysinfo>",
    f"<sysinfo type='fwcfg'><entry name='opt/com.coreos/config'>{SECRET}</entry></sysinfo>",
]


class TestKept:
    @pytest.mark.parametrize("inside", SECRETS)
    def test_no_secret_is_kept(self, inside: str) -> None:
        xml = f"<domain><name>web</name>{inside}</domain>"
        assert SECRET in xml and SECRET not in without_secrets(xml)
        kept = unpack(pack(xml))
        assert SECRET not in kept
        assert ET.fromstring(kept).findtext("name") == "web"

    def test_all_else_comes_back(self, shape: dict[str, Any]) -> None:
        xml = build(spec(**shape))
        kept = unpack(pack(xml))
        assert ET.canonicalize(kept, strip_text=True) == ET.canonicalize(xml, strip_text=True)
        assert facts(kept) == facts(xml)

    @pytest.mark.parametrize("text", ["two\nlines", "a\u2028b", "  kept  ", "grün & <bunt>"])
    def test_texts_come_back_as_they_were(self, text: str) -> None:
        domain = ET.Element("domain")
        ET.SubElement(domain, "description").text = text
        xml = ET.tostring(domain, encoding="unicode")
        assert ET.fromstring(unpack(pack(xml))).findtext("description") == text

    def test_an_ordinary_domain_fits_into_a_property(self, shape: dict[str, Any]) -> None:
        packed = pack(build(spec(**shape)))
        assert 0 < len(packed) <= domain_xml.MOST_PACKED
        assert packed.isascii() and packed.isprintable() and not set(packed) & set(" \t\n,'\"")

    def test_one_that_is_too_long_is_not_kept(self) -> None:
        noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20000))
        assert pack(f"<domain><description>{noise}</description></domain>") == ""

    @given(st.text(max_size=50) | st.binary(max_size=50).map(lambda raw: raw.hex()))
    def test_what_was_not_packed_is_refused(self, value: str) -> None:
        with pytest.raises(ValueError):
            unpack(value)

    @pytest.mark.parametrize("cut", [1, 10, 100])
    def test_what_was_cut_off_is_refused(self, cut: int) -> None:
        with pytest.raises(ValueError):
            unpack(pack(build(spec()))[:-cut])

    def test_a_bomb_does_not_unfold(self) -> None:
        bomb = base64.b85encode(zlib.compress(b"<a>" + b" " * (64 << 20) + b"</a>", 9)).decode()
        with pytest.raises(ValueError, match="too long"):
            unpack(bomb)


class TestRestored:
    """A definition of an earlier moment, as that of the VM as it is called now."""

    def test_of_a_vm_that_was_not_renamed_is_the_same(self) -> None:
        xml = domain_xml.build(spec("web"))
        assert domain_xml.facts(domain_xml.restored(xml, name="web", uuid=uuid_of("web"))) == domain_xml.facts(xml)

    def test_of_one_that_was_has_its_volumes_under_the_new_name(self) -> None:
        xml = domain_xml.build(
            spec("web", disks={"vda": "rpool/vms/web", "vdb": "rpool/vms/web.vdb", "vdc": "rpool/x"})
        )
        found = domain_xml.restored(xml, name="new", uuid="7")
        assert domain_xml.facts(found).disks == {
            "vda": "/dev/zvol/rpool/vms/new", "vdb": "/dev/zvol/rpool/vms/new.vdb", "vdc": "/dev/zvol/rpool/x",
            "nvram": "/dev/zvol/rpool/vms/new.nvram",
        }  # fmt: skip
        assert "<name>new</name>" in found and "<uuid>7</uuid>" in found


def test_secrets_are_named_by_what_holds_them() -> None:
    xml = domain_xml.build(spec("web"))
    assert domain_xml.secrets(xml) == ()
    more = "<sysinfo type='fwcfg'><entry name='opt/x'>s</entry></sysinfo><launchSecurity type='sev'/></domain>"
    with_both = xml.replace("</domain>", more).replace('autoport="yes"', 'autoport="yes" passwdValidTo="2026"')
    assert domain_xml.secrets(with_both) == ("sysinfo", "launchSecurity", "graphics password")
    assert domain_xml.secrets(domain_xml.without_secrets(with_both)) == ()
