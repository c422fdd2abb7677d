"""Faults of a host, each by shell scripts that put it there and take it away again.

They come in waves of faults that can be there at the same time: a whole wave is asked about at once.
"""

from __future__ import annotations

from dataclasses import dataclass

DIR = "/dev/shm/faults"
CONF = "/etc/kldload-kvm/kvm.conf.d/zz-fault.conf"
EMULATOR = "/usr/bin/qemu-system-x86_64"


@dataclass(frozen=True)
class Fault:
    """id, object: of the finding; an object that ends with "*" only begins so. put, remove: shell scripts, run as
    root. fixed: whether kvm-host fix puts it right."""

    wave: str
    id: str
    object: str
    put: str
    remove: str
    fixed: bool = False

    def __str__(self) -> str:
        return f"{self.id}-{self.object.strip('/').replace('/', '-').replace('*', '')}"


def pool(name: str, options: str = "", megabytes: int = 128) -> str:
    image = f"mkdir -p {DIR}; truncate -s {megabytes}M {DIR}/{name}.img"
    return f"{image}; zpool create -f -o autotrim=on {options} -O mountpoint=none {name} "


def gone(name: str) -> str:
    return f"zpool destroy -f {name}; rm -f {DIR}/{name}*.img"


def define(name: str, devices: str = "", head: str = "", memory: int = 64, os: str = "") -> str:
    """A domain that is defined and not started."""
    xml = f"""<domain type='qemu'><name>{name}</name><memory unit='MiB'>{memory}</memory>{head}
<os><type arch='x86_64' machine='q35'>hvm</type>{os}</os>
<devices><emulator>{EMULATOR}</emulator>{devices}</devices></domain>"""
    return f"cat > {DIR}-{name}.xml <<'XML'\n{xml}\nXML\nvirsh define {DIR}-{name}.xml\nrm {DIR}-{name}.xml"


def undefine(name: str) -> str:
    return f"virsh undefine --nvram {name} || virsh undefine {name}"


HALVES = f"{DIR}/fault-half.img {DIR}/fault-half-b.img"
GOOD = "type='raw' cache='none' discard='unmap'"


def disk(path: str, kind: str = "block", driver: str = GOOD, bus: str = "virtio") -> str:
    source = f"{'dev' if kind == 'block' else 'file'}='{path}'"
    target = f"dev='{'vda' if bus == 'virtio' else 'sda'}' bus='{bus}'"
    return (
        f"<disk type='{kind}' device='disk'><driver name='qemu' {driver}/><source {source}/><target {target}/></disk>"
    )


def cdrom(path: str) -> str:
    return (
        "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>"
        f"<source file='{path}'/><target dev='sda' bus='sata'/></disk>"
    )


ZVOL = "/dev/zvol/vmpool/vms/fault-disk"
QCOW2 = "/var/lib/libvirt/images/fault.qcow2"
BRIDGED = "<interface type='bridge'><source bridge='brfault'/></interface>"
VOLUME = "zfs list vmpool/vms/fault-disk || zfs create -s -V 16M vmpool/vms/fault-disk; udevadm settle"
NO_VOLUME = "zfs list vmpool/vms/fault-disk > /dev/null 2>&1 && zfs destroy vmpool/vms/fault-disk; true"
QEMU_CONF = "/etc/libvirt/qemu.conf"
SAVE_CONF = f"cp -p {QEMU_CONF} {QEMU_CONF}.faults"
BACK_CONF = f"mv {QEMU_CONF}.faults {QEMU_CONF}"
DAMAGE = f"""{pool("fault-bad", "-O compression=off", 256)} {DIR}/fault-bad.img
zfs create -V 32M -o volmode=dev fault-bad/vol; udevadm settle
tr '\\0' Z < /dev/zero | dd of=/dev/zvol/fault-bad/vol bs=1M count=32 iflag=fullblock conv=fsync status=none
{define("fault-hurt", disk("/dev/zvol/fault-bad/vol"))}
zpool export fault-bad
python3 - <<'PY'
import mmap
with open("{DIR}/fault-bad.img", "r+b") as file, mmap.mmap(file.fileno(), 0) as image:
    place = image.find(b"Z" * 16384, 5 << 20)
    image[place + 4096 : place + 8192] = b"X" * 4096
PY
zpool import -d {DIR} fault-bad; zpool scrub -w fault-bad"""

