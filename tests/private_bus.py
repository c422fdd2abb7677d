"""A message bus of a test's own, and the stand-in on it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from standin import Standin, serving

CONFIG = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:tmpdir=/tmp</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
  </policy>
</busconfig>
"""


@contextmanager
def private_bus(folder: Path) -> Iterator[str]:
    """A dbus-daemon; gives its address, and sets DBUS_SYSTEM_BUS_ADDRESS to it."""
    config = folder / "bus.conf"
    config.write_text(CONFIG)
    command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address=1"]
    before = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as daemon:
        try:
            assert daemon.stdout is not None
            address = daemon.stdout.readline().strip()
            os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = address
            yield address
        finally:
            daemon.terminate()
            if before is None:
                os.environ.pop("DBUS_SYSTEM_BUS_ADDRESS", None)
            else:
                os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = before


@contextmanager
def standing_in(vms: int = 2) -> Iterator[Standin]:
    """The stand-in, in a thread of its own, with the VMs web-1, web-2 …, and locked and denied."""
    started, found = threading.Event(), list[tuple[Standin, asyncio.AbstractEventLoop, asyncio.Event]]()

    async def serve() -> None:
        async with serving(vms) as standin:
            standin.add_vm("locked")
            standin.add_vm("denied")
            end = asyncio.Event()
            found.append((standin, asyncio.get_running_loop(), end))
            started.set()
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(10), "the stand-in did not start"
    standin, loop, end = found[0]
    try:
        yield standin
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(10)
