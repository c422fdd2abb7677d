"""A volume that others have made larger is noticed by the size of its node, for no event tells of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from kldload_kvm.model.inventory import TRASH
from kldload_kvm.watch import sizes as sizes_watch
from kldload_kvm.watch.sizes import SizeWatch
from kldload_kvm.zfs import devices
from kldload_kvm.zfs.devices import sizes
from loops import in_loop
from world import World, volume


class TestWatch:
    @in_loop
    async def test_only_what_has_another_size_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        host, told, asked = World(), list[str](), list[str]()
        vm = host.vm("web")
        host.inventory.put_dataset(volume(f"rpool/vms/{TRASH}/old-1/old", vm="old"))
        known = {each.name: each.size for each in vm.volumes}

        def answer(names: Iterable[str]) -> dict[str, int]:
            asked.extend(names)
            return {**known, "rpool/vms/web": known["rpool/vms/web"] * 2}

        monkeypatch.setattr(sizes_watch, "sizes", answer)
        await SizeWatch(host.inventory, told.append).look()
        assert told == ["rpool/vms/web"]
        assert sorted(asked) == ["rpool/vms/web", "rpool/vms/web.nvram"]  # and no file system, and not the trash

    @in_loop
    async def test_one_without_a_node_is_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        host, told = World(), list[str]()
        host.vm("web")
        monkeypatch.setattr(sizes_watch, "sizes", lambda names: {})
        await SizeWatch(host.inventory, told.append).look()
        assert told == []


class TestSizes:
    def test_the_kernel_is_asked_and_counts_in_sectors(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        number = Path("/dev/null").stat().st_rdev
        about = tmp_path / f"{os.major(number)}:{os.minor(number)}"
        about.mkdir()
        (about / "size").write_text("131072\n")
        monkeypatch.setattr(devices, "BLOCK", tmp_path)
        monkeypatch.setattr(devices, "device", lambda dataset: f"/dev/{dataset}")
        assert sizes(["null", "zero", "nowhere"]) == {"null": 64 << 20}
