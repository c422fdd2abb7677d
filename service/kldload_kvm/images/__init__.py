"""Images: their store, and the helper that reads and converts them.

Here, too, are the other files of the host that a VM begins with: firmware, osinfo-db, the seed.
"""
