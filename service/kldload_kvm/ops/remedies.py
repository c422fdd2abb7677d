"""What kvm-host fix does about each finding: steps with undo. Pure."""

from __future__ import annotations

from collections.abc import Callable

from ..engine.plan import Step
from ..host.checks import datasets
from ..host.checks.kernel import DEFAULT_TIMEOUT
from ..host.checks.memory import own, promised
from ..host.sources import ARC_MAX, IMAGES, INITRAMFS_HOOKS, ISOS, SCRUB_TIMERS, SWAPPINESS, TXG_TIMEOUT
from ..model.errors import Failed, NotFound
from ..model.finding import Finding
from ..model.host_facts import HostFacts
from ..model.modprobe import DROP_INS, is_sealed, sealed
from ..model.sizes import MIB
from ..steps.domains import StartNetwork
from ..steps.filesystems import CreateFilesystem, MountFilesystem
from ..steps.kernel import RenewInitramfs, SetParameter, WriteDropIn
from ..steps.settings import ReadSettings, SetSetting
from ..steps.system import EnableUnit, SetNetworkAutostart, SetPoolProperty

SWAPPINESS_OURS = 1
Steps = tuple[Step, ...]


def _autotrim(found: Finding, facts: HostFacts) -> Steps:
    return (SetPoolProperty(found.object, "autotrim", "on", "off"),)


def _scrub(found: Finding, facts: HostFacts) -> Steps:
    return (EnableUnit(SCRUB_TIMERS[0].format(found.object)),)


def _enable(found: Finding, facts: HostFacts) -> Steps:
    return (EnableUnit(found.object),)


def _setting(found: Finding, facts: HostFacts) -> Steps:
    store = facts.stores[found.object]
    return _set(found.object, {k: v for k, v in datasets.WANTED.items() if store[k] not in (v, "none")})


def _sync(found: Finding, facts: HostFacts) -> Steps:
    return _set(found.object, {"sync": "standard"})


def _set(dataset: str, values: dict[str, str]) -> Steps:
    return (
        ReadSettings((dataset,), tuple(values)),
        *(SetSetting(dataset, key, value) for key, value in values.items()),
    )


def _storage(found: Finding, facts: HostFacts) -> Steps:
    """As the profile has it. A directory in which something is would be hidden by a mount: then it is mounted nowhere,
    which a storage of volumes does not need."""
    free = found.object == next(iter(facts.settings.parents.values()), "") and not facts.system.names.get("images")
    if not free:
        return (CreateFilesystem(found.object, {**datasets.PARENT, "mountpoint": "none"}),)
    return (
        CreateFilesystem(found.object, {**datasets.PARENT, "mountpoint": IMAGES}),
        MountFilesystem(found.object, IMAGES),
    )


def _isos(found: Finding, facts: HostFacts) -> Steps:
    where = ISOS
    if facts.system.names.get("isos"):
        why, hint = f"{where} is not empty: a mount would hide what is in it", "move it away: kvm-image add takes it in"
        raise Failed(f"{found.object} was not created", why, hint)
    if found.object in facts.stores:
        return (*_set(found.object, {"mountpoint": where}), MountFilesystem(found.object, where))
    return (
        CreateFilesystem(found.object, {**datasets.ISOS, "mountpoint": where}),
        MountFilesystem(found.object, where),
    )


def _mount(found: Finding, facts: HostFacts) -> Steps:
    return (MountFilesystem(found.object, facts.stores[found.object]["mountpoint"]),)


def _network(found: Finding, facts: HostFacts) -> Steps:
    return (StartNetwork(found.object),)


def _network_autostart(found: Finding, facts: HostFacts) -> Steps:
    return (SetNetworkAutostart(found.object),)


def _arc(found: Finding, facts: HostFacts) -> Steps:
    """Half of the memory, less what guests need; never less than a sixteenth, without which ZFS crawls."""
    memory, before = facts.memory, facts.system.number(ARC_MAX)
    if not memory or before is None:
        raise NotFound("zfs_arc_max was not set", "neither the memory nor the limit is known", "kvm-host check")
    room = min(memory // 2, memory - promised(facts) - own(memory))
    limit = max(room, memory // 16, 128 * MIB) // MIB * MIB
    drop_in = _drop_in("modprobe", f"options zfs zfs_arc_max={limit}\n", facts)
    renew = any(map(facts.system.there, INITRAMFS_HOOKS))
    steps: Steps = (drop_in, SetParameter("zfs_arc_max", limit, before))
    return (RenewInitramfs(on_undo=True), *steps, RenewInitramfs()) if renew else steps


def _arc_forgotten(found: Finding, facts: HostFacts) -> Steps:
    if any(map(facts.system.there, INITRAMFS_HOOKS)):
        return (RenewInitramfs(),)
    return _arc(found, facts)


def _swappiness(found: Finding, facts: HostFacts) -> Steps:
    drop_in = _drop_in("sysctl", f"vm.swappiness = {SWAPPINESS_OURS}\n", facts)
    return (drop_in, SetParameter("vm.swappiness", SWAPPINESS_OURS, facts.system.number(SWAPPINESS) or 0))


def _txg_timeout(found: Finding, facts: HostFacts) -> Steps:
    return (SetParameter("zfs_txg_timeout", DEFAULT_TIMEOUT, facts.system.number(TXG_TIMEOUT) or DEFAULT_TIMEOUT),)


def _auto_snapshot(found: Finding, facts: HostFacts) -> Steps:
    return _set(found.object, {"com.sun:auto-snapshot": "false"})


def _drop_in(kind: str, body: str, facts: HostFacts) -> WriteDropIn:
    """Raises Failed for one that was changed by hand."""
    before = facts.system.files.get(DROP_INS[kind], "")
    if before and not is_sealed(before):
        why = "it was changed by hand, and is kept as it is"
        hint = f"move it away first: mv {DROP_INS[kind]} {DROP_INS[kind]}.old"
        raise Failed(f"{DROP_INS[kind]} was not written", why, hint)
    return WriteDropIn(kind, sealed(body), before)


REMEDIES: dict[str, Callable[[Finding, HostFacts], Steps]] = {
    "pool-autotrim": _autotrim,
    "scrub-unscheduled": _scrub,
    "snapshots-off": _enable,
    "trash-off": _enable,
    "dataset-setting": _setting,
    "sync-disabled": _sync,
    "storage-missing": _storage,
    "isos-missing": _isos,
    "isos-unmounted": _mount,
    "network-inactive": _network,
    "network-manual": _network_autostart,
    "arc-unlimited": _arc,
    "memory-promised": _arc,
    "arc-forgotten": _arc_forgotten,
    "swappiness": _swappiness,
    "txg-timeout": _txg_timeout,
    "auto-snapshot-beside": _auto_snapshot,
}
"""The findings that something is done about, by what it is. Raises KvmError where it cannot be done here."""


def told(found: Finding, facts: HostFacts) -> str:
    """What a fix would change, in words; empty where it changes nothing."""
    remedy = REMEDIES.get(found.id)
    if remedy is None:
        return ""
    try:
        steps = remedy(found, facts)
    except Failed as refusal:
        return f"nothing, as long as {refusal.why}"
    except NotFound:
        return ""
    return "; ".join(step.describe() for step in steps if not isinstance(step, ReadSettings))
