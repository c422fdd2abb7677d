"""kldload-kvmd as it is, but that it ends itself by SIGKILL at one step that a test names. It stands in ExecStart=.

The test writes to ARMED: {"operation": …, "step": number, "moment": "before" | "during" | "after", "delay": seconds}.
before: the step is in the journal, and nothing of it is done; during: `delay` seconds after it began, whatever it is
at then; after: it is done, and the journal does not know. The next start finds no order, and does nothing of the kind.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

from kldload_kvm.daemon import main
from kldload_kvm.engine.engine import Engine

ARMED = Path("/run/kldload-kvm/test-kill.json")

_do = Engine._do


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def _do_or_die(self: Engine, job: Any, index: int) -> Any:
    if not ARMED.exists():
        return await _do(self, job, index)
    order = json.loads(ARMED.read_text())
    if (job.plan.operation, index) != (order["operation"], order["step"]):
        return await _do(self, job, index)
    ARMED.unlink()
    if order["moment"] == "before":
        _end()
    if order["moment"] == "during":
        asyncio.get_running_loop().call_later(order["delay"], _end)
    result = await _do(self, job, index)
    _end()
    return result


Engine._do = _do_or_die  # type: ignore[method-assign]
main()
