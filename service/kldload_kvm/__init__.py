"""kldload-kvm: a KVM hypervisor whose disks are zvols, behind one D-Bus service."""

__version__ = "0.1.0"
