#!/bin/sh
# Makes an installed Debian tree into the full guest: debian.sh TREE
set -eu
umask 022
tree=$1

printf 'LABEL=debian / ext4 noatime,errors=remount-ro 0 1\n' >"$tree/etc/fstab"
printf 'debian\n' >"$tree/etc/hostname"
printf '127.0.0.1 localhost\n' >"$tree/etc/hosts"
printf 'datasource_list: [ NoCloud, None ]\n' >"$tree/etc/cloud/cloud.cfg.d/90-lab.cfg"

# an image, not a host: every copy finds its own identity
: >"$tree/etc/machine-id"
rm -f "$tree/var/lib/dbus/machine-id" "$tree"/etc/ssh/ssh_host_*

# what a guest's initramfs must hold to see its disk, whatever the building machine has
printf 'virtio_pci\nvirtio_blk\nvirtio_scsi\next4\n' >>"$tree/etc/initramfs-tools/modules"
chroot "$tree" update-initramfs -u -k all

systemctl --root="$tree" --quiet enable systemd-networkd.service serial-getty@ttyS0.service
systemctl --root="$tree" --quiet mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer
