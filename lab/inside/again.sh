# Run as root inside a node that has started again after its power was cut.
set -eu

systemctl is-system-running --wait >/dev/null || true # a unit that failed is for the tests to find
for pool in rpool vmpool; do
    zpool list "$pool" >/dev/null 2>&1 || zpool import -d /dev/disk/by-id "$pool"
done
guests=/var/lib/kldload-lab/guests
mountpoint -q "$guests" || mount "$guests"
