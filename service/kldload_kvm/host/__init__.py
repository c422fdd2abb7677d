"""What the host is and should be: the collector reads what the daemon's sandbox hides, checks/ judge it all, and why.py
tells what keeps a VM from starting. Knows neither ZFS's commands nor libvirt: their facts are handed to it as data."""
