"""The numbers for monitoring, against plain zfs and virsh, asked for by a user without any rights; and the file that
node-exporter reads, written by the unit as it is shipped, and read by parsers that are not ours."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from host import ROOT, call, daemon_pid, data, run, wait_until, zfs

Rows = list[dict[str, Any]]
UNIT, TIMER = "kldload-kvm-metrics.service", "kldload-kvm-metrics.timer"
TEXTFILES = Path("/var/lib/prometheus/node-exporter")
FILE = TEXTFILES / "kldload-kvm.prom"
SOCKETS = ("libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket")


def told(*tables: str) -> dict[str, Rows]:
    """GetStatistics, as alice."""
    names = ("1", "tables", "as", str(len(tables)), *tables) if tables else ("0",)
    (found,) = data(call(ROOT, "Manager", "GetStatistics", "a{sv}", *names, user="alice"))
    return {
        table: [{name: each["data"] for name, each in row.items()} for row in rows] for table, rows in found.items()
    }


def row(table: str, **wanted: object) -> dict[str, Any]:
    """The one row of which that is true; of a VM that has none, an empty one."""
    found = [each for each in told(table)[table] if wanted.items() <= each.items()]
    assert len(found) <= 1
    return found[0] if found else {}


def domstats(name: str) -> dict[str, str]:
    """What plain virsh says."""
    lines = run("virsh", "domstats", "--nowait", name).stdout.splitlines()
    return dict(line.strip().split("=", 1) for line in lines if "=" in line)


def values(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a text, which two parsers agree on."""
    found, older = (
        {(s.name, tuple(sorted(s.labels.items()))): s.value for made in parse(text) for s in made.samples}
        for parse in (open_metrics, plain_text)
    )
    assert found == older
    return found


def failed(operation: str) -> int:
    return row("job", operation=operation, outcome="failed")["count"]


def test_capacity_and_space_are_those_of_zfs(vm: Callable[..., str]) -> None:
    vm("met-web")
    vm("met-old")
    run("kvm-delete", "met-old", "--yes")
    run("zpool", "sync")
    time.sleep(11)  # a refresh is made once in ten seconds
    call(ROOT, "Manager", "Refresh")
    used, available = map(int, zfs("get", "-Hp", "-o", "value", "used,available", "rpool/vms"))
    storage = row("storage", storage="rpool")
    assert abs(storage["capacity"] - (used + available)) < 16 << 20
    assert abs(storage["free"] - available) < 16 << 20
    sizes = zfs("list", "-Hp", "-t", "volume", "-d", "1", "-o", "volsize", "rpool/vms")
    assert storage["provisioned"] == sum(map(int, sizes))
    assert storage["trash-entries"] == 1
    trashed = zfs("list", "-Hp", "-t", "volume", "-r", "-o", "used", "rpool/vms/.trash")
    assert storage["trash-used"] == sum(map(int, trashed))
    web = row("vm", vm="met-web")
    volumes = zfs("list", "-Hp", "-o", "used", "rpool/vms/met-web", "rpool/vms/met-web.nvram")
    assert web["used"] == sum(map(int, volumes))
    assert (web["size"], web["state"], web["problem"]) == (64 << 20, "shutoff", "")


