"""What others do to the host, brought into the inventory: libvirt's, ZFS's and udev's events, and reconciling."""