POOLS = (
    Fault(
        "pools",
        "pool-ashift",
        "fault-old",
        f"{pool('fault-old', '-o ashift=9')} {DIR}/fault-old.img",
        gone("fault-old"),
    ),
    Fault(
        "pools",
        "pool-degraded",
        "fault-half",
        f"mkdir -p {DIR}; truncate -s 128M {HALVES}; {pool('fault-half')} mirror {HALVES}; "
        f"zpool offline fault-half {DIR}/fault-half-b.img",
        gone("fault-half"),
    ),
    Fault(
        "pools",
        "pool-read-only",
        "fault-fixed",
        f"{pool('fault-fixed')} {DIR}/fault-fixed.img; zpool export fault-fixed; "
        f"zpool import -o readonly=on -d {DIR} fault-fixed",
        gone("fault-fixed"),
    ),
    Fault(
        "pools",
        "pool-full",
        "fault-full",
        f"{pool('fault-full', '-O compression=off', 1200)} {DIR}/fault-full.img; zfs create -o mountpoint={DIR}-full "
        f"fault-full/f; dd if=/dev/zero of={DIR}-full/f bs=1M status=none || true; zpool sync fault-full",
        gone("fault-full"),
    ),
    Fault("pools", "pool-errors", "fault-bad", DAMAGE, f"{undefine('fault-hurt')}; {gone('fault-bad')}"),
    Fault(
        "pools", "pool-autotrim", "vmpool", "zpool set autotrim=off vmpool", "zpool set autotrim=on vmpool", fixed=True
    ),
    Fault(
        "pools",
        "dataset-setting",
        "rpool/vms",
        "zfs set primarycache=all rpool/vms",
        "zfs set primarycache=metadata rpool/vms",
        fixed=True,
    ),
    Fault(
        "pools",
        "isos-unmounted",
        "rpool/vms/isos",
        "zfs unmount rpool/vms/isos",
        "zfs mount rpool/vms/isos || true",
        fixed=True,
    ),
    Fault(
        "pools",
        "sync-disabled",
        "rpool/vms/fault-sync",
        "zfs create -s -V 16M -o sync=disabled rpool/vms/fault-sync",
        "udevadm settle; zfs destroy rpool/vms/fault-sync",
        fixed=True,
    ),
    Fault("pools", "foreign-volume", "rpool/vms/fault-sync", "true", "true"),
    Fault(
        "pools",
        "volume-exposed",
        "rpool/vms/fault-open",
        "zfs create -s -V 16M -o volmode=full rpool/vms/fault-open",
        "udevadm settle; zfs destroy rpool/vms/fault-open",
    ),
    Fault("pools", "lvm-probes", "/etc/lvm/lvmlocal.conf", "true", "true"),
    Fault(
        "pools",
        "key-missing",
        "rpool/vms/fault-locked",
        f"echo passphrase > {DIR}-key; zfs create -o canmount=off -o encryption=on -o keyformat=passphrase "
        f"-o keylocation=file://{DIR}-key rpool/vms/fault-locked; zfs unload-key rpool/vms/fault-locked",
        f"zfs destroy rpool/vms/fault-locked; rm {DIR}-key",
    ),
)