def test_what_a_running_vm_uses_is_what_virsh_says(vm: Callable[..., str]) -> None:
    vm("met-run", "--start")
    vm("met-off")
    before = domstats("met-run")
    time.sleep(1.5)
    tables = told("usage", "disk", "interface", "service")
    time.sleep(1.5)
    after = domstats("met-run")
    assert tables["service"][0]["usage-problem"] == ""
    (usage,) = tables["usage"]
    assert usage["vm"] == "met-run"
    for column, key in (("cpu-time", "cpu.time"), ("cpu-user", "cpu.user"), ("cpu-system", "cpu.system")):
        assert int(before[key]) <= usage[column] <= int(after[key])
    assert int(after["cpu.time"]) > int(before["cpu.time"]), "it runs"
    assert usage["memory-current"] == int(after["balloon.current"]) * 1024
    assert usage["memory-resident"] >= int(before["balloon.rss"]) * 1024 // 2
    disks = {each["target"]: each for each in tables["disk"]}
    for number in range(int(after["block.count"])):
        disk = disks.pop(after[f"block.{number}.name"])
        for column, key in (("reads", "rd.reqs"), ("read-bytes", "rd.bytes"), ("read-time", "rd.times"),
                            ("writes", "wr.reqs"), ("write-bytes", "wr.bytes"), ("flushes", "fl.reqs")):  # fmt: skip
            name = f"block.{number}.{key}"
            assert int(before[name]) <= disk[column] <= int(after[name]), name
    assert not disks
    (interface,) = tables["interface"]
    assert interface["device"] == after["net.0.name"]
    for column, key in (("received-bytes", "rx.bytes"), ("sent-bytes", "tx.bytes"), ("received-packets", "rx.pkts")):
        assert int(before[f"net.0.{key}"]) <= interface[column] <= int(after[f"net.0.{key}"])


@pytest.mark.soak
def test_jobs_are_counted_as_they_ended_and_guests_as_long_as_they_were_held(vm: Callable[..., str]) -> None:
    vm("met-run", "--start")
    before = failed("vm.snapshot")
    done = row("job", operation="vm.snapshot", outcome="succeeded")["count"]
    refused = run("kvm-snap", "met-run", "create", "@strict", "--require", "app", check=False)
    assert refused.returncode == 6, refused.stderr
    assert failed("vm.snapshot") == before + 1
    first = row("held", vm="met-run", how="paused")
    assert first["count"] == 1 and first["seconds"] == first["last"] > 0, "its guest was held for it all the same"
    taken = json.loads(run("kvm-snap", "met-run", "create", "@one", "--json").stdout)
    assert row("job", operation="vm.snapshot", outcome="succeeded")["count"] == done + 1
    assert failed("vm.snapshot") == before + 1
    time.sleep(1.2)
    second = row("held", vm="met-run", how="paused")
    assert second["last"] == taken["result"]["held"]
    assert abs(second["seconds"] - first["seconds"] - second["last"]) < 0.001
    run("kvm-snap", "--all", "@all")
    time.sleep(1.2)
    assert row("held", vm="met-run", how="paused")["count"] == 3


def test_snapshots_and_what_others_do(vm: Callable[..., str]) -> None:
    vm("met-web")
    run("kvm-snap", "met-web", "create", "@mine")
    before = {each["source"]: each for each in told("event")["event"]}
    run("zfs", "snapshot", "rpool/vms/met-web@by-hand")
    wait_until(lambda: row("snapshot", vm="met-web", kind="foreign"), 30, "the snapshot of another is known")
    for kind, name in (("manual", "mine"), ("foreign", "by-hand")):
        found = row("snapshot", vm="met-web", kind=kind)
        created = int(zfs("get", "-Hp", "-o", "value", "creation", f"rpool/vms/met-web@{name}")[0])
        assert (found["count"], found["newest"]) == (1, created)
        assert 0 <= time.time() - found["newest"] < 120
    time.sleep(1.2)
    zfs_events = row("event", source="zfs")
    assert zfs_events["events"] > before["zfs"]["events"]
    assert zfs_events["measured"] > before["zfs"]["measured"]
    lag = (zfs_events["lag"] - before["zfs"]["lag"]) / (zfs_events["measured"] - before["zfs"]["measured"])
    print(f"a foreign snapshot was on the bus {lag:.3f} s after ZFS had it")
    assert 0 < lag < 10
    run("virsh", "desc", "met-web", "--config", "--title", "changed")
    wait_until(lambda: row("event", source="libvirt")["events"] > before["libvirt"]["events"], 45, "libvirt was heard")
    wait_until(lambda: row("event", source="libvirt")["measured"] > before["libvirt"]["measured"], 45, "it is measured")
    run("zfs", "create", "-s", "-V", "16M", "rpool/vms/met-foreign")
    wait_until(lambda: row("event", source="udev")["events"] > before["udev"]["events"], 30, "udev was heard")


