"""What libvirt's hook is answered, over the bus."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from kldload_kvm.bus import hook
from kldload_kvm.bus.values import HOOK_PATH
from kldload_kvm.model import properties
from kldload_kvm.model.domain_xml import build
from kldload_kvm.model.errors import TimedOut
from loops import in_loop
from served import Served, error_of, path_of, serving, until_true
from world import asking, domain, spec, uuid_of


async def prepare(served: Served, xml: str) -> str:
    served.as_user(0)
    refusal = await served.client.ask(HOOK_PATH, "Hook", "Prepare", xml)
    assert isinstance(refusal, str)
    assert "\n" not in refusal
    return refusal


@in_loop
async def test_a_vm_whose_volumes_are_there_starts() -> None:
    async with serving() as served:
        await served.vm("web")
        assert await prepare(served, build(spec("web"))) == ""


@pytest.mark.skipif(os.getuid() != 0, reason="a user of its own needs root")
@in_loop
async def test_nobody_but_root_is_answered() -> None:
    async with serving() as served:
        await served.vm("web")
        served.as_user(1000)
        error = await error_of(served.client.ask(HOOK_PATH, "Hook", "Prepare", build(spec("web"))))
        assert error.name == "NotAuthorized"


@in_loop
async def test_a_domain_on_other_disks_is_none_of_ours() -> None:
    async with serving() as served:
        assert await prepare(served, build(spec("web")).replace("/dev/zvol/rpool/vms/", "/dev/zvol/other/")) == ""


@in_loop
async def test_a_disk_that_is_a_file_among_the_devices_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As virt-manager makes one in a pool of the devices: it is in memory. A device that is called a file is none."""
    there: set[str] = set()
    monkeypatch.setattr(Path, "is_file", lambda path: str(path) in there)
    async with serving() as served:
        await served.vm("web")
        xml = build(spec("web")).replace(
            'source dev="/dev/zvol/rpool/vms/web" ', 'source file="/dev/zvol/rpool/vms/web" '
        )
        assert await prepare(served, xml) == ""
        there.add("/dev/zvol/rpool/vms/web")
        assert "is a file in memory, and no volume" in await prepare(served, xml)
        elsewhere = xml.replace('file="/dev/zvol', 'file="/srv')
        there.add("/srv/rpool/vms/web")
        assert await prepare(served, elsewhere) == ""