KERNEL = (
    Fault(
        "kernel",
        "scrub-unscheduled",
        "rpool",
        "mv /etc/cron.d/zfsutils-linux /root/fault.cron",
        "mv /root/fault.cron /etc/cron.d/zfsutils-linux; "
        "systemctl disable --now zfs-scrub-monthly@rpool.timer zfs-scrub-monthly@vmpool.timer || true",
        fixed=True,
    ),
    Fault(
        "kernel",
        "arc-forgotten",
        "zfs_arc_max",
        "echo 1073741824 > /sys/module/zfs/parameters/zfs_arc_max",
        "rm -f /etc/modprobe.d/zz-kldload-kvm.conf; echo 805306368 > /sys/module/zfs/parameters/zfs_arc_max",
        fixed=True,
    ),
    Fault(
        "kernel",
        "memory-promised",
        "zfs_arc_max",
        f"{define('fault-greedy', memory=7700)}; virsh autostart fault-greedy",
        undefine("fault-greedy"),
    ),
    Fault(
        "kernel",
        "swappiness",
        "vm.swappiness",
        "sysctl -q vm.swappiness=60; zfs create -V 64M vmpool/fault-swap; udevadm settle; "
        "mkswap -q /dev/zvol/vmpool/fault-swap; swapon /dev/zvol/vmpool/fault-swap",
        "swapoff /dev/zvol/vmpool/fault-swap; zfs destroy vmpool/fault-swap; "
        "rm -f /etc/sysctl.d/60-kldload-kvm.conf; sysctl -q vm.swappiness=60",
        fixed=True,
    ),
    Fault("kernel", "swap-on-zvol", "/dev/zd*", "true", "true"),
    Fault(
        "kernel",
        "zfs-option-useless",
        "/etc/modprobe.d/fault.conf",
        "echo 'options zfs zfs_vdev_scheduler=none' > /etc/modprobe.d/fault.conf",
        "rm /etc/modprobe.d/fault.conf",
    ),
    Fault(
        "kernel",
        "txg-timeout",
        "zfs_txg_timeout",
        "echo 10 > /sys/module/zfs/parameters/zfs_txg_timeout",
        "echo 5 > /sys/module/zfs/parameters/zfs_txg_timeout",
        fixed=True,
    ),
    Fault(
        "kernel",
        "huge-pages-missing",
        "fault-huge",
        define("fault-huge", head="<memoryBacking><hugepages/></memoryBacking>"),
        undefine("fault-huge"),
    ),
    Fault(
        "kernel",
        "iommu-off",
        "fault-device",
        define(
            "fault-device",
            "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0x0000' "
            "bus='0x00' slot='0x1f' function='0x0'/></source></hostdev>",
        ),
        undefine("fault-device"),
    ),
    Fault(
        "kernel",
        "guests-probed",
        "/etc/udev/rules.d/59-kldload-kvm.rules",
        "ln -s /dev/null /etc/udev/rules.d/59-kldload-kvm.rules",
        "rm /etc/udev/rules.d/59-kldload-kvm.rules",
    ),
    Fault(
        "kernel",
        "multipath-probes",
        "/etc/multipath.conf",
        f"mv /etc/multipath/conf.d/kldload-kvm.conf {DIR}; systemd-run -q --unit=multipathd sleep 3600",
        f"systemctl stop multipathd; mv {DIR}/kldload-kvm.conf /etc/multipath/conf.d",
    ),
    Fault(
        "kernel",
        "auto-snapshot-beside",
        "rpool/vms",
        "printf '#!/bin/sh\\n' > /etc/cron.hourly/zfs-auto-snapshot; chmod +x /etc/cron.hourly/zfs-auto-snapshot",
        "rm /etc/cron.hourly/zfs-auto-snapshot; zfs inherit com.sun:auto-snapshot rpool/vms; "
        "zfs inherit com.sun:auto-snapshot vmpool/vms",
        fixed=True,
    ),
    Fault(
        "kernel",
        "sanoid-beside",
        "rpool/vms",
        "mkdir -p /etc/sanoid; printf '[rpool/vms]\\nautosnap = no\\nautoprune = no\\nrecursive = yes\\n' "
        "> /etc/sanoid/sanoid.conf; rm -f /etc/systemd/system/sanoid.timer; systemctl daemon-reload; "
        "systemctl start sanoid.timer",
        "systemctl stop sanoid.timer; systemctl -q mask sanoid.timer; rm /etc/sanoid/sanoid.conf",
    ),
    Fault(
        "kernel",
        "trash-off",
        "kldload-kvm-trash.timer",
        "systemctl -q disable --now kldload-kvm-trash.timer",
        "systemctl -q enable --now kldload-kvm-trash.timer",
        fixed=True,
    ),
    Fault("kernel", "time-unset", "clock", "systemctl stop systemd-timesyncd", "systemctl start systemd-timesyncd"),
)

