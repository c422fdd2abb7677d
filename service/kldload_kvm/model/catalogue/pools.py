"""What may be found of ZFS: pools, scrubs, the datasets of storages."""

from .text import Text

TEXTS = (
    Text(
        "zfs-missing",
        "ZFS cannot be asked",
        "Volumes, snapshots and clones are ZFS's. Without it no VM of ours starts, and nothing is known of any.",
        "Install zfs-dkms and zfsutils-linux, load the module (modprobe zfs), and restart kldload-kvmd, so that its"
        " sandbox lets it through to the new devices.",
        "/usr/share/doc/kldload-kvm/install.md",
    ),
    Text(
        "zfs-old",
        "ZFS is older than 2.1",
        "Channel programs that set properties, and which the snapshot of all VMs is, are there since 2.1.",
        "Upgrade ZFS.",
        "zfs-program(8)",
    ),
    Text(
        "pool-missing",
        "A storage's pool is not imported",
        "All VMs of the storage are unreachable. What cannot be seen is not gone: nothing of it is cleaned up.",
        "Import it: zpool import {object}. A pool that is not imported at boot is missing in /etc/zfs/zpool.cache, "
        "or zfs-import-cache.service is off.",
        "zpool-import(8)",
    ),
    Text(
        "storage-missing",
        "A storage's dataset is not there",
        "VMs are created below it, so none can be.",
        "kvm-host fix storage-missing makes it as the profile has it; or name another in /etc/kldload-kvm/kvm.conf.",
        "kvm.conf(5)",
    ),
    Text(
        "pool-suspended",
        "A pool is suspended",
        "Its devices stopped answering. Every write to it waits, in guests too, and so do zfs commands.",
        "Bring the devices back, then: zpool clear {object}. zpool status -v tells which failed.",
        "https://openzfs.github.io/openzfs-docs/msg/ZFS-8000-HC",
    ),
    Text(
        "pool-degraded",
        "A pool has lost redundancy",
        "The pool works, but the next device that fails may take data with it.",
        "zpool status -v {object} names the device: replace it (zpool replace), or bring it back (zpool online).",
        "https://openzfs.github.io/openzfs-docs/msg/ZFS-8000-2Q",
    ),
    Text(
        "pool-read-only",
        "A pool was imported to be read only",
        "Guests cannot write, and nothing can be created, changed or deleted.",
        "Export it, and import it without readonly=on: zpool export {object}; zpool import {object}.",
        "zpoolprops(7)",
    ),
    Text(
        "pool-errors",
        "Data on a pool is damaged for good",
        "There is no intact copy of these blocks: a guest that reads them gets an input/output error.",
        "Roll the VM back to a snapshot that is older than the damage, or restore it from a backup; then zpool "
        "scrub, twice. Test the memory and cables of the host.",
        "https://openzfs.github.io/openzfs-docs/msg/ZFS-8000-8A",
    ),
    Text(
        "pool-full",
        "A pool is nearly full",
        "ZFS searches ever longer for free space, and disks are thin: a guest that writes more than there is is "
        "paused by QEMU.",
        "Delete VMs or snapshots, purge the trash (kvm-trash purge), or add devices. kvm-list tells what uses it. "
        "Blocks that guests have freed come back by fstrim in them.",
        "https://openzfs.github.io/openzfs-docs/Performance%20and%20Tuning/Workload%20Tuning.html",
    ),
    Text(
        "pool-fragmented",
        "A pool's free space is in pieces",
        "Large writes have to be split, which hard disks feel.",
        "There is no defragmentation: send the data to a pool with more room, or free much of it.",
        "zpoolprops(7)",
    ),
    Text(
        "pool-ashift",
        "A pool writes sectors smaller than its devices have",
        "With ashift=9 each write of 512 bytes makes a drive with sectors of 4 KiB read, change and write one. It "
        "cannot be changed later.",
        "Make the pool anew with -o ashift=12, and send the data over.",
        "zpoolprops(7)",
    ),
    Text(
        "pool-autotrim",
        "Freed blocks are not told to the pool's devices",
        "Flash that is never told what is free wears out sooner, and slows down; thin devices below stay full.",
        "zpool set autotrim=on {object}; or run zpool trim {object} from a timer.",
        "zpoolprops(7)",
    ),
    Text(
        "scrub-old",
        "A pool was not scrubbed for long",
        "A scrub finds what a disk has silently lost while there is still a copy of it.",
        "zpool scrub {object}",
        "zpool-scrub(8)",
    ),
    Text(
        "scrub-unscheduled",
        "Nothing scrubs a pool regularly",
        "A scrub finds what a disk has silently lost while there is still a copy of it.",
        "systemctl enable --now zfs-scrub-monthly@{object}.timer",
        "zpool-scrub(8)",
    ),
    Text(
        "dataset-setting",
        "A storage's dataset is not as the profile has it",
        "Volumes inherit primarycache, and volmode keeps the host from looking into guests' disks; the other "
        "settings are for files. /usr/share/doc/kldload-kvm/host.md gives the reason for each.",
        "Set what fits your use: zfs set …; a value chosen on purpose can stay. It counts from the next write on.",
        "zfsprops(7)",
    ),
    Text(
        "isos-missing",
        "A storage has no image store",
        "ISOs and disk images cannot be added to it, and kvm-create --iso has nowhere to find them.",
        "kvm-host fix isos-missing makes it as the profile has it; it counts as soon as it is mounted.",
        "/usr/share/doc/kldload-kvm/install.md",
    ),
    Text(
        "isos-unmounted",
        "An image store is not mounted",
        "What is added would land on the system's own disk, hidden once the store is mounted; images in it are not "
        "found.",
        "zfs mount {object}",
        "zfs-mount(8)",
    ),
    Text(
        "images-closed",
        "QEMU may not reach the images",
        "libvirt gives QEMU's user the file, but not the directories on the way to it: the VM does not start, with "
        "'Permission denied'.",
        "chmod o+x on each directory on the way: {object}",
        "https://libvirt.org/drvqemu.html#posix-users-groups",
    ),
    Text(
        "sync-disabled",
        "A volume acknowledges writes that are not on disk",
        "With sync=disabled a power cut loses what a guest's database was told is safe.",
        "zfs set sync=standard {object}; for speed, add a log device instead.",
        "zfsprops(7)",
    ),
    Text(
        "volume-exposed",
        "The host looks into a guest's disk",
        "The kernel parses the partition table a guest has written, and LVM, RAID and blkid act on it. They hold "
        "the volume, so that it cannot be deleted or renamed.",
        "zfs set volmode=dev {object}, while the VM is off.",
        "https://github.com/openzfs/zfs/issues/9359",
    ),
    Text(
        "key-missing",
        "The key of an encrypted dataset is not loaded",
        "Its volumes have no device nodes: their VMs do not start.",
        "zfs load-key {object}",
        "zfs-load-key(8)",
    ),
    Text(
        "foreign-volume",
        "A volume on a storage is no VM's",
        "It is never deleted, snapshotted or changed by the service, and nobody may know what it is for.",
        "kvm-adopt lists it and what can be done; it may stay as it is.",
        "/usr/share/doc/kldload-kvm/libvirt.md",
    ),
)
