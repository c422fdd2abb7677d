"""Every metric: its name, what it means, and the column of Manager.GetStatistics that it is. What kvm-metrics prints
and docs/metrics.md tells is made from this list.

Only types that OpenMetrics and the older text format have alike: node-exporter refuses a file with any other.
"""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "kldload_kvm_"
SUFFIXES = {"counter": "_total", "summary": "_sum"}
IN_NANOSECONDS = frozenset({"cpu-time", "cpu-user", "cpu-system", "read-time", "write-time", "flush-time"})


@dataclass(frozen=True)
class Metric:
    """A family of metrics, with a sample for each row of a table.

    name: without prefix, and without what its samples' names end with; type: gauge, counter or summary; column: its
    value, or 1 if there is none; labels: columns too. A summary is the sum, and has a column with its number besides.
    """

    table: str
    labels: tuple[str, ...]
    name: str
    type: str
    column: str
    help: str
    count: str = ""

    @property
    def family(self) -> str:
        return PREFIX + self.name

    @property
    def sample(self) -> str:
        """The name that its samples have."""
        return self.family + SUFFIXES.get(self.type, "")

    @property
    def unit(self) -> str:
        """What its name ends with, if that is a unit."""
        last = self.name.rpartition("_")[2]
        return last if last in ("bytes", "seconds") else ""

    @property
    def per(self) -> float:
        """What the column is divided by."""
        return 1e9 if self.column in IN_NANOSECONDS else 1


def _of(table: str, labels: str, *rows: tuple[str, ...]) -> tuple[Metric, ...]:
    """Metrics of one table: name, type, column, help, and of a summary the column with its number."""
    return tuple(Metric(table, tuple(labels.split()), *row) for row in rows)


