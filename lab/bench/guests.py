"""The disk that carries the guest images into the bench: read-only ext4, mounted at /var/lib/kldload-lab/guests."""

from __future__ import annotations

import shutil
from pathlib import Path

from . import guest_debian, guest_lean, image, outer, recipe

LABEL = "lab-guests"


def find_or_build(*, full: bool = False) -> Path:
    """The disk with every guest image there is; `full` asks for the Debian guest too, which is not built otherwise."""
    images = [guest_lean.find_or_build()]
    debian = guest_debian.find_or_build() if full else guest_debian.find()
    if debian is not None:
        images.append(debian)
    key = recipe.key_of(*(str(path) for path in images))
    found = recipe.cached("guests", key)
    if found is None:
        outer.ensure(outer.FOR_BUILDING)
        found = recipe.built("guests", key, "the disk of guest images", lambda directory: _build(directory, images))
    return found / "guests.img"


def _build(directory: Path, images: list[Path]) -> None:
    tree = directory / "tree"
    tree.mkdir()
    for path in images:
        shutil.copy(path, tree / path.name)
        (tree / path.name).chmod(0o644)
    size = sum(path.stat().st_size for path in images) >> 20
    image.make_ext4(directory / "guests.img", f"{size * 11 // 10 + 32}M", LABEL, tree)
    shutil.rmtree(tree)
