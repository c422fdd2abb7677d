"""The clients: api.py (sync) and aio.py (async), generated from dbus/*.xml, each on the transport beside it."""
