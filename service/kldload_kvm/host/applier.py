"""Changes the host in the few ways there are. Run by kldload-kvm-host@.service; prints {"error": …}, "" if all is well.

The request, in $CREDENTIALS_DIRECTORY/request, is one action: write or remove one of our two drop-ins, set one of a few
parameters of the running kernel, or renew the initramfs. Nothing in it is a path or a program.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from ..model.modprobe import DROP_INS
from .sources import ARC_MAX, SWAPPINESS, TXG_TIMEOUT
from .whole_file import replace

PARAMETERS = {"zfs_arc_max": ARC_MAX, "zfs_txg_timeout": TXG_TIMEOUT, "vm.swappiness": SWAPPINESS}
"""What can be set of the running kernel, and where."""
RENEW = (("/usr/sbin/update-initramfs", "-u", "-k", "all"), ("/usr/bin/dracut", "--force", "--regenerate-all"))
LARGEST = 4096


def main() -> None:
    request = json.loads(Path(os.environ["CREDENTIALS_DIRECTORY"], "request").read_bytes())
    try:
        act(request)
        error = ""
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as fault:
        error = str(fault) or type(fault).__name__
    print(json.dumps({"error": error}))


def act(request: dict[str, Any], root: str = "") -> None:
    """root: what stands before each path, for tests. Raises OSError, ValueError or KeyError."""
    match request["do"]:
        case "write":
            if len(text := str(request["text"])) > LARGEST:
                raise ValueError("the drop-in is too long")
            replace(Path(root + DROP_INS[request["drop-in"]]), text)
        case "remove":
            Path(root + DROP_INS[request["drop-in"]]).unlink(missing_ok=True)
        case "set":
            Path(root + PARAMETERS[request["parameter"]]).write_text(f"{int(request['value'])}\n", encoding="ascii")
        case "initramfs":
            _renew(root)
        case other:
            raise ValueError(f"there is no action {other!r}")


def _renew(root: str) -> None:
    for command in RENEW:
        if Path(root + command[0]).exists():
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=840)
            return
    raise ValueError("there is neither update-initramfs nor dracut")


if __name__ == "__main__":
    main()