LIBVIRT = (
    Fault(
        "libvirt",
        "network-inactive",
        "default",
        "virsh net-destroy default",
        "virsh net-start default || true",
        fixed=True,
    ),
    Fault(
        "libvirt",
        "network-manual",
        "default",
        "virsh net-autostart --disable default",
        "virsh net-autostart default",
        fixed=True,
    ),
    Fault(
        "libvirt",
        "hook-missing",
        "/etc/libvirt/hooks/qemu.d/kldload-kvm",
        "mv /etc/libvirt/hooks/qemu.d/kldload-kvm /root/fault.hook",
        "mv /root/fault.hook /etc/libvirt/hooks/qemu.d/kldload-kvm",
    ),
    Fault("libvirt", "guests-as-root", QEMU_CONF, f"{SAVE_CONF}; echo 'user = \"root\"' >> {QEMU_CONF}", BACK_CONF),
    Fault("libvirt", "ownership-static", QEMU_CONF, f"echo 'dynamic_ownership = 0' >> {QEMU_CONF}", "true"),
    Fault(
        "libvirt",
        "bridge-down",
        "brfault",
        "ip link add brfault type bridge; " + define("fault-bridged", BRIDGED),
        f"{undefine('fault-bridged')}; ip link delete brfault",
    ),
    Fault(
        "libvirt",
        "bridge-filtered",
        "net.bridge.bridge-nf-call-iptables",
        "modprobe br_netfilter; sysctl -q net.bridge.bridge-nf-call-iptables=1",
        "rmmod br_netfilter || sysctl -q net.bridge.bridge-nf-call-iptables=0",  # modprobe -r takes the bridges along
    ),
    Fault(
        "libvirt",
        "snapshots-off",
        "kldload-kvm-snapshot.timer",
        "systemctl -q disable --now kldload-kvm-snapshot.timer",
        "systemctl -q enable --now kldload-kvm-snapshot.timer",
        fixed=True,
    ),
    Fault(
        "libvirt",
        "drop-in-edited",
        "/etc/sysctl.d/60-kldload-kvm.conf",
        "echo 'vm.swappiness = 30' > /etc/sysctl.d/60-kldload-kvm.conf",
        "rm /etc/sysctl.d/60-kldload-kvm.conf",
    ),
    Fault(
        "libvirt",
        "images-closed",
        "/var/lib/libvirt/isos",
        "chmod 0700 /var/lib/libvirt/isos",
        "chmod 0755 /var/lib/libvirt/isos",
    ),
    Fault(
        "libvirt", "huge-pages-unused", "vm.nr_hugepages", "sysctl -q vm.nr_hugepages=4", "sysctl -q vm.nr_hugepages=0"
    ),
    Fault(
        "libvirt",
        "firmware-missing",
        "OVMF",
        "mv /usr/share/OVMF /usr/share/.fault-OVMF",
        "mv /usr/share/.fault-OVMF /usr/share/OVMF",
    ),
)

