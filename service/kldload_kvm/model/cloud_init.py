"""What a guest is told at its first boot: the two documents of cloud-init's NoCloud source. Pure.

The host's name and the instance's id stand in meta-data alone: a clone's seed is its origin's user-data, unchanged,
under new meta-data, and cloud-init then renews host name and SSH host keys by itself. It does not renew the machine id,
which DHCP servers tell guests apart by; so user-data does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from . import ssh_key
from .errors import InvalidArgument
from .names import shown

MOST_KEYS = 64
LARGEST_USER_DATA = 256 << 10
"""Bytes: well within a seed's volume."""
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_LOGIN = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_B64 = "[./A-Za-z0-9]"
_HASHES = tuple(
    re.compile(form)
    for form in (  # crypt(5): yescrypt, gost-yescrypt, scrypt, SHA-512, SHA-256, bcrypt
        rf"\$g?y\${_B64}{{3,40}}\${_B64}{{0,86}}\${_B64}{{43}}",
        rf"\$7\${_B64}{{11,97}}\${_B64}{{43}}",
        rf"\$6\$(rounds=[1-9][0-9]{{3,8}}\$)?{_B64}{{1,16}}\${_B64}{{86}}",
        rf"\$5\$(rounds=[1-9][0-9]{{3,8}}\$)?{_B64}{{1,16}}\${_B64}{{43}}",
        rf"\$2[aby]\$[0-9]{{2}}\${_B64}{{53}}",
    )
)

# libvirt gives the VM's UUID to its firmware, and systemd itself makes a virtual machine's first id from it.
_MACHINE_ID = """\
new=$(tr -d - < /sys/class/dmi/id/product_uuid | tr A-F a-f) || exit 0
[ ${#new} -eq 32 ] && [ "$(cat /etc/machine-id 2>/dev/null)" != "$new" ] || exit 0
echo "$new" > /etc/machine-id || exit 0
if [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then echo "$new" > /var/lib/dbus/machine-id; fi
if [ -d /run/systemd/system ]; then
  systemctl --no-block try-restart systemd-journald.service systemd-networkd.service NetworkManager.service
fi
"""


def meta_data(instance_id: str, hostname: str) -> str:
    """meta-data as lines `key: value`. A new instance_id makes cloud-init treat the guest as new."""
    if not _INSTANCE.fullmatch(instance_id):
        raise InvalidArgument(f"{shown(instance_id)} is no instance id", "", "use letters, digits, '.', '_' and '-'")
    return f"instance-id: {instance_id}\nlocal-hostname: {check_hostname(hostname)}\n"


def user_data(user: str = "", ssh_keys: Sequence[str] = (), password_hash: str = "") -> str:
    """user-data: a login with those keys and that password, for the console only; SSH takes keys alone.

    Without `user` the keys are for the login that the image itself brings. JSON, which is YAML, one value a line.
    Raises InvalidArgument.
    """
    if len(ssh_keys) > MOST_KEYS:
        raise InvalidArgument(f"{len(ssh_keys)} SSH keys are too many", f"{MOST_KEYS} is the most", "")
    keys = [ssh_key.check(key, number) for number, key in enumerate(ssh_keys, 1)]
    config: dict[str, Any] = {
        "preserve_hostname": False,
        "manage_etc_hosts": "localhost",
        "disable_root": True,
        "ssh_pwauth": False,
        "bootcmd": [["cloud-init-per", "instance", "kldload-kvm-machine-id", "sh", "-c", _MACHINE_ID]],
    }
    if user:
        login: dict[str, Any] = {
            "name": check_login(user),
            "shell": "/bin/bash",
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
            "lock_passwd": not password_hash,
            "ssh_authorized_keys": keys,
        }
        if password_hash:
            login["hashed_passwd"] = check_password_hash(password_hash)
        config["users"] = [login]
    elif password_hash:
        raise InvalidArgument("a password needs a user", "no user was named", "say whose password it is: --user NAME")
    elif keys:
        config["ssh_authorized_keys"] = keys
    text = "#cloud-config\n" + json.dumps(config, indent=1, ensure_ascii=False) + "\n"
    if len(text.encode()) > LARGEST_USER_DATA:
        most = f"{LARGEST_USER_DATA >> 10} KiB is the most, all together"
        raise InvalidArgument("the SSH keys are too many", most, "")
    return text


def check_hostname(text: str) -> str:
    """A host name by RFC 1123, with or without its domain. Raises InvalidArgument."""
    labels = text.split(".")
    if len(text) <= 253 and all(_LABEL.fullmatch(label) for label in labels) and not (
        len(labels) > 1 and labels[-1].isdigit()
    ):  # fmt: skip
        return text
    rule = "use letters, digits and '-', at most 63 of them between dots, beginning and ending with a letter or digit"
    raise InvalidArgument(f"{shown(text)} is no host name", "it does not follow RFC 1123", rule)


def hostname_from(vm_name: str) -> str:
    """The host name that a VM's guest gets if none is given: the VM's name, with what no host name can hold replaced.

    >>> hostname_from("web-1"), hostname_from("build_box"), hostname_from("_._")
    ('web-1', 'build-box', 'vm')
    """
    try:
        return check_hostname(vm_name)
    except InvalidArgument:
        return re.sub(r"[^A-Za-z0-9]+", "-", vm_name)[:63].strip("-") or "vm"


def check_login(text: str) -> str:
    """A login name that every distribution's useradd takes. Raises InvalidArgument."""
    rule = "use lower-case letters, digits, '_' and '-', beginning with a letter or '_', at most 32 characters"
    if not _LOGIN.fullmatch(text):
        raise InvalidArgument(f"{shown(text)} cannot be a login", "", rule)
    if text == "root":
        hint = "name a user of your own: it may become root with sudo"
        raise InvalidArgument("root cannot be the login that is created", "every guest has it already", hint)
    return text


def check_password_hash(text: str) -> str:
    """A crypt(5) hash of a kind that is still safe. Raises InvalidArgument, which does not repeat it."""
    if any(form.fullmatch(text) for form in _HASHES):
        return text
    what, hint = "the password hash cannot be used", "make one: mkpasswd -m yescrypt, or openssl passwd -6"
    if re.match(r"\$(1|md5|sha1|3)[$,]", text):
        raise InvalidArgument(what, "it is of a kind that is no longer safe", hint)
    if text.startswith("$"):
        raise InvalidArgument(what, "it is not whole, or of a kind that is not known", hint)
    raise InvalidArgument(what, "it is no hash by crypt(5); a password itself is not taken", hint)
