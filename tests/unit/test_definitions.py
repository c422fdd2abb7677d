"""What libvirt writes down without a word is heard: by its files, and what comes and goes by its events alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kldload_kvm.waiting import until
from kldload_kvm.watch import definitions
from kldload_kvm.watch.definitions import DefinitionWatch
from loops import in_loop


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "CALM", 0.02)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("web", "db"):
        write(tmp_path, name, "one")
    return tmp_path


def write(files: Path, name: str, text: str) -> None:
    """As libvirt does: beside it, and then in its place."""
    new = files / f"{name}.xml.new"
    new.write_text(text)
    new.rename(files / f"{name}.xml")


@asynccontextmanager
async def watched(files: Path) -> AsyncIterator[list[str]]:
    told: list[str] = []
    watch = DefinitionWatch(told.append, files)
    watch.start()
    try:
        yield told
    finally:
        watch.stop()


async def has_told(told: list[str], *names: str) -> bool:
    async def so() -> bool:
        return told == list(names)

    return await until(so, 5.0, 0.01)


class TestDefinitions:
    @in_loop
    async def test_one_that_is_written_anew_is_told(self, files: Path) -> None:
        async with watched(files) as told:
            write(files, "db", "two")
            assert await has_told(told, "db")

    @in_loop
    async def test_the_one_that_is_to_start_with_the_host_and_then_is_not(self, files: Path) -> None:
        async with watched(files) as told:
            (files / "autostart").mkdir()
            await asyncio.sleep(0.1)
            (files / "autostart" / "web.xml").symlink_to(files / "web.xml")
            assert await has_told(told, "web")
            (files / "autostart" / "web.xml").unlink()
            assert await has_told(told, "web", "web")

    @in_loop
    async def test_what_goes_is_left_to_libvirt_s_events(self, files: Path) -> None:
        async with watched(files) as told:
            (files / "web.xml").unlink()
            write(files, "db", "two")  # told after this
            assert await has_told(told, "db")

    @in_loop
    async def test_what_comes_is_told_for_more_may_have_been_written_since_it_was_read(self, files: Path) -> None:
        (files / "autostart").mkdir()
        async with watched(files) as told:
            write(files, "new", "one")
            (files / "autostart" / "new.xml").symlink_to(files / "new.xml")
            assert await has_told(told, "new")

    @in_loop
    async def test_many_at_once_are_looked_at_once(self, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        looked: list[Path] = []
        names = definitions._names
        monkeypatch.setattr(definitions, "_names", lambda directory: looked.append(directory) or names(directory))
        async with watched(files) as told:
            looked.clear()
            for number in range(20):
                write(files, "db", str(number))
            assert await has_told(told, "db")
            assert len(looked) <= 4  # two directories; the reading may fall into the writing once

    @in_loop
    async def test_where_there_are_no_files_nothing_is_told(self, tmp_path: Path) -> None:
        async with watched(tmp_path / "nowhere") as told:
            await asyncio.sleep(0.05)
            assert told == []