GUESTS = (
    Fault(
        "guests",
        "guest-cache",
        "fault-cache",
        f"{VOLUME}; " + define("fault-cache", disk(ZVOL, driver="type='raw' cache='writeback' discard='unmap'")),
        f"{undefine('fault-cache')}; {NO_VOLUME}",
    ),
    Fault(
        "guests",
        "guest-discard",
        "fault-discard",
        f"{VOLUME}; " + define("fault-discard", disk(ZVOL, driver="type='raw' cache='none'")),
        f"{undefine('fault-discard')}; {NO_VOLUME}",
    ),
    Fault(
        "guests",
        "guest-bus",
        "fault-bus",
        f"{VOLUME}; {define('fault-bus', disk(ZVOL, bus='sata'))}",
        f"{undefine('fault-bus')}; {NO_VOLUME}",
    ),
    Fault(
        "guests",
        "guest-qcow2",
        "fault-qcow2",
        f"qemu-img create -q -f qcow2 {QCOW2} 16M; " + define("fault-qcow2", disk(QCOW2, "file", "type='qcow2'")),
        f"{undefine('fault-qcow2')}; rm {QCOW2}",
    ),
    Fault(
        "guests",
        "guest-screen-open",
        "fault-screen",
        define("fault-screen", "<graphics type='vnc' autoport='yes' listen='0.0.0.0'/>"),
        undefine("fault-screen"),
    ),
    Fault(
        "guests",
        "guest-volume-missing",
        "fault-gone",
        define("fault-gone", disk("/dev/zvol/rpool/vms/fault-never")),
        undefine("fault-gone"),
    ),
    Fault(
        "guests",
        "guest-node-missing",
        "fault-node",
        "zfs create -s -V 16M -o volmode=none vmpool/vms/fault-node; "
        f"{define('fault-node', disk('/dev/zvol/vmpool/vms/fault-node'))}",
        f"{undefine('fault-node')}; zfs destroy vmpool/vms/fault-node",
    ),
    Fault(
        "guests",
        "guest-file-missing",
        "fault-drive",
        define("fault-drive", cdrom("/var/lib/libvirt/isos/never.iso")),
        undefine("fault-drive"),
    ),
    Fault(
        "guests",
        "guest-file-closed",
        "fault-closed",
        f"mkdir -m 700 /root/fault; touch /root/fault/a.iso; {define('fault-closed', cdrom('/root/fault/a.iso'))}",
        f"{undefine('fault-closed')}; rm -r /root/fault",
    ),
    Fault(
        "guests",
        "guest-firmware-missing",
        "fault-firmware",
        define(
            "fault-firmware",
            head="<features><acpi/></features>",
            os="<loader readonly='yes' type='pflash'>/usr/share/fault/CODE.fd</loader>"
            "<nvram template='/usr/share/fault/VARS.fd'>/var/lib/libvirt/qemu/nvram/fault.fd</nvram>",
        ),
        undefine("fault-firmware"),
    ),
    Fault("guests", "guest-nvram-missing", "fault-firmware", "true", "true"),
    Fault(
        "guests",
        "guest-network-missing",
        "fault-network",
        define("fault-network", "<interface type='bridge'><source bridge='br-never'/></interface>"),
        undefine("fault-network"),
    ),
    Fault("guests", "guest-memory", "fault-large", define("fault-large", memory=64 << 10), undefine("fault-large")),
    Fault(
        "guests",
        "denied",
        "fault-denied",
        f"{define('fault-denied')}; virsh start --paused fault-denied; "
        "aa-exec -p libvirt-$(virsh domuuid fault-denied) cat /etc/shadow || true",
        f"virsh destroy fault-denied; {undefine('fault-denied')}",
    ),
)

CONFIGURED = (
    Fault(
        "configured",
        "pool-missing",
        "neverpool",
        f"printf '[storage rpool]\\ndataset = rpool/vms\\ndefault = yes\\n[storage vmpool]\\ndataset = vmpool/vms\\n"
        f"[storage never]\\ndataset = neverpool/vms\\n[storage third]\\ndataset = vmpool/fault-third\\n"
        f"[guests]\\naccelerator = auto\\nvnc_listen = 0.0.0.0\\nnetwork = bridge=br-never\\n' > {CONF}; "
        "systemctl restart kldload-kvmd",
        f"rm {CONF}; systemctl restart kldload-kvmd",
    ),
    Fault(
        "configured",
        "storage-missing",
        "vmpool/fault-third",
        "true",
        "zfs list vmpool/fault-third > /dev/null 2>&1 && zfs destroy vmpool/fault-third; true",
        fixed=True,
    ),
    Fault("configured", "kvm-missing", "/dev/kvm", "true", "true"),
    Fault("configured", "screens-open", "/etc/kldload-kvm/kvm.conf", "true", "true"),
    Fault("configured", "network-none", "br-never", "true", "true"),
    Fault(
        "configured",
        "libvirt-unreachable",
        "libvirt",
        "systemctl stop libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service",
        "systemctl start libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service",
    ),
)

FAULTS = (*POOLS, *KERNEL, *LIBVIRT, *GUESTS, *CONFIGURED)
WAVES = tuple(dict.fromkeys(each.wave for each in FAULTS))
