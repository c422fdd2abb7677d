"""On the bench: a service that ends itself by SIGKILL at a step of a job (lab/killing.py) while a test needs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host import restart_service, run

UNIT = "kldload-kvmd.service"
KILLING = Path(__file__).parent / "lab" / "killing.py"
ARMED = Path("/run/kldload-kvm/test-kill.json")
DROP_IN = Path(f"/run/systemd/system/{UNIT}.d/killable.conf")


@contextmanager
def killable(down: float = 0.0) -> Iterator[None]:
    """down: seconds until systemd starts it again."""
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    DROP_IN.write_text(
        f"[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec={down}\n"
        f"ExecStart=\nExecStart=/usr/bin/python3 {KILLING}\n"
    )
    try:
        run("systemctl", "daemon-reload")
        restart_service()
        yield
    finally:
        DROP_IN.unlink()
        DROP_IN.parent.rmdir()
        ARMED.unlink(missing_ok=True)
        run("systemctl", "daemon-reload")
        restart_service()


def arm(operation: str, step: int, moment: str, delay: float = 0.0) -> None:
    """Have it end at that step of the next such job: before, during or after it."""
    ARMED.write_text(json.dumps({"operation": operation, "step": step, "moment": moment, "delay": delay}))