def command_of(pid: str) -> list[bytes]:
    """Empty for a process that has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def test_a_reader_of_events_that_ended_is_a_reload(vm: Callable[..., str]) -> None:
    before = row("reload", reason="reader")["count"]
    pid = daemon_pid()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    readers = [each for each in children if b"events" in command_of(each)]
    assert len(readers) == 1
    os.kill(int(readers[0]), signal.SIGKILL)
    wait_until(lambda: row("reload", reason="reader")["count"] == before + 1, 45, "it is counted")


@pytest.mark.soak
def test_a_guest_that_hangs_costs_the_others_nothing_but_one_wait(vm: Callable[..., str]) -> None:
    vm("met-hung", "--start")
    vm("met-run", "--start")
    pid = int(Path("/run/libvirt/qemu/met-hung.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        first = told()
        assert time.monotonic() - began < 20
        problem = first["service"][0]["usage-problem"]
        print(f"{time.monotonic() - began:.1f} s: {problem}")
        assert problem in ("", "no answer within 5 s")
        assert {each["vm"] for each in first["vm"]} == {"met-hung", "met-run"}
        time.sleep(1.2)
        began = time.monotonic()
        second = told()
        assert time.monotonic() - began < 5
        assert second["service"][0]["usage-problem"] == ""
        assert "memory-current" in next(each for each in second["usage"] if each["vm"] == "met-run")
        assert [each["vm"] for each in second["disk"]] and {each["vm"] for each in second["disk"]} == {"met-run"}
    finally:
        os.kill(pid, signal.SIGCONT)
    time.sleep(1.2)
    wait_until(
        lambda: {each["vm"] for each in told("disk")["disk"]} == {"met-hung", "met-run"}, 30, "all are told again"
    )


@pytest.mark.soak
def test_while_libvirt_is_away_the_rest_is_told_and_why(vm: Callable[..., str]) -> None:
    vm("met-run", "--start")
    assert told("usage")["usage"]
    run("systemctl", "stop", "libvirtd.service", *SOCKETS)
    try:
        wait_until(lambda: not row("service")["libvirt-connected"], 30, "the service knows that libvirt is away")
        time.sleep(1.2)
        found = told()
        assert found["usage"] == found["disk"] == found["interface"] == []
        assert "what the domains use cannot be read" in found["service"][0]["usage-problem"]
        assert [each["vm"] for each in found["vm"]] == ["met-run"]
        text = run("kvm-metrics", user="alice").stdout
        assert values(text)["kldload_kvm_usage_problem", ()] == 1
        assert values(text)["kldload_kvm_storage_free_bytes", (("storage", "rpool"),)] > 0
    finally:
        run("systemctl", "start", *SOCKETS, "libvirtd.service")
    before = row("reload", reason="libvirt")["count"]
    wait_until(lambda: told("usage")["usage"], 45, "what it uses is told again")
    assert before >= 1


@pytest.mark.soak
def test_no_process_is_started_for_it(vm: Callable[..., str]) -> None:
    vm("met-run", "--start")
    time.sleep(8)  # what the job and its events have read again is over
    trace = Path("/var/tmp/met-trace")

    def started() -> list[str]:
        return re.findall(r"execve\(\"([^\"]+)", trace.read_text())

    command = [
        "strace",
        "-qq",
        "-f",
        "-e",
        "trace=execve",
        "-e",
        "signal=none",
        "-o",
        str(trace),
        "-p",
        str(daemon_pid()),
    ]
    with subprocess.Popen(command) as tracer:
        try:
            time.sleep(3)
            for _ in range(20):
                assert told()["usage"]
            assert len(started()) <= 2, "the sampling of space, once a minute"
            call(ROOT, "Manager", "Refresh")
            wait_until(lambda: any("zfs" in each for each in started()), 30, "a process that is started would be seen")
        finally:
            tracer.terminate()
    trace.unlink()


@pytest.fixture
def textfiles() -> Iterator[None]:
    """The directory that node-exporter's package brings."""
    TEXTFILES.mkdir(parents=True, exist_ok=True)
    TEXTFILES.chmod(0o755)
    yield
    run("systemctl", "disable", "--now", TIMER)
    for file in TEXTFILES.iterdir():
        file.unlink()


