"""A bus of its own for each file of tests, unless the file makes one itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from private_bus import private_bus


@pytest.fixture(scope="module", autouse=True)
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; DBUS_SYSTEM_BUS_ADDRESS is set to it."""
    with private_bus(tmp_path_factory.mktemp("bus")) as address:
        yield address
