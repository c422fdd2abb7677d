# Run as root inside a node that has just started on empty disks.
set -eu

create() {
    zpool create -f -o ashift=12 -o autotrim=off -O mountpoint=none -O compression=lz4 "$1" "$2"
}

for pool in rpool vmpool; do
    disk=/dev/disk/by-id/virtio-lab-$pool
    zpool list "$pool" >/dev/null 2>&1 && continue
    udevadm wait --timeout=60 "$disk"
    # Twice: on a busy machine udev may take longer to link the new partition than zpool waits for it.
    create "$pool" "$disk" || { udevadm settle; create "$pool" "$disk"; }
done

# on a busy machine systemd may have given up waiting for this disk
guests=/var/lib/kldload-lab/guests
mountpoint -q "$guests" || mount "$guests"
