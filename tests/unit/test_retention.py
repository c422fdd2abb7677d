"""Which snapshots go by themselves: the timer's own, once they are old; and no other, whatever it is called."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kldload_kvm.engine.plan import Plan
from kldload_kvm.model.errors import NotFound
from kldload_kvm.model.inventory import Snapshot, SnapshotSet
from kldload_kvm.model.retention import expired
from kldload_kvm.ops.prune_snapshots import PruneSnapshots
from kldload_kvm.ops.request import View
from kldload_kvm.steps.snapshots import CheckMadeHere, PruneVolume
from world import NOW, World, guid_of, id_of

HOUR = 3600
KEEP = 48 * HOUR


def made(
    hours_ago: int, kind: str = "auto", name: str = "", holds: int = 0, clones: tuple[str, ...] = ()
) -> SnapshotSet:
    name = name or f"auto-{1000 - hours_ago}"
    creation, txg = 1_000_000 - hours_ago * HOUR, 10_000 - hours_ago
    part = Snapshot("rpool/vms/web", name, "1", txg, creation, kind, holds=holds)
    return SnapshotSet(name, kind, creation, txg, "off", 0, {part.dataset: part}, clones)


def gone(*sets: SnapshotSet) -> list[str]:
    return [each.name for each in expired(sets, 1_000_000, KEEP)]


class TestExpired:
    def test_what_is_older_than_is_kept_oldest_first(self) -> None:
        assert gone(*(made(hours) for hours in (1, 47, 48, 49, 500))) == ["auto-500", "auto-951", "auto-952"]

    @pytest.mark.parametrize("kind", ["manual", "clone", "replication", "foreign"])
    def test_never_another_s_whatever_it_is_called(self, kind: str) -> None:
        assert gone(made(100, kind), made(1)) == []

    def test_never_one_that_says_auto_and_is_not_called_so(self) -> None:
        assert gone(made(100, name="stable"), made(1)) == []

    def test_never_one_of_which_a_part_is_another_s(self) -> None:
        mixed = made(100)
        other = replace(mixed.parts["rpool/vms/web"], dataset="rpool/vms/web.nvram", kind="foreign")
        assert gone(replace(mixed, parts={**mixed.parts, other.dataset: other}), made(1)) == []

    def test_never_one_with_clones_or_holds(self) -> None:
        assert gone(made(100, clones=("rpool/vms/copy",)), made(101, holds=1), made(102), made(1)) == ["auto-898"]

    def test_never_the_newest_however_old(self) -> None:
        assert gone(made(500), made(400), made(1, "manual", "mine")) == ["auto-500"]
        assert gone(made(500)) == []

    @given(
        st.lists(st.tuples(st.integers(0, 200), st.sampled_from(["auto", "manual"])), unique_by=lambda each: each[0])
    )
    def test_whatever_there_is_what_goes_is_old_and_the_newest_stays(self, found: list[tuple[int, str]]) -> None:
        sets = [made(hours, kind, "" if kind == "auto" else f"m-{hours}") for hours, kind in found]
        going = expired(sets, 1_000_000, KEEP)
        automatic = [each for each in sets if each.kind == "auto"]
        assert all(each.kind == "auto" and each.creation <= 1_000_000 - KEEP for each in going)
        assert len(going) < max(len(automatic), 1)


class TestPlan:
    """The snapshots of these worlds were all made long before NOW."""

    def plan(self, host: World, busy: str = "", storage: str = "") -> Plan:
        view = host.view()
        holder = {f"VM:{busy}": "7"}
        seen = View(view.inventory, view.config, view.facts, NOW, holder=lambda lock: holder.get(lock, ""))
        late = {
            dataset: {n: replace(s, creation=int(NOW.timestamp()) - KEEP - 1) for n, s in of.items()}
            for dataset, of in host.inventory.snapshots.items()
        }
        for of in late.values():
            for each in of.values():
                host.inventory.put_snapshot(each)
        return PruneSnapshots(storage).plan(seen)

    def test_one_step_for_each_volume_naming_everything(self) -> None:
        host = World()
        host.vm("web")
        for name in ("auto-1", "auto-2", "auto-3", "auto-other"):
            host.snap("web", name, "foreign" if name == "auto-other" else "auto")
        made = self.plan(host)
        volumes = ("rpool/vms/web", "rpool/vms/web.nvram")
        wanted = [PruneVolume(v, {n: guid_of(f"{v}@{n}") for n in ("auto-1", "auto-2")}, volumes) for v in volumes]
        parts = {f"{v}@{n}": f"web@{n}" for n in ("auto-1", "auto-2") for v in volumes}
        assert (made.prepare, [made.commit, *made.finish]) == ((CheckMadeHere(parts),), wanted)
        assert set(made.destroys) == {f"rpool/vms/{v}@{n}" for v in ("web", "web.nvram") for n in ("auto-1", "auto-2")}
        assert {guard.name for guard in made.guards} == set(made.destroys)
        assert (made.locks, made.objects) == ({"VM:web"}, (id_of("web"),))
        assert made.result == {"removed": ["web@auto-1", "web@auto-2"]}

    def test_a_vm_that_another_job_has_waits_for_the_next_time(self) -> None:
        host = World()
        for vm in ("a", "b"):
            host.vm(vm)
            for name in ("auto-1", "auto-2"):
                host.snap(vm, name, "auto")
        assert self.plan(host, busy="a").result == {"removed": ["b@auto-1"]}

    def test_of_one_storage(self) -> None:
        host = World()
        host.vm("a")
        host.vm("b", parent="vmpool/vms")
        for vm in ("a", "b"):
            for name in ("auto-1", "auto-2"):
                host.snap(vm, name, "auto")
        assert self.plan(host, storage="fast").result == {"removed": ["b@auto-1"]}
        with pytest.raises(NotFound):
            self.plan(host, storage="none")

    def test_nothing_to_do_is_a_plan_of_nothing(self) -> None:
        host = World()
        host.vm("web")
        made = self.plan(host)
        assert (made.steps, made.locks, made.result) == ((), frozenset(), {"removed": []})

    def test_polkit_is_told_of_no_vm(self) -> None:
        assert PruneSnapshots("fast").subject(World().view()) == {"dataset": "vmpool/vms"}
