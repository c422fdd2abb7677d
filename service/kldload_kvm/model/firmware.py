"""Which UEFI firmware a VM gets, chosen from QEMU's firmware descriptors (docs/interop/firmware.json). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from .errors import NotFound

MACHINE = "pc-q35-10.0"
DEBIAN_CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
DEBIAN_VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"


@dataclass(frozen=True)
class FirmwarePair:
    """The program, mapped read-only, and what a VM's variables are first copied from.

    secure: Secure Boot is enforced, so that only signed systems boot.
    """

    code: str
    vars_template: str
    secure: bool = False


def choose(descriptors: Sequence[Mapping[str, Any]]) -> FirmwarePair:
    """The first firmware that fits, of those that enforce nothing and need no SMM (which hangs under nested KVM).

    descriptors: parsed, in QEMU's order of preference. Raises NotFound. Malformed ones are passed over.
    """
    pairs = [pair for pair in map(_pair, descriptors) if pair]
    if not pairs:
        raise NotFound(
            "there is no UEFI firmware for VMs",
            "none of QEMU's firmware descriptors is for x86_64, q35, in flash, raw, without SMM",
            "apt install ovmf",
        )
    return min(pairs, key=lambda pair: pair.secure)


def _pair(descriptor: Mapping[str, Any]) -> FirmwarePair | None:
    try:
        mapping = descriptor["mapping"]
        features = set(descriptor["features"])
        split = mapping["device"] == "flash" and mapping.get("mode", "split") == "split"
        fits = "uefi" in descriptor["interface-types"] and any(
            target["architecture"] == "x86_64" and any(fnmatchcase(MACHINE, machine) for machine in target["machines"])
            for target in descriptor["targets"]
        )
        if not (split and fits) or "requires-smm" in features:
            return None
        files = mapping["executable"], mapping["nvram-template"]
        code, template = (file["filename"] for file in files if file["format"] == "raw")
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if not all(isinstance(path, str) and path.startswith("/") for path in (code, template)):
        return None
    return FirmwarePair(code, template, secure="enrolled-keys" in features)
