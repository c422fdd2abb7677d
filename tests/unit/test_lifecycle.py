"""What others' definitions and undefinitions come to: only what was undefined in front of our eyes is retired."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.model import properties
from kldload_kvm.model.domain_xml import build
from kldload_kvm.model.trash import UNDEFINED, entries
from kldload_kvm.ops.rename import Rename
from kldload_kvm.ops.request import Request, View
from kldload_kvm.watch import lifecycle
from kldload_kvm.watch.lifecycle import MANY, Lifecycle
from loops import followed, in_loop
from memory_host import MemoryHost
from world import FACTS, NOW, asking, id_of, spec, uuid_of, volumes_of


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "CALM", 0.0)


class Watched:
    """A host with VMs, and the service's ear for what happens to their domains."""

    def __init__(self) -> None:
        self.host = MemoryHost()
        self.engine = Engine(self.host, MemoryJournal())
        self.seen: set[str] = set()
        self.lifecycle = Lifecycle(
            self.host, self.start, self.view, lambda name: self.engine.locks.holder(f"VM:{name}"),
            lambda uuid: frozenset(self.seen),
        )  # fmt: skip

    def view(self) -> View:
        return View(self.host.inventory, self.host.config, FACTS, NOW)

    def start(self, request: Request) -> object:
        return self.engine.start(request.plan(self.view()), 0)

    async def prepare(self, *names: str) -> None:
        await self.host.prepare()
        for name in names:
            for each in volumes_of(name):
                await self.host.zfs.create_volume(each.name, each.size, each.properties)
            await self.host.virt.define(build(spec(name)))
        await self.host.known()

    async def undefine(self, name: str) -> None:
        """By another, as libvirt tells of it."""
        await self.host.virt.undefine(uuid_of(name))
        self.lifecycle.happened(uuid_of(name), "undefined", "removed")

    async def later(self, seconds: float = lifecycle.SETTLE + 0.1) -> None:
        """That long afterwards, and all jobs at their end."""
        await self.lifecycle.look(asyncio.get_running_loop().time() + seconds)
        for job in list(self.engine.jobs.values()):
            await asyncio.wait_for(job.finished.wait(), 5)

    def where(self, name: str) -> str:
        """place: of the VM's first volume; trash: it waits there."""
        (found,) = [each for each in self.host.memory_zfs.picture() if each.endswith(f"/{name}")]
        return "trash" if "/.trash/" in found else "place"


@in_loop
async def test_an_undefinition_that_holds_moves_the_volumes_to_the_trash() -> None:
    watched = Watched()
    await watched.prepare("web", "other")
    await watched.undefine("web")
    await watched.later(0.5)
    assert watched.where("web") == "place"
    await watched.later()
    assert (watched.where("web"), watched.where("other")) == ("trash", "place")
    (entry,) = entries(watched.host.inventory)
    assert (entry.reason, entry.name, entry.uuid) == (UNDEFINED, "web", uuid_of("web"))


@in_loop
async def test_even_if_a_look_has_missed_the_domain_before_the_event() -> None:
    watched = Watched()
    await watched.prepare("web")
    await watched.host.virt.undefine(uuid_of("web"))
    await watched.host.known()
    watched.lifecycle.happened(uuid_of("web"), "undefined", "removed")
    await watched.later()
    assert watched.where("web") == "trash"


@in_loop
async def test_a_domain_that_is_only_missing_keeps_its_volumes() -> None:
    watched = Watched()
    await watched.prepare("web")
    await watched.host.virt.undefine(uuid_of("web"))
    await watched.host.known()
    await watched.later()
    assert watched.where("web") == "place"


@in_loop
async def test_a_rename_a_migration_a_redefinition_and_a_lost_connection_cost_nothing() -> None:
    watched = Watched()
    await watched.prepare("renamed", "migrated", "again", "away", "other")
    watched.lifecycle.happened(uuid_of("renamed"), "undefined", "renamed")
    watched.lifecycle.happened(uuid_of("migrated"), "stopped", "migrated")
    await watched.undefine("migrated")
    await watched.undefine("again")
    await watched.host.virt.define(build(spec("again")))
    watched.lifecycle.happened(uuid_of("again"), "defined", "added")
    await watched.undefine("away")
    watched.lifecycle.forget()
    await watched.later()
    for name in ("renamed", "migrated", "again", "away"):
        assert watched.where(name) == "place", name


