"""Adopting a domain on files, over the bus: looked at after the caller was authorized, and before it is planned."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import image_files as files
from kldload_kvm.images import disk_files
from kldload_kvm.model.constants import ROOT
from loops import in_loop
from served import Authority, Served, error_of, serving
from world import uuid_of

XML = """<domain type='qemu'><name>old</name><uuid>{}</uuid><memory>1048576</memory><os><type>hvm</type></os>
  <devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/>
  <target dev='vda' bus='virtio'/></disk></devices></domain>"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return files.converted(files.disk(tmp_path / "a.raw"), tmp_path / "old.qcow2")


async def theirs(served: Served, image: Path) -> None:
    await served.host.virt.define(XML.format(uuid_of("old"), image))
    await served.host.known()


@in_loop
async def test_a_plan_names_what_is_left(image: Path) -> None:
    async with serving() as served:
        await theirs(served, image)
        job = await served.client.ask(ROOT, "Manager", "Adopt", "old", {"plan-only": True, "storage": "fast"})
        assert await served.client.get(job, "Job", "Warnings") == [f"left: {image}"]
        steps = await served.client.get(job, "Job", "Steps")
        assert f"copy {image} to vmpool/vms/old" in [each["description"] for each in steps]
        assert await served.client.get(job, "Job", "Destroys") == []


@in_loop
async def test_one_that_was_defined_a_moment_ago_is_found(image: Path) -> None:
    """No event has told of it, as for a script that defines it and adopts it at once."""
    async with serving() as served:
        await served.host.virt.define(XML.format(uuid_of("old"), image))
        assert await served.client.ask(ROOT, "Manager", "Adopt", "old", {"plan-only": True})
        gone = await error_of(served.client.ask(ROOT, "Manager", "Adopt", "nobody", {"plan-only": True}))
        assert gone.name == "NotFound"


@in_loop
async def test_who_may_not_read_has_nothing_looked_at(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []
    monkeypatch.setattr(disk_files, "look", lambda *args: looked.append(args))
    async with serving(Authority("no")) as served:
        await theirs(served, image)
        for options in ({}, {"plan-only": True}):
            error = await error_of(served.client.ask(ROOT, "Manager", "Adopt", "old", options))
            assert error.name == "NotAuthorized"
        assert looked == []


@in_loop
async def test_what_a_look_finds_wrong_is_the_answer(image: Path) -> None:
    over = files.create(image.with_name("over.qcow2"), backing_file=str(image), backing_fmt="qcow2")
    async with serving() as served:
        await theirs(served, over)
        error = await error_of(served.client.ask(ROOT, "Manager", "Adopt", "old", {"plan-only": True}))
        assert error.name == "BadImage"
        assert "qemu-img rebase" in error.text
        assert served.engine.jobs == {}


@in_loop
async def test_a_plan_is_refused_once_the_file_has_changed(image: Path) -> None:
    async with serving() as served:
        await theirs(served, image)
        job = await served.client.ask(ROOT, "Manager", "Adopt", "old", {"plan-only": True})
        await asyncio.to_thread(image.touch)
        error = await error_of(served.client.ask(job, "Job", "Apply", {}))
        assert (error.name, f"{image} has been changed" in error.text) == ("Stale", True)
