"""The only room that imports libvirt: the connection, its events, and the guest agent."""
