"""Bridges, in the words of the distribution's own tool. One file a tool; each can tell whether it has a link, make a
bridge on it for a trial, keep that bridge, and take it back.

The trial leaves no trace on a disk: what it writes is in /run, so a reboot in the middle of it is the host as before,
whether or not anything of ours still runs. Only what was confirmed is written to /etc.

What changes the network runs in a unit of its own, and what looks at it in another. The daemon takes from here what was
seen, and whether a bridge is kept.
"""
