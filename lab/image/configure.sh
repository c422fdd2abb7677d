#!/bin/sh
# Makes the installed Debian tree into the bench: users, keys, quiet boot.
# mmdebstrap runs it outside the tree, with everything mounted:
#     configure.sh TREE PRIVATE-KEY-FILE     (its .pub lies beside it)
set -eu
umask 022
tree=$1 key=$2
here=$(dirname "$(readlink -f "$0")")

cp -r --no-preserve=mode "$here/files/." "$tree/"

# who may come in: the one who built the image, and root from one node to the other
install -d -m 700 "$tree/root/.ssh"
install -m 600 "$key.pub" "$tree/root/.ssh/authorized_keys"
install -m 600 "$key" "$tree/root/.ssh/id_ed25519"
for host_key in "$tree"/etc/ssh/ssh_host_*_key.pub; do
    echo "lab1,lab2,192.168.77.1,192.168.77.2 $(cut -d' ' -f1,2 "$host_key")"
done >"$tree/etc/ssh/ssh_known_hosts"
chroot "$tree" groupadd --system vm-operators
grep -v '^#' "$here/users.txt" | while read -r name password groups; do
    chroot "$tree" useradd --create-home --shell /bin/bash "$name"
    echo "$name:$password" | chroot "$tree" chpasswd
    [ "$groups" = - ] || chroot "$tree" usermod --append --groups "$groups" "$name"
    install -d -m 700 "$tree/home/$name/.ssh"
    install -m 600 "$key.pub" "$tree/home/$name/.ssh/authorized_keys"
    chroot "$tree" chown -R "$name:$name" "/home/$name/.ssh"
done

# one identity a node: the host name and the machine id come with the kernel's command line
: >"$tree/etc/machine-id"
rm -f "$tree/var/lib/dbus/machine-id" "$tree/etc/hostname"
printf '127.0.0.1 localhost\n192.168.77.1 lab1\n192.168.77.2 lab2\n' >"$tree/etc/hosts"

# what is slow, periodic or waits for a network that is static
systemctl --root="$tree" --quiet mask \
    systemd-networkd-wait-online.service e2scrub_reap.service serial-getty@ttyS0.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    fstrim.timer logrotate.timer man-db.timer sanoid.timer
systemctl --root="$tree" --quiet enable systemd-networkd.service
systemctl --root="$tree" --quiet disable \
    NetworkManager.service NetworkManager-wait-online.service NetworkManager-dispatcher.service networking.service
install -d "$tree/var/lib/kldload-lab/guests" "$tree/etc/systemd/system-generators"
ln -s /dev/null "$tree/etc/systemd/system-generators/systemd-ssh-generator"

# modules without compression load faster; ZFS's alone is 5 MB
find "$tree/lib/modules" -name '*.ko.xz' -exec xz --decompress --threads=0 {} +
for kernel in "$tree"/lib/modules/*; do
    chroot "$tree" depmod "${kernel##*/}"
    chroot "$tree" update-initramfs -u -k "${kernel##*/}"
done

# nothing left for the first boot to bring up to date (ldconfig, sysusers, hwdb)
touch "$tree/etc/.updated" "$tree/var/.updated"
