"""Which volumes two domains that run would both write to."""

from __future__ import annotations

import pytest

from kldload_kvm.model.domain_xml import build
from kldload_kvm.model.inventory import Domain
from kldload_kvm.model.sharing import taken, written
from world import World, domain, spec, uuid_of

WEB = build(spec("web"))
PATHS = {"/dev/zvol/rpool/vms/web", "/dev/zvol/rpool/vms/web.nvram"}


@pytest.fixture
def host() -> World:
    made = World()
    made.vm("web")
    return made


def thief(state: str, xml: str = WEB) -> Domain:
    """Another domain, on the volumes of web."""
    return domain("thief", state, xml)


def found(host: World, xml: str = WEB) -> dict[str, str]:
    return {volume: other.name for volume, other in taken(host.inventory, uuid_of("web"), xml).items()}


def marked(mark: str) -> str:
    return WEB.replace('<target dev="vda"', f'<{mark} /><target dev="vda"')


class TestWritten:
    def test_disks_and_uefi_variables_are(self) -> None:
        assert written(WEB) == PATHS

    @pytest.mark.parametrize("mark", ["readonly", "shareable"])
    def test_what_is_read_only_or_said_to_be_shared_is_not(self, mark: str) -> None:
        assert written(marked(mark)) == {"/dev/zvol/rpool/vms/web.nvram"}

    def test_a_drive_with_nothing_in_it_is_not(self) -> None:
        assert written("<domain><devices><disk/><disk><source file='/a'/></disk></devices></domain>") == set()


class TestTaken:
    @pytest.mark.parametrize("state", ["running", "paused", "shutdown", "suspended"])
    def test_by_another_that_runs(self, host: World, state: str) -> None:
        host.inventory.put_domain(thief(state))
        assert found(host) == {"rpool/vms/web": "thief", "rpool/vms/web.nvram": "thief"}

    @pytest.mark.parametrize("state", ["shutoff", "crashed"])
    def test_not_by_one_that_is_off(self, host: World, state: str) -> None:
        host.inventory.put_domain(thief(state))
        assert found(host) == {}

    def test_not_by_itself(self, host: World) -> None:
        host.inventory.put_domain(domain("web", "running"))
        assert found(host) == {}

    def test_not_where_the_other_only_reads(self, host: World) -> None:
        host.inventory.put_domain(thief("running", marked("readonly")))
        assert found(host) == {"rpool/vms/web.nvram": "thief"}

    def test_not_what_is_on_no_storage(self, host: World) -> None:
        elsewhere = WEB.replace("/dev/zvol/rpool/vms/", "/dev/zvol/tank/")
        host.inventory.put_domain(thief("running", elsewhere))
        assert found(host, elsewhere) == {}
