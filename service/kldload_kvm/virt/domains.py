"""What the service asks of domains: each function one call from a thread, or a bounded wait for libvirt's answer."""

from __future__ import annotations

from collections.abc import Callable

import libvirt
import libvirt_qemu

from ..model.addresses import from_agent, from_libvirt
from ..model.domain_xml import facts
from ..model.errors import NotFound, TimedOut
from ..model.inventory import IO_ERROR, NO_SPACE, OFF, Domain
from ..model.source_disks import Kept
from ..model.usage import Usage, usage
from ..waiting import until
from .changes import Changes
from .connection import Connection

GET_INTERFACES = '{"execute": "guest-network-get-interfaces"}'
AGENT_SECONDS = 5
STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: "shutoff",
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "shutdown",
    libvirt.VIR_DOMAIN_SHUTOFF: "shutoff",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "suspended",
}
STOPPED = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR)
FIGURES = (
    libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_BLOCK
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
)
# Of one that is off libvirt would open each disk; of one that is busy it gives what it can give without waiting.
OF_RUNNING = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
# What `virsh undefine` would take along is ours to keep or in ZFS already: the variables are a volume.
UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
    | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
)


class Virt(Changes):
    """The calls, over one connection. starting: UUIDs of the domains that we are starting right now."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.starting: set[str] = set()

    @property
    def connected(self) -> bool:
        return self.connection.connected

    async def domains(self) -> list[Domain]:
        """All domains."""
        return await self.connection.call(
            "the domains cannot be listed", lambda c: [d for d in map(self._record, c.listAllDomains()) if d]
        )

    async def domain(self, uuid: str) -> Domain | None:
        """One domain, or None if there is none of that UUID."""
        return await self._found(uuid, lambda c: c.lookupByUUIDString(uuid))

    async def domain_named(self, name: str) -> Domain | None:
        """One domain, or None if there is none of that name."""
        return await self._found(name, lambda c: c.lookupByName(name))

    async def _found(self, called: str, look: Callable[[libvirt.virConnect], libvirt.virDomain]) -> Domain | None:
        try:
            return await self.connection.call(f"the domain {called} cannot be read", lambda c: self._record(look(c)))
        except NotFound:
            return None

    async def networks(self) -> dict[str, bool]:
        """libvirt's networks, and whether each is active."""
        return await self.connection.call(
            "the networks cannot be listed", lambda c: {n.name(): bool(n.isActive()) for n in c.listAllNetworks()}
        )

    async def start_network(self, name: str) -> None:
        def work(conn: libvirt.virConnect) -> None:
            network = conn.networkLookupByName(name)
            if not network.isActive():
                network.create()

        await self.connection.call(f"the libvirt network {name} was not started", work)

    async def network_autostart(self, name: str) -> bool:
        """Whether a network starts by itself. Raises KvmError."""
        what = f"the libvirt network {name} cannot be read"
        return await self.connection.call(what, lambda c: bool(c.networkLookupByName(name).autostart()))

    async def set_network_autostart(self, name: str, on: bool) -> None:
        what = f"the autostart of the libvirt network {name} was not changed"
        await self.connection.call(what, lambda c: c.networkLookupByName(name).setAutostart(int(on)))

    async def define(self, xml: str) -> None:
        # Without libvirt's validation, which takes longer than all the rest of it: what we write is held against
        # libvirt's schema by the tests, and the rest libvirt wrote itself.
        await self.connection.call("the domain was not defined", lambda c: c.defineXML(xml))

    async def undefine(self, uuid: str) -> None:
        await self._on(uuid, "the domain was not undefined", lambda d: d.undefineFlags(UNDEFINE))

    async def start(self, uuid: str) -> None:
        self.starting.add(uuid)
        try:
            await self._on(uuid, "the VM was not started", lambda d: d.isActive() or d.create())
        finally:
            self.starting.discard(uuid)

    async def force_off(self, uuid: str) -> None:
        await self._on(uuid, "the VM was not forced off", lambda d: d.isActive() and d.destroy())

    async def reboot(self, uuid: str) -> None:
        await self._on(uuid, "the VM was not rebooted", lambda d: d.reboot())

    async def pause(self, uuid: str) -> None:
        await self._on(uuid, "the VM was not paused", lambda d: d.suspend())

    async def resume(self, uuid: str) -> None:
        await self._on(uuid, "the VM was not resumed", lambda d: d.resume())

    async def set_autostart(self, uuid: str, on: bool) -> None:
        await self._on(uuid, "autostart was not changed", lambda d: d.setAutostart(int(on)))

    async def state(self, uuid: str) -> str:
        """The state as in the Vm interface. Raises NotFound."""
        return await self._on(uuid, "the VM's state cannot be read", lambda d: STATES.get(d.state()[0], "shutoff"))

    async def kept_of(self, uuid: str) -> Kept:
        """What libvirt keeps of a domain besides its definition. Raises NotFound."""

        def work(domain: libvirt.virDomain) -> Kept:
            return Kept(
                bool(domain.hasManagedSaveImage()),
                tuple(sorted(each.getName() for each in domain.listAllSnapshots())),
                tuple(sorted(each.getName() for each in domain.listAllCheckpoints())),
            )

        return await self._on(uuid, "what libvirt keeps of the domain cannot be read", work)

    async def states(self) -> dict[str, str]:
        """Every domain's state by its UUID, as in the Vm interface, by two questions; "saved" where it is off, and its
        memory saved."""

        def work(conn: libvirt.virConnect) -> dict[str, str]:
            found = conn.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)
            states = {domain.UUIDString(): STATES.get(stats.get("state.state"), "shutoff") for domain, stats in found}
            for domain in conn.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE):
                if states.get(domain.UUIDString()) == "shutoff":
                    states[domain.UUIDString()] = "saved"
            return states

        return await self.connection.call("the states of the domains cannot be read", work)

    async def usage(self) -> dict[str, Usage]:
        """What each running domain uses, by its UUID, by one question."""

        def work(conn: libvirt.virConnect) -> dict[str, Usage]:
            found = conn.getAllDomainStats(FIGURES, OF_RUNNING)
            return {domain.UUIDString(): usage(figures) for domain, figures in found}

        return await self.connection.call("what the domains use cannot be read", work)

    async def shutdown(self, uuid: str, timeout: float) -> None:
        """Ask the guest to shut down and wait until it is off. Raises TimedOut; the guest then goes on running."""
        await self._on(uuid, "the guest was not asked to shut down", lambda d: d.shutdown())

        async def off() -> bool:
            return await self.state(uuid) in OFF

        if not await until(off, timeout, 0.5):
            raise TimedOut(
                "the VM is still running",
                f"its guest was asked to shut down {timeout:.0f} s ago and has not",
                "look at its console (kvm-vm console NAME), or force it off (kvm-vm off NAME)",
            )

    async def addresses(self, uuid: str) -> list[str]:
        """What agent, DHCP leases and neighbour table know, each "ADDRESS/PREFIX", without loopback and link-local."""

        def work(domain: libvirt.virDomain) -> list[str]:
            sources: tuple[Callable[[], list[str]], ...] = (
                # libvirt's own question to the agent would wait for its answer for ever.
                lambda: from_agent(libvirt_qemu.qemuAgentCommand(domain, GET_INTERFACES, AGENT_SECONDS, 0)),
                lambda: from_libvirt(domain.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE)),
                lambda: from_libvirt(domain.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP)),
            )
            for ask in sources:
                try:
                    found = ask()
                except libvirt.libvirtError:
                    continue
                if found:
                    return found
            return []

        return await self._on(uuid, "the addresses cannot be read", work)

    async def live_xml(self, uuid: str) -> str:
        """The running domain's XML, with its runtime facts (console, VNC port)."""
        what = "the domain's XML cannot be read"
        return await self._on(uuid, what, lambda d: self.pools.by_device(d.XMLDesc(0)))

    def _record(self, domain: libvirt.virDomain) -> Domain | None:
        """A domain read whole; None if it went away meanwhile."""
        try:
            persistent = bool(domain.isPersistent())
            xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE if persistent else 0)
            found = facts(xml := self.pools.by_device(xml))
            state, reason, *_ = domain.state()
            return Domain(
                uuid=domain.UUIDString(),
                name=domain.name(),
                state=STATES.get(state, "shutoff"),
                xml=xml,
                autostart=bool(domain.autostart()) if persistent else False,
                persistent=persistent,
                memory=found.memory,
                vcpus=found.vcpus,
                os=found.os,
                disks=found.disks,
                cdroms=found.cdroms,
                networks=found.networks,
                fault=_fault(domain) if (state, reason) == STOPPED else "",
            )
        except libvirt.libvirtError as fault:
            if fault.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise


def _fault(domain: libvirt.virDomain) -> str:
    """Why QEMU stopped a domain that is paused because of its disks. What each disk says outlives our own restarts."""
    try:
        faults = domain.diskErrors()
    except libvirt.libvirtError:
        return IO_ERROR
    return NO_SPACE if libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE in faults.values() else IO_ERROR
