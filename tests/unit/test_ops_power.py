"""Start, shutdown, off, reboot, pause, resume, autostart: what is done in which state, and what is said otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from kldload_kvm.engine.plan import Guard, Plan, Step
from kldload_kvm.model.domain_xml import build
from kldload_kvm.model.errors import InvalidArgument, LibvirtUnavailable, NotFound, WrongState
from kldload_kvm.ops.power import Autostart, Pause, PowerOff, PowerRequest, Reboot, Resume, Shutdown, Start
from kldload_kvm.steps.domains import ChangePower, ForceOff, SetAutostart, ShutDown, StartDomain, StartNetwork
from world import World, domain, guid_of, id_of, spec, uuid_of

STATES = ("running", "paused", "shutdown", "shutoff", "crashed", "suspended")
WEB = (uuid_of("web"), "web")
VOLUMES = ("rpool/vms/web", "rpool/vms/web.nvram")

ALLOWED: dict[type[PowerRequest], tuple[Step, set[str]]] = {
    Start: (StartDomain(*WEB, VOLUMES), {"shutoff", "crashed"}),
    Shutdown: (ShutDown(*WEB, 300), {"running", "shutdown", "suspended"}),
    PowerOff: (ForceOff(*WEB), {"running", "paused", "shutdown", "suspended", "crashed"}),
    Reboot: (ChangePower(*WEB, "reboot"), {"running"}),
    Pause: (ChangePower(*WEB, "pause"), {"running"}),
    Resume: (ChangePower(*WEB, "resume"), {"paused"}),
    Autostart: (SetAutostart(*WEB, False), set(STATES)),
}


@pytest.fixture
def host() -> World:
    return World()


def plan(host: World, kind: type[PowerRequest], **facts: Any) -> Plan:
    return kind(id_of("web")).plan(host.view(**facts))


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", ALLOWED, ids=lambda kind: kind.operation)
def test_in_each_state_it_is_done_or_the_state_is_named(host: World, kind: type[PowerRequest], state: str) -> None:
    host.vm("web", state)
    step, allowed = ALLOWED[kind]
    if state in allowed:
        made = plan(host, kind)
        assert (made.steps, made.commit) == ((step,), step)
        assert made.description == step.describe()
        assert (made.locks, made.objects) == ({"VM:web"}, (id_of("web"),))
        assert Guard("state", uuid_of("web"), state) in made.guards
        assert Guard("guid", "rpool/vms/web", guid_of("rpool/vms/web")) in made.guards
    else:
        with pytest.raises(WrongState) as caught:
            plan(host, kind)
        assert caught.value.what == f"web was not {kind.doing}"
        assert caught.value.why == f"it is {state}"
        assert "kvm-vm" in caught.value.hint


@pytest.mark.parametrize("kind", ALLOWED, ids=lambda kind: kind.operation)
def test_of_an_orphan_is_refused(host: World, kind: type[PowerRequest]) -> None:
    host.vm("web", "orphan")
    with pytest.raises(WrongState, match="web is an orphan"):
        plan(host, kind)


@pytest.mark.parametrize("kind", ALLOWED, ids=lambda kind: kind.operation)
def test_without_libvirt_is_refused(host: World, kind: type[PowerRequest]) -> None:
    host.vm("web", "running")
    with pytest.raises(LibvirtUnavailable):
        plan(host, kind, libvirt=False)


@pytest.mark.parametrize("kind", ALLOWED, ids=lambda kind: kind.operation)
def test_of_nobody_is_refused(host: World, kind: type[PowerRequest]) -> None:
    with pytest.raises(NotFound):
        plan(host, kind)


def test_a_start_brings_the_vm_s_networks_up_first(host: World) -> None:
    host.vm("web")
    made = plan(host, Start, networks={"default": False})
    assert made.steps == (StartNetwork("default"), StartDomain(*WEB, VOLUMES))
    assert made.description == "start web"
    assert len(plan(host, Start, networks={"default": True}).steps) == 1
    assert len(plan(host, Start, networks={}).steps) == 1


@pytest.mark.parametrize(
    ("kind", "state", "hint"),
    [
        (Start, "running", "it runs already; kvm-vm shutdown web ends it"),
        (Start, "paused", "let it run again: kvm-vm resume web"),
        (Pause, "shutoff", "start it first: kvm-vm start web"),
        (Reboot, "crashed", "kvm-vm off web ends it whatever it does"),
    ],
)
def test_a_refusal_says_what_to_do(host: World, kind: type[PowerRequest], state: str, hint: str) -> None:
    host.vm("web", state)
    with pytest.raises(WrongState) as caught:
        plan(host, kind)
    assert caught.value.hint == hint


def test_how_long_a_shutdown_waits(host: World) -> None:
    host.vm("web", "running")
    made = Shutdown.parse(id_of("web"), [], {"timeout": 10}).plan(host.view())
    assert made.commit == ShutDown(*WEB, 10)


@pytest.mark.parametrize("timeout", [0, 3601, 4_294_967_295])
def test_a_shutdown_that_would_wait_for_ever_or_not_at_all(timeout: int) -> None:
    with pytest.raises(InvalidArgument, match=f"the timeout cannot be {timeout}"):
        Shutdown.parse(id_of("web"), [], {"timeout": timeout})


@pytest.mark.parametrize("on", [True, False])
def test_autostart(host: World, on: bool) -> None:
    host.vm("web")
    assert Autostart.parse(id_of("web"), [on], {}).plan(host.view()).commit == SetAutostart(*WEB, on)


def test_what_another_domain_writes_to_does_not_start(host: World) -> None:
    host.vm("web")
    host.inventory.put_domain(domain("thief", "running", build(spec("web"))))
    with pytest.raises(WrongState) as caught:
        plan(host, Start)
    assert caught.value.why == "its volume rpool/vms/web is in use by thief, which is running"
