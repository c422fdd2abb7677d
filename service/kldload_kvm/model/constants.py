"""The names everything else hangs on. Imports nothing, so that a command starts fast."""

PREFIX = "org.kldload.Kvm1"
"""The bus name, and the first part of every interface and error name."""

ROOT = "/org/kldload/Kvm1"
"""The root object, which is the Manager and the ObjectManager."""

ROOT_ACTION = "root"
"""In the place of a polkit action: for root alone, and polkit is not asked."""

HOOK = f"{PREFIX}.Hook"
"""The interface of libvirt's hook: the bus keeps it for root."""

DOCS = "/usr/share/doc/kldload-kvm"
"""Where the packages put docs/."""

CREATE_STORAGE = "is its pool imported? If so, create it: kvm-host fix storage-missing"
"""What can be done about a storage without its dataset. A plain `zfs create` may mount it over somebody's files."""

READ_ACTION = "org.kldload.kvm.read"
"""The polkit action of methods that change nothing."""
