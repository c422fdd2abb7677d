"""The async client: a class for each interface on the bus. Generated from dbus/*.xml by dbus/generate.py; not edited.

    async with Connection() as connection:
        vm = await Manager(connection).find_vm("web-1")
        job = await vm.snapshot(name="before-update", wait=True)
        await vm.reload()
        print(vm.state, (await job.reload()).result)

What is left out of a method's options is not sent. Calls raise the classes of model/errors.py, or ServiceUnavailable.
A method that returns a Job takes these options too:

    wait: Return when the job has ended; its error is the answer's.
    plan_only: Return a job that is only planned: nothing is changed until it is applied.
    request_id: The same id from the same user with the same arguments is the same job.
    no_user_interaction: Never ask the user for a password.
"""

from __future__ import annotations

from ..model.constants import PREFIX, ROOT
from .aio_transport import ANSWER_TIME, LONGEST, Connection, Object, given

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Connection", "Host", "Job", "Manager", "Storage", "Vm"]


class Host(Object):
    """The host that the VMs run on: what is wrong with it, and putting it right. Found at /org/kldload/Kvm1/host."""

    INTERFACE = f"{PREFIX}.Host"

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What the last check found, as Check gives it; empty before the first one."""
        value: list[dict[str, Any]] = self.properties()["Findings"]
        return value

    @property
    def checked_at(self) -> int:
        """When that was, in seconds since 1970; 0 before the first one."""
        value: int = self.properties()["CheckedAt"]
        return value

    async def check(self, *, severity: str | None = None) -> list[dict[str, Any]]:
        """Check the host: pools and datasets, memory, kernel, libvirt, networks, what confines guests, and the
        settings of guests. However many ask, there is one check in five seconds. What could not be looked at is a
        finding too.

        severity: The least severity to be told of: error, warning or notice; notice if not given.
        returns: The findings, the worst first. Each holds id (s, such as arc-unlimited), severity (s: error, warning or
            notice), object (s, the pool, dataset, VM, unit or file concerned), found (s, what was seen), why (s, why it
            matters), todo (s, what can be done), source (s, where that is written) and fix (s, what Fix would change,
            or empty where it changes nothing).
        """
        options = given(
            ("severity", "s", severity),
        )
        (value,) = await self._call("Check", "a{sv}", options)
        result: list[dict[str, Any]] = value
        return result

    async def fix(
        self,
        ids: list[str],
        *,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Put right what was found, as far as that can be done with an undo: the host is checked, the plan made from
        what is found then, and a failure takes everything back. The job's result holds fixed (aa{sv}: id (s) and
        object (s)).

        ids: Ids of findings; all that can be put right if there are none.
        """
        options = given(
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call("Fix", "asa{sv}", ids, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME)
        return Job(self.connection, path)

    async def setup(
        self,
        profile: str,
        *,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Set the host up as a profile has it; done again it changes nothing. The job's result holds lines (aa{sv}):
        for each line of the profile line (s), state (s: set, already or left-out) and why (s).

        profile: The profile: kvm.
        """
        options = given(
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "Setup", "sa{sv}", profile, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def create_bridge(
        self,
        name: str,
        port: str,
        *,
        confirm_within: int | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Make a bridge on a network card, by the tool that has the card (systemd-networkd, NetworkManager or
        ifupdown): the bridge takes over the card's address and its settings. The bridge is there for a trial at
        first. It is kept if ConfirmBridge is called in time; else, and also if the service is killed or the host
        rebooted meanwhile, the network is as it was. The job's result holds bridge (s), port (s), tool (s) and used
        (b): whether VMs for which no network is asked for get it, as kvm.conf is.

        name: The bridge's name, such as br0.
        port: The network card, such as enp3s0.
        confirm_within: Seconds in which it must be confirmed, 10 to 600; 60 if not given.
        """
        options = given(
            ("confirm-within", "u", confirm_within),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "CreateBridge", "ssa{sv}", name, port, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def confirm_bridge(self, name: str, *, no_user_interaction: bool | None = None) -> None:
        """Keep a bridge that CreateBridge has made for a trial: call it from where the host has to be reached. For
        whoever made the bridge, who is not asked for a password again, and those who may make one. It returns once
        the bridge is kept.

        name: The bridge's name.
        no_user_interaction: Never ask the user for a password.
        """
        options = given(
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        await self._call("ConfirmBridge", "sa{sv}", name, options, asks=True)


class Job(Object):
    """A running or finished operation; a plan is a job not yet started.

    Signals, as watch() gives them:
    Completed(success, message): The job has ended. success: Whether it did what it was for. message: The error, or the
        empty string.
    """

    INTERFACE = f"{PREFIX}.Job"

    @property
    def id(self) -> str:
        """The job's id."""
        value: str = self.properties()["Id"]
        return value

    @property
    def operation(self) -> str:
        """The operation, such as vm.clone."""
        value: str = self.properties()["Operation"]
        return value

    @property
    def description(self) -> str:
        """What it does, in one line."""
        value: str = self.properties()["Description"]
        return value

    @property
    def objects(self) -> list[str]:
        """The objects it works on."""
        value: list[str] = self.properties()["Objects"]
        return value

    @property
    def state(self) -> str:
        """planned, running, undoing, succeeded, failed or cancelled."""
        value: str = self.properties()["State"]
        return value

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The steps in order. Each holds description (s), kind (s), state (s: waiting, running, done, undone or
        failed) and part (s: prepare, commit or finish).
        """
        value: list[dict[str, Any]] = self.properties()["Steps"]
        return value

    @property
    def destroys(self) -> list[str]:
        """Everything that it destroys, by name."""
        value: list[str] = self.properties()["Destroys"]
        return value

    @property
    def warnings(self) -> list[str]:
        """What a careful person would want to know first."""
        value: list[str] = self.properties()["Warnings"]
        return value

    @property
    def progress(self) -> float:
        """How much of it is done, from 0.0 to 1.0."""
        value: float = self.properties()["Progress"]
        return value

    @property
    def bytes(self) -> int:
        """Bytes done of the step under way, or 0."""
        value: int = self.properties()["Bytes"]
        return value

    @property
    def bytes_total(self) -> int:
        """Bytes of the step under way in all, or 0 if not known."""
        value: int = self.properties()["BytesTotal"]
        return value

    @property
    def rate(self) -> int:
        """Bytes each second, or 0 if not known."""
        value: int = self.properties()["Rate"]
        return value

    @property
    def start_time(self) -> int:
        """When it was started, in microseconds since 1970, or 0."""
        value: int = self.properties()["StartTime"]
        return value

    @property
    def end_time(self) -> int:
        """When it ended, in microseconds since 1970, or 0."""
        value: int = self.properties()["EndTime"]
        return value

    @property
    def started_by_uid(self) -> int:
        """The user id of whoever started it."""
        value: int = self.properties()["StartedByUid"]
        return value

    @property
    def started_by_login_uid(self) -> int:
        """The user id with which they had logged in, before any sudo or su; 4294967295 if that is not known."""
        value: int = self.properties()["StartedByLoginUid"]
        return value

    @property
    def cancelable(self) -> bool:
        """Whether Cancel would undo it now."""
        value: bool = self.properties()["Cancelable"]
        return value

    @property
    def result(self) -> dict[str, Any]:
        """What it gave, as told at the method that started it."""
        value: dict[str, Any] = self.properties()["Result"]
        return value

    @property
    def error_name(self) -> str:
        """The D-Bus name of its error, or the empty string."""
        value: str = self.properties()["ErrorName"]
        return value

    @property
    def error_message(self) -> str:
        """Its error: what, why and what to do, a line each; or the empty string."""
        value: str = self.properties()["ErrorMessage"]
        return value

    async def apply(self, *, wait: bool | None = None, no_user_interaction: bool | None = None) -> None:
        """Start a plan. It is authorized as the operation itself, and refused if what it depends on has changed
        since. For whoever made the plan, and root.

        wait: Return when the job has ended; its error is the answer's.
        no_user_interaction: Never ask the user for a password.
        """
        options = given(
            ("wait", "b", wait),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        await self._call("Apply", "a{sv}", options, asks=True, timeout=LONGEST if wait else ANSWER_TIME)

    async def cancel(self, *, no_user_interaction: bool | None = None) -> None:
        """Stop the job and undo what it did; refused after its commit point. For whoever started it, and those who
        may cancel others' jobs.

        no_user_interaction: Never ask the user for a password.
        """
        options = given(
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        await self._call("Cancel", "a{sv}", options, asks=True)

    async def wait(self, *, timeout: int | None = None) -> dict[str, Any]:
        """Wait until the job has ended, and return its result. A failed job is that job's own error.

        timeout: Seconds to wait at most, 0 to 86400; a day if not given.
        returns: The result, as told at the method that started the job.
        """
        options = given(
            ("timeout", "u", timeout),
        )
        (value,) = await self._call(
            "Wait", "a{sv}", options, timeout=LONGEST if timeout is None else timeout + ANSWER_TIME
        )
        result: dict[str, Any] = value
        return result


class Manager(Object):
    """The service as a whole: what is asked of no single VM. Found at /org/kldload/Kvm1."""

    INTERFACE = f"{PREFIX}.Manager"

    def __init__(self, connection: Connection, path: str = ROOT, properties: dict[str, Any] | None = None) -> None:
        super().__init__(connection, path, properties)

    @property
    def version(self) -> str:
        """The version of the service, as "MAJOR.MINOR.PATCH"."""
        value: str = self.properties()["Version"]
        return value

    @property
    def zfs_version(self) -> str:
        """The version of OpenZFS found on this host, or the empty string while ZFS cannot be asked."""
        value: str = self.properties()["ZfsVersion"]
        return value

    @property
    def libvirt_version(self) -> str:
        """The version of libvirt the service is connected to, or the empty string while it is not connected."""
        value: str = self.properties()["LibvirtVersion"]
        return value

    @property
    def problems(self) -> list[str]:
        """What keeps the service from doing its whole job, one sentence each; empty when all is well."""
        value: list[str] = self.properties()["Problems"]
        return value

    @property
    def storages(self) -> list[str]:
        """The storages by name, the default one first."""
        value: list[str] = self.properties()["Storages"]
        return value

    async def create_vm(
        self,
        name: str,
        *,
        memory: int | None = None,
        vcpus: int | None = None,
        disk: int | None = None,
        storage: str | None = None,
        iso: str | None = None,
        image: str | None = None,
        os: str | None = None,
        network: str | None = None,
        volblocksize: int | None = None,
        compression: str | None = None,
        hostname: str | None = None,
        user: str | None = None,
        ssh_keys: list[str] | None = None,
        password_hash: str | None = None,
        start: bool | None = None,
        autostart: bool | None = None,
        template: bool | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Create a VM: its volumes, its UEFI variables and its libvirt domain. It is not started unless asked for.
        Without image and iso the disk is blank. The job's result holds vm (o), name (s), id (s), uuid (s),
        volblocksize (t, bytes) and volblocksize-reason (s, why it is that).

        name: The VM's name: letters, digits, '_', '-' and '.', at most 63.
        memory: Memory in bytes; 2 GiB if not given.
        vcpus: Virtual CPUs; 2 if not given.
        disk: Size of the disk in bytes; 20 GiB, or the image's size if that is larger, if not given.
        storage: Name of the storage; the default one if not given.
        iso: Name of an ISO in an image store, put into the CD drive and booted first.
        image: Name of a disk image in an image store, converted into the disk.
        os: Operating system, as a short id of osinfo-db such as debian13.
        network: 'bridge=NAME', 'network=NAME' or 'none'; as configured if not given.
        volblocksize: Block size of the disk in bytes, a power of two from 4 KiB to 128 KiB; as configured if not given,
            else as suits the pool.
        compression: ZFS compression of the disk; lz4 if not given.
        hostname: Host name given to an image's guest; the VM's name if not given.
        user: Login created in an image's guest.
        ssh_keys: Public keys allowed to log in to an image's guest.
        password_hash: crypt(5) hash of the user's password in an image's guest.
        start: Start the VM once it is there.
        autostart: Start the VM when the host boots.
        template: Make it a template, which does not start.
        """
        options = given(
            ("memory", "t", memory),
            ("vcpus", "u", vcpus),
            ("disk", "t", disk),
            ("storage", "s", storage),
            ("iso", "s", iso),
            ("image", "s", image),
            ("os", "s", os),
            ("network", "s", network),
            ("volblocksize", "t", volblocksize),
            ("compression", "s", compression),
            ("hostname", "s", hostname),
            ("user", "s", user),
            ("ssh-keys", "as", ssh_keys),
            ("password-hash", "s", password_hash),
            ("start", "b", start),
            ("autostart", "b", autostart),
            ("template", "b", template),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "CreateVm", "sa{sv}", name, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def find_vm(self, name: str) -> Vm:
        """Find a VM by its name, its id or its libvirt UUID.

        name: Name, id or UUID.
        returns: The VM.
        """
        (path,) = await self._call("FindVm", "s", name)
        return Vm(self.connection, path)

    async def list_objects(self, interfaces: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
        """Objects with their properties, as GetManagedObjects gives them, but only those with one of the interfaces
        asked for, so that a list of VMs need not wait for the history of jobs. Unlike there, the Manager itself can
        be asked for too.

        interfaces: Interfaces of this contract, such as org.kldload.Kvm1.Vm.
        returns: Interfaces with their properties, by object.
        """
        (value,) = await self._call("ListObjects", "as", interfaces)
        result: dict[str, dict[str, dict[str, Any]]] = value
        return result

    async def can_i(self, action: str, object: str) -> str:
        """Whether the caller may do something, for greying out a button: "yes", "auth" (after a password) or "no".
        The answer is polkit's for that caller and that object, now.

        action: One of our polkit actions, such as org.kldload.kvm.snapshot.
        object: The VM or storage concerned, or /org/kldload/Kvm1.
        returns: "yes", "auth" or "no".
        """
        (value,) = await self._call("CanI", "so", action, object)
        result: str = value
        return result

    async def list_trash(self) -> list[dict[str, Any]]:
        """What waits in the trash, newest first. Each entry holds id (s), vm (s, its name), vm-id (s), reason (s:
        deleted, rolled-back or undefined), since (t, seconds since 1970), dataset (s), volumes (as), used (t,
        bytes), expires (t, seconds since 1970, or 0 for never), held-by (as, whose clones keep it from going, and
        which of its snapshots somebody holds) and due (b, whether it would be purged by now).

        returns: The entries.
        """
        (value,) = await self._call("ListTrash", "")
        result: list[dict[str, Any]] = value
        return result

    async def list_foreign(self) -> list[dict[str, Any]]:
        """What is on the host and is no whole VM: domains that others made, and volumes and domains that have lost
        each other. Each entry holds name (s), uuid (s, of the domain, or empty), state (s), kind (s: adoptable;
        files, whose disks are no volumes right below a storage; missing, whose volumes are not there; shared, whose
        volumes are a VM's; orphan, a VM without a domain), volumes (as, on our storages), why (s) and hint (s, what
        can be done, or empty).

        returns: The entries, by name.
        """
        (value,) = await self._call("ListForeign", "")
        result: list[dict[str, Any]] = value
        return result

    async def adopt(
        self,
        name: str,
        *,
        storage: str | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Take in a domain that others made on volumes right below a storage, with its snapshots: each volume is
        noted to be one of the new VM's, and nothing else is changed. Or one that is off and whose disks are files
        (qcow2, raw) or devices elsewhere: each is copied into a new volume, UEFI variables too, and the domain is
        pointed at these; what they are copied from stays, untouched. Or define a VM that is an orphan again, from
        what its newest snapshot keeps. The job's result holds vm (o), name (s), volumes (as) and, if disks were
        copied, left (as, the paths that they were copied from).

        name: Name or UUID of the domain, or name of the VM.
        storage: The storage that disks are copied to; the default one if not given.
        """
        options = given(
            ("storage", "s", storage),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "Adopt", "sa{sv}", name, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def get_statistics(self, *, tables: list[str] | None = None) -> dict[str, list[dict[str, Any]]]:
        """Numbers for monitoring, in tables of rows; a column of which nothing is known is left out of a row.
        Counters begin anew with the service, those of a guest with its QEMU. Rows of a VM have vm (s, its name) and
        id (s).

        service, one row: version (s), zfs (s), libvirt (s), started (t, seconds since 1970: counters are since then),
            problems (t, how many), jobs-running (t), libvirt-connected (b), usage-problem (s, why usage, disk and
            interface have no rows, or empty).

        storage: storage (s), capacity (t), free (t), floor (t), provisioned (t), sampled-at (t) and problem (s), as its
            properties are; trash-entries (t), trash-used (t, bytes).

        vm: uuid (s), state (s), storage (s), template (b), problem (s), memory (t), vcpus (u), size (t), used (t),
            used-at (t) and snapshots (u), as its properties are.

        snapshot, of a VM's first disk, for each kind: kind (s: manual, auto, clone or foreign), count (t), newest (t,
            when its newest was taken, in seconds since 1970).

        held, how VMs were held still for snapshots: how (s: frozen by its agent, or paused), count (t, how often),
            seconds (d, all together), last (d, the last time).

        usage, of running VMs: cpu-time, cpu-user, cpu-system (t, nanoseconds); memory-current (t, bytes the guest has),
            memory-resident (t, bytes its QEMU occupies), memory-unused, memory-usable (t, bytes, as the guest tells).

        disk, of running VMs: target (s), reads, writes, flushes (t, requests), read-bytes, write-bytes (t), read-time,
            write-time, flush-time (t, nanoseconds).

        interface, of running VMs: device (s, the host's end); received-bytes, received-packets, received-errors,
            received-dropped, sent-bytes, sent-packets, sent-errors, sent-dropped (t).

        job: operation (s), outcome (s: succeeded, failed or cancelled), count (t), seconds (d, from start to end, all
            together).

        event, what was heard of the host: source (s: zfs, udev or libvirt), events (t); and of what others changed,
            from the change (of libvirt: from its telling us) until it was on the bus: measured (t, how many changes),
            lag (d, seconds, summed up), worst (d, seconds), late (t, how many took longer than a second). What comes of
            udev are device nodes, which are no part of it.

        reload, how often everything was read again: reason (s: gap, events were missed; reader, their reader ended;
            pool, a pool came or went; libvirt, it was connected to), count (t).

        tables: Only these tables; all if not given. libvirt is asked for service, usage, disk and interface only, at
            most once a second and for at most 5 seconds.
        returns: The rows, by table.
        """
        options = given(
            ("tables", "as", tables),
        )
        (value,) = await self._call("GetStatistics", "a{sv}", options)
        result: dict[str, list[dict[str, Any]]] = value
        return result

    async def refresh(self) -> None:
        """Read everything anew from ZFS and libvirt, at most once in ten seconds. Needed only if something was
        missed.
        """
        await self._call("Refresh", "")

    async def snapshot_all(
        self,
        *,
        name: str | None = None,
        storage: str | None = None,
        require_consistency: str | None = None,
        kind: str | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Snapshot all VMs at once, with one name: in one transaction on each pool, with all guests held still at
        the same moment. Orphans are taken as well. A guest that cannot be frozen in time, and a volume that vanishes
        meanwhile, does not keep the others from theirs. The job's result holds snapshot (s), snapshots (aa{sv}: vm
        (s, its name), consistency (s: app, off, paused or crash), held (d, seconds for which the guest was frozen or
        paused) and volumes (t, how many)), missing (as, volumes that had vanished), left-out (as, VMs that another
        job was at work on) and unanswered (as, VMs whose agents did not answer when they were to be thawed; where no
        guest was held it is absent).

        name: The name; the time in UTC if not given. One that a VM has already is refused.
        storage: Only the VMs on this storage.
        require_consistency: app, off or paused: take none if a VM's would be less consistent than that (off, app,
            paused, crash is the order).
        kind: manual, or auto: named after the time, and removed again by PruneSnapshots; manual if not given.
        """
        options = given(
            ("name", "s", name),
            ("storage", "s", storage),
            ("require-consistency", "s", require_consistency),
            ("kind", "s", kind),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call("SnapshotAll", "a{sv}", options, asks=True, timeout=LONGEST if wait else ANSWER_TIME)
        return Job(self.connection, path)

    async def restore_trash(
        self,
        entry: str,
        *,
        name: str | None = None,
        force: bool | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Bring back what waits in the trash. A deleted VM comes back with its volumes, snapshots and domain,
        without the passwords that libvirt does not show; with another UUID and other addresses if its UUID was taken
        meanwhile. A state that a rollback gave up changes places with the current one, which waits in the trash
        then: the VM must be off. A disk that was taken from a VM which is there is attached to it again, at once if
        it runs. The job's result holds vm (o), name (s) and, of a state that was given up, trash (s, the entry of
        the one given up now); of a disk, target (s), dataset (s) and applied (s: now, or at next boot).

        entry: Id of the entry.
        name: Restore a deleted VM under this name, not its old one.
        force: Force a running VM off first, to bring back a state of it.
        """
        options = given(
            ("name", "s", name),
            ("force", "b", force),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "RestoreTrash", "sa{sv}", entry, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def purge_trash(
        self,
        entries: list[str],
        *,
        expired: bool | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Destroy entries of the trash for good: those that are named, or with expired all that are due: what has
        waited for its grace period and, where a pool has less than its floor free, what a person deleted, oldest
        first. An entry with living clones is refused, or passed over; so is one that a job still fills. Snapshots
        that were taken only to be cloned go with their last clone. The job's result holds purged (as).

        entries: Ids of entries.
        expired: All that are due; no entry may be named then.
        """
        options = given(
            ("expired", "b", expired),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "PurgeTrash", "asa{sv}", entries, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def prune_snapshots(
        self,
        *,
        storage: str | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Destroy the timer's snapshots (of the kind auto) that are older than the configuration keeps them; never
        one that a clone hangs on or that somebody holds, never the newest of a VM, and none that came from another
        host with a replication. The plan names each. The job's result holds removed (as).

        storage: Only those of the VMs on this storage.
        """
        options = given(
            ("storage", "s", storage),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "PruneSnapshots", "a{sv}", options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)


class Storage(Object):
    """A storage: a parent dataset that holds volumes, with its store of ISOs and disk images."""

    INTERFACE = f"{PREFIX}.Storage"

    @property
    def name(self) -> str:
        """The name in the configuration."""
        value: str = self.properties()["Name"]
        return value

    @property
    def dataset(self) -> str:
        """The parent dataset."""
        value: str = self.properties()["Dataset"]
        return value

    @property
    def default(self) -> bool:
        """Whether VMs go here when no storage is named."""
        value: bool = self.properties()["Default"]
        return value

    @property
    def capacity(self) -> int:
        """Bytes in use and free together, as of SampledAt."""
        value: int = self.properties()["Capacity"]
        return value

    @property
    def free(self) -> int:
        """Bytes free, as of SampledAt."""
        value: int = self.properties()["Free"]
        return value

    @property
    def floor(self) -> int:
        """Bytes below which nothing new is created here."""
        value: int = self.properties()["Floor"]
        return value

    @property
    def provisioned(self) -> int:
        """Bytes promised to the disks of all VMs here."""
        value: int = self.properties()["Provisioned"]
        return value

    @property
    def overcommit(self) -> float:
        """How many times its capacity a storage has promised to disks: Provisioned by Capacity. Disks are thin, so
        it may be more than 1.
        """
        value: float = self.properties()["Overcommit"]
        return value

    @property
    def sampled_at(self) -> int:
        """When Capacity and Free were read, in seconds since 1970."""
        value: int = self.properties()["SampledAt"]
        return value

    @property
    def problem(self) -> str:
        """What is wrong with this storage and what can be done, or the empty string."""
        value: str = self.properties()["Problem"]
        return value

    @property
    def image_directory(self) -> str:
        """The directory of the image store, or the empty string if this storage has none."""
        value: str = self.properties()["ImageDirectory"]
        return value

    @property
    def images(self) -> list[dict[str, Any]]:
        """The image store. Each image holds name (s), format (s: iso, qcow2 or raw), size (t, bytes of the file),
        virtual-size (t, bytes of the disk in it) and path (s).
        """
        value: list[dict[str, Any]] = self.properties()["Images"]
        return value

    async def add(
        self,
        file: int,
        name: str,
        *,
        format: str | None = None,
        sha256: str | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Copy an ISO or a disk image into the store. Its header is read by an unprivileged helper; images that need
        other files are refused. The job's result holds name (s), format (s), size (t), virtual-size (t) and sha256
        (s).

        file: The file, open for reading: a regular file.
        name: Its name in the store.
        format: iso, qcow2 or raw; told from the contents if not given, except raw.
        sha256: The checksum that the file must have, in hexadecimal.
        """
        options = given(
            ("format", "s", format),
            ("sha256", "s", sha256),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "Add", "hsa{sv}", file, name, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def remove(
        self,
        name: str,
        *,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Remove an ISO or a disk image from the store. One that a VM has in its drive is refused.

        name: Its name in the store.
        """
        options = given(
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "Remove", "sa{sv}", name, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)


class Vm(Object):
    """One VM: a libvirt domain on our volumes. Its object path carries its id, with '_' for '-', and survives a
    rename.

    Signals, as watch() gives them:
    SnapshotsChanged(added, removed): Snapshots came or went. One signal for each transaction. added: Names that are
        new. removed: Names that are gone.
    """

    INTERFACE = f"{PREFIX}.Vm"

    @property
    def id(self) -> str:
        """Our own id, a UUID kept in ZFS."""
        value: str = self.properties()["Id"]
        return value

    @property
    def name(self) -> str:
        """The name, the same in libvirt and in ZFS."""
        value: str = self.properties()["Name"]
        return value

    @property
    def uuid(self) -> str:
        """The libvirt UUID, or the empty string for an orphan."""
        value: str = self.properties()["Uuid"]
        return value

    @property
    def state(self) -> str:
        """running, paused, shutdown (shutting down), shutoff, crashed, suspended, or orphan (volumes with no
        domain).
        """
        value: str = self.properties()["State"]
        return value

    @property
    def problem(self) -> str:
        """What is wrong with this VM and what can be done, or the empty string."""
        value: str = self.properties()["Problem"]
        return value

    @property
    def storage(self) -> str:
        """The storage its volumes are on."""
        value: str = self.properties()["Storage"]
        return value

    @property
    def memory(self) -> int:
        """Memory in bytes, as configured."""
        value: int = self.properties()["Memory"]
        return value

    @property
    def vcpus(self) -> int:
        """Virtual CPUs, as configured."""
        value: int = self.properties()["Vcpus"]
        return value

    @property
    def autostart(self) -> bool:
        """Whether it starts when the host boots."""
        value: bool = self.properties()["Autostart"]
        return value

    @property
    def os(self) -> str:
        """The operating system as a short id of osinfo-db, or the empty string."""
        value: str = self.properties()["Os"]
        return value

    @property
    def volumes(self) -> list[dict[str, Any]]:
        """The volumes, the first disk first. Each holds dataset (s), guid (s), role (s: disk, nvram or seed), target
        (s, such as vda), size (t, bytes), origin (s, the snapshot it is a clone of) and device (s).
        """
        value: list[dict[str, Any]] = self.properties()["Volumes"]
        return value

    @property
    def size(self) -> int:
        """Sum of the sizes of the disks in bytes."""
        value: int = self.properties()["Size"]
        return value

    @property
    def used(self) -> int:
        """Bytes its volumes and their snapshots use, as of UsedAt."""
        value: int = self.properties()["Used"]
        return value

    @property
    def used_at(self) -> int:
        """When Used was read, in seconds since 1970."""
        value: int = self.properties()["UsedAt"]
        return value

    @property
    def origin(self) -> str:
        """The snapshot its first disk is a clone of, or the empty string."""
        value: str = self.properties()["Origin"]
        return value

    @property
    def clones(self) -> list[str]:
        """Names of the VMs that are clones of its snapshots."""
        value: list[str] = self.properties()["Clones"]
        return value

    @property
    def snapshot_count(self) -> int:
        """How many snapshots it has."""
        value: int = self.properties()["SnapshotCount"]
        return value

    @property
    def identity(self) -> str:
        """Who gives this clone an identity of its own: "" (not a clone, or done), cloud-init, or pending (at its
        first start, by the guest agent).
        """
        value: str = self.properties()["Identity"]
        return value

    @property
    def job(self) -> str:
        """The job that holds this VM, or "/" for none."""
        value: str = self.properties()["Job"]
        return value

    @property
    def template(self) -> bool:
        """Whether it is a template: clones come from it, and it does not start."""
        value: bool = self.properties()["Template"]
        return value

    async def start(
        self,
        *,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Start the VM, or resume it from its managed save."""
        options = given(
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call("Start", "a{sv}", options, asks=True, timeout=LONGEST if wait else ANSWER_TIME)
        return Job(self.connection, path)

    async def shutdown(
        self,
        *,
        timeout: int | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Ask the guest to shut down, and wait until it is off. A guest that does not answer is left running, and
        the job fails.

        timeout: Seconds to wait for the guest, 1 to 3600; 300 if not given.
        """
        options = given(
            ("timeout", "u", timeout),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call("Shutdown", "a{sv}", options, asks=True, timeout=LONGEST if wait else ANSWER_TIME)
        return Job(self.connection, path)

    async def force_off(
        self,
        *,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Pull the power cord. The guest may lose what it had not yet written."""
        options = given(
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call("ForceOff", "a{sv}", options, asks=True, timeout=LONGEST if wait else ANSWER_TIME)
        return Job(self.connection, path)

    async def reboot(
        self,
        *,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Ask the guest to reboot."""
        options = given(
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call("Reboot", "a{sv}", options, asks=True, timeout=LONGEST if wait else ANSWER_TIME)
        return Job(self.connection, path)

    async def pause(
        self,
        *,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Stop the guest's CPUs; its memory stays."""
        options = given(
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call("Pause", "a{sv}", options, asks=True, timeout=LONGEST if wait else ANSWER_TIME)
        return Job(self.connection, path)

    async def resume(
        self,
        *,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Let a paused guest run again."""
        options = given(
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call("Resume", "a{sv}", options, asks=True, timeout=LONGEST if wait else ANSWER_TIME)
        return Job(self.connection, path)

    async def set_autostart(
        self,
        autostart: bool,
        *,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Whether the VM starts when the host boots.

        autostart: On or off.
        """
        options = given(
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "SetAutostart", "ba{sv}", autostart, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def snapshot(
        self,
        *,
        name: str | None = None,
        require_consistency: str | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Snapshot all volumes in one transaction, with the domain XML of that moment. A running guest is frozen by
        its agent, or else paused, meanwhile. The job's result holds snapshot (s), consistency (s: app, off, paused
        or crash), held (d, seconds frozen or paused) and, if its agent did not answer, so that it might freeze even
        now, unanswered (as, the VM's name).

        name: Name of the snapshot; the time in UTC, such as 2026-04-01_153022, if not given.
        require_consistency: Refuse to take a snapshot that is less consistent than app, off or paused.
        """
        options = given(
            ("name", "s", name),
            ("require-consistency", "s", require_consistency),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call("Snapshot", "a{sv}", options, asks=True, timeout=LONGEST if wait else ANSWER_TIME)
        return Job(self.connection, path)

    async def list_snapshots(self, *, offset: int | None = None, limit: int | None = None) -> list[dict[str, Any]]:
        """The snapshots, oldest first. Each holds name (s), kind (s: manual, auto, clone, replication or foreign),
        creation (t, seconds since 1970), consistency (s), guid (s), used (t, bytes as of the last RefreshUsage),
        volumes (u, how many of the VM's volumes have it), clones (as), excludes (s, what of the VM is not in it:
        tpm, the state of an emulated TPM, or empty) and held (b, whether holds keep it, see zfs-hold(8)).

        offset: How many of the oldest to pass over; 0 if not given.
        limit: At most so many; 1000 if not given, 10000 at most.
        returns: The snapshots.
        """
        options = given(
            ("offset", "u", offset),
            ("limit", "u", limit),
        )
        (value,) = await self._call("ListSnapshots", "a{sv}", options)
        result: list[dict[str, Any]] = value
        return result

    async def refresh_usage(self) -> None:
        """Read anew the space that this VM and its snapshots use; at most once in ten seconds for each VM."""
        await self._call("RefreshUsage", "")

    async def rollback(
        self,
        *,
        snapshot: str | None = None,
        force: bool | None = None,
        start: bool | None = None,
        with_definition: bool | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Bring all volumes back to a snapshot. The state given up, with its newer snapshots, waits in the trash.
        The job's result holds snapshot (s) and trash (s, the entry's id).

        snapshot: Name of the snapshot; the newest one made by a person or the timer if not given.
        force: Force a running VM off first.
        start: Start the VM afterwards.
        with_definition: Bring the libvirt domain's definition of that moment back, too; it was kept without passwords
            and other secrets.
        """
        options = given(
            ("snapshot", "s", snapshot),
            ("force", "b", force),
            ("start", "b", start),
            ("with-definition", "b", with_definition),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call("Rollback", "a{sv}", options, asks=True, timeout=LONGEST if wait else ANSWER_TIME)
        return Job(self.connection, path)

    async def delete_snapshot(
        self,
        snapshot: str,
        *,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Destroy one snapshot on all volumes. What only it held is gone.

        snapshot: Name of the snapshot.
        """
        options = given(
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "DeleteSnapshot", "sa{sv}", snapshot, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def clone(
        self,
        names: list[str],
        *,
        snapshot: str | None = None,
        start: bool | None = None,
        full: bool | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Make clones, all from one snapshot, that share their blocks with this VM. Each gets a UUID, MAC addresses,
        UEFI variables and an identity of its own. The job's result holds vms (ao), names (as), snapshot (s),
        consistency (s) and identity (s: cloud-init, or pending).

        names: The clones' names, one or more.
        snapshot: Clone this snapshot, not a new one.
        start: Start the clones once they are there.
        full: Copy everything: they share no block with this VM, and take as long and as much space as it needs.
        """
        options = given(
            ("snapshot", "s", snapshot),
            ("start", "b", start),
            ("full", "b", full),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "Clone", "asa{sv}", names, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def delete(
        self,
        *,
        force: bool | None = None,
        now: bool | None = None,
        promote: bool | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Undefine the domain and move the volumes, with their snapshots, to the trash, where they wait for their
        grace period, and an origin for its last clone to go. The job's result holds trash (s, the entry's id),
        unless they were destroyed at once.

        force: Force a running VM off first.
        now: Destroy the volumes and all their snapshots at once, for good; polkit's target is then 'now'.
        promote: Let the clone of the newest snapshot take over what it shares with this VM, so that this VM can go
            before its clones.
        """
        options = given(
            ("force", "b", force),
            ("now", "b", now),
            ("promote", "b", promote),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call("Delete", "a{sv}", options, asks=True, timeout=LONGEST if wait else ANSWER_TIME)
        return Job(self.connection, path)

    async def set_template(
        self,
        template: bool,
        *,
        generalize: bool | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Mark the VM as a template, or make it one that starts again. A template's volumes are read-only, so that
        nobody starts it by accident, virsh included. The job's result holds generalized (s, what was removed in the
        guest) if that was asked for.

        template: On or off.
        generalize: First remove cloud-init's memory, the machine-id and the SSH host keys in the running guest, by its
            agent, and shut it down.
        """
        options = given(
            ("generalize", "b", generalize),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "SetTemplate", "ba{sv}", template, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def get_addresses(self) -> list[str]:
        """The guest's addresses, as its agent, the host's DHCP server or the neighbour table know them. Each is
        "ADDRESS/PREFIX".

        returns: The addresses.
        """
        (value,) = await self._call("GetAddresses", "")
        result: list[str] = value
        return result

    async def why(self) -> list[dict[str, Any]]:
        """Why it does not start: what of its definition, its volumes and the host keeps it from it, and what its
        last start failed with. The host is looked at as by Host.Check. Where nothing is known the only entry says
        so.

        returns: The causes, the worst first, each as Host.Check gives it.
        """
        (value,) = await self._call("Why", "")
        result: list[dict[str, Any]] = value
        return result

    async def get_display(self) -> str:
        """Where its graphical display listens, as HOST:PORT, or the empty string.

        returns: HOST:PORT.
        """
        (value,) = await self._call("GetDisplay", "")
        result: str = value
        return result

    async def open_console(self, *, no_user_interaction: bool | None = None) -> int:
        """Open the serial console of a running VM. Closing the file descriptor leaves it.

        no_user_interaction: Never ask the user for a password.
        returns: The terminal.
        """
        options = given(
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (value,) = await self._call("OpenConsole", "a{sv}", options, asks=True)
        result: int = value
        return result

    async def resize(
        self,
        target: str,
        size: int,
        *,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Grow a disk. A running guest sees its new size at once; its partitions and file systems are its own to
        grow. A smaller size is refused. The job's result holds dataset (s), size (t, bytes) and applied (s: now, or
        at next boot).

        target: The disk, as its guest has it, such as vda.
        size: Its new size in bytes, a multiple of its block size.
        """
        options = given(
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "Resize", "sta{sv}", target, size, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def attach_disk(
        self,
        size: int,
        *,
        target: str | None = None,
        volblocksize: int | None = None,
        compression: str | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Add a blank disk: a new volume beside the VM's own, in the guest at once if it runs. The job's result
        holds target (s, such as vdb), dataset (s) and applied (s: now, or at next boot).

        size: Its size in bytes, a multiple of its block size.
        target: What the guest shall have it as, vdb to vdz; the next that is free if not given.
        volblocksize: Block size of the volume in bytes; as configured if not given, else as suits the pool.
        compression: ZFS compression of the volume; as configured if not given.
        """
        options = given(
            ("target", "s", target),
            ("volblocksize", "t", volblocksize),
            ("compression", "s", compression),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "AttachDisk", "ta{sv}", size, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def detach_disk(
        self,
        target: str,
        *,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Take a disk from the VM, and move its volume with its snapshots to the trash. A running guest is asked to
        let go of it first, and the job fails if it does not within a minute. The first disk cannot be taken. The
        job's result holds target (s) and trash (s, the entry's id).

        target: The disk, as its guest has it, such as vdb.
        """
        options = given(
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "DetachDisk", "sa{sv}", target, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def attach_nic(
        self,
        *,
        network: str | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Add a network card, in the guest at once if it runs. The job's result holds mac (s) and applied (s: now,
        or at next boot).

        network: bridge=NAME or network=NAME; as configured if not given.
        """
        options = given(
            ("network", "s", network),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call("AttachNic", "a{sv}", options, asks=True, timeout=LONGEST if wait else ANSWER_TIME)
        return Job(self.connection, path)

    async def detach_nic(
        self,
        mac: str,
        *,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Remove a network card. A running guest is asked to let go of it first, and the job fails if it does not
        within a minute. The job's result holds mac (s).

        mac: Its MAC address.
        """
        options = given(
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "DetachNic", "sa{sv}", mac, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def rename(
        self,
        name: str,
        *,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Give a VM that is off another name: its volumes, with their snapshots, and its domain. Its object path,
        UUID and everything inside its guest stay. The job's result holds vm (o) and name (s).

        name: The new name.
        """
        options = given(
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "Rename", "sa{sv}", name, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def set_memory(
        self,
        memory: int,
        *,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Change the memory: in the definition, and in the running guest as far as it takes it. Less is taken back
        by its balloon; more is plugged in, up to four times what it was created with. The job's result holds memory
        (t, bytes), applied (s: now, or at next boot) and reason (s, why).

        memory: In bytes, a multiple of 1 MiB; more is plugged into a running guest by 128 MiB.
        """
        options = given(
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "SetMemory", "ta{sv}", memory, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def set_vcpus(
        self,
        vcpus: int,
        *,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Change the number of virtual CPUs: in the definition, and in the running guest as far as it takes them, up
        to four times as many as it was created with. The job's result holds vcpus (t), applied (s: now, or at next
        boot) and reason (s, why).

        vcpus: How many.
        """
        options = given(
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "SetVcpus", "ua{sv}", vcpus, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def export(
        self,
        file: int,
        *,
        format: str | None = None,
        snapshot: str | None = None,
        target: str | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Write one disk, as of a snapshot, into a file, pipe or socket. Without a snapshot one is taken for it, and
        cleared away. The VM goes on, and is not locked. The job's result holds target (s), snapshot (s), consistency
        (s), format (s), size (t, bytes of the disk) and bytes (t, written).

        file: Where to: an empty regular file, a pipe or a socket, open for writing.
        format: qcow2, raw, or zfs (a stream for zfs receive, raw as it is on disk); qcow2 if not given.
        snapshot: Export this snapshot, not a new one.
        target: The disk, as its guest has it, such as vdb; vda if not given.
        """
        options = given(
            ("format", "s", format),
            ("snapshot", "s", snapshot),
            ("target", "s", target),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "Export", "ha{sv}", file, options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)

    async def set_storage_options(
        self,
        *,
        compression: str | None = None,
        primarycache: str | None = None,
        refreservation: str | None = None,
        target: str | None = None,
        wait: bool | None = None,
        plan_only: bool | None = None,
        request_id: str | None = None,
        no_user_interaction: bool | None = None,
    ) -> Job:
        """Change how ZFS keeps the disks from now on; what is written already stays as it was written. The job's
        result holds datasets (as), those that were changed.

        compression: A ZFS compression, such as lz4, zstd or off.
        primarycache: What of the disks the host's memory caches: all, metadata or none.
        refreservation: on: room for the whole disk is reserved; off: it is thin.
        target: One disk only, as its guest has it, such as vdb; all of them if not given.
        """
        options = given(
            ("compression", "s", compression),
            ("primarycache", "s", primarycache),
            ("refreservation", "s", refreservation),
            ("target", "s", target),
            ("wait", "b", wait),
            ("plan-only", "b", plan_only),
            ("request-id", "s", request_id),
            ("auth.no_user_interaction", "b", no_user_interaction),
        )
        (path,) = await self._call(
            "SetStorageOptions", "a{sv}", options, asks=True, timeout=LONGEST if wait else ANSWER_TIME
        )
        return Job(self.connection, path)
