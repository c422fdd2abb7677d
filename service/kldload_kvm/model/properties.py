"""The user properties in which ZFS remembers what is ours (docs/architecture.md)."""

PREFIX = "org.kldload.kvm:"

VM = PREFIX + "vm"  # our id of the VM, on each of its volumes
UUID = PREFIX + "uuid"  # the libvirt UUID the VM had when this was written
ROLE = PREFIX + "role"  # disk, nvram or seed
TARGET = PREFIX + "target"  # vda, vdb …, for a disk
JOB = PREFIX + "job"  # JOB/STEP that created it
IDENTITY = PREFIX + "identity"  # "pending" on the first disk of a clone whose guest has not got its own identity yet
TEMPLATE = PREFIX + "template"  # "yes" on the first disk of a template
# On snapshots, KIND:CONSISTENCY:JOB/STEP: manual, auto, clone or replication; app, off, paused or crash; what took it.
# One property, for each costs a snapshot of many VMs a fifth of its time.
SNAPSHOT = PREFIX + "snapshot"
EXCLUDES = PREFIX + "excludes"  # on snapshots: what of the VM is not in them: tpm
DOMAIN = PREFIX + "domain"  # on one volume's snapshot, and on trash entries: the domain XML, compressed
NAME = PREFIX + "name"  # on trash entries: the VM's name
REASON = PREFIX + "reason"  # on trash entries: deleted, rolled-back or undefined
SINCE = PREFIX + "since"  # on trash entries: seconds since 1970
UID = PREFIX + "uid"  # on trash entries: who asked for it
AUTOSTART = PREFIX + "autostart"  # on trash entries: "yes" if the VM was started with the host
EPHEMERAL = PREFIX + "ephemeral"  # trash or destroy, on a volume that was made for a domain to go with it
JOURNAL = PREFIX + "journal"  # on storages: the journal of the service, and how many jobs it had seen: ID:NUMBER

OF_DATASETS = (VM, UUID, ROLE, TARGET, JOB, IDENTITY, TEMPLATE, NAME, REASON, SINCE, UID, AUTOSTART,
               EPHEMERAL)  # fmt: skip
OF_SNAPSHOTS = (SNAPSHOT, EXCLUDES)


def snapshot_value(kind: str, consistency: str) -> str:
    """What SNAPSHOT is set to, but for the tag (see zfs/snapshots.py)."""
    return f"{kind}:{consistency}"


def snapshot_facts(value: str) -> tuple[str, str, str]:
    """Kind, consistency and the tag of what took it; foreign, and nothing, where nothing is set."""
    kind, _, rest = value.partition(":")
    consistency, _, tag = rest.partition(":")
    return kind or "foreign", consistency, tag
