"""The only room that runs ZFS: its commands, their errors, what they list, and the zvols' device nodes."""
