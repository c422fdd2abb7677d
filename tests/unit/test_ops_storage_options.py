"""How ZFS keeps a VM's disks: given this, exactly these steps, or this refusal; and the way back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.engine.plan import Plan
from kldload_kvm.model.errors import InvalidArgument, KvmError, NoSpace, NotFound
from kldload_kvm.model.sizes import GIB
from kldload_kvm.model.volume_settings import said_by_zfs
from kldload_kvm.ops.storage_options import SetStorageOptions
from kldload_kvm.steps.settings import ReadSettings, SetSetting
from loops import in_loop
from memory_host import MemoryHost
from world import World, domain, id_of, volumes_of


@pytest.fixture
def host() -> World:
    return World()


def plan(host: World, **options: Any) -> Plan:
    return SetStorageOptions.parse(id_of("web"), [], options).plan(host.view())


def refusal(host: World, **options: Any) -> KvmError:
    with pytest.raises(KvmError) as caught:
        plan(host, **options)
    return caught.value


class TestSteps:
    def test_what_is_set_is_noted_first_and_then_each_disk_changed(self, host: World) -> None:
        host.vm("web", "running", seed=True, disks=2)
        made = plan(host, compression="zstd", primarycache="all")
        names = ("rpool/vms/web", "rpool/vms/web.vdb")
        assert made.prepare == (
            ReadSettings(names, ("compression", "primarycache")),
            *(SetSetting(n, k, v) for n in names for k, v in (("compression", "zstd"), ("primarycache", "all"))),
        )
        assert (made.commit, made.finish, made.result) == (None, (), {"datasets": names})
        assert made.description == "set compression zstd, primarycache all on the disks of web"

    def test_one_disk_only(self, host: World) -> None:
        host.vm("web", disks=2)
        assert plan(host, compression="off", target="vdb").result == {"datasets": ("rpool/vms/web.vdb",)}

    @pytest.mark.parametrize(("switch", "value"), [("on", "auto"), ("off", "none")])
    def test_a_reservation_is_of_the_whole_disk_or_none(self, host: World, switch: str, value: str) -> None:
        host.vm("web")
        assert plan(host, refreservation=switch).prepare[-1] == SetSetting("rpool/vms/web", "refreservation", value)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "kind"),
        [
            ({}, InvalidArgument),
            ({"target": "vda"}, InvalidArgument),
            ({"compression": "lzma"}, InvalidArgument),
            ({"compression": "lz4 copies=3"}, InvalidArgument),
            ({"primarycache": "everything"}, InvalidArgument),
            ({"refreservation": "10G"}, InvalidArgument),
            ({"compression": "off", "target": "vdq"}, NotFound),
        ],
    )
    def test_what_cannot_be(self, host: World, options: dict[str, Any], kind: type[KvmError]) -> None:
        host.vm("web")
        error = refusal(host, **options)
        assert type(error) is kind

    def test_no_room_to_reserve(self, host: World) -> None:
        host.vm("web")
        host.inventory.put_dataset(replace(host.inventory.datasets["rpool/vms"], used=85 * GIB, available=15 * GIB))
        error = refusal(host, refreservation="on")
        assert isinstance(error, NoSpace)
        assert "rpool/vms has 15G left" in error.why
        assert plan(host, refreservation="off")


class TestUndo:
    @in_loop
    async def test_each_is_set_back_or_inherited_again(self) -> None:
        """With trouble at the very last change."""
        host = MemoryHost()
        await host.prepare()
        for each in volumes_of("web"):
            await host.zfs.create_volume(each.name, each.size, each.properties)
        await host.zfs.set("rpool/vms/web", {"compression": "zle"})
        await host.virt.define(domain("web").xml)
        await host.known()
        world = World()
        world.inventory = host.inventory
        before = host.picture()
        settings = {"compression": "zstd", "primarycache": "none", "refreservation": "auto"}
        host.troubles.at, host.troubles.when = len(host.troubles.done) + 2, "after"
        engine = Engine(host, MemoryJournal())
        job = engine.start(SetStorageOptions(id_of("web"), settings).plan(world.view()), 0)
        await job.finished.wait()
        assert job.error
        assert "not undone" not in job.error.hint
        assert host.picture() == before
        commands = [each for each in host.memory_zfs.commands if each.startswith(("set", "inherit"))]
        assert commands[-3:] == [
            "set refreservation=0 rpool/vms/web", "inherit primarycache rpool/vms/web",
            "set compression=zle rpool/vms/web",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "said", "same"),
    [
        ("compression", "zstd", "zstd", True),
        ("compression", "gzip-6", "gzip", True),
        ("compression", "zstd-fast-1", "zstd-fast", True),
        ("compression", "zstd", "lz4", False),
        ("refreservation", "auto", "21474836480", True),
        ("refreservation", "auto", "0", False),
        ("refreservation", "none", "0", True),
        ("refreservation", "none", "21474836480", False),
    ],
)
def test_what_zfs_says_is_told_to_be_what_was_set(key: str, value: str, said: str, same: bool) -> None:
    assert said_by_zfs(key, value, said) is same
