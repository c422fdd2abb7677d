"""Runs plans: jobs, locks, the journal, undo. Knows neither ZFS nor libvirt."""
