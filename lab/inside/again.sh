# Run as root inside a node that has started again after its power was cut.
set -eu

systemctl start zfs-import.target # waits until the start itself has done this
for pool in rpool vmpool; do
    zpool list "$pool" >/dev/null 2>&1 || zpool import -d /dev/disk/by-id "$pool"
done
guests=/var/lib/kldload-lab/guests
mountpoint -q "$guests" || mount "$guests"
