"""Rename: given this VM, exactly these steps, or this refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bad_names import BAD_VM_NAMES
from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.engine.plan import Guard, Plan
from kldload_kvm.model.domain_devices import sources
from kldload_kvm.model.errors import AlreadyExists, Busy, InvalidArgument, KvmError, WrongState
from kldload_kvm.ops.rename import Rename
from kldload_kvm.steps.renaming import MoveSources, RenameDomain
from kldload_kvm.steps.volumes import RenameVolume
from loops import in_loop
from memory_host import MemoryHost
from world import World, domain, filesystem, guid_of, id_of, uuid_of, volume, volumes_of

DEV = "/dev/zvol/rpool/vms/"


@pytest.fixture
def host() -> World:
    return World()


def plan(host: World, name: str = "shop") -> Plan:
    return Rename.parse(id_of("web"), [name], {}).plan(host.view())


def refusal(host: World, name: str = "shop") -> KvmError:
    with pytest.raises(KvmError) as caught:
        plan(host, name)
    return caught.value


class TestSteps:
    def test_volumes_then_the_name_then_the_paths(self, host: World) -> None:
        host.vm("web", seed=True, disks=2)
        made = plan(host)
        endings = ("", ".vdb", ".nvram", ".seed")
        *volumes, name, paths = made.prepare
        assert volumes == [
            RenameVolume(f"rpool/vms/web{e}", f"rpool/vms/shop{e}", guid_of(f"rpool/vms/web{e}")) for e in endings
        ]
        assert name == RenameDomain(uuid_of("web"), "web", "shop")
        assert paths == MoveSources(uuid_of("web"), "shop", {f"{DEV}web{e}": f"{DEV}shop{e}" for e in endings})
        assert (made.commit, made.finish, made.destroys) == (None, (), ())
        assert made.locks == {"VM:web", "VM:shop"}
        assert [each.name for each in made.guards if each.what == "absent"] == [f"rpool/vms/shop{e}" for e in endings]
        assert Guard("state", uuid_of("web"), "shutoff") in made.guards

    def test_an_adopted_domain_of_another_name_takes_the_new_one(self, host: World) -> None:
        host.vm("web", "orphan")
        host.inventory.put_domain(domain("web", name="other"))
        assert RenameDomain(uuid_of("web"), "other", "shop") in plan(host).prepare

    def test_one_that_has_the_new_name_already_keeps_it(self, host: World) -> None:
        host.vm("web", "orphan")
        host.inventory.put_domain(domain("web", name="shop"))
        assert [type(s) for s in plan(host).prepare] == [RenameVolume, RenameVolume, MoveSources]

    def test_a_volume_that_is_not_named_after_the_vm_stays(self, host: World) -> None:
        host.vm("web")
        host.inventory.put_dataset(volume("rpool/vms/website", "disk", "vdb", vm="web"))
        assert [s.new for s in plan(host).prepare if isinstance(s, RenameVolume)] == [
            "rpool/vms/shop", "rpool/vms/shop.nvram",
        ]  # fmt: skip


class TestRefusals:
    @pytest.mark.parametrize("state", ["running", "paused", "suspended"])
    def test_a_vm_that_is_not_off(self, host: World, state: str) -> None:
        host.vm("web", state)
        error = refusal(host)
        assert (type(error), error.what, error.why) == (WrongState, "web was not renamed", f"it is {state}")

    def test_an_orphan(self, host: World) -> None:
        host.vm("web", "orphan")
        assert isinstance(refusal(host), WrongState)

    @pytest.mark.parametrize(
        "taken", ["rpool/vms/shop", "rpool/vms/shop.seed", "vmpool/vms/shop", "rpool/vms/shop.vdb"]
    )
    def test_a_name_that_a_dataset_has(self, host: World, taken: str) -> None:
        host.vm("web", disks=2)
        host.inventory.put_dataset(filesystem(taken))
        error = refusal(host)
        assert (type(error), error.why) == (AlreadyExists, f"there is a dataset {taken}")

    def test_a_name_that_a_domain_has(self, host: World) -> None:
        host.vm("web")
        host.inventory.put_domain(replace(domain("shop"), disks={}))
        assert isinstance(refusal(host), AlreadyExists)

    def test_its_own_name(self, host: World) -> None:
        host.vm("web")
        assert isinstance(refusal(host, "web"), InvalidArgument)

    @pytest.mark.parametrize(("name", "words"), BAD_VM_NAMES)
    def test_what_is_no_name(self, host: World, name: str, words: str) -> None:
        host.vm("web")
        error = refusal(host, name)
        assert isinstance(error, InvalidArgument)
        assert words in error.why

    def test_a_name_too_long_for_the_trash(self, host: World) -> None:
        parent = "rpool/" + "p" * 140
        host.inventory.parents["long"] = parent
        host.inventory.put_dataset(filesystem(parent))
        for each in volumes_of("web", parent):
            host.inventory.put_dataset(each)
        host.inventory.put_domain(domain("web"))
        assert "characters in the trash" in refusal(host, "n" * 63).why

    def test_volumes_that_another_domain_has_too(self, host: World) -> None:
        vm = host.vm("web")
        assert vm.domain
        host.inventory.put_domain(replace(vm.domain, uuid=uuid_of("thief"), name="thief"))
        error = refusal(host)
        assert (type(error), error.why) == (Busy, "its volumes are also those of the domain thief")


class TestTroubles:
    @in_loop
    async def test_a_domain_that_took_the_name_meanwhile_leaves_all_as_it_was(self) -> None:
        host, made = await planned()
        await host.virt.define(f"<domain><name>shop</name><uuid>{uuid_of('x')}</uuid><memory>1</memory></domain>")
        before = host.picture()
        assert (await ended(host, made)).why.endswith("'shop' already exists")
        assert host.picture() == before

    @in_loop
    async def test_a_vm_that_was_started_meanwhile_is_not_renamed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kldload_kvm.steps.volumes.no_longer_busy", lambda work, dataset: work(dataset))
        host, made = await planned()
        host.memory_virt.put(host.guest("web"), "running")
        before = host.picture()
        assert isinstance(await ended(host, made), Busy)
        assert host.picture() == before

    @in_loop
    async def test_afterwards_it_is_the_same_vm_and_autostart_stays(self) -> None:
        host, made = await planned()
        host.guest("web").autostart = True
        job = Engine(host, MemoryJournal()).start(made, 0)
        await job.finished.wait()
        assert job.error is None
        vm = host.inventory.find("shop")
        assert vm
        assert vm.domain
        assert (vm.id, vm.domain.name, vm.domain.autostart) == (id_of("web"), "shop", True)
        assert sources(vm.domain.xml) == {DEV + "shop", DEV + "shop.nvram"}
        assert host.inventory.find("web") is None
        for each in vm.volumes:
            await host.devices.wait(each.name)
        await host.virt.start(vm.domain.uuid)


async def planned() -> tuple[MemoryHost, Plan]:
    """A host with the VM web, and the plan to rename it to shop."""
    host = MemoryHost()
    await host.prepare()
    for each in volumes_of("web"):
        await host.zfs.create_volume(each.name, each.size, each.properties)
    await host.virt.define(domain("web").xml)
    await host.known()
    world = World()
    world.inventory = host.inventory
    return host, Rename(id_of("web"), "shop").plan(world.view())


async def ended(host: MemoryHost, made: Plan) -> Any:
    job = Engine(host, MemoryJournal()).start(made, 0)
    await job.finished.wait()
    assert job.error
    assert "not undone" not in job.error.hint
    return job.error
