"""What libvirt's qemu hook asks before a domain starts. libvirt waits meanwhile, so nothing here waits for libvirt."""

from __future__ import annotations

import asyncio
import logging
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable
from pathlib import Path

from ..engine.engine import Engine
from ..model.domain_devices import files, sources
from ..model.errors import Busy, InvalidArgument, KvmError, NotFound, WrongState
from ..model.inventory import Vm, device, is_trash
from ..model.sharing import refuse, taken, written
from ..ops.provision import Provision
from ..ops.request import View, check_startable
from ..steps.host import Host
from ..zfs import listing
from .dispatch import Answer, Call

log = logging.getLogger(__name__)

NODE_SECONDS, PROVIDE_SECONDS = 15.0, 20.0
"""How long a start waits for the device nodes of its volumes, and for volumes to be made: less than hooks/qemu does. A
disk image may take longer; the next start finds it."""


class Hook:
    """The handlers by interface and method."""

    def __init__(
        self, host: Host, engine: Engine, view: Callable[[], View], seen: Callable[[str], frozenset[str]]
    ) -> None:
        self.host, self.engine, self._view, self._seen = host, engine, view, seen
        self._asked: set[str] = set()
        self.unheard: dict[str, str] = {}  # domains that started without libvirt asking, by UUID

    def table(self) -> dict[tuple[str, str], Callable[[Call], Awaitable[Answer]]]:
        return {("Hook", "Prepare"): self.prepare}

    async def prepare(self, call: Call) -> Answer:
        """Whether a domain may start, with its volumes in place."""
        try:
            xml = await asyncio.to_thread(self.host.virt.pools.by_device, call.args[0])
            uuid, name, volumes = self._read(xml)
            self._asked.add(uuid)
            self.unheard.clear()
            what = f"{name} was not started"
            await self._refuse_files(xml, what)
            if volumes:
                known = self.host.inventory.domains.get(uuid)
                transient = known is None or not known.persistent
                asked = Provision(uuid, name, xml, self._seen(uuid), transient)
                # What we start ourselves has been looked at, and its job is what holds the VM.
                if uuid not in self.host.virt.starting:
                    await self._check(what, asked, volumes)
                await self._check_alone(what, asked)
        except KvmError as refusal:
            return Answer((in_one_line(refusal),))
        except Exception:  # an error would be taken for no answer, and that for a leave to start
            log.exception("whether a domain may start could not be decided")
            return Answer(("the VM was not started: a fault in kldload-kvmd; see journalctl -u kldload-kvmd",))
        return Answer(("",))

    def happened(self, uuid: str, what: str, how: str) -> None:
        """What libvirt tells of a domain's life. One on our storages that has started must have been asked about."""
        domain = self.host.inventory.domains.get(uuid)
        if what == "started" and domain and not how:
            parents = tuple(f"{device(parent)}/" for parent in self.host.inventory.parents.values())
            if uuid not in self._asked and any(path.startswith(parents) for path in domain.disks.values()):
                self.unheard[uuid] = domain.name
        if what in ("started", "stopped"):
            self._asked.discard(uuid)

    def _read(self, xml: str) -> tuple[str, str, list[str]]:
        """UUID, name, and which volumes on our storages it uses. Raises InvalidArgument."""
        try:
            domain = ET.fromstring(xml)
            paths = sources(xml)
        except ET.ParseError as fault:
            raise InvalidArgument("this is no domain", f"its XML cannot be read: {fault}", "") from None
        parents = self.host.inventory.parents.values()
        volumes = [path.removeprefix(device("")) for path in paths if path.startswith(device(""))]
        ours = sorted(each for each in volumes if any(each.startswith(f"{parent}/") for parent in parents))
        return domain.findtext("uuid", ""), domain.findtext("name", ""), ours

    async def _refuse_files(self, xml: str, what: str) -> None:
        """A pool of ours lets libvirt make files where only devices should be. Raises WrongState for such a disk: it is
        in memory, and gone with the next start of the host."""
        for path in {*files(xml), *sources(xml)}:
            if path.startswith(device("")) and await asyncio.to_thread(Path(path).is_file):
                hint = "make a volume for it: kvm-create, or zfs create -V; and then remove that file"
                raise WrongState(what, f"its disk {path} is a file in memory, and no volume", hint)

    async def _check(self, what: str, asked: Provision, volumes: list[str]) -> None:
        """Raises KvmError with why it must not start."""
        await self._look(volumes)
        await self._provide(asked)
        for vm in self._vms(volumes):
            check_startable(vm, what)
            if holder := self.engine.locks.holder(f"VM:{vm.name}"):
                job = self.engine.jobs[holder]
                hint = f"wait for it: kvm-job wait {holder}"
                raise Busy(what, f"job {holder} is at work on {vm.name}: {job.plan.description}", hint)
        for missing in (each for each in volumes if each not in self.host.inventory.datasets):
            raise NotFound(what, f"its volume {missing} is not there", self._where(missing))
        await asyncio.gather(*(self.host.devices.wait(each, NODE_SECONDS) for each in volumes))

    async def _check_alone(self, what: str, asked: Provision) -> None:
        """Raises WrongState or Busy if somebody else writes to one of its volumes. What counts is who has it open now:
        what is known of domains may be of a moment ago, and does not tell what was attached to one only while it
        runs."""
        others = taken(self.host.inventory, asked.uuid, asked.xml)
        volumes = filter(None, map(self.host.inventory.volume_at, written(asked.xml)))
        for volume, users in (await self.host.devices.writers(sorted(volumes))).items():
            if other := others.get(volume):
                raise refuse(what, volume, other)
            hint = "end it, or take the volume from that VM, and try again"
            raise Busy(what, f"its volume {volume} is open for writing in {', '.join(users)}", hint)

    async def _provide(self, asked: Provision) -> None:
        """Make what the domain asks for and nobody has made yet, or wait for who does. Raises KvmError."""
        own = (each for each in self.engine.running() if each.plan.operation == asked.operation)
        if job := next((each for each in own if each.plan.result.get("name") == asked.name), None):
            await self.engine.wait(job, PROVIDE_SECONDS)
        if asked.missing(self._view()):
            await self.engine.wait(self.engine.start(asked.plan(self._view()), 0), PROVIDE_SECONDS)

    async def _look(self, volumes: list[str]) -> None:
        """Ask ZFS itself for what the inventory does not know: it may have been made a moment ago."""
        unknown = [each for each in volumes if each not in self.host.inventory.datasets]
        if unknown:
            for found in (await listing.named(self.host.zfs, unknown))[0]:
                self.host.inventory.put_dataset(found)
            self.host.published()

    def _vms(self, volumes: list[str]) -> list[Vm]:
        found = {vm.id: vm for vm in map(self.host.inventory.vm_with, volumes) if vm}
        return [found[id_] for id_ in sorted(found)]

    def _where(self, missing: str) -> str:
        """What can be done about a volume that is not where the domain has it."""
        inventory = self.host.inventory
        parent, base = missing.rpartition("/")[::2]
        if parent not in inventory.datasets:
            return f"there is no dataset {parent}: is its pool imported?"
        waiting = sorted(n for n in inventory.datasets if is_trash(n) and n.endswith(f"/{base}"))
        if waiting:
            return f"it waits in the trash, as {waiting[-1].split('/')[-2]}: kvm-trash list"
        return "kvm-list tells what there is"


def in_one_line(error: KvmError) -> str:
    """What, why and hint as virsh can show them."""
    rest = ((": ", error.why), ("; ", error.hint))
    return " ".join(f"{error.what}{''.join(f'{mark}{text}' for mark, text in rest if text)}".split())
