"""Host.Fix and Host.Setup: given what was found, these steps or that refusal; and whatever fails is taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from host_world import FILE, GIB, WELL, found, with_pool, with_store, with_system
from kldload_kvm.engine.engine import Engine
from kldload_kvm.engine.job import Job, State
from kldload_kvm.engine.journal import MemoryJournal
from kldload_kvm.engine.plan import Plan, revive, written
from kldload_kvm.host import applying, sources
from kldload_kvm.model.errors import Failed, InvalidArgument, KvmError, NotFound, WrongState
from kldload_kvm.model.finding import FIXED
from kldload_kvm.model.host_facts import HostFacts, Libvirt, Network, Store
from kldload_kvm.model.modprobe import DROP_INS, is_sealed, sealed
from kldload_kvm.ops.host_fix import Fix, HostRequest, Setup
from kldload_kvm.ops.remedies import REMEDIES, told
from kldload_kvm.ops.request import View
from kldload_kvm.steps import filesystems, kernel
from kldload_kvm.steps.domains import StartNetwork
from kldload_kvm.steps.filesystems import CreateFilesystem, MountFilesystem
from kldload_kvm.steps.kernel import RenewInitramfs, SetParameter, WriteDropIn
from kldload_kvm.steps.settings import ReadSettings, SetSetting
from kldload_kvm.steps.system import EnableUnit, SetNetworkAutostart, SetPoolProperty
from loops import in_loop
from memory_host import MemoryHost
from memory_units import MemoryUnits
from world import World

ARC = {sources.ARCSTATS: f"c_max 4 {15 * GIB}\n"}
SWAP = {sources.SWAPS: "Filename Type Size Used Priority\n/dev/vda2 partition 1 0 -2\n"}
LIMIT = 16 * GIB // 2
BARE = replace(WELL, stores={}, guests=(), volumes={})
OFF = replace(WELL, units={**WELL.units, "kldload-kvm-snapshot.timer": False})
INACTIVE = replace(WELL, libvirt=Libvirt((11,), ("apparmor",), (Network("default", False, False),)))


def view(facts: HostFacts | None) -> View:
    return replace(World().view(), host=facts, findings=tuple(found(facts)) if facts else ())


def plan(facts: HostFacts | None, request: HostRequest | None = None) -> Plan:
    return (request or Fix()).plan(view(facts))


def refusal(facts: HostFacts | None, request: HostRequest) -> KvmError:
    with pytest.raises(KvmError) as caught:
        plan(facts, request)
    return caught.value


class TestSteps:
    @pytest.mark.parametrize(
        ("facts", "steps"),
        [
            (with_pool(autotrim=False, trims=True), (SetPoolProperty("rpool", "autotrim", "on", "off"),)),
            (with_system(nodes={sources.SCRUB_CRON: None}), (EnableUnit("zfs-scrub-monthly@rpool.timer"),)),
            (OFF, (EnableUnit("kldload-kvm-snapshot.timer"),)),
            (INACTIVE, (StartNetwork("default"), SetNetworkAutostart("default"))),
            (
                with_store("rpool/vms", primarycache="all", volmode="default"),
                (
                    ReadSettings(("rpool/vms",), ("primarycache", "volmode")),
                    SetSetting("rpool/vms", "primarycache", "metadata"),
                    SetSetting("rpool/vms", "volmode", "dev"),
                ),
            ),
            (with_system({sources.TXG_TIMEOUT: "10\n"}), (SetParameter("zfs_txg_timeout", 5, 10),)),
        ],
    )
    def test_what_is_done(self, facts: HostFacts, steps: tuple[object, ...]) -> None:
        assert plan(facts, Fix(tuple({each.id for each in found(facts)}))).prepare == steps

    def test_what_somebody_may_have_chosen_is_changed_only_if_it_is_named(self) -> None:
        chosen = with_store("rpool/vms", primarycache="all")
        made = plan(chosen)
        assert made.prepare == ()
        assert "dataset-setting of rpool/vms stays" in made.warnings[0]
        lines = plan(chosen, Setup()).result["lines"]
        assert lines[0]["state"] == "left-out"
        assert "primarycache=all" in lines[0]["why"]

    def test_the_cache_is_given_half_of_the_memory_less_what_guests_need(self) -> None:
        write, now = plan(with_system(ARC)).prepare
        assert now == SetParameter("zfs_arc_max", LIMIT, 0)
        assert isinstance(write, WriteDropIn)
        assert write.text.splitlines()[1] == f"options zfs zfs_arc_max={LIMIT}"
        greedy = replace(WELL.guests[0].domain, autostart=True)
        wants = replace(WELL.guests[0].wants, memory=12 * GIB)
        less = replace(with_system(ARC), guests=(replace(WELL.guests[0], domain=greedy, wants=wants),))
        (limit,) = [s.value for s in plan(less, Fix(("arc-unlimited",))).prepare if isinstance(s, SetParameter)]
        assert GIB <= limit <= 16 * GIB - 12 * GIB - GIB

    def test_the_initramfs_is_renewed_only_where_zfs_is_loaded_from_it(self) -> None:
        steps = plan(with_system(ARC, nodes={sources.INITRAMFS_HOOKS[0]: FILE})).prepare
        assert (steps[0], steps[-1]) == (RenewInitramfs(on_undo=True), RenewInitramfs())
        assert not any(isinstance(step, RenewInitramfs) for step in plan(with_system(ARC)).prepare)

    def test_two_findings_with_one_remedy_have_it_once_and_settings_are_noted_by_one_step(self) -> None:
        both = replace(with_store("rpool/vms", primarycache="all"), settings=replace(WELL.settings))
        worse = {
            **both.stores,
            "rpool/vms/web": Store("rpool/vms/web", "volume", {"volmode": "dev", "sync": "disabled"}),
        }
        steps = plan(replace(both, stores=worse), Fix(("dataset-setting", "sync-disabled"))).prepare
        assert [step for step in steps if isinstance(step, ReadSettings)] == [steps[0]]
        assert steps[0] == ReadSettings(("rpool/vms/web", "rpool/vms"), ("sync", "primarycache"))

    def test_a_directory_with_something_in_it_is_not_mounted_over(self) -> None:
        full = replace(BARE, system=replace(WELL.system, names={**WELL.system.names, "images": ("a.qcow2",)}))
        made = plan(full, Fix(("storage-missing",)))
        (create,) = made.prepare
        assert isinstance(create, CreateFilesystem)
        assert create.values["mountpoint"] == "none"
        assert "stays visible" in made.warnings[0]
        isos = replace(full, system=replace(full.system, names={**full.system.names, "isos": ("a.iso",)}))
        lines = {each["line"]: each for each in plan(isos, Setup()).result["lines"]}
        assert lines["ZFS dataset rpool/vms/isos (compression=zstd, atime=off)"]["state"] == "left-out"

    def test_every_step_can_be_written_down(self) -> None:
        for step in (*plan(BARE, Setup()).prepare, *plan(with_system({**ARC, **SWAP})).prepare):
            assert revive(written(step)) == step


class TestRefusals:
    @pytest.mark.parametrize(
        ("args", "words"),
        [(["nothing-known"], "there is no finding"), (["pool-ashift"], "cannot be put right"), (["\n"], "no finding")],
    )
    def test_at_the_door(self, args: list[str], words: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            Fix.parse("", [args], {})
        assert words in str(caught.value)

    def test_another_profile(self) -> None:
        with pytest.raises(InvalidArgument, match="not set up"):
            Setup.parse("", ["desktop"], {})

    def test_what_is_not_found_is_not_put_right(self) -> None:
        assert type(refusal(WELL, Fix(("pool-autotrim",)))) is NotFound
        assert type(refusal(None, Fix())) is WrongState
        assert type(refusal(replace(BARE, pools=()), Setup())) is WrongState

    def test_a_drop_in_changed_by_hand_is_kept(self) -> None:
        edited = with_system({**ARC, DROP_INS["modprobe"]: "options zfs zfs_arc_max=0 # mine\n"})
        error = refusal(edited, Fix(("arc-unlimited",)))
        assert type(error) is Failed
        assert "changed by hand" in error.why
        made = plan(edited)
        assert made.prepare == ()
        assert "stays: it was changed by hand" in made.warnings[0]
        assert "drop-in-edited" in [each.id for each in found(edited)]


def test_what_a_fix_would_change_is_told_with_the_finding() -> None:
    facts = with_pool(autotrim=False, trims=True, ashift=9)
    assert [(e.id, told(e, facts)) for e in found(facts)] == [
        ("pool-ashift", ""), ("pool-autotrim", "set autotrim of the pool rpool to on"),
    ]  # fmt: skip


def test_the_commands_know_what_can_be_put_right() -> None:
    assert set(FIXED) == REMEDIES.keys()


def test_a_seal_tells_whether_a_drop_in_was_changed() -> None:
    assert is_sealed(sealed("a\n"))
    assert not is_sealed(sealed("a\n") + "b\n")
    assert not is_sealed("")


class TestSetup:
    def test_a_bare_pool(self) -> None:
        made = plan(BARE, Setup())
        assert [type(step) for step in made.prepare] == [CreateFilesystem, MountFilesystem] * 2
        states = {each["line"]: each["state"] for each in made.result["lines"]}
        assert set(states.values()) == {"set", "already", "left-out"}
        assert states["zfs_txg_timeout=10"] == "left-out"

    def test_a_host_that_is_well_needs_nothing(self) -> None:
        made = plan(WELL, Setup())
        assert made.prepare == ()
        assert {each["state"] for each in made.result["lines"]} == {"already", "left-out"}
        assert all(each["why"] for each in made.result["lines"] if each["state"] == "left-out")


@dataclass
class Bench:
    """A host in memory whose files are below `root`."""

    host: MemoryHost
    units: MemoryUnits
    root: Path

    def text(self, path: str) -> str:
        file = self.root / path.removeprefix("/")
        return file.read_text() if file.exists() else ""

    async def run(self, facts: HostFacts, request: HostRequest) -> Job:
        engine = Engine(self.host, MemoryJournal())
        job = engine.start(replace(request).plan(view(facts)), 0)
        try:
            await engine.wait(job, 10)
        except KvmError:
            assert job.over
        return job


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Bench]:
    root, directory = tmp_path / "root", tmp_path / "run"
    for path in (*DROP_INS.values(), sources.ARC_MAX, sources.SWAPPINESS):
        (root / path.removeprefix("/")).parent.mkdir(parents=True, exist_ok=True)
    (root / sources.ARC_MAX.removeprefix("/")).write_text("0\n")
    (root / sources.SWAPPINESS.removeprefix("/")).write_text("60\n")
    read = kernel._read
    monkeypatch.setattr(kernel, "_read", lambda path: read(str(root) + path))
    monkeypatch.setattr(kernel, "apply", partial(applying.apply, directory=directory))
    monkeypatch.setattr(filesystems, "MOUNT_SECONDS", 1.0)

    def make() -> Bench:
        host, units = MemoryHost(), MemoryUnits(root, directory)
        host.units = units
        return Bench(host, units, root)

    return make


class TestDoing:
    @in_loop
    async def test_files_parameters_and_units(self, bench: Callable[[], Bench]) -> None:
        made = bench()
        facts = replace(with_system({**ARC, **SWAP}), units=OFF.units)
        job = await made.run(facts, Fix())
        assert (job.state, job.error) == (State.SUCCEEDED, None)
        assert made.text(sources.ARC_MAX) == f"{LIMIT}\n"
        assert made.text(sources.SWAPPINESS) == "1\n"
        assert is_sealed(made.text(DROP_INS["modprobe"]))
        assert "vm.swappiness = 1" in made.text(DROP_INS["sysctl"])
        assert made.units.on == {"kldload-kvm-snapshot.timer"} == made.units.running
        assert sorted(each["id"] for each in job.result["fixed"]) == ["arc-unlimited", "snapshots-off", "swappiness"]

    @pytest.mark.parametrize("fails", ['"set", "parameter": "vm.swappiness"', '"drop-in": "sysctl"', '"zfs_arc_max"'])
    @in_loop
    async def test_a_failure_takes_everything_back(self, bench: Callable[[], Bench], fails: str) -> None:
        made = bench()
        made.units.fails = fails
        job = await made.run(replace(with_system({**ARC, **SWAP}), units=OFF.units), Fix())
        assert job.state is State.FAILED
        assert (made.text(DROP_INS["modprobe"]), made.text(DROP_INS["sysctl"])) == ("", "")
        assert (made.units.on, made.units.running) == (set(), set())

    @in_loop
    async def test_a_drop_in_that_somebody_writes_meanwhile_is_kept(self, bench: Callable[[], Bench]) -> None:
        made = bench()
        mine = made.root / DROP_INS["modprobe"].removeprefix("/")
        mine.write_text("# mine\n")
        job = await made.run(with_system(ARC), Fix())
        assert job.state is State.FAILED
        assert mine.read_text() == "# mine\n"

    @in_loop
    async def test_settings_of_two_datasets_are_each_taken_back(self, bench: Callable[[], Bench]) -> None:
        made = bench()
        host = made.host
        await host.prepare()
        await host.zfs.create_volume("rpool/vms/web", GIB, {"sync": "disabled", "volmode": "dev"})
        await host.zfs.set("rpool/vms", {"primarycache": "all"})
        before = host.picture()
        facts = with_store("rpool/vms", primarycache="all")
        volume = Store("rpool/vms/web", "volume", {"volmode": "dev", "sync": "disabled"})
        facts = replace(facts, stores={**facts.stores, volume.name: volume}, units=OFF.units)

        async def refuse(unit: str) -> None:
            raise Failed("not enabled")

        made.units.enable = refuse  # type: ignore[method-assign]
        job = await made.run(facts, Fix(("dataset-setting", "sync-disabled", "snapshots-off")))
        assert job.state is State.FAILED
        assert host.picture() == before

    @in_loop
    async def test_a_dataset_that_cannot_be_mounted_is_not_left(self, bench: Callable[[], Bench]) -> None:
        made = bench()
        await made.host.known()
        before = made.host.picture()
        made.units.broken = "kldload-kvm-mount@"
        job = await made.run(BARE, Fix(("storage-missing",)))
        assert job.state is State.FAILED
        assert job.error
        assert "was not mounted" in job.error.what
        assert made.host.picture() == before

    @in_loop
    async def test_with_nothing_to_do_it_is_done(self, bench: Callable[[], Bench]) -> None:
        job = await bench().run(WELL, Setup())
        assert (job.state, job.plan.steps) == (State.SUCCEEDED, ())

    @in_loop
    async def test_a_dataset_is_created_and_mounted(self, bench: Callable[[], Bench]) -> None:
        made = bench()
        job = await made.run(BARE, Setup())
        assert (job.state, job.error) == (State.SUCCEEDED, None)
        assert made.units.running == {
            r"kldload-kvm-mount@rpool-vms.service",
            r"kldload-kvm-mount@rpool-vms-isos.service",
        }
        assert {"rpool/vms", "rpool/vms/isos"} <= made.host.memory_zfs.sets.keys()


def parsed(cls: Any, *args: Any) -> Any:
    return cls.parse("", list(args), {})


def test_the_subject_names_the_target_for_polkit_s_rules() -> None:
    assert parsed(Fix, ["pool-autotrim"]).subject(view(WELL)) == {"target": "pool-autotrim"}
    assert parsed(Setup, "kvm").subject(view(WELL)) == {"target": "kvm"}
