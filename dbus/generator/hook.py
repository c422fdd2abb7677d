"""libvirt's qemu hook: shell over busctl, for a start of Python's own would be felt at each start of a VM."""

from __future__ import annotations

import string

from kldload_kvm import contract_files
from kldload_kvm.model.constants import HOOK, PREFIX, ROOT

SECONDS = 60
"""How long an answer may take; the service itself waits less."""

SCRIPT = string.Template("""\
#!/bin/sh
# libvirt's qemu hook of kldload-kvm, in /etc/libvirt/hooks/qemu.d. Made from dbus/$interface.xml by
# dbus/generate.py hook; not edited.
#
# Before a domain with volumes below /dev/zvol, or of a storage pool, starts, kldload-kvmd sees to it that they are
# there, or says why it must not start: what stands on standard error is what the user of virsh sees. Nothing else is
# asked of anybody, and nothing is ever written to standard output, which libvirt would take for a domain's XML.

case $$2/$$3 in prepare/begin | migrate/begin) ;; *) exit 0 ;; esac
domain=$$(cat)
case $$domain in */dev/zvol/* | *"type='volume'"*) ;; *) exit 0 ;; esac

if [ "$$2" = migrate ]; then
    # A guest that is migrated here goes on where its memory left off: what is missing must not be made blank for it.
    end="taken over" why="send it here first (zfs send), or make one as large for virsh migrate --copy-storage-all"
elif answer=$$(busctl --system --timeout=$seconds call -- \\
    $service $path $interface $method $types "$$domain" 2> /dev/null)
then
    refusal=$${answer#s \\"} refusal=$${refusal%\\"}
    [ -n "$$refusal" ] || exit 0
    printf '%s\\n' "$$refusal" >&2
    exit 1
else
    # It does not answer. A domain whose volumes are all there starts all the same: a template's are read-only, and what
    # a job has moved away is missing.
    end=started why="kldload-kvmd does not answer: systemctl status kldload-kvmd"
fi

printf '%s\\n' "$$domain" | sed -n "s|.*['\\">]\\(/dev/zvol/[^'\\"<]*\\)['\\"<].*|\\1|p" | while read -r volume; do
    [ -b "$$volume" ] || {
        echo "$$1 was not $$end: its volume $$volume is not there; $$why" >&2
        exit 1
    }
done
""")


def text() -> str:
    """The script. Raises ValueError if the contract is not what it can call."""
    interface = contract_files.interfaces()[HOOK]
    (prepare,) = interface.methods.values()
    if (prepare.in_signature, prepare.out_signature) != ("s", "s"):
        raise ValueError(f"{HOOK}.{prepare.name} takes and gives one string each")
    return SCRIPT.substitute(
        interface=HOOK, service=PREFIX, path=f"{ROOT}/hook", method=prepare.name, types="s", seconds=SECONDS
    )
