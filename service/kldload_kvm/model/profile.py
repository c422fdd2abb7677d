"""The profile kvm: each line of the founding page's list, and what becomes of it on a host. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .finding import Finding
from .host_facts import HostFacts


@dataclass(frozen=True)
class Line:
    """One line. ids: the findings by which it is not so yet; kept: those of which what is there is kept all the same;
    left_out: why it is never done, or empty."""

    name: str
    ids: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    left_out: str = ""
    needs_libvirt: bool = False

    def judge(self, facts: HostFacts, found: Sequence[Finding]) -> tuple[str, str, Sequence[Finding]]:
        """ "set", "already" or "left-out", why, and the findings that are to be put right."""
        if self.left_out:
            return "left-out", self.left_out, ()
        if self.needs_libvirt and facts.libvirt is None:
            return "left-out", f"libvirt cannot be reached: {facts.libvirt_fault}", ()
        if others := [f"{each.object}: {each.found}" for each in found if each.id in self.kept]:
            why = f"{'; '.join(others)}; what is there is kept: kvm-host fix {self.kept[0]} changes it"
            if not any(each.id in self.ids for each in found):
                return "left-out", why, ()
        todo = [each for each in found if each.id in self.ids]
        if "storage-missing" in self.ids or "isos-missing" in self.ids:
            todo += _implied(self.ids, facts, todo)
        return ("set", "; ".join(each.found for each in todo), todo) if todo else ("already", "", ())


def _implied(ids: tuple[str, ...], facts: HostFacts, todo: Sequence[Finding]) -> list[Finding]:
    """The image store of a storage that is itself only being made: a check cannot have missed it yet."""
    first = next(iter(facts.settings.parents.values()), "")
    known = {each.object for each in todo}
    if "isos-missing" in ids and first not in facts.stores and facts.pool(first) and f"{first}/isos" not in known:
        return [Finding("isos-missing", "notice", f"{first}/isos", f"storage {first} has none")]
    return []


KVM = (
    Line("ZFS dataset rpool/vms (compression=off, recordsize=64K, primarycache=metadata, atime=off)",
         ("storage-missing",), kept=("dataset-setting",)),
    Line("ZFS dataset rpool/vms/isos (compression=zstd, atime=off)", ("isos-missing", "isos-unmounted")),
    Line("zfs_arc_max=50 % of RAM", ("arc-unlimited", "arc-forgotten", "memory-promised")),
    Line("zfs_txg_timeout=10", left_out="it flushes less often than the default of 5 seconds, not more"),
    Line("zfs_vdev_scheduler=none", left_out="without effect since OpenZFS 0.8, and gone in 2.4"),
    Line("l2arc_noprefetch=0", left_out="does nothing without a cache device, and fills one with what is read once"),
    Line("vm.swappiness=1", ("swappiness",)),
    Line("vm.vfs_cache_pressure=50", left_out="concerns the host's own directories, of which VMs on zvols have none"),
    Line("vm.dirty_ratio=10, vm.dirty_background_ratio=5", left_out="ZFS does not write through the page cache"),
    Line("net.ipv4.ip_forward=1", left_out="a bridge does not need it; for its NAT networks libvirt sets it itself"),
    Line("net.bridge.bridge-nf-call-iptables=0",
         left_out="exists only with br_netfilter, which who loads it needs at 1; kvm-host check finds it"),
    Line("kvm-snapshot timer, hourly, 48 hours", ("snapshots-off", "trash-off")),
    Line("libvirtd enabled, network default", ("network-inactive", "network-manual"), needs_libvirt=True),
    Line("bridge br0", left_out="made only when asked for: it can cut the host off; kvm-host bridge br0 --port CARD"),
    Line("pools: autotrim, scrubs", ("pool-autotrim", "scrub-unscheduled")),
)  # fmt: skip
"""The last line is ours: what the page takes for granted of a pool."""

PROFILES = {"kvm": KVM}
