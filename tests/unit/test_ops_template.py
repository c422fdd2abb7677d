"""Templates: given this VM, exactly these steps, or this refusal; and what a template refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kldload_kvm.engine.plan import Plan
from kldload_kvm.model import properties
from kldload_kvm.model.errors import InvalidArgument, KvmError, LibvirtUnavailable, WrongState
from kldload_kvm.ops.clone import Clone
from kldload_kvm.ops.create import Create
from kldload_kvm.ops.power import Start
from kldload_kvm.ops.rollback import Rollback
from kldload_kvm.ops.template import SetTemplate
from kldload_kvm.steps.domains import CheckUnsaved, DefineDomain, SetAutostart, ShutDown
from kldload_kvm.steps.templates import GeneralizeGuest, SetReadonly
from kldload_kvm.steps.volumes import CloneVolume, SetProperty
from world import World, id_of, uuid_of

UNSAVED = CheckUnsaved(uuid_of("web"), "web", "web was not made a template")
MARKED = (
    SetReadonly("rpool/vms/web", True),
    SetReadonly("rpool/vms/web.nvram", True),
    SetProperty("rpool/vms/web", properties.TEMPLATE, "yes", ""),
)


@pytest.fixture
def host() -> World:
    return World()


def template(host: World) -> None:
    vm = host.vm("web")
    marked = {**vm.first.properties, properties.TEMPLATE: "yes"}
    host.inventory.put_dataset(replace(vm.first, properties=marked))


def plan(host: World, on: bool = True, **options: Any) -> Plan:
    return SetTemplate.parse(id_of("web"), [on], options).plan(host.view())


def refusal(host: World, on: bool = True, **options: Any) -> KvmError:
    with pytest.raises(KvmError) as caught:
        plan(host, on, **options)
    return caught.value


class TestMarking:
    def test_what_a_guest_writes_to_becomes_read_only_before_the_mark(self, host: World) -> None:
        host.vm("web", seed=True)
        made = plan(host)
        assert (made.prepare, made.commit, made.finish) == ((UNSAVED, *MARKED), None, ())
        assert made.locks == {"VM:web"}

    def test_and_writable_again(self, host: World) -> None:
        template(host)
        assert plan(host, False).steps == (
            SetReadonly("rpool/vms/web", False),
            SetReadonly("rpool/vms/web.nvram", False),
            SetProperty("rpool/vms/web", properties.TEMPLATE, "", "yes"),
        )

    def test_it_is_not_started_with_the_host_any_more(self, host: World) -> None:
        vm = host.vm("web")
        assert vm.domain
        host.inventory.put_domain(replace(vm.domain, autostart=True))
        assert plan(host).prepare == (UNSAVED, SetAutostart(uuid_of("web"), "web", False), *MARKED)

    def test_generalized_in_the_guest_and_shut_down_first(self, host: World) -> None:
        host.vm("web", "running")
        made = plan(host, generalize=True)
        assert made.commit == GeneralizeGuest(uuid_of("web"), "web")
        assert made.finish == (ShutDown(uuid_of("web"), "web"), *MARKED)

    @pytest.mark.parametrize("state", ["running", "paused"])
    def test_not_while_it_runs(self, host: World, state: str) -> None:
        host.vm("web", state)
        assert refusal(host).why == f"it is {state}"

    def test_a_guest_that_is_off_cannot_be_generalized_by_its_agent(self, host: World) -> None:
        host.vm("web")
        error = refusal(host, generalize=True)
        assert isinstance(error, WrongState)
        assert "virt-sysprep" in error.hint

    def test_what_it_is_already(self, host: World) -> None:
        host.vm("web")
        assert refusal(host, False).why == "it is no template"
        template(host)
        assert refusal(host).why == "it is a template already"

    def test_what_is_made_no_template_is_not_generalized(self) -> None:
        with pytest.raises(InvalidArgument):
            SetTemplate.parse(id_of("web"), [False], {"generalize": True})

    def test_an_orphan_and_libvirt_away(self, host: World) -> None:
        host.vm("web", "orphan")
        assert isinstance(refusal(host), WrongState)
        with pytest.raises(LibvirtUnavailable):
            SetTemplate(id_of("web")).plan(host.view(libvirt=False))


class TestATemplate:
    def test_does_not_start(self, host: World) -> None:
        template(host)
        with pytest.raises(WrongState) as caught:
            Start(id_of("web")).plan(host.view())
        assert (caught.value.what, caught.value.why) == (
            "web was not started", "web is a template, and does not start",
        )  # fmt: skip

    def test_nor_after_a_rollback(self, host: World) -> None:
        template(host)
        host.snap("web", "s1")
        assert Rollback(id_of("web"), "s1").plan(host.view())
        with pytest.raises(WrongState):
            Rollback(id_of("web"), "s1", start=True).plan(host.view())

    def test_its_clones_are_no_templates_can_be_written_to_and_started(self, host: World) -> None:
        template(host)
        made = Clone(id_of("web"), ("a",), start=True).plan(host.view())
        for step in made.prepare:
            if isinstance(step, CloneVolume):
                assert not step.properties.keys() & {properties.TEMPLATE, "readonly"}

    def test_is_made_from_nothing_as_well(self, host: World) -> None:
        made = Create.parse("", ["new"], {"template": True}).plan(host.view())
        assert isinstance(made.commit, DefineDomain)
        assert made.finish == (
            SetReadonly("rpool/vms/new", True),
            SetReadonly("rpool/vms/new.nvram", True),
            SetProperty("rpool/vms/new", properties.TEMPLATE, "yes", ""),
        )

    @pytest.mark.parametrize("option", [{"iso": "netinst.iso"}, {"start": True}, {"autostart": True}])
    def test_cannot_be_one_and_be_started(self, option: dict[str, Any]) -> None:
        with pytest.raises(InvalidArgument) as caught:
            Create.parse("", ["new"], {"template": True, **option})
        assert f"{next(iter(option))} was asked for" in caught.value.why
