"""`zfs send | zfs receive`, with a program that plays zfs: bytes go through, and every way to fail has its error."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from kldload_kvm.model.errors import AlreadyExists, NotFound, TimedOut, ZfsUnavailable
from kldload_kvm.zfs import piping
from kldload_kvm.zfs.commands import Zfs
from loops import in_loop

PLAYED = r"""#!/bin/sh
# send: what a snapshot named so does; receive: into the file, as the name says
last() { for word; do :; done; echo "$word"; }
name=$(last "$@")
case "$1:$name" in
send:*@gone) echo "cannot open '$name': dataset does not exist" >&2; exit 1 ;;
send:*@endless) echo $$ > "$PLACE/sender"; printf 'size\t100\n' >&2; printf begun; exec sleep 60 ;;
send:*@still) while :; do printf '10:00:00\t7\t%s\n' "$name" >&2; sleep 0.02; done ;;
send:*) printf 'full\t%s\t6\nsize\t6\n' "$name" >&2; printf abc; printf '10:00:00\t3\t%s\n' "$name" >&2
        printf def; printf '10:00:01\t6\t%s\n' "$name" >&2 ;;
receive:*/taken) cat > /dev/null; echo "cannot receive new filesystem stream: dataset already exists" >&2; exit 1 ;;
receive:*) echo "$@" > "$PLACE/arguments"; cat > "$PLACE/received"
        [ -s "$PLACE/received" ] || { echo "cannot receive: failed to read from stream" >&2; exit 1; }
        echo done > "$PLACE/ended" ;;
esac
"""


@pytest.fixture
def zfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Zfs:
    program = tmp_path / "zfs"
    program.write_text(PLAYED.replace("$PLACE", str(tmp_path)))
    program.chmod(0o755)
    return Zfs(str(program))


@in_loop
async def test_all_bytes_and_how_many_so_far(zfs: Zfs, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    await zfs.copy("p/a@s", "p/b", {"volmode": "dev"}, lambda done, total: told.append((done, total)))
    assert (tmp_path / "received").read_bytes() == b"abcdef"
    assert (tmp_path / "arguments").read_text() == "receive -u -o volmode=dev p/b\n"
    assert told == [(3, 6), (6, 6)]


@in_loop
async def test_what_the_receiver_refuses(zfs: Zfs) -> None:
    with pytest.raises(AlreadyExists, match="p/a@s was not copied to p/taken"):
        await zfs.copy("p/a@s", "p/taken", {}, lambda done, total: None)


@in_loop
async def test_what_the_sender_refuses_though_the_receiver_complains_as_well(zfs: Zfs) -> None:
    with pytest.raises(NotFound) as caught:
        await zfs.copy("p/a@gone", "p/b", {}, lambda done, total: None)
    assert "dataset does not exist" in caught.value.why


@in_loop
async def test_a_cancelled_one_ends_the_sender_and_waits_for_the_receiver(zfs: Zfs, tmp_path: Path) -> None:
    task = asyncio.ensure_future(zfs.copy("p/a@endless", "p/b", {}, lambda done, total: None))
    await asyncio.sleep(0.5)  # it has begun by then
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert (tmp_path / "ended").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "sender").read_text()), 0)


@in_loop
async def test_one_that_stands_still_is_given_up(zfs: Zfs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piping, "STALLED", 0.2)
    with pytest.raises(TimedOut, match="p/a@still was not copied to p/b"):
        await asyncio.wait_for(zfs.copy("p/a@still", "p/b", {}, lambda done, total: None), 10)


@in_loop
async def test_without_zfs(tmp_path: Path) -> None:
    before = open_files()
    with pytest.raises(ZfsUnavailable):
        await Zfs(str(tmp_path / "none")).copy("p/a@s", "p/b", {}, lambda done, total: None)
    assert open_files() == before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
