"""kldload-kvmd: puts the rooms together, tells systemd when it is ready, and ends in order.

Everything runs on one event loop; libvirt's calls run in threads. The name is taken once the inventory is read, so a
caller that can reach us gets true answers. libvirt may come later.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from systemd import daemon as sd
from systemd.journal import JournalHandler

from . import __version__, config, contract_files, job_log, job_tally
from .bus.bridges import Bridges
from .bus.callers import Callers
from .bus.connection import Message, MessageBus, connect, sender, take_name
from .bus.dispatch import Dispatcher
from .bus.hook import Hook
from .bus.host import HostReads
from .bus.polkit import NAME as POLKIT
from .bus.polkit import Polkit
from .bus.publish import Publisher
from .bus.reads import Reads
from .bus.service import Service
from .bus.statistics import Statistics
from .bus.systemd import Systemd
from .bus.tree import Tree
from .engine.engine import Engine
from .engine.job import Job, State
from .engine.sqlite_journal import SqliteJournal
from .host.checker import Checker
from .images import adding, conversion, firmware_files, os_files, store
from .model import properties
from .model.errors import KvmError
from .model.firmware import FirmwarePair
from .model.inventory import Inventory
from .model.tally import Tally
from .ops.bridge import Bridge
from .ops.end import End
from .ops.host_fix import Fix, Setup
from .ops.identity import RenewVmIdentity
from .ops.provision import Provision
from .ops.registry import REQUESTS
from .ops.request import Facts, Request, View
from .ops.retire import Retire
from .steps.host import Host
from .virt.agent import Agent
from .virt.connection import Connection
from .virt.domains import Virt
from .virt.sampler import Sampler
from .watch.definitions import DefinitionWatch
from .watch.host_state import HostState
from .watch.lifecycle import Lifecycle
from .watch.marks import Marks
from .watch.networks import Networks
from .watch.pools import PoolWatch
from .watch.reconcile import OWN_MEMORY, Reconciler
from .watch.seen import Seen
from .watch.sizes import SizeWatch
from .watch.space import SpaceWatch
from .watch.udev import UdevWatch
from .watch.zfs_events import ZfsWatch
from .zfs.commands import Zfs
from .zfs.devices import Devices
from .zfs.pools import topologies

log = logging.getLogger("kldload_kvm")

BUS_NAME = "org.kldload.Kvm1"
GRACE = 60.0
ENDING = 2.0


class Daemon:
    """The running service."""

    def __init__(self, settings: config.Config, bus: MessageBus) -> None:
        self.config, self.bus = settings, bus
        self.inventory = Inventory(settings.parents)
        self.tally = Tally({*REQUESTS, Provision.operation, Retire.operation}, time.time())
        self.connection = Connection(os.environ.get("KLDLOAD_KVM_LIBVIRT", "qemu:///system"))
        virt, devices, zfs = Virt(self.connection), Devices(), Zfs()
        systemd = Systemd(bus)
        self.host = Host(settings, self.inventory, zfs, devices, virt, Agent(virt), systemd)
        self.journal = SqliteJournal(Path(os.environ.get("STATE_DIRECTORY", "/var/lib/kldload-kvm")))
        self.engine = Engine(self.host, self.journal, kept=settings.jobs_kept, per_user=settings.jobs_per_user)
        self.engine.on_end = self._job_ended
        self.marks = Marks(self.host, self.journal.mark, self.journal.advance, self.engine.left_open)
        interfaces = contract_files.interfaces()
        self._named = False
        self._put_on_bus = sender(bus)
        self.tree = Tree(interfaces, self._send)
        self.facts = Facts()
        self.publisher = Publisher(self.tree, self.inventory, self.engine, lambda: self.facts, settings.floor)
        self.publisher.moves = settings.rename == config.MOVE
        self.host.published = self.publisher.flush
        self.seen = Seen(self.inventory, self.journal, self._holder)
        self.publisher.on_vm = self.seen.note
        self.reconciler = Reconciler(self.host, self._is_ours, self._published)
        self.reconciler.at_work, self.reconciler.tally = self._is_at_work, self.tally
        self.polkit = Polkit(bus)
        self.callers = Callers(bus, self._caller_vanished)
        self.service = Service(self.engine, self.polkit, self.callers, interfaces, self.view)
        self.service.tell = self.publisher.tell
        self.service.find = lambda request: request.find(self.host)
        self.service.look = lambda request: request.look(self.host)
        self.service.reads.update(Reads(self.host, self.tree, self._reload).table())
        statistics = Statistics(self.tree, self.inventory, self.engine, self.tally, Sampler(virt.usage))
        self.service.reads.update(statistics.table())
        self.hook = Hook(self.host, self.engine, lambda: self.view(0), self.seen.of)
        self.service.reads.update(self.hook.table())
        self.checker = Checker(HostState(self.host, self.connection, systemd, _firmware, self.hook.unheard.values).read)
        self.host.check_again = self.checker.again
        self.service.reads.update(HostReads(self.checker, self.tree, self.inventory, self.engine).table())
        self.service.reads.update(Bridges(self.engine, self.callers, self.service.check).table())
        self.dispatcher = Dispatcher(bus, self.tree, self.service.handle)
        self.pool_watch = PoolWatch(self.host, self._start_own, lambda: self.view(0))
        self.networks = Networks(virt.networks, self._set_facts)
        self.udev = UdevWatch(self._appeared, self.networks.look)
        self.zfs_watch = ZfsWatch(self.reconciler.dataset_changed, self.reconciler.read_all_again)
        self.size_watch = SizeWatch(self.inventory, lambda name: self.reconciler.dataset_changed(name, "set"))
        self.definitions = DefinitionWatch(self._definition_written)
        self.space_watch = SpaceWatch(self.host, self._start_own)
        self.lifecycle = Lifecycle(self.host, self._start_own, lambda: self.view(0), self._holder, self.seen.of)
        self.connection.on_lifecycle = self._domain_lives
        self.connection.on_event = self.reconciler.domain_changed
        self.connection.on_agent = self._agent_connected
        self.connection.on_network = lambda: self._spawn(self.networks.read())
        self.connection.on_connect = lambda: self._spawn(self._libvirt_came())
        self.connection.on_lost = self._libvirt_lost
        self.host.images_changed = self._read_images
        self._tasks: set[asyncio.Task[None]] = set()
        self._recent: list[Job] = []
        self._zfs_version = ""

    async def run(self, stop: asyncio.Event) -> int:
        """Serve until told to stop or cut off the bus; the exit status."""
        cut_off = asyncio.ensure_future(self.bus.wait_for_disconnect())
        stopped = asyncio.ensure_future(stop.wait())
        starting = asyncio.ensure_future(self._start())
        await asyncio.wait((cut_off, stopped, starting), return_when=asyncio.FIRST_COMPLETED)
        if starting.done() and not starting.result():
            return 1
        await asyncio.wait((cut_off, stopped), return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()
        sd.notify("STOPPING=1")
        await self.engine.stop(GRACE)
        for task in self._tasks:
            task.cancel()
        if self._tasks:  # so that each ends what it has started, such as zpool events
            await asyncio.wait(self._tasks, timeout=ENDING)
        self.udev.stop()
        self.definitions.stop()
        if cut_off.done():
            log.error("the connection to the bus was lost; systemd starts the service again")
            return 1
        return 0

    async def _start(self) -> bool:
        """From nothing to ready; whether the name was to be had."""
        self.udev.start()
        self.definitions.start()
        self.publisher.start(__version__)
        await self.callers.watch()
        await self._read_facts()
        await self.reconciler.load_zfs()
        await self.engine.load()
        await self.seen.load()
        await self._read_images()
        self._spawn(self.connection.keep())
        for forever in (
            self.reconciler.keep_zfs(),
            self.reconciler.keep_domains(),
            self.zfs_watch.keep(),
            self.marks.keep(),
            self.size_watch.keep(),
            self.space_watch.keep(),
            self.lifecycle.keep(),
            self.pool_watch.keep(),
            self.seen.keep(),
            self._watchdog(),
        ):
            self._spawn(forever)
        await self._read_marks()
        self._named = True  # before it is taken: whoever sees the name come misses nothing
        if not await take_name(self.bus, BUS_NAME):
            log.error("the bus name %s is taken: another kldload-kvmd runs", BUS_NAME)
            return False
        await self._clear_left_over()
        self.engine.recover()
        sd.notify("READY=1")
        log.info("kldload-kvmd %s is ready, with %d VMs", __version__, len(self.inventory.vm_ids()))
        return True

    def _send(self, message: Message) -> None:
        """Signals go out once we have our name: before, nobody looks for them, and all that there is would be told."""
        if self._named:
            self._put_on_bus(message)

    def view(self, uid: int) -> View:
        """What a plan is made from, now."""
        holder = self.engine.locks.holder
        facts = replace(self.facts, zfs=self.reconciler.fault)
        host, found = self.checker.facts, tuple(self.checker.findings)
        return View(
            self.inventory, self.config, facts, datetime.now(UTC), uid, holder=holder, host=host, findings=found
        )

    # -- facts ---------------------------------------------------------------------------------------------------------

    async def _read_facts(self) -> None:
        try:
            self._zfs_version = await self.host.zfs.version()
        except KvmError as error:
            log.warning("%s: %s", error.what, error.why)
        firmware = await asyncio.to_thread(_firmware)
        os_index = await asyncio.to_thread(os_files.load)
        kvm = await asyncio.to_thread(Path("/dev/kvm").exists)
        pools = await topologies()
        self._set_facts(pools=pools, firmware=firmware, os_index=os_index, kvm=kvm)
        self.networks.look()

    def _set_facts(self, **changed: Any) -> None:
        self.facts = Facts(**{**vars(self.facts), **changed})
        self._published()

    async def _read_images(self) -> None:
        found = {}
        for name, parent in self.inventory.parents.items():
            isos = self.inventory.datasets.get(f"{parent}/isos")
            if isos and isos.mountpoint.startswith("/"):
                found[name] = await asyncio.to_thread(store.list_images, Path(isos.mountpoint))
        self._set_facts(images=found)

    async def _clear_left_over(self) -> None:
        """End what a killed daemon left at work: helpers, and files half copied into a store."""
        try:
            for unit in await conversion.abandon(self.host.units):
                log.warning("%s was left running by an earlier kldload-kvmd, and is stopped", unit)
            for parent in self.inventory.parents.values():
                isos = self.inventory.datasets.get(f"{parent}/isos")
                if isos and isos.mountpoint.startswith("/"):
                    await asyncio.to_thread(adding.clean, isos.mountpoint)
        except (KvmError, OSError) as fault:
            log.warning("what an earlier kldload-kvmd left could not be cleared away: %s", fault)

    async def _read_marks(self) -> None:
        try:
            await self.marks.read()
        except KvmError as error:
            log.warning("%s: %s", error.what, error.why)

    async def _reload(self) -> None:
        await self.reconciler.load_zfs()
        await self.reconciler.load_domains()
        await self._read_images()
        self.networks.look()
        await self.networks.read()

    def _published(self) -> None:
        problems = [self.journal.problem] if self.journal.problem else []
        if self.reconciler.problem:
            problems.append(self.reconciler.problem)
        if not self.facts.libvirt and self.connection.connected:
            problems.append("VMs cannot be started or changed yet: libvirt is being asked for them")
        elif not self.facts.libvirt:
            problems.append(str(self.connection.unavailable("VMs cannot be started or changed")).replace("\n", ": "))
        if self.facts.firmware is None:
            problems.append("no UEFI firmware is installed: apt install ovmf")
        self.publisher.flush()
        version = self.connection.version if self.facts.libvirt else ""
        self.publisher.update_manager(Problems=tuple(problems), ZfsVersion=self._zfs_version, LibvirtVersion=version)

    # -- news ----------------------------------------------------------------------------------------------------------

    async def _libvirt_came(self) -> None:
        self.tally.reloaded("libvirt")
        await self.reconciler.load_domains()
        await self.networks.read()
        self._set_facts(libvirt=self.connection.connected)  # it may be lost again meanwhile
        self.pool_watch.look()
        for id_ in self.inventory.vm_ids():
            vm = self.inventory.vm(id_)
            if vm and vm.domain and vm.domain.state == "running":
                self._agent_connected(vm.domain.uuid)

    def _definition_written(self, name: str) -> None:
        if domain := self.inventory.domain_named(name):
            self.reconciler.domain_changed(domain.uuid)

    def _appeared(self, dataset: str) -> None:
        """udev has made a volume's link."""
        self.tally.heard("udev")
        self.host.devices.appeared(dataset)
        self.pool_watch.appeared(dataset)

    def _libvirt_lost(self) -> None:
        self.lifecycle.forget()
        self._set_facts(libvirt=False)

    def _domain_lives(self, uuid: str, what: str, how: str) -> None:
        self.hook.happened(uuid, what, how)
        self.lifecycle.happened(uuid, what, how)

    def _agent_connected(self, uuid: str) -> None:
        """A clone without cloud-init gets its identity when its guest's agent is first heard."""
        vm = next(
            (v for v in map(self.inventory.vm, self.inventory.vm_ids()) if v and v.domain and v.domain.uuid == uuid),
            None,
        )
        if vm is not None and vm.first.properties.get(properties.IDENTITY) == "pending":
            self._spawn(self._renew_identity(vm.id, uuid))

    async def _renew_identity(self, vm_id: str, uuid: str) -> None:
        if await self.host.agent.answers(uuid):
            try:
                self._start_own(RenewVmIdentity(vm_id))
            except KvmError as error:
                log.warning("%s: %s", error.what, error.why)

    def _is_at_work(self, touched: str) -> bool:
        return any(touched in job.plan.touched for job in self.engine.running())

    def _is_ours(self, name: str) -> bool:
        """Whether a job of ours is changing this dataset or snapshot, or has just ended. Another's snapshot of the same
        dataset is not ours."""
        if self.marks.is_ours(name):
            return True
        now, every = time.time(), f"{name.partition('@')[0]}@*"
        self._recent = [job for job in self._recent if now - job.ended < OWN_MEMORY]
        jobs = (*self.engine.running(), *self._recent)
        return any(name in job.plan.touched or every in job.plan.touched for job in jobs)

    def _job_ended(self, job: Job) -> None:
        job_log.ended(job)
        job_tally.ended(self.tally, self.inventory, job)
        self._recent.append(job)
        self.marks.job_ended()
        if job.plan.operation == End.operation and job.state is State.SUCCEEDED:
            self._spawn(self.seen.forget(job.result["_uuid"], job.result["_ended"]))
        if job.plan.operation in (Fix.operation, Setup.operation, Bridge.operation):
            self.checker.stale()
        if job.plan.operation == RenewVmIdentity.operation:
            return
        for vm in filter(None, map(self.inventory.vm, job.plan.objects)):
            # Its guest's agent may have been heard while the job still held the VM, as one that starts several clones.
            if vm.domain and vm.domain.state == "running":
                self._agent_connected(vm.domain.uuid)

    def _start_own(self, request: Request) -> Job:
        """An operation of the service's own. Raises KvmError."""
        return self.engine.start(request.plan(self.view(0)), 0)

    def _holder(self, vm: str) -> str:
        """The job that is at work on the VM of that name, or the empty string."""
        return self.engine.locks.holder(f"VM:{vm}")

    def _caller_vanished(self, name: str) -> None:
        self.dispatcher.caller_vanished(name)
        if name == POLKIT:
            self.service.polkit_vanished()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()):
            log.error("a part of the service ended by a fault", exc_info=fault)

    async def _watchdog(self) -> None:
        """Tell systemd that the loop still turns."""
        period = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
        while period:
            sd.notify("WATCHDOG=1")
            await asyncio.sleep(period)


def _firmware() -> FirmwarePair | None:
    """What VMs get, or None where there is none. Blocks."""
    try:
        return firmware_files.load()
    except KvmError:
        return None


async def serve() -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        settings = config.load(config.files())
    except KvmError as error:
        log.error("%s", error.in_one_line())
        return 78  # EX_CONFIG
    try:
        daemon = Daemon(settings, await connect())
    except KvmError as error:
        log.error("%s", error.in_one_line())
        return 1
    status = await daemon.run(stop)
    # At once, without waiting for threads: one may be in a call that a hung libvirt never answers.
    logging.shutdown()
    os._exit(status)


def main() -> None:
    handler: logging.Handler = JournalHandler(SYSLOG_IDENTIFIER="kldload-kvmd")
    if "JOURNAL_STREAM" not in os.environ:
        handler = logging.StreamHandler()
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(message)s")
    sys.exit(asyncio.run(serve()))


if __name__ == "__main__":
    main()