@pytest.mark.parametrize("how", ["migrated", "saved"])
@in_loop
async def test_one_that_was_undefined_while_it_ran_and_went_elsewhere_costs_nothing(how: str) -> None:
    watched = Watched()
    await watched.prepare("web")
    watched.lifecycle.happened(uuid_of("web"), "undefined", "removed")
    domain = await watched.host.virt.domain(uuid_of("web"))
    assert domain

    async def transient(uuid: str) -> object:
        return replace(domain, persistent=False, state="running")

    real, watched.host.virt.domain = watched.host.virt.domain, transient  # type: ignore[method-assign,assignment]
    await watched.later()
    watched.host.virt.domain = real  # type: ignore[method-assign]
    await watched.host.virt.undefine(uuid_of("web"))
    watched.lifecycle.happened(uuid_of("web"), "stopped", how)
    await watched.later(60)
    assert watched.where("web") == "place"


@in_loop
async def test_volumes_that_another_domain_has_by_then_stay() -> None:
    watched = Watched()
    await watched.prepare("web")
    await watched.undefine("web")
    await watched.host.virt.define(build(replace(spec("web"), name="moved", uuid=uuid_of("moved"))))
    await watched.host.known()
    await watched.later()
    assert watched.where("web") == "place"


@in_loop
async def test_many_at_once_stop_for_a_person() -> None:
    watched = Watched()
    names = [f"vm-{number}" for number in range(MANY + 1)]
    await watched.prepare(*names)
    for name in names:
        await watched.undefine(name)
    await watched.later()
    await watched.later(60)
    assert {watched.where(name) for name in names} == {"place"}
    assert not watched.engine.jobs


@in_loop
async def test_while_a_job_is_at_work_on_it_its_volumes_stay() -> None:
    watched = Watched()
    await watched.prepare("web")
    watched.engine.locks.acquire(frozenset({"VM:web"}), "1", "something else")
    await watched.undefine("web")
    await watched.later()
    assert watched.where("web") == "place"


@in_loop
async def test_libvirt_away_when_it_is_to_be_looked_at_again() -> None:
    watched = Watched()
    await watched.prepare("web")
    await watched.undefine("web")
    watched.host.memory_virt.available = False
    await watched.later()
    assert watched.where("web") == "place"


async def defined(watched: Watched, xml: str) -> None:
    """Another defines it, and the service hears of it."""
    await watched.host.virt.define(xml)
    keeping = asyncio.ensure_future(watched.lifecycle.keep())
    watched.lifecycle.happened(uuid_of("new"), "defined", "added")
    await asyncio.sleep(0.1)
    for job in list(watched.engine.jobs.values()):
        await asyncio.wait_for(job.finished.wait(), 5)
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping


@in_loop
async def test_a_definition_gets_the_volumes_that_it_asks_for_once() -> None:
    watched = Watched()
    await watched.prepare()
    xml = asking(build(spec("new")), 'target="vda" size="1G"')
    await defined(watched, xml)
    assert watched.where("new") == "place"
    (job,) = watched.engine.jobs.values()
    assert job.plan.operation == "vm.provision"
    assert job.error is None
    await defined(watched, xml)
    assert len(watched.engine.jobs) == 1
    assert watched.host.inventory.find("new")


@in_loop
async def test_a_definition_without_our_element_or_of_a_disk_that_was_there_once_gets_nothing() -> None:
    watched = Watched()
    await watched.prepare()
    await defined(watched, build(spec("new")))
    watched.seen.add("vda")
    await defined(watched, asking(build(spec("new")), 'target="vda" size="1G"'))
    assert not watched.engine.jobs
    assert "rpool/vms/new" not in watched.host.memory_zfs.picture()


