"""The methods that change nothing. All but RefreshUsage and Refresh answer from memory; a guest is asked by libvirt."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable

from ..model import trash
from ..model.domain_xml import console_path, display_address
from ..model.errors import InvalidArgument, NotFound, WrongState
from ..model.foreign import foreign
from ..model.inventory import Vm
from ..steps.host import Host
from .dispatch import Answer, Call
from .tree import Tree
from .values import UInt32, dictionary, vm_path

REFRESH_INTERVAL = 10.0
MOST_SNAPSHOTS = 10000


class Reads:
    """The handlers by interface and method; reload: reads everything again."""

    def __init__(self, host: Host, tree: Tree, reload: Callable[[], Awaitable[None]]) -> None:
        self.host, self.tree, self._reload = host, tree, reload
        self._refreshed: dict[str, float] = {}

    def table(self) -> dict[tuple[str, str], Callable[[Call], Awaitable[Answer]]]:
        return {
            ("Manager", "FindVm"): self.find_vm,
            ("Manager", "ListForeign"): self.list_foreign,
            ("Manager", "ListObjects"): self.list_objects,
            ("Manager", "ListTrash"): self.list_trash,
            ("Manager", "Refresh"): self.refresh,
            ("Vm", "ListSnapshots"): self.list_snapshots,
            ("Vm", "RefreshUsage"): self.refresh_usage,
            ("Vm", "GetAddresses"): self.get_addresses,
            ("Vm", "GetDisplay"): self.get_display,
            ("Vm", "OpenConsole"): self.open_console,
        }

    async def find_vm(self, call: Call) -> Answer:
        name = call.args[0]
        vm = self.host.inventory.find(name)
        if vm is None:
            raise NotFound(f"there is no VM '{name[:80]}'", "", "kvm-list lists the VMs")
        return Answer((vm_path(vm.id),))

    async def list_foreign(self, call: Call) -> Answer:
        found = foreign(self.host.inventory, self.host.virt.connected)
        return Answer(([dictionary(vars(each)) for each in found],))

    async def list_objects(self, call: Call) -> Answer:
        wanted, known = set(call.args[0]), self.tree.interfaces
        if unknown := sorted(wanted - known.keys()):
            why = f"there is no interface '{unknown[0][:80]}'"
            raise InvalidArgument("nothing can be listed", why, f"there are {', '.join(sorted(known))}")
        return Answer((self.tree.of(wanted),))

    async def list_trash(self, call: Call) -> Answer:
        inventory, config = self.host.inventory, self.host.config
        due = {each.container.name for each in trash.due(inventory, int(time.time()), config.grace, config.floor)}
        return Answer(([
            dictionary({
                "id": entry.id,
                "vm": entry.name,
                "vm-id": entry.vm,
                "reason": entry.reason,
                "since": entry.since,
                "dataset": entry.container.name,
                "volumes": [volume.name for volume in entry.volumes],
                "used": entry.used,
                "expires": entry.since + config.grace if entry.since else 0,
                "held-by": sorted({
                    each if "@" in each else inventory.vm_named_by(each) for each in trash.holders(inventory, entry)
                }),
                "due": entry.container.name in due,
            })
            for entry in trash.entries(inventory)
        ],))  # fmt: skip

    async def refresh(self, call: Call) -> Answer:
        if self._due(""):
            await self._reload()
        return Answer()

    async def list_snapshots(self, call: Call) -> Answer:
        offset, limit = call.options.get("offset", 0), call.options.get("limit", 1000)
        if limit > MOST_SNAPSHOTS:
            raise InvalidArgument(
                f"the limit cannot be {limit}", f"{MOST_SNAPSHOTS} is the most", "ask for pages, by offset"
            )
        inventory = self.host.inventory
        return Answer(([
            dictionary({
                "name": each.name,
                "kind": each.kind,
                "creation": each.creation,
                "consistency": each.consistency,
                "guid": next(iter(each.parts.values())).guid,
                "used": each.used,
                "volumes": UInt32(len(each.parts)),
                "clones": sorted({inventory.vm_named_by(clone) for clone in each.clones}),
                "excludes": each.excludes,
                "held": each.held,
            })
            for each in inventory.snapshot_sets(self._vm(call))[offset : offset + limit]
        ],))  # fmt: skip

    async def refresh_usage(self, call: Call) -> Answer:
        vm = self._vm(call)
        if self._due(vm.id):
            await self.host.refresh_usage([volume.name for volume in vm.volumes])
            self.host.published()
        return Answer()

    async def get_addresses(self, call: Call) -> Answer:
        return Answer((await self.host.virt.addresses(self._running(call)),))

    async def get_display(self, call: Call) -> Answer:
        return Answer((display_address(await self.host.virt.live_xml(self._running(call))),))

    async def open_console(self, call: Call) -> Answer:
        path = console_path(await self.host.virt.live_xml(self._running(call)))
        if not path.startswith("/dev/pts/"):
            raise NotFound("the console was not opened", "the VM has no serial console", "virsh edit can add one")
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK)
        return Answer((0,), (fd,))

    def _vm(self, call: Call) -> Vm:
        vm = self.host.inventory.vm(call.path.rpartition("/")[2].replace("_", "-"))
        if vm is None:
            raise NotFound("there is no such VM any more", "", "kvm-list lists the VMs")
        return vm

    def _running(self, call: Call) -> str:
        """The UUID of the running domain. Raises WrongState."""
        vm = self._vm(call)
        if vm.domain is None or not vm.domain.active:
            raise WrongState(
                f"{vm.name} is {vm.state}", "only a running VM has this", f"start it: kvm-vm start {vm.name}"
            )
        return vm.domain.uuid

    def _due(self, key: str) -> bool:
        """Whether a refresh is due, and if so, noted. The reads that start a process are bounded, whoever asks."""
        now = time.monotonic()
        if now - self._refreshed.get(key, -REFRESH_INTERVAL) < REFRESH_INTERVAL:
            return False
        if len(self._refreshed) > MOST_SNAPSHOTS:
            self._refreshed.clear()
        self._refreshed[key] = now
        return True
