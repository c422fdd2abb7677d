"""For all tests: a slow machine is no failure."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):  # the bench has no hypothesis
    from hypothesis import settings

    settings.register_profile("kldload-kvm", deadline=None)
    settings.load_profile("kldload-kvm")