def test_the_unit_writes_what_two_parsers_understand(vm: Callable[..., str], textfiles: None) -> None:
    assert run("systemctl", "is-enabled", TIMER, check=False).stdout == "disabled\n"
    assert run("systemctl", "is-active", TIMER, check=False).stdout == "inactive\n"
    vm("met-run", "--start")
    run("kvm-snap", "met-run", "create", "@one")
    run("systemctl", "start", UNIT)
    text = FILE.read_text()
    assert text.endswith("# EOF\n")
    assert (stat.S_IMODE(FILE.stat().st_mode), FILE.stat().st_uid) == (0o644, 0)
    assert run("cat", str(FILE), user="alice").stdout == text
    assert [each.name for each in TEXTFILES.iterdir()] == [FILE.name]
    found = values(text)
    (id_,) = {dict(labels)["id"] for name, labels in found if name == "kldload_kvm_vm_snapshots"}
    met = (("id", id_), ("vm", "met-run"))
    assert found["kldload_kvm_up", ()] == 1
    assert found["kldload_kvm_vm_snapshots", met] == 1
    created = int(zfs("get", "-Hp", "-o", "value", "creation", "rpool/vms/met-run@one")[0])
    manual = (("id", id_), ("kind", "manual"), ("vm", "met-run"))
    assert found["kldload_kvm_vm_snapshot_timestamp_seconds", manual] == created
    assert 0 < found["kldload_kvm_vm_cpu_seconds_total", met] < int(domstats("met-run")["cpu.time"]) / 1e9
    assert found["kldload_kvm_vm_state", (("id", id_), ("state", "running"), ("vm", "met-run"))] == 1
    assert found["kldload_kvm_jobs_total", (("operation", "vm.snapshot"), ("outcome", "succeeded"))] >= 1
    for metric in open_metrics(text):
        assert metric.type in ("gauge", "counter", "summary"), "node-exporter knows no other"


@pytest.mark.soak
def test_the_timer_writes_it_every_minute(textfiles: None) -> None:
    run("systemctl", "enable", "--now", TIMER)
    wait_until(FILE.exists, 90, "the file is there")
    (each,) = json.loads(run("systemctl", "list-timers", "--output=json", TIMER).stdout)
    assert 0 < each["next"] - each["last"] <= 70_000_000


@pytest.mark.soak
def test_a_service_that_is_stopped_is_not_started_for_it(textfiles: None) -> None:
    run("systemctl", "start", UNIT)
    assert values(FILE.read_text())["kldload_kvm_up", ()] == 1
    run("systemctl", "stop", "kldload-kvmd")
    try:
        run("systemctl", "start", UNIT)
        assert values(FILE.read_text()) == {("kldload_kvm_up", ()): 0}
        assert run("kvm-metrics", user="alice", check=False).returncode == 8
        assert run("systemctl", "is-active", "kldload-kvmd", check=False).stdout == "inactive\n"
    finally:
        run("systemctl", "start", "kldload-kvmd")
    wait_until(lambda: row("service")["libvirt-connected"], 45, "the service is connected to libvirt")


@pytest.mark.soak
def test_without_node_exporter_the_unit_says_what_is_missing() -> None:
    aside = TEXTFILES.with_name("aside")
    if TEXTFILES.exists():
        TEXTFILES.rename(aside)
    try:
        assert run("systemctl", "start", UNIT, check=False).returncode
        said = run("journalctl", "-u", UNIT, "-n", "20", "-o", "cat", "--no-pager").stdout
        assert "cannot be written" in said and "is its directory there?" in said
    finally:
        if aside.exists():
            aside.rename(TEXTFILES)
        run("systemctl", "reset-failed", UNIT, check=False)


def test_the_unit_may_write_nothing_else() -> None:
    last = run("systemd-analyze", "security", "--no-pager", UNIT).stdout.splitlines()[-1]
    found = re.search(r": (\d+\.\d+) ", last)
    assert found and float(found[1]) <= 0.8
