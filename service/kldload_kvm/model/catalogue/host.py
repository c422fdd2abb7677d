"""What may be found of the host: memory, kernel, libvirt, network, confinement, timers."""

from .text import Text

TEXTS = (
    Text(
        "host-unseen",
        "A part of the host could not be looked at",
        "What depends on it was not checked, which is no sign that it is well.",
        "systemctl status kldload-kvm-facts.service; journalctl -u kldload-kvmd",
        "/usr/share/doc/kldload-kvm/host.md",
    ),
    Text(
        "arc-unlimited",
        "ZFS's cache may take nearly all memory",
        "OpenZFS 2.3 raised the default limit from half of the memory to all but 1 GiB (or 5/8). The cache shrinks "
        "when memory is wanted, but not as fast as a starting guest asks for it: the kernel swaps, or kills a "
        "guest.",
        "kvm-host fix arc-unlimited sets zfs_arc_max to half of the memory, less what guests need.",
        "https://github.com/openzfs/zfs/pull/15437",
    ),
    Text(
        "arc-forgotten",
        "ZFS's cache will have another limit after the next boot",
        "What stands in modprobe.d is read when the module is loaded: from the initramfs, where root is on ZFS, "
        "which has its own copy.",
        "update-initramfs -u -k all, and reboot; or kvm-host fix arc-forgotten.",
        "modprobe.d(5)",
    ),
    Text(
        "memory-promised",
        "Guests and ZFS's cache are promised more memory than there is",
        "When guests use what they were given, the kernel swaps, or kills one of them (the OOM killer takes the "
        "largest).",
        "Lower zfs_arc_max, give guests less (kvm-vm set NAME --ram), or have fewer started by themselves.",
        "/usr/share/doc/kldload-kvm/host.md",
    ),
    Text(
        "swappiness",
        "The kernel may swap guests out early",
        "Guests' disks bypass the page cache, so there is little else to reclaim than guests' own memory and ZFS's "
        "cache. With a low vm.swappiness the kernel turns to caches first.",
        "kvm-host fix swappiness, or write vm.swappiness=1 to a file in /etc/sysctl.d.",
        "https://docs.kernel.org/admin-guide/sysctl/vm.html#swappiness",
    ),
    Text(
        "swap-on-zvol",
        "Swap is on a ZFS volume",
        "To swap out, ZFS needs memory, which is just what there is none of: the host can hang.",
        "Put swap on a partition of its own, or do without: swapoff {object}",
        "https://github.com/openzfs/zfs/issues/7734",
    ),
    Text(
        "zfs-option-useless",
        "A module option for ZFS does nothing",
        "zfs_vdev_scheduler has had no effect since OpenZFS 0.8, and is gone in 2.4. The scheduler of a device is "
        "the kernel's.",
        "Remove the line from {object}.",
        "https://github.com/openzfs/zfs/pull/9609",
    ),
    Text(
        "txg-timeout",
        "ZFS flushes less often than by default",
        "zfs_txg_timeout=10 doubles the default of 5 seconds: more is lost in a power cut, and flushes are larger. "
        "It does not flush more often, as is sometimes said.",
        "Remove the option, and: echo 5 > /sys/module/zfs/parameters/zfs_txg_timeout",
        "zfs(4)",
    ),
    Text(
        "drop-in-edited",
        "A drop-in of ours was changed by hand",
        "It is kept as it is: kvm-host fix and setup do not overwrite it.",
        "To have ours again, move it away: mv {object} {object}.old; then kvm-host setup.",
        "/usr/share/doc/kldload-kvm/host.md",
    ),
    Text(
        "kvm-missing",
        "Guests cannot use KVM",
        "Without /dev/kvm a processor is emulated, ten to fifty times slower; domains of type kvm do not start at all.",
        "Turn on virtualization (VT-x, AMD-V) in the firmware; in a VM, let its host pass it on; then modprobe "
        "kvm_intel or kvm_amd. If emulation is meant, say accelerator = qemu in kvm.conf.",
        "virt-host-validate(1)",
    ),
    Text(
        "huge-pages-missing",
        "A guest asks for huge pages that are not there",
        "Its memory is to be huge pages, and fewer are free than it needs: it does not start.",
        "sysctl vm.nr_hugepages=N, best at boot while memory is whole; or take <hugepages/> out of the definition.",
        "https://libvirt.org/formatdomain.html#memory-backing",
    ),
    Text(
        "huge-pages-unused",
        "Memory is reserved for huge pages that no guest asks for",
        "Nothing else can use it.",
        "sysctl vm.nr_hugepages=0, and take the setting out of /etc/sysctl.d.",
        "https://docs.kernel.org/admin-guide/mm/hugetlbpage.html",
    ),
    Text(
        "iommu-off",
        "A guest asks for a device of the host, and there is no IOMMU",
        "Without it no PCI device can be passed through: the VM does not start.",
        "Turn on VT-d or AMD-Vi in the firmware; on Intel boot with intel_iommu=on.",
        "https://docs.kernel.org/driver-api/vfio.html",
    ),
    Text(
        "nested-off",
        "A guest asks for virtualization of its own, and it is off",
        "Its processor is to have vmx or svm, which KVM does not pass on: the VM does not start.",
        "modprobe -r kvm_intel; modprobe kvm_intel nested=1 (or kvm_amd), while no guest runs.",
        "https://docs.kernel.org/virt/kvm/x86/running-nested-guests.html",
    ),
    Text(
        "libvirt-unreachable",
        "libvirt cannot be reached",
        "No VM can be started, stopped or changed, and which run is not known. Guests that run go on.",
        "systemctl start libvirtd.socket (or virtqemud.socket); journalctl -u libvirtd",
        "/usr/share/doc/kldload-kvm/libvirt.md",
    ),
    Text(
        "libvirt-old",
        "libvirt is older than 9.0",
        "UEFI variables in a volume, and hooks in qemu.d, are only proven from there on.",
        "Upgrade libvirt.",
        "/usr/share/doc/kldload-kvm/install.md",
    ),
    Text(
        "firmware-missing",
        "There is no UEFI firmware",
        "VMs are created with UEFI: none can be, and those that are there do not start.",
        "apt install ovmf (Fedora, Rocky: dnf install edk2-ovmf)",
        "https://libvirt.org/formatdomain.html#bios-bootloader",
    ),
    Text(
        "network-none",
        "New VMs would have no network",
        "There is neither the configured bridge nor an active network of libvirt's.",
        "virsh net-start default; or kvm-host bridge br0 --port CARD, and name it in kvm.conf if it is not br0.",
        "kvm.conf(5)",
    ),
    Text(
        "network-inactive",
        "A network of libvirt's is not active",
        "Guests on it do not start by virsh; kvm-vm start starts it first.",
        "virsh net-start {object}",
        "virsh(1)",
    ),
    Text(
        "network-manual",
        "A network of libvirt's does not start by itself",
        "After a reboot, guests that are started automatically have no network, and so do not start.",
        "virsh net-autostart {object}",
        "virsh(1)",
    ),
    Text(
        "bridge-down",
        "A bridge is down",
        "Guests on it start, and reach nobody.",
        "ip link set {object} up; make it lasting where the bridge is defined.",
        "ip-link(8)",
    ),
    Text(
        "forwarding-off",
        "The host does not forward what guests send",
        "An active NAT network needs net.ipv4.ip_forward=1. libvirt sets it when it starts the network; something "
        "has taken it back. (A bridge does not need it.)",
        "sysctl net.ipv4.ip_forward=1; look for another value in /etc/sysctl.d.",
        "https://wiki.libvirt.org/Networking.html",
    ),
    Text(
        "bridge-filtered",
        "The host's firewall filters what guests send over a bridge",
        "With br_netfilter loaded (Docker does) iptables sees frames that only pass through, and its rules for the "
        "host drop them.",
        "sysctl net.bridge.bridge-nf-call-iptables=0, which Docker needs at 1; or allow the bridge in FORWARD.",
        "https://wiki.libvirt.org/Net.bridge.bridge-nf-call_and_sysctl.conf.html",
    ),
    Text(
        "guests-unconfined",
        "Nothing confines guests",
        "A guest that breaks out of QEMU could read every other guest's disk. With SELinux or AppArmor it sees its "
        "own.",
        'Turn AppArmor or SELinux on, and do not say security_driver = "none" in {object}.',
        "https://libvirt.org/drvqemu.html#security-driver",
    ),
    Text(
        "guests-as-root",
        "Guests run as root",
        "A guest that breaks out of QEMU is root on the host, but for what confines it.",
        "Take user and group out of {object}, and restart libvirt.",
        "https://libvirt.org/drvqemu.html#posix-users-groups",
    ),
    Text(
        "ownership-static",
        "libvirt does not give guests their disks",
        "With dynamic_ownership = 0 device nodes must belong to QEMU's user (libvirt-qemu:kvm, or qemu:qemu). udev "
        "makes those of volumes anew at each boot, as root:disk: guests do not start, with 'Permission denied'.",
        "Take dynamic_ownership out of {object}, and restart libvirt.",
        "https://libvirt.org/drvqemu.html#posix-users-groups",
    ),
    Text(
        "denied",
        "AppArmor or SELinux denied a guest something",
        "A guest that is denied its disk does not start; other denials may be harmless.",
        "See what was denied: journalctl -k -g 'apparmor=|avc:'. AppArmor: "
        "/etc/apparmor.d/local/abstractions/libvirt-qemu. SELinux: restorecon -Rv on the file; ausearch -m avc.",
        "https://libvirt.org/drvqemu.html#security-driver",
    ),
    Text(
        "guests-probed",
        "The host looks into guests' disks",
        "The udev rule that keeps it from doing so is gone or overridden: LVM and RAID of guests are found and held"
        " by the host.",
        "Remove {object}, then: udevadm control --reload; or install the package anew.",
        "https://github.com/openzfs/zfs/issues/10295",
    ),
    Text(
        "multipath-probes",
        "multipath may take guests' disks",
        "multipathd makes maps of block devices it does not know, zvols among them, and holds them.",
        'Write to /etc/multipath/conf.d/zvols.conf: blacklist { devnode "^zd[0-9]" }; then systemctl reload '
        "multipathd.",
        "multipath.conf(5)",
    ),
    Text(
        "lvm-probes",
        "LVM may take guests' volume groups",
        "A zvol with volmode=full is scanned by LVM, which activates the volume groups of a guest and so holds its "
        "disk.",
        'In /etc/lvm/lvmlocal.conf: devices { global_filter = [ "r|^/dev/zd|", "r|^/dev/zvol/|" ] }',
        "lvm.conf(5), /usr/share/doc/kldload-kvm/libvirt.md",
    ),
    Text(
        "sanoid-beside",
        "sanoid takes snapshots of a storage too",
        "Each VM gets twice the snapshots, volume by volume and not at one moment, and sanoid prunes by rules of "
        "its own.",
        "Take the storage out of /etc/sanoid/sanoid.conf, or: systemctl disable --now kldload-kvm-snapshot.timer.",
        "/usr/share/doc/kldload-kvm/libvirt.md",
    ),
    Text(
        "auto-snapshot-beside",
        "zfs-auto-snapshot takes snapshots of a storage too",
        "Each VM gets twice the snapshots, volume by volume and not at one moment.",
        "zfs set com.sun:auto-snapshot=false {object}",
        "zfs-auto-snapshot(8)",
    ),
    Text(
        "snapshots-off",
        "VMs are not snapshotted each hour",
        "The timer is off: there is nothing to go back to but what was taken by hand.",
        "systemctl enable --now {object}",
        "kvm-snap(1)",
    ),
    Text(
        "trash-off",
        "The trash is never emptied",
        "The timer is off: what was deleted keeps its space until somebody purges it.",
        "systemctl enable --now {object}",
        "kvm-trash(1)",
    ),
    Text(
        "time-unset",
        "Nothing keeps the host's clock right",
        "Snapshots are named and pruned by the clock, certificates fail by it, and guests take theirs from the host.",
        "apt install systemd-timesyncd (or chrony).",
        "systemd-timesyncd.service(8)",
    ),
    Text(
        "hook-missing",
        "libvirt's hook is not there",
        "Without it virsh starts templates, VMs that a job is at work on, and VMs whose volumes are not there yet.",
        "Install the package anew, then restart libvirt: it looks for hooks only when it starts.",
        "https://libvirt.org/hooks.html",
    ),
    Text(
        "hook-unheard",
        "libvirt does not call the hook",
        "It started a VM and did not ask. libvirt looks for hooks only when it starts.",
        "systemctl restart libvirtd (or virtqemud). Running VMs do not notice.",
        "https://libvirt.org/hooks.html",
    ),
    Text(
        "libvirt-tcp",
        "libvirt listens on the network",
        "Over its TCP socket whoever is let in is root on this host, and nothing is encrypted.",
        "systemctl disable --now {object}; use ssh (qemu+ssh://) instead.",
        "https://libvirt.org/remote.html",
    ),
    Text(
        "screens-open",
        "New VMs' screens are open to the network",
        "VNC has no encryption, and here no password: whoever reaches the port has keyboard and screen.",
        "Take vnc_listen out of {object}; reach screens over ssh -L.",
        "kvm.conf(5)",
    ),
)
