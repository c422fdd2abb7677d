"""How the facts are read: what zpool and zdb print, what the collector sees, what a domain asks for; and how often."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from host_world import WELL
from kldload_kvm.host import collecting, collector
from kldload_kvm.host.checker import Checker
from kldload_kvm.host.checks.confinement import shown
from kldload_kvm.model.domain_wants import wants
from kldload_kvm.model.errors import Failed
from kldload_kvm.model.host_facts import HostFacts
from kldload_kvm.model.modprobe import option
from kldload_kvm.zfs import about
from loops import in_loop

VALUES = """\
rpool\thealth\tDEGRADED
rpool\tsize\t32212254720
rpool\tfree\t16106127360
rpool\tcapacity\t50
rpool\tfragmentation\t3
rpool\treadonly\toff
rpool\tautotrim\toff
tank\thealth\tONLINE
tank\tcapacity\t91%
tank\tfragmentation\t-
tank\treadonly\ton
tank\tautotrim\ton
"""
STATUS = """\
  pool: rpool
 state: DEGRADED
status: One or more devices has experienced an error resulting in data
\tcorruption.  Applications may be affected.
action: Restore the file in question if possible.
   see: https://openzfs.github.io/openzfs-docs/msg/ZFS-8000-8A
  scan: scrub repaired 0B in 00:00:01 with 2 errors on Sun Nov  8 00:24:01 2026
config:

\tNAME         STATE     READ WRITE CKSUM
\trpool        DEGRADED     0     0     0
\t  /dev/vda1  ONLINE       0     0     4  (untrimmed)

errors: Permanent errors have been detected in the following files:

        rpool/vms/web-1@auto-20260402T100000Z:<0x1>
        rpool/vms/web-1:<0x1>

  pool: tank
 state: ONLINE
  scan: scrub in progress since Sun Nov  8 00:24:01 2026
config:

\tNAME         STATE     READ WRITE CKSUM
\ttank         ONLINE       0     0     0
\t  /tank.img  ONLINE       0     0     0  (trim unsupported)

errors: No known data errors
"""
ZDB = """\
rpool:
    version: 5000
    name: 'rpool'
    vdev_tree:
        children[0]:
            ashift: 12
        children[1]:
            ashift: 9
tank:
    vdev_tree:
        children[0]:
            ashift: 13
"""
XML = """\
<domain type='kvm'>
  <memory unit='KiB'>2097152</memory>
  <memoryBacking><hugepages/></memoryBacking>
  <os>
    <loader readonly='yes'>/fw/code.fd</loader>
    <nvram template='/fw/vars.fd' type='block'><source dev='/dev/zvol/rpool/vms/web.nvram'/></nvram>
    <kernel>/boot/vmlinuz</kernel>
  </os>
  <cpu><feature policy='require' name='vmx'/></cpu>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw' cache='none' discard='unmap'/>
      <source dev='/dev/zvol/rpool/vms/web'/><target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>
    <interface type='bridge'><source bridge='br0'/></interface>
    <interface type='user'/>
    <hostdev mode='subsystem' type='pci'/>
    <graphics type='vnc' port='5901' autoport='no'><listen type='address' address='0.0.0.0'/></graphics>
  </devices>