@in_loop
async def test_one_whose_newest_definition_was_not_read_yet_keeps_its_volumes(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()
    await watched.prepare("web", "other")
    for name in ("web", "other"):
        watched.lifecycle.happened(uuid_of(name), "defined", "updated")
    await watched.host.refresh_domain(uuid_of("other"))
    await watched.undefine("web")
    await watched.undefine("other")
    await watched.later()
    assert (watched.where("web"), watched.where("other")) == ("place", "trash")
    assert "web: it was undefined before its newest definition was read" in caplog.text


class TestRenames:
    """Of a domain, by others: its volumes follow where that is configured."""

    async def watched(self, rename: str = "move", *names: str) -> Watched:
        watched = Watched()
        watched.host.config = replace(watched.host.config, rename=rename)
        await watched.prepare(*(names or ("web",)))
        return watched

    async def renamed(self, watched: Watched, old: str, new: str) -> None:
        """As virsh domrename, and the service has heard of it."""
        await watched.host.virt.rename(uuid_of(old), new)
        watched.lifecycle.happened(uuid_of(old), "undefined", "renamed")
        watched.lifecycle.happened(uuid_of(old), "defined", "renamed")
        await followed(watched.lifecycle.keep(), watched.engine)

    def volumes(self, watched: Watched) -> set[str]:
        names = (name for name in watched.host.memory_zfs.picture() if name.startswith("rpool/vms/"))
        return {name.removeprefix("rpool/vms/") for name in names if "/.trash" not in name and "isos" not in name}

    @in_loop
    async def test_volumes_and_paths_follow(self) -> None:
        watched = await self.watched()
        await self.renamed(watched, "web", "shop")
        assert self.volumes(watched) == {"shop", "shop.nvram"}
        xml = watched.host.guest("shop").xml
        assert "/dev/zvol/rpool/vms/shop.nvram" in xml and "/dev/zvol/rpool/vms/web" not in xml
        (job,) = watched.engine.jobs.values()
        assert (job.plan.operation, job.error) == ("vm.rename", None)

    @in_loop
    async def test_not_unless_it_is_configured(self) -> None:
        watched = await self.watched("keep")
        await self.renamed(watched, "web", "shop")
        assert (self.volumes(watched), dict(watched.engine.jobs)) == ({"web", "web.nvram"}, {})

    @in_loop
    async def test_a_name_that_a_volume_has_moves_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        watched = await self.watched()
        await watched.host.zfs.create_volume("rpool/vms/shop.nvram", 1 << 20, {})
        await watched.host.known()
        await self.renamed(watched, "web", "shop")
        assert self.volumes(watched) == {"web", "web.nvram", "shop.nvram"}
        assert "there is a dataset rpool/vms/shop.nvram" in caplog.text
        assert "/dev/zvol/rpool/vms/web" in watched.host.guest("shop").xml

    @pytest.mark.parametrize("name", ["my shop", "isos", "shop.nvram", "x" * 70])
    @in_loop
    async def test_a_name_that_no_vm_can_have_moves_nothing(self, name: str, caplog: pytest.LogCaptureFixture) -> None:
        watched = await self.watched()
        await self.renamed(watched, "web", name)
        assert self.volumes(watched) == {"web", "web.nvram"}
        assert "cannot be the name of a VM" in caplog.text

    @in_loop
    async def test_one_that_was_started_at_once_keeps_them(self, caplog: pytest.LogCaptureFixture) -> None:
        watched = await self.watched()
        watched.host.memory_virt.put(watched.host.guest("web"), "running")
        await self.renamed(watched, "web", "shop")
        assert self.volumes(watched) == {"web", "web.nvram"}
        assert "it is running" in caplog.text

    @in_loop
    async def test_a_job_of_ours_that_renames_is_waited_for_and_nothing_is_left_to_do(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lifecycle, "AGAIN", 0.01)
        watched = await self.watched()
        vm = watched.host.inventory.find("web")
        assert vm
        gate = watched.host.troubles.gates["edit"] = asyncio.Event()
        job = watched.engine.start(Rename(vm.id, "shop").plan(watched.view()), 0)
        await asyncio.sleep(0.05)
        assert watched.host.guest("shop").name == "shop", "its volumes and its name are new, the paths in it are not"
        watched.lifecycle.happened(uuid_of("web"), "defined", "renamed")
        task = asyncio.ensure_future(watched.lifecycle.keep())
        await asyncio.sleep(0.05)
        assert list(watched.engine.jobs) == [job.id]
        gate.set()
        await asyncio.wait_for(job.finished.wait(), 5)
        await asyncio.sleep(0.05)
        task.cancel()
        assert list(watched.engine.jobs) == [job.id]
        assert (job.error, self.volumes(watched)) == (None, {"shop", "shop.nvram"})

    @in_loop
    async def test_a_domain_of_others_is_left_alone(self) -> None:
        watched = await self.watched()
        await watched.host.virt.define(build(spec("other", disks={"vda": "vmpool/x"}, nvram="vmpool/y")))
        await watched.host.known()
        await self.renamed(watched, "other", "shop")
        assert dict(watched.engine.jobs) == {}


class TestEphemeral:
    """Volumes of a transient domain that are to go with it."""

    async def brief(self, how: str = "destroyed", persistent: bool = False) -> Watched:
        """A domain with such a disk has stopped, and is gone unless it is persistent."""
        watched = Watched()
        await watched.host.prepare()
        for each in volumes_of("web"):
            marked = {properties.EPHEMERAL: "destroy"} if properties.TARGET in each.properties else {}
            await watched.host.zfs.create_volume(each.name, each.size, {**each.properties, **marked})
        await watched.host.virt.define(asking(build(spec("web")), 'target="vda" size="1G" ephemeral="destroy"'))
        await watched.host.known()
        domain = watched.host.inventory.domains[uuid_of("web")]
        watched.host.inventory.put_domain(replace(domain, persistent=persistent, state="running"))
        if not persistent:
            await watched.host.virt.undefine(uuid_of("web"))
        watched.lifecycle.happened(uuid_of("web"), "stopped", how)
        return watched

    def is_there(self, watched: Watched) -> bool:
        return "rpool/vms/web" in watched.host.memory_zfs.sets

    @pytest.mark.parametrize("how", ["shutdown", "destroyed"])
    @in_loop
    async def test_go_when_it_has_ended_and_nothing_else_does(self, how: str) -> None:
        watched = await self.brief(how)
        await watched.later(0.5)
        assert self.is_there(watched)
        await watched.later()
        assert not self.is_there(watched)
        assert "rpool/vms/web.nvram" in watched.host.memory_zfs.sets
        (job,) = watched.engine.jobs.values()
        assert (job.result["_uuid"], job.result["_ended"], job.error) == (uuid_of("web"), ("vda",), None)

    @pytest.mark.parametrize("how", ["", "migrated", "saved", "crashed", "failed"])
    @in_loop
    async def test_stay_when_it_has_crashed_or_is_elsewhere(self, how: str) -> None:
        watched = await self.brief(how)
        await watched.later()
        assert self.is_there(watched)

    @in_loop
    async def test_stay_with_a_persistent_domain(self) -> None:
        watched = await self.brief(persistent=True)
        await watched.later()
        assert self.is_there(watched)

    @in_loop
    async def test_stay_when_it_was_started_again_at_once_or_the_connection_was_lost(self) -> None:
        watched = await self.brief()
        watched.lifecycle.happened(uuid_of("web"), "started", "")
        await watched.later()
        assert self.is_there(watched)
        watched = await self.brief()
        watched.lifecycle.forget()
        await watched.later()
        assert self.is_there(watched)
        watched = await self.brief()
        await watched.host.virt.define(build(spec("web")))  # and no event has told of it yet
        await watched.later()
        assert self.is_there(watched)

    @in_loop
    async def test_of_a_persistent_domain_that_was_undefined_while_it_ran_are_retired_and_not_ended(self) -> None:
        """It is transient from then on, but was not when they were made: they stay, or go, as with any undefinition."""
        watched = await self.brief(how="")
        watched.host.config = replace(watched.host.config, undefine="keep")
        gone = lifecycle.Gone(id_of("web"), watched.host.inventory.departed[uuid_of("web")], 0.0)
        watched.lifecycle._running_on[uuid_of("web")] = gone
        watched.lifecycle.happened(uuid_of("web"), "stopped", "shutdown")
        await watched.later()
        assert watched.where("web") == "place"

    @in_loop
    async def test_wait_for_the_job_that_is_at_work_on_them(self) -> None:
        watched = await self.brief()
        watched.engine.locks.acquire({"VM:web"}, "1", "a snapshot")
        await watched.later()
        assert self.is_there(watched)
        watched.engine.locks.release("1")
        await watched.later(2 * lifecycle.SETTLE + 0.2)
        assert not self.is_there(watched)
