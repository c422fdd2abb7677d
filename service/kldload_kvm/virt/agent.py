"""The guest agent: freezing and thawing, and giving a clone an identity of its own. Every wait is bounded."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import libvirt
import libvirt_qemu

from ..model.errors import GuestFailed, KvmError, LibvirtUnavailable, NotFound, WrongState
from ..model.inventory import OFF
from ..waiting import until
from .domains import Virt

ANSWER = 10  # seconds for a question
FREEZE = 30  # seconds for a freeze: it waits for the guest's own writes

# For guests without cloud-init. What the guest does not have is skipped; the last line tells what was done.
IDENTITY_SCRIPT = """
set -u
name=$1
done=
if [ -w /etc/hostname ] || [ -w /etc ]; then echo "$name" > /etc/hostname && done="$done hostname"; fi
hostname "$name" 2>/dev/null || hostnamectl set-hostname "$name" 2>/dev/null
if [ -e /etc/machine-id ]; then
  rm -f /etc/machine-id /var/lib/dbus/machine-id
  if command -v systemd-machine-id-setup >/dev/null; then systemd-machine-id-setup >/dev/null 2>&1
  else tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id; fi
  done="$done machine-id"
fi
if [ -d /etc/ssh ] && command -v ssh-keygen >/dev/null; then
  rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
  ssh-keygen -A >/dev/null 2>&1 && done="$done ssh-host-keys"
fi
sync
echo "renewed:$done"
"""

# What only one guest may have is removed, for its clones to make their own. What the guest does not have is skipped.
GENERALIZE_SCRIPT = """
set -u
done=
if command -v cloud-init >/dev/null; then cloud-init clean --logs >/dev/null 2>&1 && done="$done cloud-init"; fi
if [ -e /etc/machine-id ]; then
  : > /etc/machine-id && done="$done machine-id"
  rm -f /var/lib/dbus/machine-id
fi
if [ -d /etc/ssh ]; then
  rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub && done="$done ssh-host-keys"
fi
rm -f /var/lib/systemd/random-seed
sync
echo "generalized:$done"
"""

GENERALIZABLE = ("cloud-init", "machine-id", "ssh-host-keys")
RENEWABLE = ("hostname", "machine-id", "ssh-host-keys")


class Agent:
    """The agent of any guest, by the domain's UUID."""

    def __init__(self, virt: Virt) -> None:
        self.virt = virt

    async def command(
        self, uuid: str, name: str, arguments: dict[str, Any] | None = None, timeout: int = ANSWER
    ) -> Any:
        """One command of the agent's protocol, and its answer. Raises GuestFailed."""
        text = json.dumps({"execute": name, **({"arguments": arguments} if arguments else {})})

        def work(conn: libvirt.virConnect) -> str:
            return str(libvirt_qemu.qemuAgentCommand(conn.lookupByUUIDString(uuid), text, timeout, 0))

        answer = await self.virt.connection.call(f"the guest agent did not do {name}", work)
        try:
            return json.loads(answer)["return"]
        except (ValueError, KeyError, TypeError):
            raise _nonsense(name) from None

    async def answers(self, uuid: str) -> bool:
        """Whether the agent is there, within a few seconds."""
        try:
            await self.command(uuid, "guest-ping", timeout=3)
        except KvmError:
            return False
        return True

    async def freeze(self, uuid: str) -> int:
        """Freeze the guest's file systems; how many. On any failure the guest is thawed before it raises."""
        try:
            return await self.begin_freeze(uuid, FREEZE)
        except BaseException:
            await asyncio.shield(self.thaw_quietly(uuid))
            raise

    async def begin_freeze(self, uuid: str, timeout: int) -> int:
        """Freeze as above, within `timeout` seconds. A guest of which this fails may freeze all the same, even later:
        it is for the caller to thaw it."""
        return _number(await self.command(uuid, "guest-fsfreeze-freeze", timeout=timeout))

    async def frozen(self, uuid: str) -> bool:
        """Whether the guest says that it is frozen."""
        return bool(await self.command(uuid, "guest-fsfreeze-status") == "frozen")

    async def thaw(self, uuid: str) -> int:
        """Thaw, and see it thawed; how many file systems. Tries for a minute, not counting how long libvirt is away.
        Raises GuestFailed.

        A guest that is off meanwhile, or gone, is not frozen either. One that is paused may be: it cannot be asked.
        """
        thawed = 0

        async def attempt() -> bool:
            nonlocal thawed
            try:
                thawed = max(thawed, _number(await self.command(uuid, "guest-fsfreeze-thaw")))
                return not await self.frozen(uuid)
            except NotFound:
                return True
            except WrongState:  # what libvirt says of every state but running
                return await self._is_off(uuid)
            except LibvirtUnavailable:  # it comes back, and the guest waits
                raise
            except KvmError:  # libvirt is busy with the VM
                return False

        if not await until(attempt, 60, 0.5, away=LibvirtUnavailable):
            raise GuestFailed(
                "the guest may still be frozen", "its agent does not answer", f"virsh domfsthaw {uuid}, or force it off"
            )
        return thawed

    async def _is_off(self, uuid: str) -> bool:
        try:
            return await self.virt.state(uuid) in OFF
        except NotFound:
            return True

    async def thaw_quietly(self, uuid: str) -> None:
        """Thaw a guest that may not be frozen at all."""
        try:
            await self.command(uuid, "guest-fsfreeze-thaw")
        except KvmError:
            return

    async def renew_identity(self, uuid: str, hostname: str) -> str:
        """Give the guest a host name, machine-id and SSH host keys of its own; what of it was done, in words."""
        said = await self._script(uuid, IDENTITY_SCRIPT, hostname, "renewed:")
        if said is None:
            raise GuestFailed(
                "the guest's identity was not renewed", "the script in it did not end well", "renew it by hand"
            )
        return " ".join(each for each in RENEWABLE if each in said)

    async def generalize(self, uuid: str) -> str:
        """Take from the guest what only one may have; what of it was there, in words."""
        said = await self._script(uuid, GENERALIZE_SCRIPT, "", "generalized:")
        if said is None:
            why = "the script in it did not end well, so it may be generalized in part"
            raise GuestFailed("the guest was not generalized", why, "try again, or shut it down and use virt-sysprep")
        return " ".join(each for each in GENERALIZABLE if each in said)

    async def _script(self, uuid: str, script: str, argument: str, first: str) -> list[str] | None:
        """The words that a shell script in the guest prints after the first one; None if it did not end well."""
        arguments = {"path": "/bin/sh", "arg": ["-c", script, "sh", argument], "capture-output": True}
        pid = _number(_fields(await self.command(uuid, "guest-exec", arguments)).get("pid"))

        async def ended() -> dict[str, Any] | None:
            status = _fields(await self.command(uuid, "guest-exec-status", {"pid": pid}))
            return status if status.get("exited") else None

        status = await until(ended, 120, 0.5) or {}
        begun, *said = _text(status.get("out-data")).split() or [""]
        return said if status.get("exitcode") == 0 and begun == first else None


# What a guest says is shown to people, and asked to be what it should be: it may be anything.


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise _nonsense("what it was asked")
    return value


def _fields(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _nonsense("what it was asked")
    return value


def _text(value: Any) -> str:
    try:
        return base64.b64decode(value or "").decode("utf-8", "replace")
    except (ValueError, TypeError):
        return ""


def _nonsense(name: str) -> GuestFailed:
    return GuestFailed(f"the guest agent did not do {name}", "its answer makes no sense", "is it QEMU's own agent?")
