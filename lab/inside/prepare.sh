# Run as root inside a node that has just started on empty disks.
set -eu

for pool in rpool vmpool; do
    disk=/dev/disk/by-id/virtio-lab-$pool
    zpool list "$pool" >/dev/null 2>&1 ||
        zpool create -o ashift=12 -o autotrim=off -O mountpoint=none -O compression=lz4 "$pool" "$disk"
done

# on a busy machine systemd may have given up waiting for this disk
guests=/var/lib/kldload-lab/guests
mountpoint -q "$guests" || mount "$guests"
