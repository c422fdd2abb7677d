"""Who may do what, on the installed service, with real polkit and real users who have no rights."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from host import (
    ROOT,
    SERVICE,
    call,
    changed,
    daemon_pid,
    data,
    datasets,
    domains,
    find,
    get,
    journal_cursor,
    journal_since,
    run,
    settled,
    wait_until,
)

HERE = Path(__file__).parent
DENY = """polkit.addRule(function(action, subject) {
    return action.id.indexOf("org.kldload.kvm.") === 0 ? polkit.Result.NO : polkit.Result.NOT_HANDLED;
});"""
READ_ONLY = "org.freedesktop.DBus.Error.PropertyReadOnly"
HOOK, DENIED = f"{ROOT}/hook", "org.freedesktop.DBus.Error.AccessDenied"
EXAMPLE = Path("/usr/share/doc/kldload-kvm/examples/50-kldload-kvm-operators.rules")


def expected(path: str, member: str) -> str:
    """How a call of an unprivileged user must fail. What is for root alone the bus itself does not let through."""
    if member.endswith("="):
        return READ_ONLY
    return DENIED if path == HOOK else f"{SERVICE}.Error.NotAuthorized"


def test_with_polkit_denying_everything_no_call_of_any_method_changes_anything(
    vm: Callable[..., str], rule: Callable[[str], None], tmp_path: Path
) -> None:
    vm("denied")
    run("kvm-snap", "denied", "@stable")
    image = Path("/var/tmp/denied.raw")
    image.write_bytes(bytes(1 << 20))
    image.chmod(0o644)
    run("kvm-vm", "autostart", "denied", "on")
    path = find("denied")
    call(
        path, "Vm", "Snapshot", "a{sv}", "1", "plan-only", "b", "true"
    )  # a plan of root's, to be applied and cancelled
    rule(DENY)
    run("systemctl", "stop", "kldload-kvm-trash.timer")  # an hour may strike
    time.sleep(10)  # what the service does of itself after a job is over
    before, cursor = settled(), journal_cursor()
    outcome = json.loads(run("python3", str(HERE / "every_call.py"), str(image), user="alice").stdout)
    assert len(outcome) > 60
    assert [row for row in outcome if row[2] != expected(*row[:2])] == []
    assert any(row[0] == HOOK for row in outcome)
    passing = {"fds", "children"}  # of a process that tells once a minute how full the pools are
    assert changed(before) <= passing
    wait_until(lambda: not changed(before), 30, "all is as before the calls")
    assert journal_since(cursor) == ""
    run("systemctl", "start", "kldload-kvm-trash.timer")
    image.unlink()


def test_a_user_without_rights_is_told_that_a_password_would_do(vm: Callable[..., str]) -> None:
    vm("web-1")
    done = run("kvm-snap", "web-1", "--no-ask-password", user="alice", check=False)
    assert done.returncode == 3
    assert "administrator" in done.stderr
    assert "Traceback" not in done.stderr
    done = call(find("web-1"), "Vm", "Snapshot", "a{sv}", "0", user="alice", check=False)
    assert done.returncode != 0


def test_reads_and_plans_need_no_rights(vm: Callable[..., str]) -> None:
    vm("web-1")
    before = datasets()
    assert "web-1" in run("kvm-list", user="alice").stdout
    assert run("kvm-snap", "web-1", "list", user="alice").returncode == 0
    assert "undefine the libvirt domain web-1" in run("kvm-delete", "web-1", "--dry-run", user="alice").stdout
    assert data(call(ROOT, "Manager", "CanI", "so", "org.kldload.kvm.delete", find("web-1"), user="alice")) == ["auth"]
    assert data(call(ROOT, "Manager", "CanI", "so", "org.kldload.kvm.read", find("web-1"), user="alice")) == ["yes"]
    assert datasets() == before


def test_a_plan_is_for_whoever_made_it(vm: Callable[..., str]) -> None:
    vm("web-1")
    job = data(call(find("web-1"), "Vm", "Snapshot", "a{sv}", "1", "plan-only", "b", "true", user="alice"))[0]
    assert call(job, "Job", "Apply", "a{sv}", "0", user="bob", check=False).returncode != 0
    done = call(job, "Job", "Apply", "a{sv}", "0", user="alice", check=False)  # hers, but she may not snapshot
    assert "administrator" in done.stderr
    call(job, "Job", "Apply", "a{sv}", "1", "wait", "b", "true")
    assert get(job, "Job", "State") == "succeeded"


def test_the_example_rule_lets_a_group_snapshot_and_start_only_some_vms(
    vm: Callable[..., str], rule: Callable[[str], None]
) -> None:
    vm("web-1")
    vm("db-1")
    rule(EXAMPLE.read_text())
    assert run("kvm-snap", "web-1", "@bobs", user="bob").returncode == 0
    assert "rpool/vms/web-1@bobs" in datasets()
    assert run("kvm-vm", "start", "web-1", user="bob").returncode == 0
    assert domains()["web-1"] == "running"
    for refused in (
        ("kvm-snap", "db-1", "@bobs"),
        ("kvm-vm", "start", "db-1"),
        ("kvm-delete", "web-1", "--force"),
        ("kvm-clone", "web-1", "web-2"),
        ("kvm-create", "web-3"),
    ):
        assert run(*refused, "--no-ask-password", user="bob", check=False).returncode == 3, refused
    assert run("kvm-snap", "web-1", "@alices", "--no-ask-password", user="alice", check=False).returncode == 3
    assert "rpool/vms/db-1@bobs" not in datasets()


def test_a_caller_that_vanishes_at_the_prompt_leaves_nothing_behind(vm: Callable[..., str]) -> None:
    vm("web-1")
    path = find("web-1")
    script = f"""
import os, sys, time
from jeepney import DBusAddress, MessageFlag, new_method_call
from jeepney.io.blocking import open_dbus_connection
connection = open_dbus_connection(bus="SYSTEM")
print(os.getpid(), flush=True)
sys.stdin.readline()
address = DBusAddress({path!r}, bus_name={SERVICE!r}, interface={SERVICE + ".Vm"!r})
call = new_method_call(address, "Snapshot", "a{{sv}}", ({{}},))
call.header.flags |= MessageFlag.allow_interactive_authorization
connection.send(call)
time.sleep(600)
"""
    time.sleep(10)
    before = settled()
    caller = subprocess.Popen(
        ["setpriv", "--reuid=alice", "--regid=alice", "--clear-groups", "python3", "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert caller.stdin and caller.stdout
    pid = caller.stdout.readline().strip()
    ours, theirs = pty.openpty()
    registered, registering = os.pipe()
    agent = subprocess.Popen(
        ["setpriv", "--reuid=alice", "--regid=alice", "--clear-groups",
         "pkttyagent", "--notify-fd", str(registering), "--process", pid],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, pass_fds=(registering,),
        preexec_fn=lambda: _control(theirs),
    )  # fmt: skip
    os.close(registering)
    try:
        assert select.select([registered], [], [], 60)[0], "the agent is registered"
        caller.stdin.write("\n")
        caller.stdin.flush()
        shown = b""
        while b"web-1" not in shown and select.select([ours], [], [], 60)[0]:
            shown += os.read(ours, 4096)
        assert b"web-1" in shown, shown
        caller.kill()
        caller.wait()
        wait_until(lambda: not changed(before), 30, "all is as before the call")
    finally:
        caller.kill()
        agent.kill()
        agent.wait()
    assert run("kvm-snap", "web-1", "@after").returncode == 0
    assert daemon_pid() == before["pid"]


def _control(terminal: int) -> None:
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
