"""What the collector reads: a fixed list, none of it from a client. What a request adds is looked at, not opened."""

from __future__ import annotations

ARCSTATS = "/proc/spl/kstat/zfs/arcstats"
ZFS_PARAMETERS = "/sys/module/zfs/parameters"
ARC_MAX = f"{ZFS_PARAMETERS}/zfs_arc_max"
TXG_TIMEOUT = f"{ZFS_PARAMETERS}/zfs_txg_timeout"
SWAPPINESS = "/proc/sys/vm/swappiness"
IP_FORWARD = "/proc/sys/net/ipv4/ip_forward"
BRIDGE_FILTER = "/proc/sys/net/bridge/bridge-nf-call-iptables"
MEMINFO, SWAPS, MOUNTS = "/proc/meminfo", "/proc/swaps", "/proc/self/mounts"
NESTED = ("/sys/module/kvm_intel/parameters/nested", "/sys/module/kvm_amd/parameters/nested")
APPARMOR, SELINUX = "/sys/module/apparmor/parameters/enabled", "/sys/fs/selinux/enforce"
SANOID, MULTIPATH = "/etc/sanoid/sanoid.conf", "/etc/multipath.conf"
LVM, LVM_LOCAL = "/etc/lvm/lvm.conf", "/etc/lvm/lvmlocal.conf"
LVM_PROGRAM = "/usr/sbin/lvm"
SCRUB_CRON = "/etc/cron.d/zfsutils-linux"
AUTO_SNAPSHOTS = tuple(f"/etc/cron.{often}/zfs-auto-snapshot" for often in ("hourly", "daily", "weekly", "monthly"))
HOOK = "/etc/libvirt/hooks/qemu.d/kldload-kvm"
UDEV_RULE, UDEV_OVERRIDE = "/usr/lib/udev/rules.d/59-kldload-kvm.rules", "/etc/udev/rules.d/59-kldload-kvm.rules"
KVM = "/dev/kvm"
IMAGES, ISOS = "/var/lib/libvirt/images", "/var/lib/libvirt/isos"
INITRAMFS_HOOKS = ("/usr/share/initramfs-tools/hooks/zfs", "/usr/lib/dracut/modules.d/90zfs/module-setup.sh")
IOMMU, NET = "/sys/kernel/iommu_groups", "/sys/class/net"
QEMU_CONF = "/etc/libvirt/qemu.conf"

FILES = (
    ARCSTATS, ARC_MAX, TXG_TIMEOUT, SWAPPINESS, IP_FORWARD, BRIDGE_FILTER, MEMINFO, SWAPS, MOUNTS, *NESTED, APPARMOR,
    SELINUX, SANOID, MULTIPATH, LVM, LVM_LOCAL, UDEV_OVERRIDE,
)  # fmt: skip
"""Files whose contents are read, the first MOST bytes of each."""
MOST = 256 << 10

GLOBS = ("/etc/modprobe.d/*.conf", "/etc/sysctl.d/*.conf", "/etc/sysctl.conf", "/etc/multipath/conf.d/*.conf")
"""The same of all that match."""

NODES = (KVM, HOOK, UDEV_RULE, UDEV_OVERRIDE, LVM_PROGRAM, SCRUB_CRON, IMAGES, *INITRAMFS_HOOKS, *AUTO_SNAPSHOTS)
"""Files of which is told what they are."""

QEMU_SETTINGS = frozenset({"user", "group", "dynamic_ownership", "security_driver", "vnc_listen", "spice_listen"})
"""Of /etc/libvirt/qemu.conf nothing else is told: passwords may stand in it."""

QEMU_USERS = ("libvirt-qemu", "qemu")
"""Who guests run as: on Debian, and on Fedora and its kin."""

UNITS = {
    "snapshots": ("kldload-kvm-snapshot.timer",),
    "trash": ("kldload-kvm-trash.timer",),
    "sanoid": ("sanoid.timer",),
    "multipath": ("multipathd.service",),
    "time": (
        "chrony.service", "chronyd.service", "systemd-timesyncd.service", "ntp.service", "ntpd.service",
        "ntpsec.service", "openntpd.service", "phc2sys.service",
    ),
    "libvirt-tcp": ("libvirtd-tcp.socket", "virtproxyd-tcp.socket"),
}  # fmt: skip
"""Units by what is asked about them: whether one of these is active."""

SCRUB_TIMERS = ("zfs-scrub-monthly@{}.timer", "zfs-scrub-weekly@{}.timer", "zpool-scrub@{}.timer")
"""Timers that scrub a pool."""
