"""Create: given this host and this request, exactly these steps; or this refusal, with nothing planned at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bad_names import BAD_VM_NAMES
from kldload_kvm.config import Config, StorageConfig
from kldload_kvm.engine.plan import Guard, Plan
from kldload_kvm.images.store import Image
from kldload_kvm.model import properties
from kldload_kvm.model.domain_xml import facts
from kldload_kvm.model.errors import (
    AlreadyExists,
    InvalidArgument,
    KvmError,
    LibvirtUnavailable,
    NoSpace,
    NotFound,
    ZfsUnavailable,
)
from kldload_kvm.model.firmware import FirmwarePair
from kldload_kvm.model.pool_topology import Group
from kldload_kvm.model.sizes import GIB, KIB, MIB
from kldload_kvm.ops.create import Create
from kldload_kvm.steps.domains import DefineDomain, SetAutostart, StartDomain, StartNetwork
from kldload_kvm.steps.images import ConvertImage
from kldload_kvm.steps.seeds import WriteSeed
from kldload_kvm.steps.volumes import CreateVolume, NoteWritten, WriteFirmwareVariables
from world import CONFIG, DEBIAN, World, filesystem, volume

TIB = 1 << 40


@pytest.fixture
def host() -> World:
    return World()


def request(name: str = "new", **options: Any) -> Create:
    return Create.parse("", [name], {key.replace("_", "-"): value for key, value in options.items()})


def plan(host: World, name: str = "new", **options: Any) -> Plan:
    return request(name, **options).plan(host.view())


def refusal(host: World, name: str = "new", facts: dict[str, Any] | None = None, **options: Any) -> KvmError:
    with pytest.raises(KvmError) as caught:
        request(name, **options).plan(host.view(**(facts or {})))
    assert caught.value.hint
    return caught.value


def define(made: Plan) -> DefineDomain:
    assert isinstance(made.commit, DefineDomain)
    return made.commit


def created(made: Plan) -> dict[str, CreateVolume]:
    return {step.dataset: step for step in made.prepare if isinstance(step, CreateVolume)}


class TestSteps:
    def test_a_blank_disk(self, host: World) -> None:
        made = plan(host)
        domain = define(made)
        vm = made.result["id"]
        ours = {properties.VM: vm, properties.UUID: domain.uuid}
        assert made.prepare == (
            CreateVolume("rpool/vms/new", 20 * GIB, {
                "volmode": "dev", **ours, "volblocksize": "65536", "compression": "lz4", properties.ROLE: "disk",
                properties.TARGET: "vda",
            }),
            CreateVolume("rpool/vms/new.nvram", 528 * KIB, {
                "volmode": "dev", **ours, "volblocksize": "16384", "compression": "lz4", properties.ROLE: "nvram",
            }),
            WriteFirmwareVariables("rpool/vms/new.nvram", "/fw/vars.fd"),
            NoteWritten(("rpool/vms/new", "rpool/vms/new.nvram")),
        )  # fmt: skip
        assert (domain.name, made.finish, made.warnings, made.destroys) == ("new", (), (), ())
        assert facts(domain.xml).disks == {
            "vda": "/dev/zvol/rpool/vms/new",
            "nvram": "/dev/zvol/rpool/vms/new.nvram",
        }
        assert made.result == {
            "vm": vm, "id": vm, "name": "new", "uuid": domain.uuid, "volblocksize": 65536,
            "volblocksize-reason": "64K suits mirrors and single disks",
        }  # fmt: skip
        assert made.objects == (vm,)

    def test_the_block_size_suits_the_pool_and_an_unusual_one_says_why(self, host: World) -> None:
        pools = {"rpool": (Group("raidz2", 12, 10),)}
        made = Create.parse("", ["new"], {}).plan(host.view(pools=pools))
        assert created(made)["rpool/vms/new"].properties["volblocksize"] == "131072"
        (warning,) = made.warnings
        assert warning.startswith("volblocksize is 128K: rpool is raidz2 of 12 disks, on which smaller blocks")
        asked = Create.parse("", ["new"], {"volblocksize": 16 * KIB}).plan(host.view(pools=pools))
        assert (asked.warnings, asked.result["volblocksize-reason"]) == ((), "it was asked for")
        host.config = replace(host.config, volblocksize=32 * KIB)
        assert plan(host).result["volblocksize-reason"] == "it is configured"

    def test_from_a_disk_image_with_a_seed(self, host: World) -> None:
        made = plan(host, image="debian.qcow2", user="admin", hostname="www.example.org")
        kinds = [type(step) for step in made.prepare]
        assert kinds == [*[CreateVolume] * 3, WriteFirmwareVariables, WriteSeed, ConvertImage, NoteWritten]
        seed, convert = made.prepare[4], made.prepare[5]
        assert isinstance(seed, WriteSeed)
        assert (seed.dataset, seed.size) == ("rpool/vms/new.seed", MIB)
        assert seed.meta == f"instance-id: {made.result['id']}\nlocal-hostname: www.example.org\n"
        assert '"admin"' in seed.user
        assert convert == ConvertImage("/isos/debian.qcow2", "qcow2", 3 * GIB, "rpool/vms/new")
        seeds = created(made)["rpool/vms/new.seed"].properties
        assert (seeds[properties.ROLE], seeds[properties.TARGET]) == ("seed", "vdb")
        assert facts(define(made).xml).disks["vdb"] == "/dev/zvol/rpool/vms/new.seed"

    def test_the_guest_of_an_image_has_the_vm_s_name_if_none_was_given(self, host: World) -> None:
        seed = next(s for s in plan(host, "build_box", image="debian.qcow2").prepare if isinstance(s, WriteSeed))
        assert "local-hostname: build-box\n" in seed.meta

    def test_with_an_iso_in_the_drive_and_no_seed(self, host: World) -> None:
        made = plan(host, iso="netinst.iso")
        assert facts(define(made).xml).cdroms == ("/isos/netinst.iso",)
        assert len(created(made)) == 2

    def test_started_and_with_the_host(self, host: World) -> None:
        made = plan(host, start=True, autostart=True)
        uuid = define(made).uuid
        assert made.finish == (
            SetAutostart(uuid, "new", True),
            StartDomain(uuid, "new", ("rpool/vms/new", "rpool/vms/new.nvram")),
        )

    def test_a_network_that_is_down_is_started_first(self, host: World) -> None:
        made = plan(host, start=True, network="network=down")
        assert [type(step) for step in made.finish] == [StartNetwork, StartDomain]
        assert plan(host, network="network=down").finish == ()

    def test_what_was_asked_for_goes_before_what_is_configured(self, host: World) -> None:
        made = plan(host, memory=4 * GIB, vcpus=6, disk=40 * GIB, volblocksize=16 * KIB, compression="zstd-3")
        disk = created(made)["rpool/vms/new"]
        assert (disk.size, disk.properties["volblocksize"], disk.properties["compression"]) == (
            40 * GIB, "16384", "zstd-3",
        )  # fmt: skip
        domain = facts(define(made).xml)
        assert (domain.memory, domain.vcpus) == (4 * GIB, 6)

    def test_on_another_storage(self, host: World) -> None:
        made = plan(host, storage="fast")
        assert list(created(made)) == ["vmpool/vms/new", "vmpool/vms/new.nvram"]

    def test_the_operating_system_is_recorded_as_its_osinfo_id(self, host: World) -> None:
        assert facts(define(plan(host, os="debian13")).xml).os == "http://debian.org/debian/13"

    def test_holds_its_name_and_depends_on_the_storage_and_on_the_names_being_free(self, host: World) -> None:
        made = plan(host, image="debian.qcow2")
        assert made.locks == {"VM:new"}
        parent = host.inventory.datasets["rpool/vms"]
        assert made.guards == (
            Guard("guid", "rpool/vms", parent.guid),
            *(Guard("absent", f"rpool/vms/new{suffix}") for suffix in ("", ".nvram", ".seed")),
        )

    def test_is_the_same_each_time_it_is_made_from_the_same(self, host: World) -> None:
        assert plan(host, image="debian.qcow2") == plan(host, image="debian.qcow2")

    def test_polkit_is_told_name_and_dataset(self, host: World) -> None:
        assert request(storage="fast").subject(host.view()) == {"vm": "new", "dataset": "vmpool/vms/new"}

    def test_is_emulated_where_there_is_no_kvm_or_as_configured(self, host: World) -> None:
        def kind(config: Config, kvm: bool) -> str:
            view = replace(host.view(kvm=kvm), config=config)
            return define(request().plan(view)).xml.partition('type="')[2].partition('"')[0]

        assert [kind(CONFIG, kvm) for kvm in (True, False)] == ["kvm", "qemu"]
        assert kind(replace(CONFIG, accelerator="qemu"), True) == "qemu"
        assert kind(replace(CONFIG, accelerator="kvm"), False) == "kvm"

    def test_secure_boot_as_the_firmware_does(self, host: World) -> None:
        firmware = FirmwarePair("/fw/code.fd", "/fw/vars.fd", secure=True)
        made = request().plan(host.view(firmware=firmware))
        assert 'secure="yes"' in define(made).xml

    def test_displays_listen_where_configured(self, host: World) -> None:
        view = replace(host.view(), config=replace(CONFIG, vnc_listen="10.0.0.1"))
        assert 'address="10.0.0.1"' in define(request().plan(view)).xml


class TestNetworks:
    def network(self, host: World, wanted: str = "", config: Config = CONFIG, **facts: Any) -> str:
        view = replace(host.view(**facts), config=config)
        made = Create(name="new", network=wanted).plan(view)
        xml = define(made).xml
        if "<interface" not in xml:
            return "none"
        return xml.partition("<interface")[2].partition("<source ")[2].partition(" />")[0]

    def test_a_bridge_where_there_is_one_else_libvirt_s(self, host: World) -> None:
        assert self.network(host) == 'bridge="br0"'
        assert self.network(host, bridges=frozenset()) == 'network="default"'

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            ("bridge=br0", 'bridge="br0"'),
            ("network=down", 'network="down"'),
            ("none", "none"),
            ("auto", 'bridge="br0"'),
        ],
    )
    def test_as_asked_for(self, host: World, wanted: str, found: str) -> None:
        assert self.network(host, wanted) == found

    def test_as_configured(self, host: World) -> None:
        assert self.network(host, config=replace(CONFIG, network="none")) == "none"
        assert self.network(host, config=replace(CONFIG, network="network=default")) == 'network="default"'
        other = replace(CONFIG, bridge="br1")
        assert self.network(host, config=other) == 'network="default"'
        assert self.network(host, config=other, bridges=frozenset({"br0", "br1"})) == 'bridge="br1"'

    @pytest.mark.parametrize(
        ("wanted", "kind", "why", "hint"),
        [
            ("bridge=br9", NotFound, "this host has no bridge 'br9'", "its bridges: br0"),
            ("bridge=", NotFound, "this host has no bridge ''", "its bridges: br0"),
            ("network=lan", NotFound, "libvirt has no network 'lan'", "its networks: default, down; or --network none"),
            ("br0", InvalidArgument, "'br0' is no network", "write bridge=NAME, network=NAME or none"),
            ("user=x", InvalidArgument, "'user=x' is no network", "write bridge=NAME, network=NAME or none"),
            ("bridge=<x>", NotFound, "this host has no bridge '<x>'", "its bridges: br0"),
        ],
    )
    def test_unknown(self, host: World, wanted: str, kind: type[KvmError], why: str, hint: str) -> None:
        error = refusal(host, network=wanted)
        assert (type(error), error.what, error.why, error.hint) == (kind, "new was not created", why, hint)

    def test_libvirt_s_default_is_missing(self, host: World) -> None:
        error = refusal(host, facts={"bridges": frozenset(), "networks": {}})
        assert error.why == "libvirt has no network 'default'"
        assert "--network none" in error.hint


class TestSizes:
    def size(self, host: World, **options: Any) -> int:
        return created(plan(host, **options))["rpool/vms/new"].size

    def test_the_default_or_the_image_s_if_that_is_larger(self, host: World) -> None:
        assert self.size(host, image="debian.qcow2") == 20 * GIB
        large = replace(DEBIAN, virtual_size=50 * GIB)
        assert self.with_image(host, large) == 50 * GIB

    def test_an_image_s_size_is_rounded_up_to_whole_blocks(self, host: World) -> None:
        odd = replace(DEBIAN, virtual_size=30 * GIB + 512)
        assert self.with_image(host, odd) == 30 * GIB + 64 * KIB

    def with_image(self, host: World, image: Image, **options: Any) -> int:
        made = request(image="debian.qcow2", **options).plan(host.view(images={"rpool": (image,)}))
        return created(made)["rpool/vms/new"].size

    @pytest.mark.parametrize(
        ("disk", "why"),
        [
            (0, "disk is 0B, and must be from 1M to 1P"),
            (512 * KIB, "disk is 512K, and must be from 1M to 1P"),
            (2 << 50, "disk is 2P, and must be from 1M to 1P"),
            (GIB + 1, "disk is 1073741825, and must be a multiple of 512"),
        ],
    )
    def test_impossible_at_the_door(self, disk: int, why: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            request(disk=disk)
        assert caught.value.why == why

    def test_no_multiple_of_the_block_size_with_the_next_one(self, host: World) -> None:
        error = refusal(host, disk=GIB + 512)
        assert error.why == "the disk's size, 1073742336 bytes, is no multiple of its block size, 65536"
        assert error.hint == "use 1073807360B"
        assert self.size(host, disk=1073807360) == 1073807360
        assert isinstance(refusal(host, disk=GIB + 512, volblocksize=128 * KIB), InvalidArgument)

    def test_too_small_for_the_image(self, host: World) -> None:
        error = refusal(host, disk=2 * GIB, image="debian.qcow2")
        assert error.why == "2G cannot hold debian.qcow2, which needs 3G"

    def test_larger_than_the_pool_is_a_warning_with_the_figures(self, host: World) -> None:
        assert plan(host, disk=100 * GIB).warnings == ()
        assert plan(host, disk=TIB).warnings == (
            "the disk is thin: it promises 1T, and the pool holds 100G in all",
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("option", "value", "why"),
        [
            ("memory", 0, "memory is 0B, and must be from 64M to 16T"),
            ("memory", 63 * MIB, "memory is 63M"),
            ("memory", 17 * TIB, "memory is 17T"),
            ("memory", GIB + 1, "must be a multiple of 1048576"),
            ("vcpus", 0, "vcpus is 0, and must be from 1 to 255"),
            ("vcpus", 256, "vcpus is 256, and must be from 1 to 255"),
            ("volblocksize", 2 * KIB, "volblocksize is 2048, and must be a power of two from 4K to 128K"),
            ("volblocksize", 256 * KIB, "volblocksize is 262144"),
            ("volblocksize", 48 * KIB, "must be a power of two"),
            ("volblocksize", 0, "must be a power of two"),
            ("compression", "lz5", "there is no compression 'lz5'"),
            ("compression", "gzip-10", "there is no compression 'gzip-10'"),
            ("compression", "lz4-fast", "there is no compression"),
            ("compression", "zstd-20", "there is no compression"),
            ("compression", "", "there is no compression ''"),
            ("compression", "lz4\nmountpoint=/", "there is no compression"),
        ],
    )
    def test_other_values_out_of_bounds(self, option: str, value: Any, why: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            request(**{option: value})
        assert caught.value.what == "new was not created"
        assert why in caught.value.why

    @pytest.mark.parametrize("value", ["on", "off", "lz4", "zle", "gzip-9", "zstd", "zstd-19", "zstd-fast-10"])
    def test_compressions(self, host: World, value: str) -> None:
        assert created(plan(host, compression=value))["rpool/vms/new"].properties["compression"] == value


class TestRefusals:
    @pytest.mark.parametrize(("name", "why"), BAD_VM_NAMES)
    def test_bad_names(self, name: str, why: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            request(name)
        assert why in caught.value.why

    @pytest.mark.parametrize("name", ["web", "other", "stranger", "clone"])
    def test_a_name_that_is_taken_on_any_storage_or_by_a_domain(self, host: World, name: str) -> None:
        host.vm("web")
        host.vm("other", parent="vmpool/vms")
        host.inventory.put_domain(replace(host.vm("tmp").domain, uuid="7", name="stranger"))  # type: ignore[type-var]
        host.inventory.put_dataset(volume("vmpool/vms/clone.nvram", "nvram"))
        error = refusal(host, name)
        assert (type(error), error.what, error.hint) == (
            AlreadyExists, f"the name {name} is taken", "choose another name",
        )  # fmt: skip

    def test_a_dataset_of_that_name_that_is_no_vm(self, host: World) -> None:
        host.inventory.put_dataset(filesystem("rpool/vms/new"))
        assert refusal(host).why == "there is a dataset rpool/vms/new"

    def test_a_seed_left_over(self, host: World) -> None:
        host.inventory.put_dataset(volume("rpool/vms/new.seed", "seed", vm="gone"))
        assert refusal(host).why == "there is a dataset rpool/vms/new.seed"

    def test_libvirt_is_away(self, host: World) -> None:
        error = refusal(host, facts={"libvirt": False})
        assert isinstance(error, LibvirtUnavailable)
        assert "libvirtd.socket" in error.hint

    def test_the_storage_is_unknown(self, host: World) -> None:
        error = refusal(host, storage="tape")
        assert (type(error), error.why) == (NotFound, "there is no storage 'tape'")
        assert error.hint.startswith("there are: rpool, fast;")

    def test_the_storage_s_dataset_is_missing(self) -> None:
        host = World(Config(storages=(StorageConfig("rpool", "rpool/vms", True),)))
        host.inventory.remove_dataset("rpool/vms")
        error = refusal(host)
        assert (type(error), error.why) == (NotFound, "there is no dataset rpool/vms")
        assert error.hint.endswith("create it: kvm-host fix storage-missing")

    def test_zfs_is_missing(self) -> None:
        host = World(Config(storages=(StorageConfig("rpool", "rpool/vms", True),)))
        host.inventory.remove_dataset("rpool/vms")
        host.facts = replace(host.facts, zfs=ZfsUnavailable("", "the zfs command is not installed", "install it"))
        error = refusal(host)
        assert (type(error), error.why, error.hint) == (
            ZfsUnavailable,
            "the zfs command is not installed",
            "install it",
        )

    def test_there_is_no_firmware(self, host: World) -> None:
        error = refusal(host, facts={"firmware": None})
        assert (type(error), error.hint) == (NotFound, "apt install ovmf")

    @pytest.mark.parametrize(
        ("options", "kind", "why"),
        [
            ({"iso": "none.iso"}, NotFound, "no image store has 'none.iso'"),
            ({"image": "none.qcow2"}, NotFound, "no image store has 'none.qcow2'"),
            ({"iso": "../../etc/shadow"}, NotFound, "no image store has '../../etc/shadow'"),
            ({"iso": "debian.qcow2"}, InvalidArgument, "debian.qcow2 is no ISO: it is qcow2"),
            ({"image": "netinst.iso"}, InvalidArgument, "netinst.iso is no disk image: it is iso"),
            ({"os": "minix9"}, InvalidArgument, ""),
        ],
    )
    def test_unknown_or_wrong_images_and_systems(
        self, host: World, options: dict[str, str], kind: type[KvmError], why: str
    ) -> None:
        error = refusal(host, **options)
        assert (type(error), error.why) == (kind, why)

    def test_an_image_is_taken_from_the_vm_s_own_storage_first(self, host: World) -> None:
        fast = replace(DEBIAN, path="/fast/debian.qcow2", virtual_size=GIB)
        view = host.view(images={"rpool": (DEBIAN,), "fast": (fast,)})
        for storage, path in (("", "/isos/debian.qcow2"), ("fast", "/fast/debian.qcow2")):
            made = Create(name="new", image="debian.qcow2", storage=storage).plan(view)
            convert = next(step for step in made.prepare if isinstance(step, ConvertImage))
            assert convert.path == path
        only = host.view(images={"fast": (fast,)})
        assert Create(name="new", image="debian.qcow2").plan(only)

    def test_both_an_iso_and_an_image(self) -> None:
        with pytest.raises(InvalidArgument, match="both an ISO and a disk image were given"):
            request(iso="a", image="b")

    @pytest.mark.parametrize("option", ["hostname", "user", "ssh-keys", "password-hash"])
    def test_what_is_for_an_image_s_guest_alone(self, option: str) -> None:
        with pytest.raises(InvalidArgument, match=f"{option} is for the guest of a disk image, and none was given"):
            Create.parse("", ["new"], {option: ["x"] if option == "ssh-keys" else "x"})

    @pytest.mark.parametrize(
        "options",
        [{"hostname": "a_b"}, {"user": "root"}, {"user": "a b"}, {"ssh-keys": ["x"]}, {"password-hash": "secret"}],
    )
    def test_bad_values_for_the_guest(self, options: dict[str, Any]) -> None:
        with pytest.raises(InvalidArgument) as caught:
            Create.parse("", ["new"], {"image": "debian.qcow2", "user": "admin", **options})
        assert "secret" not in str(caught.value)

    def test_the_pool_is_below_its_floor(self, host: World) -> None:
        host.inventory.put_dataset(filesystem("rpool/vms", used=96 * GIB, available=4 * GIB))
        error = refusal(host)
        assert (type(error), error.why) == (NoSpace, "rpool/vms has 4G left, and 5G are kept free")
        assert plan(host, storage="fast")

    def test_names_that_would_be_too_long_in_the_trash(self) -> None:
        deep = "rpool/" + "a" * 70
        host = World(Config(storages=(StorageConfig("rpool", deep, True),)))
        error = refusal(host, "x" * 63)
        assert (type(error), error.what) == (InvalidArgument, f"{'x' * 63} was not created")
        assert "ZFS takes 255" in error.why
        assert error.hint == "choose a name that is 4 characters shorter"
        assert plan(host, "x" * 59)
