"""What pools are made of, out of zpool's own words, and the block size that suits them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kldload_kvm.model.pool_topology import Group, choose, parse
from kldload_kvm.model.sizes import KIB
from kldload_kvm.zfs import pools
from loops import in_loop


def listed(pool: str, *rows: str) -> str:
    """As `zpool list -Hv` prints it: rows of devices begin with a tab, the heads of other classes have none."""
    lines = [f"{pool}\t29.5G\t1.2M\t29.5G\t-\t-\t0%\t0%\t1.00x\tONLINE\t-"]
    lines += [row if row.endswith(" -") else f"\t{row}\t29.5G\t-\t-\t-\t-\t-\t-\t-\tONLINE" for row in rows]
    return "\n".join(lines) + "\n"


def disks(count: int) -> list[str]:
    return [f"sd{'abcdefghijklmnopqrstuvwxyz'[each]}" for each in range(count)]


@pytest.mark.parametrize(
    ("rows", "groups"),
    [
        (["sda"], ()),
        (["mirror-0", "sda", "sdb", "mirror-1", "sdc", "sdd"], ()),
        (["raidz1-0", *disks(3)], (Group("raidz1", 3, 2),)),
        (["raidz2-0", *disks(6), "raidz2-1", *disks(6)], (Group("raidz2", 6, 4), Group("raidz2", 6, 4))),
        (["raidz3-0", *disks(12)], (Group("raidz3", 12, 9),)),
        (["draid2:8d:12c:1s-0", *disks(12)], (Group("draid2", 12, 8),)),
        (["raidz1-0", *disks(3), "logs      -      -", "mirror-1", "nvme0n1", "nvme1n1"], (Group("raidz1", 3, 2),)),
        (["raidz1-0", *disks(3), "cache         -", "nvme0n1"], (Group("raidz1", 3, 2),)),
        (["raidz1-0", *disks(3), "mirror-1", "sdx", "sdy"], (Group("raidz1", 3, 2),)),
        (["mirror-0", "sda", "sdb", "special      -      -", "mirror-1", "nvme0n1", "nvme1n1"], ()),
    ],
)
def test_groups(rows: list[str], groups: tuple[Group, ...]) -> None:
    assert parse(listed("tank", *rows) + listed("rpool", "sdz")) == {"tank": groups, "rpool": ()}


def test_nothing_is_made_of_nothing() -> None:
    assert parse("") == parse("no pools available\n") == {}


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ((), 64), ((Group("raidz1", 3, 2),), 64), ((Group("raidz2", 10, 8),), 64), ((Group("raidz2", 11, 9),), 128),
        ((Group("raidz1", 3, 2), Group("raidz2", 12, 10)), 128),
    ],
)  # fmt: skip
def test_wide_groups_get_larger_blocks(groups: tuple[Group, ...], size: int) -> None:
    assert choose("tank", {"tank": groups}).size == size * KIB


def test_says_why() -> None:
    assert choose("tank", {}).why == "64K suits mirrors and single disks"
    why = choose("tank", {"tank": (Group("raidz2", 12, 10),)}).why
    assert why == "tank is raidz2 of 12 disks, on which smaller blocks need more than their share of space"


@in_loop
async def test_is_read_with_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "zpool"
    program.write_text(
        f"#!/bin/sh\n[ \"$*\" = 'list -Hv' ] && cat <<'EOT'\n{listed('tank', 'raidz1-0', *disks(3))}EOT\n"
    )
    program.chmod(0o755)
    monkeypatch.setitem(pools.ENVIRONMENT, "PATH", f"{tmp_path}{os.pathsep}/usr/bin:/bin")
    assert await pools.topologies() == {"tank": (Group("raidz1", 3, 2),)}


@in_loop
async def test_without_zpool_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pools.ENVIRONMENT, "PATH", "/nowhere")
    assert await pools.topologies() == {}


@in_loop
async def test_pools_that_were_imported_to_be_read_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "zpool"
    program.write_text("#!/bin/sh\n[ \"$*\" = 'get -Hp -o name,value readonly a b' ] && printf 'a\\toff\\nb\\ton\\n'\n")
    program.chmod(0o755)
    monkeypatch.setitem(pools.ENVIRONMENT, "PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert await pools.read_only(["a", "b"]) == ["b"]
