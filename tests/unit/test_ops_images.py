"""Adding an image to a store and removing one: given this store, exactly this step, or this refusal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kldload_kvm.engine.plan import Plan, Run
from kldload_kvm.model.errors import AlreadyExists, Busy, InvalidArgument, KvmError, NotFound
from kldload_kvm.model.sizes import GIB
from kldload_kvm.ops.images import AddImage, RemoveImage
from kldload_kvm.steps import images as steps
from loops import in_loop
from memory_host import MemoryHost
from world import World, filesystem

SUM = "0123456789abcdef" * 4


@pytest.fixture
def host() -> World:
    return World()


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 512)
    number = os.open(path, os.O_RDONLY)
    yield number
    os.close(number)


def add(host: World, fd: int, name: str = "new.qcow2", storage: str = "rpool", **options: Any) -> Plan:
    return AddImage.parse(storage, [fd, name], options).plan(host.view())


def remove(host: World, name: str, storage: str = "rpool") -> Plan:
    return RemoveImage.parse(storage, [name], {}).plan(host.view())


class TestAdd:
    def test_is_one_step_that_keeps_the_floor_free(self, host: World, fd: int) -> None:
        made = add(host, fd, format="qcow2", sha256=SUM.upper())
        floor = int(81 * GIB * 0.05)
        assert made.steps == (steps.AddImage(fd, "/isos", "new.qcow2", "qcow2", SUM, floor),)
        assert (made.locks, made.destroys) == ({"image:rpool/new.qcow2"}, ())

    def test_the_format_is_told_from_the_contents_if_it_was_not_given(self, host: World, fd: int) -> None:
        made = add(host, fd, "new.iso")
        assert isinstance(made.commit, steps.AddImage)
        assert (made.commit.format, made.commit.sha256) == (None, "")

    def test_polkit_is_told_the_store_and_the_image(self, host: World, fd: int) -> None:
        request = AddImage("rpool", "new.iso", fd)
        assert request.subject(host.view()) == {"dataset": "rpool/vms/isos", "target": "new.iso"}

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("", "it is empty"),
            ("../x", "it begins with '.'"),
            ("a/b", "it has '/' in it"),
            (".hidden", "it begins with '.'"),
            ("-rf", "it begins with '-'"),
            ("x" * 129, "129 characters"),
            ("a b.iso", "it has a space in it"),
            ("a\n.iso", "in it"),
        ],
    )
    def test_bad_names(self, fd: int, name: str, why: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            AddImage.parse("rpool", [fd, name], {})
        assert why in caught.value.why

    @pytest.mark.parametrize(
        "options",
        [
            {"format": "vmdk"}, {"format": ""}, {"format": "QCOW2"}, {"sha256": "short"}, {"sha256": "g" * 64},
            {"format": "iso"}, {"format": "raw"},
        ],
    )  # fmt: skip
    def test_bad_options_for_a_name_that_says_qcow2(self, fd: int, options: dict[str, str]) -> None:
        with pytest.raises(InvalidArgument):
            AddImage.parse("rpool", [fd, "new.qcow2"], options)

    def test_a_name_that_is_taken(self, host: World, fd: int) -> None:
        with pytest.raises(AlreadyExists, match=r"debian\.qcow2 was not added"):
            add(host, fd, "debian.qcow2")

    def test_a_storage_without_a_store(self, host: World, fd: int) -> None:
        with pytest.raises(NotFound, match="the storage fast has no image store") as caught:
            add(host, fd, storage="fast")
        own = "create it: zfs create -o mountpoint=/vmpool/vms/isos "  # not over the store of the first
        assert caught.value.hint.startswith(own)

    def test_a_store_that_is_not_mounted(self, host: World, fd: int) -> None:
        host.inventory.put_dataset(filesystem("rpool/vms/isos", "none"))
        with pytest.raises(NotFound):
            add(host, fd)

    def test_letting_go_closes_the_file(self, tmp_path: Path) -> None:
        fd = os.open(tmp_path, os.O_RDONLY)
        request = AddImage("rpool", "new.iso", fd)
        request.release()
        with pytest.raises(OSError):
            os.fstat(fd)


class TestRemove:
    def test_is_one_step_that_destroys_the_file_by_name(self, host: World) -> None:
        made = remove(host, "debian.qcow2")
        assert made.steps == (steps.RemoveImage("/isos", "debian.qcow2"),)
        assert made.destroys == ("/isos/debian.qcow2",)
        assert made.locks == {"image:rpool/debian.qcow2"}

    def test_one_that_is_in_a_drive_is_refused_naming_the_vms(self, host: World) -> None:
        for name in ("web", "db"):
            domain = host.vm(name).domain
            assert domain
            host.inventory.put_domain(replace(domain, cdroms=("/isos/netinst.iso",)))
        with pytest.raises(Busy) as caught:
            remove(host, "netinst.iso")
        assert caught.value.why == "it is in the CD drive of db, web"

    def test_one_that_is_a_disk_is_refused_naming_the_vm(self, host: World) -> None:
        domain = host.vm("web").domain
        assert domain
        host.inventory.put_domain(replace(domain, disks={"vda": "/isos/debian.qcow2"}))
        with pytest.raises(Busy) as caught:
            remove(host, "debian.qcow2")
        assert caught.value.why == "it is a disk of web"

    @in_loop
    async def test_one_that_a_program_has_open_stays(self, tmp_path: Path) -> None:
        """A medium that was changed for as long as its guest runs, which no definition tells of."""
        (tmp_path / "a.iso").write_bytes(b"abc")
        step = steps.RemoveImage(str(tmp_path), "a.iso")
        host, run = MemoryHost(), Run("1", 0, {}, lambda done, total: None)
        with (tmp_path / "a.iso").open("rb") as file:
            guest = await asyncio.create_subprocess_exec("sleep", "60", stdin=file)
            with pytest.raises(Busy, match=f"sleep \\({guest.pid}\\)"):
                await step.do(host, run)
            guest.kill()
            await guest.wait()
        assert (tmp_path / "a.iso").exists()
        await step.do(host, run)
        await step.do(host, run)
        assert not (tmp_path / "a.iso").exists()

    @pytest.mark.parametrize(
        ("name", "kind"),
        [("none.iso", NotFound), ("../passwd", InvalidArgument), ("", InvalidArgument), (".trash", InvalidArgument)],
    )
    def test_what_is_not_there_or_no_name(self, host: World, name: str, kind: type[KvmError]) -> None:
        with pytest.raises(kind):
            remove(host, name)

    def test_an_image_of_another_storage_is_not_meant(self, host: World) -> None:
        host.inventory.put_dataset(filesystem("vmpool/vms/isos", "/fast"))
        with pytest.raises(NotFound):
            remove(host, "debian.qcow2", "fast")