METRICS = (
    *_of(
        "service", "",
        ("up", "gauge", "up", "Whether kldload-kvmd answered."),
        ("start_time_seconds", "gauge", "started", "When the service was started: its counters began then."),
        ("problems", "gauge", "problems", "How many things keep the service from doing its whole job."),
        ("libvirt_connected", "gauge", "libvirt-connected", "Whether the service is connected to libvirt."),
        ("usage_problem", "gauge", "usage-problem", "Whether libvirt could not tell what running VMs use."),
        ("jobs_running", "gauge", "jobs-running", "Jobs at work."),
    ),
    *_of(
        "service", "version zfs libvirt",
        ("info", "gauge", "", "Always 1: the versions of the service, OpenZFS and libvirt."),
    ),
    *_of(
        "job", "operation outcome",
        ("jobs", "counter", "count", "Jobs that ended, by how: succeeded, failed or cancelled."),
        ("job_seconds", "counter", "seconds", "Time that these jobs took."),
    ),
    *_of(
        "storage", "storage",
        ("storage_capacity_bytes", "gauge", "capacity", "Space in use and free together."),
        ("storage_free_bytes", "gauge", "free", "Space that is free."),
        ("storage_floor_bytes", "gauge", "floor", "Free space below which nothing new is created."),
        ("storage_provisioned_bytes", "gauge", "provisioned", "Space promised to the disks of all VMs."),
        ("storage_sample_timestamp_seconds", "gauge", "sampled-at", "When capacity and free space were read."),
        ("storage_trash_entries", "gauge", "trash-entries", "What waits in the trash."),
        ("storage_trash_bytes", "gauge", "trash-used", "Space that the trash uses."),
        ("storage_problem", "gauge", "problem", "Whether something is wrong with the storage."),
    ),
    *_of(
        "vm", "vm id uuid storage",
        ("vm_info", "gauge", "", "Always 1: what else a VM is known by."),
    ),
    *_of(
        "vm", "vm id state",
        ("vm_state", "gauge", "", "Always 1: the state a VM is in."),
    ),
    *_of(
        "vm", "vm id",
        ("vm_template", "gauge", "template", "Whether it is a template."),
        ("vm_problem", "gauge", "problem", "Whether something is wrong with it, such as a guest that found no space."),
        ("vm_memory_bytes", "gauge", "memory", "Memory it is defined with."),
        ("vm_cpus", "gauge", "vcpus", "Virtual CPUs it is defined with."),
        ("vm_volumes_size_bytes", "gauge", "size", "Size of its disks."),
        ("vm_volumes_used_bytes", "gauge", "used", "Space that its volumes use, with their snapshots."),
        ("vm_volumes_sample_timestamp_seconds", "gauge", "used-at", "When that was read."),
        ("vm_snapshots", "gauge", "snapshots", "Snapshots that it has."),
    ),
    *_of(
        "snapshot", "vm id kind",
        ("vm_snapshot_timestamp_seconds", "gauge", "newest", "When its newest snapshot of that kind was taken."),
    ),
    *_of(
        "held", "vm id how",
        ("vm_held", "counter", "count", "How often its guest was held still for a snapshot: frozen, or paused."),
        ("vm_held_seconds", "counter", "seconds", "For how long it was held still, all together."),
        ("vm_held_last_seconds", "gauge", "last", "For how long it was held still the last time."),
    ),
    *_of(
        "usage", "vm id",
        ("vm_cpu_seconds", "counter", "cpu-time", "CPU time of its QEMU, guest included."),
        ("vm_cpu_user_seconds", "counter", "cpu-user", "That in user mode, guest included."),
        ("vm_cpu_system_seconds", "counter", "cpu-system", "That in the kernel."),
        ("vm_memory_current_bytes", "gauge", "memory-current", "Memory the guest has now."),
        ("vm_memory_resident_bytes", "gauge", "memory-resident", "Memory of the host that its QEMU occupies."),
        ("vm_memory_unused_bytes", "gauge", "memory-unused", "Memory that the guest says is unused."),
        ("vm_memory_usable_bytes", "gauge", "memory-usable", "Memory that it says could be used without swapping."),
    ),
    *_of(
        "disk", "vm id target",
        ("vm_disk_reads", "counter", "reads", "Read requests."),
        ("vm_disk_read_bytes", "counter", "read-bytes", "Bytes read."),
        ("vm_disk_read_seconds", "counter", "read-time", "Time spent on read requests."),
        ("vm_disk_writes", "counter", "writes", "Write requests."),
        ("vm_disk_write_bytes", "counter", "write-bytes", "Bytes written."),
        ("vm_disk_write_seconds", "counter", "write-time", "Time spent on write requests."),
        ("vm_disk_flushes", "counter", "flushes", "Flush requests."),
        ("vm_disk_flush_seconds", "counter", "flush-time", "Time spent on flush requests."),
    ),
    *_of(
        "interface", "vm id device",
        ("vm_network_receive_bytes", "counter", "received-bytes", "Bytes the VM received."),
        ("vm_network_receive_packets", "counter", "received-packets", "Packets the VM received."),
        ("vm_network_receive_errors", "counter", "received-errors", "Errors of receiving."),
        ("vm_network_receive_dropped", "counter", "received-dropped", "Packets to the VM that were dropped."),
        ("vm_network_transmit_bytes", "counter", "sent-bytes", "Bytes the VM sent."),
        ("vm_network_transmit_packets", "counter", "sent-packets", "Packets the VM sent."),
        ("vm_network_transmit_errors", "counter", "sent-errors", "Errors of sending."),
        ("vm_network_transmit_dropped", "counter", "sent-dropped", "Packets of the VM that were dropped."),
    ),
    *_of(
        "event", "source",
        ("inventory_events", "counter", "events", "Events heard of the host."),
        ("inventory_lag_seconds", "summary", "lag", "Time from what others did until it was on the bus.", "measured"),
        ("inventory_lag_worst_seconds", "gauge", "worst", "The longest that took."),
        ("inventory_late", "counter", "late", "How often that took longer than a second."),
    ),
    *_of(
        "reload", "reason",
        ("inventory_reloads", "counter", "count", "How often everything was read again."),
    ),
)  # fmt: skip
