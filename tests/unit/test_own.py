"""What a step has made is known again, whenever it was cut off."""

from __future__ import annotations

import math

import pytest

from kldload_kvm.engine.plan import Run, Step
from kldload_kvm.model.sizes import MIB
from kldload_kvm.steps import own
from kldload_kvm.steps.filesystems import CreateFilesystem
from kldload_kvm.steps.trash import CreateTrashEntry
from kldload_kvm.steps.volumes import CloneVolume, CreateVolume
from loops import in_loop
from memory_host import MemoryHost
from memory_zfs import EPOCH


class TestCutOff:
    """A power cut between ZFS's two transactions, that which creates a dataset and that which sets its properties."""

    def run(self, began: float = EPOCH) -> Run:
        return Run("5f3a", 0, {}, lambda done, total: None, began=began)

    async def cut(self, step: Step) -> MemoryHost:
        """What is there when the host is started again."""
        host = MemoryHost()
        await host.prepare()
        await host.zfs.create_volume("rpool/vms/old", MIB, {})
        await host.zfs.snapshot(["rpool/vms/old@s"], {})
        await step.do(host, self.run())
        host.memory_zfs.sets[step.dataset].values.clear()  # type: ignore[attr-defined]
        return host

    @pytest.mark.parametrize(
        "step",
        [CreateVolume("rpool/vms/web", MIB), CloneVolume("rpool/vms/old@s", "rpool/vms/web"),
         CreateTrashEntry("rpool/vms/.trash/web-5f3a"), CreateFilesystem("rpool/vms/web")],
        ids=lambda step: step.kind,
    )  # fmt: skip
    @in_loop
    async def test_what_is_left_of_it_is_destroyed(self, step: Step) -> None:
        host = await self.cut(step)
        await step.undo(host, self.run())
        assert step.dataset not in host.memory_zfs.sets  # type: ignore[attr-defined]

    @pytest.mark.parametrize("why", ["before the job", "after the boot", "a property", "written", "not known"])
    @in_loop
    async def test_what_may_be_another_s_stays(self, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
        step = CreateVolume("rpool/vms/web", MIB)
        host = await self.cut(step)
        record = host.memory_zfs.sets["rpool/vms/web"]
        began: float = EPOCH
        match why:
            case "before the job":
                began = EPOCH + record.txg + 1
            case "after the boot":
                monkeypatch.setattr(own, "booted", lambda: EPOCH)
            case "a property":
                record.values["com.example:mine"] = "yes"
            case "written":
                record.contents = b"a"
            case "not known":
                began = math.inf
        await step.undo(host, self.run(began))
        assert "rpool/vms/web" in host.memory_zfs.sets


class TestTrash:
    @in_loop
    async def test_no_entry_has_a_mountpoint_to_inherit(self) -> None:
        host, trash = MemoryHost(), "rpool/vms/.trash"
        await host.prepare()
        host.memory_zfs.sets.pop(trash, None)
        await own.ensure_trash(host, trash)
        assert host.memory_zfs.sets[trash].values["mountpoint"] == "none"
        host.memory_zfs.sets[trash].values["mountpoint"] = "/images/.trash"  # as an older version has made it
        await own.ensure_trash(host, trash)
        assert host.memory_zfs.sets[trash].values["mountpoint"] == "none"
