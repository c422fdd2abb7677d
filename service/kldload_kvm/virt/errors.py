"""libvirt's exceptions, turned into ours."""

from __future__ import annotations

import libvirt

from ..model.errors import Busy, GuestFailed, KvmError, LibvirtFailed, LibvirtUnavailable, NotFound, WrongState

GONE = frozenset({libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_ERR_RPC})
SOCKET_FAULTS = frozenset({libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_INTERNAL_ERROR})
AGENT = frozenset({
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_AGENT_UNSYNCED,
    getattr(libvirt, "VIR_ERR_AGENT_COMMAND_TIMEOUT", None),  # newer than Debian 12's
})  # fmt: skip
"""The agent has not answered. One that has, and said no, is VIR_ERR_INTERNAL_ERROR."""


def is_gone(fault: libvirt.libvirtError, alive: bool = False) -> bool:
    """Whether the connection itself is lost. alive: it says of itself that it is not. (An answer that is too large to
    be passed on is VIR_ERR_RPC as well, such as a guest agent's that is meant to be.)"""
    code, domain = fault.get_error_code(), fault.get_error_domain()
    if code == libvirt.VIR_ERR_RPC and alive:
        return False
    return code in GONE or (domain in (libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE) and code in SOCKET_FAULTS)


def error_from(what: str, fault: libvirt.libvirtError, alive: bool = False) -> KvmError:
    """what: what was not done, in words; alive: as above."""
    code, why = fault.get_error_code(), fault.get_error_message() or str(fault)
    if is_gone(fault, alive):
        return unavailable(what, why)
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        return NotFound(what, why, "it was undefined meanwhile: look again")
    if code == libvirt.VIR_ERR_OPERATION_INVALID:
        return WrongState(what, why, "")
    if code == libvirt.VIR_ERR_OPERATION_TIMEOUT:
        return Busy(what, why, "libvirt is at work on this VM: try again")
    if "No more available PCI" in why:
        return WrongState(what, "all places for devices that it has while it runs are taken", "shut it down first")
    if code in AGENT:
        return GuestFailed(what, why, "is qemu-guest-agent running in the guest?")
    return LibvirtFailed(what, why, "journalctl -u libvirtd, and /var/log/libvirt/qemu/NAME.log, may tell more")


def unavailable(what: str, why: str) -> LibvirtUnavailable:
    return LibvirtUnavailable(what, why, "start it: systemctl start libvirtd.socket (or virtqemud.socket)")