@in_loop
async def test_a_disk_that_is_named_by_a_pool_is_looked_at_as_by_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Cockpit names the disks that it adds."""
    async with serving() as served:
        await served.vm("web")
        await served.host.virt.pools.define("kldload-rpool", "/dev/zvol/rpool/vms")
        xml = build(spec("web"))
        named = xml.replace('type="block"', 'type="volume"')
        named = named.replace('dev="/dev/zvol/rpool/vms/web"', 'pool="kldload-rpool" volume="web"')
        assert "kldload-rpool" in named
        assert await prepare(served, named) == ""
        refusal = await prepare(served, named.replace('volume="web"', 'volume="none"'))
        assert "its volume rpool/vms/none is not there" in refusal
        with monkeypatch.context() as patch:
            patch.setattr(Path, "is_file", lambda path: str(path) == "/dev/zvol/rpool/vms/none")
            refusal = await prepare(served, named.replace('volume="web"', 'volume="none"'))
        assert "is a file in memory, and no volume" in refusal
        served.host.inventory.put_domain(domain("thief", "running", xml))
        served.host.zfs.open.add("rpool/vms/web")
        assert "is in use by thief" in await prepare(served, named)


@in_loop
async def test_a_template_is_refused_and_said_to_be_one() -> None:
    async with serving() as served:
        await served.vm("web")
        await served.host.zfs.set("rpool/vms/web", {properties.TEMPLATE: "yes"})
        await served.host.known()
        assert "web was not started: web is a template" in await prepare(served, build(spec("web")))


@in_loop
async def test_a_vm_that_a_job_is_at_work_on_is_refused_naming_the_job_unless_that_starts_it() -> None:
    async with serving() as served:
        await served.vm("web")
        gate = served.host.troubles.gates["snapshot"] = asyncio.Event()
        call = asyncio.ensure_future(served.client.ask(path_of("web"), "Vm", "Snapshot", {"wait": True}))
        await until_true(lambda: served.engine.locks.holder("VM:web"))
        job = served.engine.locks.holder("VM:web")
        refusal = await prepare(served, build(spec("web")))
        assert refusal.startswith(f"web was not started: job {job} is at work on web: snapshot web as")
        served.host.virt.starting.add(uuid_of("web"))
        assert await prepare(served, build(spec("web"))) == ""
        gate.set()
        await call


@in_loop
async def test_a_volume_that_another_domain_writes_to_is_refused_and_who_that_is() -> None:
    async with serving() as served:
        await served.vm("web")
        served.host.inventory.put_domain(domain("thief", "running", build(spec("web"))))
        assert await prepare(served, build(spec("web"))) == ""  # nobody has it open: it has ended a moment ago
        served.host.zfs.open.add("rpool/vms/web")
        refusal = await prepare(served, build(spec("web")))
        assert refusal.startswith("web was not started: its volume rpool/vms/web is in use by thief, which is running")


@in_loop
async def test_a_volume_that_is_written_to_by_who_is_not_known_is_refused_to_us_too() -> None:
    """As one that was attached to a running domain, and not to its definition."""
    async with serving() as served:
        await served.vm("web")
        served.host.zfs.open.add("rpool/vms/web")
        for starting in ((), (uuid_of("web"),)):
            served.host.virt.starting.update(starting)
            refusal = await prepare(served, build(spec("web")))
            assert refusal.startswith("web was not started: its volume rpool/vms/web is open for writing in qemu")


@in_loop
async def test_a_volume_that_is_missing_is_named_and_where_it_is() -> None:
    async with serving() as served:
        await served.vm("web")
        await served.host.zfs.rename("rpool/vms/web", "rpool/vms/.trash/web")
        await served.host.known()
        refusal = await prepare(served, build(spec("web")))
        assert refusal.startswith("web was not started: its volume rpool/vms/web is not there")


@in_loop
async def test_a_volume_that_the_inventory_does_not_know_yet_is_looked_for() -> None:
    async with serving() as served:
        await served.vm("web")
        for name in ("rpool/vms/web", "rpool/vms/web.nvram"):
            served.host.inventory.remove_dataset(name)
        assert await prepare(served, build(spec("web"))) == ""


@in_loop
async def test_a_device_node_that_does_not_come_is_waited_for_and_then_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook, "NODE_SECONDS", 0.1)
    async with serving() as served:
        await served.vm("web")
        asked = []

        async def never(dataset: str, timeout: float = 60.0) -> str:
            asked.append((dataset, timeout))
            raise TimedOut(f"the device of volume {dataset} did not appear")

        monkeypatch.setattr(served.host.devices, "wait", never)
        assert "did not appear" in await prepare(served, build(spec("web")))
        assert asked[0][1] == 0.1


@in_loop
async def test_what_a_transient_domain_asks_for_is_made_before_it_starts() -> None:
    async with serving() as served:
        xml = asking(build(spec("new")), 'target="vda" size="1G"').replace("/dev/zvol/rpool/vms/new.nvram", "/x")
        assert await prepare(served, xml) == ""
        assert served.host.inventory.find("new")
        assert await prepare(served, xml) == ""


@pytest.mark.parametrize("xml", ["", "<domain", "no XML", "<domain/>"])
@in_loop
async def test_what_is_no_domain(xml: str) -> None:
    async with serving() as served:
        refusal = await prepare(served, xml)
        assert ("cannot be read" in refusal) == (xml != "<domain/>")


@in_loop
async def test_a_domain_that_starts_without_being_asked_about_tells_that_libvirt_does_not_call_the_hook() -> None:
    async with serving() as served:
        guest = await served.vm("web")
        served.hook.happened(guest.uuid, "started", "migrated")
        served.hook.happened("unknown", "started", "")
        assert served.hook.unheard == {}
        served.hook.happened(guest.uuid, "started", "")
        assert served.hook.unheard == {guest.uuid: "web"}
        assert await prepare(served, guest.xml) == ""
        assert served.hook.unheard == {}
        served.hook.happened(guest.uuid, "started", "")
        assert served.hook.unheard == {}