</domain>"""


class TestPools:
    def test_what_the_commands_print(self) -> None:
        rpool, tank = about.parse(VALUES, STATUS, ZDB, "rpool\t1700000000\ntank\t1700000001\n")
        assert (rpool.health, rpool.capacity, rpool.ashift, rpool.autotrim, rpool.trims) == (
            "DEGRADED",
            50,
            9,
            False,
            True,
        )
        assert rpool.errors == ("rpool/vms/web-1@auto-20260402T100000Z:<0x1>", "rpool/vms/web-1:<0x1>")
        assert rpool.status.endswith("corruption. Applications may be affected.")
        assert (rpool.created, rpool.scrubbed > rpool.created) == (1700000000, True)
        assert (tank.capacity, tank.fragmentation, tank.read_only, tank.ashift, tank.trims) == (91, 0, True, 13, False)
        assert (tank.scanning, tank.scrubbed, tank.errors) == (True, 0, ())

    def test_of_no_pool_nothing_is_told(self) -> None:
        assert about.parse("", "no pools available\n", "", "") == ()


class TestCollector:
    def test_it_reads_its_list_and_looks_at_what_it_is_asked_for(self, tmp_path: Path) -> None:
        def put(path: str, text: str = "", mode: int = 0o644) -> None:
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(mode)

        put("proc/sys/vm/swappiness", "60\n")
        put("etc/modprobe.d/zfs.conf", "options zfs zfs_arc_max=1\n")
        put("sys/class/net/br0/bridge/x")
        put("sys/class/net/br0/flags", "0x1003\n")
        put(
            "etc/libvirt/qemu.conf", '#user = "x"\nuser = "root"\nvnc_password = "secret"\ndynamic_ownership = 0 # no\n'
        )
        put("srv/a.iso", "12345")
        (tmp_path / "srv").chmod(0o750)
        found = collecting.parse({"token": "", **collector.collect(["/srv/a.iso", "/gone"], str(tmp_path))})
        assert found.number("/proc/sys/vm/swappiness") == 60
        assert option(found.files, "zfs", "zfs_arc_max") == "1"
        assert found.names["bridges"] == ("br0",)
        assert found.qemu == {"user": "root", "dynamic_ownership": "0"}
        node = found.nodes["/srv/a.iso"]
        assert node
        assert (node.kind, node.size, node.closed) == ("file", 5, "/srv")
        assert not found.there("/gone")

    def test_what_is_no_regular_file_is_not_read(self, tmp_path: Path) -> None:
        import os

        os.mkfifo(tmp_path / "pipe")
        assert collector.read(str(tmp_path / "pipe")) is None

    @in_loop
    async def test_an_answer_to_another_request_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(collecting, "BOUND", 0.3)

        class Units:
            async def start(self, unit: str) -> None:
                (tmp_path / "facts.json").write_text(json.dumps({"token": "another"}))

        with pytest.raises(Failed, match="was not looked at"):
            await collecting.look(Units(), [], tmp_path)

    @in_loop
    async def test_the_request_reaches_it_and_its_answer_the_daemon(self, tmp_path: Path) -> None:
        class Units:
            async def start(self, unit: str) -> None:
                asked = json.loads((tmp_path / "request.json").read_text())
                answer = {"token": asked["token"], **collector.collect(asked["paths"], "/nonexistent")}
                (tmp_path / "facts.json").write_text(json.dumps(answer))

        found = await collecting.look(Units(), ["/etc"], tmp_path)
        assert "/etc" in found.nodes


class TestWants:
    def test_what_a_domain_asks_for(self) -> None:
        found = wants(XML)
        assert (found.accelerator, found.memory) == ("kvm", 2 << 30)
        assert (found.huge, found.devices, found.nested) == (True, 1, True)
        assert found.networks == (("bridge", "br0"),)
        assert (found.graphics[0].listen, found.graphics[0].port) == (("0.0.0.0",), 5901)
        assert found.disks[1].source == ""
        assert found.paths == (
            "/usr/bin/qemu-system-x86_64", "/fw/code.fd", "/dev/zvol/rpool/vms/web.nvram", "/fw/vars.fd",
            "/boot/vmlinuz", "/dev/zvol/rpool/vms/web",
        )  # fmt: skip


class TestChecker:
    @in_loop
    async def test_however_many_ask_the_host_is_looked_at_once(self) -> None:
        looked = 0

        async def gather() -> HostFacts:
            nonlocal looked
            looked += 1
            await asyncio.sleep(0.01)
            return WELL

        checker = Checker(gather, interval=60)
        await asyncio.gather(*(checker.check() for _ in range(100)))
        await checker.check()
        assert (looked, checker.findings, checker.checked_at) == (1, [], WELL.now)
        await checker.again()
        assert looked == 2
        checker.stale()
        await checker.check()
        assert looked == 3

    @in_loop
    async def test_a_caller_that_goes_away_does_not_end_it_for_the_others(self) -> None:
        gate = asyncio.Event()

        async def gather() -> HostFacts:
            await gate.wait()
            return WELL

        checker = Checker(gather)
        first, second = asyncio.ensure_future(checker.check()), asyncio.ensure_future(checker.check())
        await asyncio.sleep(0)
        first.cancel()
        gate.set()
        assert await second == WELL

    @in_loop
    async def test_a_check_that_fails_is_tried_again(self) -> None:
        answers = [Failed("not now"), WELL]

        async def gather() -> HostFacts:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        checker = Checker(gather)
        with pytest.raises(Failed):
            await checker.check()
        assert await checker.check() == WELL


def test_a_denial_in_few_words() -> None:
    line = 'apparmor="DENIED" operation="open" profile="libvirt-x" name="/srv/a.iso" requested_mask="r" denied_mask="r"'
    assert shown(line) == "r of /srv/a.iso"
    selinux = 'avc:  denied  { read } for  pid=1 comm="qemu" name="a.iso" scontext=system_u:system_r:svirt_t:s0'
    assert shown(selinux) == "read of a.iso"
