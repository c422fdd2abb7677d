"""The kvm-* commands as a person types them, as processes, against the stand-in on a bus of its own."""

from __future__ import annotations

import json
import os
import pty
import select
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dbus_next import Message, Variant

from kldload_kvm.model.constants import PREFIX, ROOT
from private_bus import private_bus, standing_in
from standin import GIB, Refusal, Standin

SERVICE = Path(__file__).resolve().parents[2] / "service"


@pytest.fixture(scope="module", autouse=True)
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with private_bus(tmp_path_factory.mktemp("bus")) as address:
        yield address


@pytest.fixture
def standin() -> Iterator[Standin]:
    with standing_in() as standin:
        yield standin


def command(line: str) -> list[str]:
    name, *words = line.split()
    module = name.removeprefix("kvm-")
    return [sys.executable, "-c", f"import sys; from kldload_kvm.cli.{module} import main; sys.exit(main())", *words]


def environment(**more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "DBUS_SYSTEM_BUS_ADDRESS", "HOME") if name in os.environ}
    return {"PYTHONPATH": str(SERVICE), "COLUMNS": "100", "TZ": "UTC", "LC_ALL": "C.UTF-8"} | kept | more


def run(line: str, *, cwd: Path | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(line), input=stdin, capture_output=True, text=True, timeout=60, env=environment(), cwd=cwd, check=False
    )


def said(line: str) -> str:
    """What a command that succeeds says."""
    done = run(line)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def options(standin: Standin, member: str) -> dict[str, object]:
    """The options of the last call of a method."""
    body = next(body for each, body, _ in reversed(standin.calls) if each == member)
    return {name: variant.value for name, variant in body[-1].items()}


class Typed:
    """A command on a terminal of its own; `before` stands before it on the command line."""

    def __init__(self, line: str, *before: str, **more: str) -> None:
        self.output = b""
        self.terminal, theirs = pty.openpty()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *before, *command(line)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(TERM="xterm", **more),
        )
        os.close(theirs)

    def until(self, text: str, seconds: float = 30) -> None:
        """Read on until the text has been seen."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.output:
            assert time.monotonic() < deadline, f"no {text!r} in {self.output!r}"
            assert self._read(0.1), f"ended without {text!r}: {self.output!r}"

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def end(self) -> int:
        """Read to the end, and give the exit status."""
        deadline = time.monotonic() + 30
        while self._read(0.1):
            if time.monotonic() > deadline:
                self.process.kill()
                pytest.fail(f"did not end: {self.output!r}")
        os.close(self.terminal)
        return self.process.wait(10)

    def _read(self, seconds: float) -> bool:
        if select.select([self.terminal], [], [], seconds)[0]:
            try:
                data = os.read(self.terminal, 4096)
            except OSError:
                return False
            self.output += data
            return bool(data)
        return True


# The examples of the page that the project was founded on.


def test_a_vm_with_sensible_defaults(standin: Standin) -> None:
    assert said("kvm-create myvm") == (
        "myvm created, and not started, as its disk is blank\nStart it: kvm-vm start myvm\n"
    )
    assert options(standin, "CreateVm") == {}


def test_bare_ram_is_mib_and_bare_disk_is_gib(standin: Standin) -> None:
    said("kvm-create webserver --ram 4096 --cpus 4 --disk 40")
    assert options(standin, "CreateVm") == {"memory": 4 * GIB, "vcpus": 4, "disk": 40 * GIB}


def test_an_iso_of_the_store_is_found_by_its_path_and_the_vm_is_started(standin: Standin) -> None:
    said("kvm-create testbox --iso /var/lib/libvirt/isos/debian-13.iso --ram 2048 --os debian12")
    assert options(standin, "CreateVm") == {
        "iso": "debian-13.iso",
        "memory": 2 * GIB,
        "os": "debian12",
        "start": True,
    }


def test_clones_from_a_new_and_from_a_named_snapshot(standin: Standin) -> None:
    assert said("kvm-clone web-1 c-1").startswith("c-1 cloned from web-1@clone-20260401_120000\n")
    assert options(standin, "Clone") == {}
    assert said("kvm-clone web-1 c-2 c-3 --snap @stable").startswith(
        "c-2 cloned from web-1@stable\nc-3 cloned from web-1@stable\n"
    )
    assert options(standin, "Clone") == {"snapshot": "stable"}


def test_a_snapshot_of_all_vms_tells_of_each_and_of_those_that_were_not(standin: Standin) -> None:
    assert said("kvm-snap --all") == (
        "web-1@2026-04-01_153022 taken (frozen by its agent for 0.4 s)\n"
        "web-2@2026-04-01_153022 taken (frozen by its agent for 0.4 s)\n"
        "locked@2026-04-01_153022 taken (frozen by its agent for 0.4 s)\n"
        "denied@2026-04-01_153022 taken (frozen by its agent for 0.4 s)\n"
        "rpool/vms/web-9.nvram: not taken, it was gone by then\n"
        "web-8: left out, another job is at work on it\n"
    )
    assert options(standin, "SnapshotAll") == {}
    assert said("kvm-snap --all create @stable --require app --storage vms").startswith("web-1@stable taken")
    wanted = {"name": "stable", "require-consistency": "app", "storage": "vms"}
    assert options(standin, "SnapshotAll") == wanted
    assert said("kvm-snap web-1 list --names") == "2026-04-01_153022\nstable\n"


def test_what_the_timer_does(standin: Standin) -> None:
    assert said("kvm-snap --all --auto").endswith("web-1@auto-1 removed, it was kept long enough\n")
    assert options(standin, "SnapshotAll") == {"kind": "auto"}
    assert options(standin, "PruneSnapshots") == {}


def test_snapshots_are_taken_listed_returned_to_and_deleted(standin: Standin) -> None:
    assert said("kvm-snap web-1") == "rpool/vms/web-1@2026-04-01_153022 taken (shut off)\n"
    assert said("kvm-snap web-1 create @stable") == "rpool/vms/web-1@stable taken (shut off)\n"
    assert said("kvm-snap web-1 list") == (
        "NAME                               CREATION               USED  CONSISTENCY\n"
        "rpool/vms/web-1@2026-04-01_153022  Wed Apr  1 15:30 2026   42M  off\n"
        "rpool/vms/web-1@stable             Wed Apr  1 15:30 2026   42M  off\n"
    )
    assert [member for member, _, _ in standin.calls[-2:]] == ["RefreshUsage", "ListSnapshots"]
    assert said("kvm-snap web-2 @stable") == "rpool/vms/web-2@stable taken (shut off)\n"
    assert said("kvm-snap web-1 rollback").startswith("web-1 is back at @newest\n")
    assert options(standin, "Rollback") == {}
    assert said("kvm-snap web-1 rollback @2026-04-01_153022").startswith("web-1 is back at @2026-04-01_153022\n")
    assert said("kvm-snap web-1 delete @2026-04-01_153022") == "rpool/vms/web-1@2026-04-01_153022 deleted\n"
    assert said("kvm-snap web-1 list --names") == "stable\n"


def test_a_running_vm_is_deleted_with_force_only(standin: Standin) -> None:
    said("kvm-vm start web-1")
    refused = run("kvm-delete web-1")
    assert (refused.returncode, refused.stdout) == (6, "")
    assert refused.stderr == "kvm-delete: web-1 is running.\n  hint: Shut it down, or give --force.\n"
    assert said("kvm-delete web-1 --force") == "web-1 deleted; its volumes wait in the trash as entry 7\n"


def test_an_origin_can_be_deleted_with_a_promotion_and_anything_at_once(standin: Standin) -> None:
    said("kvm-delete web-1 --promote")
    assert options(standin, "Delete") == {"promote": True}
    assert said("kvm-delete web-2 --now --yes") == "web-2 deleted for good\n"
    assert options(standin, "Delete") == {"now": True}


def test_the_trash_is_listed(standin: Standin) -> None:
    assert run("kvm-trash list").stderr == "kvm-trash: the trash is empty\n"
    standin.put_in_trash("web-1-20260401T153022Z", "web-1")
    standin.put_in_trash("db-20260401T153022Z", "db", "rolled-back", held=("copy", "other"))
    assert said("kvm-trash list") == (
        "ENTRY                   VM     REASON       SINCE                  UNTIL                       USED\n"
        "web-1-20260401T153022Z  web-1  deleted      Wed Apr  1 15:30 2026  Wed Apr  8 15:30 2026        42M\n"
        "db-20260401T153022Z     db     rolled-back  Wed Apr  1 15:30 2026  its clones go: copy, other   42M\n"
    )
    assert said("kvm-trash list --names") == "web-1-20260401T153022Z\ndb-20260401T153022Z\n"
    assert json.loads(said("kvm-trash list --json"))[1]["held-by"] == ["copy", "other"]


def test_a_deleted_vm_is_restored_by_its_entry_or_its_name(standin: Standin) -> None:
    standin.put_in_trash("old-1", "old")
    standin.put_in_trash("db-1", "db", "rolled-back")
    standin.put_in_trash("db-2", "db", "rolled-back")
    assert said("kvm-trash restore old --name new") == "new restored, and not started\nStart it: kvm-vm start new\n"
    assert options(standin, "RestoreTrash") == {"name": "new"}
    assert said("kvm-trash restore db-2 --force") == (
        "db has its state back; the other one waits in the trash as entry 8\n"
    )
    assert options(standin, "RestoreTrash") == {"force": True}
    several = run("kvm-trash restore db")
    assert (several.returncode, several.stderr) == (
        2, "kvm-trash: db has 2 entries in the trash\n  hint: name one: db-1, db-2\n",
    )  # fmt: skip
    missing = run("kvm-trash restore odl-1")
    assert missing.returncode == 4
    assert "did you mean old-1" in missing.stderr


def test_what_a_job_is_just_moving_to_the_trash_is_waited_for(
    standin: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a VM whose domain was undefined a moment ago. Other jobs on it are not waited for."""
    shop = {"State": "running", "Objects": [standin.add_vm("shop")]}
    standin.add(f"{ROOT}/job/30", "Job", Id="30", Operation="vm.export", **shop)
    assert "no entry 'shop'" in run("kvm-trash restore shop").stderr
    standin.add(f"{ROOT}/job/31", "Job", Id="31", Operation="vm.retire", Description="retire shop", **shop)
    waited = []

    async def moved(message: Message, _: dict[str, Variant]) -> dict[str, Variant]:
        waited.append(message.path)
        standin.put_in_trash("shop-1", "shop")
        raise Refusal("Failed", "not all of it was done")

    monkeypatch.setattr(standin, "do_Wait", moved)
    assert run("kvm-trash restore web-2").returncode == 4
    for option in ("--no-wait", "--dry-run"):
        refused = run(f"kvm-trash restore shop {option}")
        assert refused.returncode == 4
        assert "why:  job 31 is about to: retire shop\n  hint: kvm-job wait 31" in refused.stderr
    assert waited == []
    done = run("kvm-trash restore shop")
    assert waited[0] == f"{ROOT}/job/31"
    assert "waiting for job 31: retire shop" in done.stderr


def test_a_purge_names_entries_or_takes_what_is_due(standin: Standin) -> None:
    standin.put_in_trash("old-1", "old")
    assert said("kvm-trash purge --expired") == "nothing in the trash is due\n"
    assert json.loads(said("kvm-trash purge --expired --json")) == {"purged": []}
    assert not [each for each in standin.calls if each[0] == "PurgeTrash"]
    standin.put_in_trash("db-1", "db", due=True)
    assert said("kvm-trash purge --expired --yes") == "purged for good: db-1\n"
    assert options(standin, "PurgeTrash") == {"expired": True}
    assert said("kvm-trash purge old-1 db-1 --yes") == "purged for good: old-1, db-1\n"
    assert "Destroys for good:\n  rpool/vms/.trash/old-1" in run("kvm-trash purge old-1 --dry-run").stdout
    standin.put_in_trash("old-2", "older")
    assert said("kvm-trash purge older --yes") == "purged for good: old-2\n"
    assert run("kvm-trash purge").returncode == 2
    assert run("kvm-trash purge old-1 --expired").returncode == 2


def test_a_purge_asks_first(standin: Standin) -> None:
    standin.put_in_trash("old-1", "old")
    typed = Typed("kvm-trash purge old-1")
    typed.until("Go on? [y/N]")
    assert b"rpool/vms/.trash/old-1" in typed.output
    typed.type("n\n")
    assert typed.end() == 1
    assert "planned" in said("kvm-job list")


def test_a_copy_in_full(standin: Standin) -> None:
    assert said("kvm-clone web-1 c-1 --full").startswith("c-1 copied from web-1@clone-20260401_120000\n")
    assert options(standin, "Clone") == {"full": True}


def test_templates(standin: Standin) -> None:
    assert said("kvm-create base --image debian-13.qcow2 --template") == (
        "the template base created\nClone it: kvm-clone base NAME\n"
    )
    assert options(standin, "CreateVm") == {"image": "debian-13.qcow2", "template": True}
    assert said("kvm-vm template web-1") == "off\n"
    assert said("kvm-vm template web-1 on --generalize") == "web-1 is a template now, and does not start\n"
    assert options(standin, "SetTemplate") == {"generalize": True}
    standin.objects[f"{ROOT}/vm/web_1"][1]["Template"] = True
    assert said("kvm-vm template web-1") == "on\n"
    assert "web-1   template " in said("kvm-list")
    assert said("kvm-vm template web-1 off") == "web-1 is no template any more\n"
    assert run("kvm-vm template web-1 --generalize").returncode == 2


def test_the_list(standin: Standin) -> None:
    assert said("kvm-list") == (
        "NAME    STATE    MEMORY  CPUS  DISK  USED  SNAPS\n"
        "denied  shutoff      4G     4   40G   42M      0\n"
        "locked  shutoff      4G     4   40G   42M      0\n"
        "web-1   shutoff      4G     4   40G   42M      0\n"
        "web-2   shutoff      4G     4   40G   42M      0\n"
    )
    assert said("kvm-list --names") == "denied\nlocked\nweb-1\nweb-2\n"
    assert "ORIGIN" in said("kvm-list --wide").splitlines()[0]
    assert json.loads(said("kvm-list --json"))[2]["memory"] == 4 * GIB
    assert standin.calls == []
    assert len(standin.listed) == 4  # one question each, and never of jobs
    assert not any(f"{PREFIX}.Job" in interfaces for interfaces in standin.listed)


def test_the_list_tells_what_is_wrong(standin: Standin) -> None:
    for path, problem in ((f"{ROOT}/vm/web_1", "no domain"), (f"{ROOT}/storage/vms", "no dataset")):
        standin.objects[path][1]["Problem"] = problem
    standin.objects[ROOT][1]["Problems"] = ["libvirt is away"]
    done = run("kvm-list")
    assert done.returncode == 0
    assert done.stderr == "kvm-list: web-1: no domain\nkvm-list: vms: no dataset\nkvm-list: libvirt is away\n"
    for number in range(20):
        standin.add_vm(f"many-{number}", Problem="no domain")
    said = run("kvm-list").stderr.splitlines()
    assert said[-2:] == [
        "kvm-list: and 12 more have a problem: kvm-list --json tells all", "kvm-list: libvirt is away",
    ]  # fmt: skip
    assert len(said) == 12


def test_what_is_no_vm_is_listed_and_adopted(standin: Standin) -> None:
    assert run("kvm-adopt").stderr == "kvm-adopt: every domain and every volume is a VM's\n"
    standin.put_foreign("old", "adoptable", "others have made it", "take it in: kvm-adopt old")
    standin.put_foreign("qcow", "files", "its disks are files")
    listed = run("kvm-adopt list")
    assert listed.stdout == (
        "NAME  STATE    KIND       WHY\n"
        "old   shutoff  adoptable  others have made it\n"
        "qcow  shutoff  files      its disks are files\n"
    )
    assert listed.stderr == "kvm-adopt: old: take it in: kvm-adopt old\n"
    assert said("kvm-adopt --names") == "old\nqcow\n"
    assert [each["kind"] for each in json.loads(said("kvm-adopt --json"))] == ["adoptable", "files"]
    assert said("kvm-adopt old") == ("old is a VM now, on rpool/vms/old\nTake a snapshot of it: kvm-snap old\n")
    assert "note" in run("kvm-adopt old --dry-run").stdout
    assert "copy it to vmpool" in run("kvm-adopt qcow --storage vmpool --dry-run").stdout
    assert said("kvm-adopt qcow").endswith("Once it runs well, what is left of its old disks can be removed.\n")


# What is said to be true of every command.


def test_json_has_the_job_and_its_result(standin: Standin) -> None:
    job = json.loads(said("kvm-snap web-1 create @s --json"))
    assert (job["operation"], job["state"], job["result"]["snapshot"]) == ("vm.snapshot", "succeeded", "s")


def test_json_has_the_error_too(standin: Standin) -> None:
    done = run("kvm-snap web-9 --json")
    assert done.returncode == 4
    assert json.loads(done.stdout)["error"]["name"] == "org.kldload.Kvm1.Error.NotFound"
    assert done.stderr.startswith("kvm-snap: There is no VM 'web-9'.\n")


def test_a_dry_run_shows_the_plan_and_changes_nothing(standin: Standin) -> None:
    done = run("kvm-clone web-1 c-1 c-2 --dry-run")
    assert done.returncode == 0
    assert done.stdout == "Plan 1: vm.clone\n  1. clone c-1\n  2. clone c-2\nDestroys nothing.\n"
    assert "kvm-job apply 1" in done.stderr
    assert "c-1" not in said("kvm-list --names")
    assert said("kvm-job apply 1") == "job 1 is done: vm.clone\n"
    assert "c-1" in said("kvm-list --names")


def test_a_dry_run_names_what_would_be_destroyed(standin: Standin) -> None:
    said("kvm-snap web-1 create @s")
    plan = run("kvm-snap web-1 delete @s -n").stdout
    assert "Destroys for good:\n  rpool/vms/web-1@s\n  rpool/vms/web-1.nvram@s\n" in plan
    assert json.loads(said("kvm-snap web-1 delete @s -n --json"))["destroys"][0] == "rpool/vms/web-1@s"
    assert said("kvm-snap web-1 list --names") == "s\n"


def test_without_waiting_it_prints_the_jobs_id(standin: Standin) -> None:
    job = said("kvm-snap web-1 create @slow --no-wait")
    assert job == "1\n"
    assert said("kvm-job wait 1") == "job 1 is done: vm.snapshot\n"


def test_quiet_is_quiet(standin: Standin) -> None:
    assert said("kvm-create myvm -q") == ""


def test_a_failed_job_is_the_commands_error_in_three_lines(standin: Standin) -> None:
    done = run("kvm-snap web-1 create @broken")
    assert done.returncode == 1
    assert done.stderr == ("kvm-snap: The snapshot was not taken.\n  why:  zfs said: out of luck\n  hint: Try again.\n")


@pytest.mark.parametrize(
    ("line", "status", "hint"),
    [
        ("kvm-snap wbe-1", 4, "did you mean web-1 or web-2?"),
        ("kvm-snap list web-1", 2, "write the VM first: kvm-snap web-1 list"),
        ("kvm-snap web-1@stable", 2, "write: kvm-snap web-1 create @stable"),
        ("kvm-snap web-1 lits", 2, "did you mean list?"),
        ("kvm-snap web-1 delete", 2, "see: kvm-snap web-1 list"),
        ("kvm-snap", 2, "write: kvm-snap NAME, or kvm-snap --all"),
        ("kvm-snap --all rollback", 2, "write: kvm-snap --all @NAME"),
        ("kvm-snap --all web-1 @s", 2, "write: kvm-snap --all @NAME"),
        ("kvm-snap --all stable", 2, "write: kvm-snap --all @stable"),
        ("kvm-snap web-1 --auto", 2, "see: kvm-snap --help"),
        ("kvm-vm web-1 start", 2, "write: kvm-vm start web-1"),
        ("kvm-vm strat web-1", 2, "did you mean start?"),
        ("kvm-create x --ram lots", 2, "write it as 512M, 40G or 1.5T"),
        ("kvm-create web-1", 6, "Choose another name."),
        ("kvm-create x --iso debian-12.iso", 4, "did you mean debian-13.iso or debian-13.qcow2?"),
        ("kvm-create x --iso /nowhere/debian-13.iso", 2, "give debian-13.iso to use that one"),
        ("kvm-create x --iso /nowhere/other.iso", 4, "for what is in the store"),
        ("kvm-image remove debian-12.iso", 4, "did you mean debian-13.iso or debian-13.qcow2?"),
        ("kvm-job show 99", 4, "see: kvm-job list"),
        ("kvm-job show ../1", 2, "see: kvm-job list"),
        ("kvm-clone denied c-1", 3, ""),
        ("kvm-clone locked c-1 --no-ask-password", 3, "Ask from a terminal."),
        ("kvm-create", 2, "see: kvm-create --help"),
        ("kvm-create x --iso debian-13.iso --image debian-13.qcow2", 2, "see: kvm-create --help"),
        ("kvm-create x --iso=", 2, "leave it out, or give a value"),
        ("kvm-image add x.iso --sha256=", 2, "leave it out, or give a value"),
        ("kvm-vm set web-1 --disk= --compression zstd", 2, "leave it out, or give a value"),
        ("kvm-vm set web-1 --ram 8G --disk vdb", 2, "--disk goes with a setting of ZFS"),
        ("kvm-vm set web-1 --ram 8G --cpus 4 --no-wait", 2, "leave out --no-wait, or set one at a time"),
        ("kvm-host bridge br0 --confirm --dry-run", 2, ""),
        ("kvm-trash purge nothing-1", 4, "see: kvm-trash list"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(standin: Standin, line: str, status: int, hint: str) -> None:
    done = run(line)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(line.split()[0])
    assert hint in done.stderr
    assert len(done.stderr.splitlines()) <= 3


def test_without_the_service_it_says_how_to_look() -> None:
    done = run("kvm-list")
    assert done.returncode == 8
    assert done.stderr.startswith("kvm-list: kldload-kvmd cannot be reached\n  why:  ")
    assert done.stderr.endswith("  hint: is kldload-kvm installed? see: systemctl status kldload-kvmd\n")


def test_the_first_mistake_of_several_is_the_status_and_the_others_are_done(standin: Standin) -> None:
    done = run("kvm-vm start web-1 web-9 web-2")
    assert (done.returncode, done.stdout) == (4, "web-1 started\nweb-2 started\n")
    assert "There is no VM 'web-9'." in done.stderr


# Images.


def test_a_file_that_is_not_in_the_store_is_added_first(standin: Standin, tmp_path: Path) -> None:
    (tmp_path / "own.iso").write_bytes(b"abc")
    done = run("kvm-create x --iso own.iso", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "kvm-create: adding own.iso to the store of vms\n")
    assert [member for member, _, _ in standin.calls if member != "FindVm"] == ["Add", "CreateVm"]
    assert options(standin, "CreateVm") == {"iso": "own.iso", "start": True}
    assert "own.iso" in said("kvm-image list --names")


@pytest.mark.parametrize(("name", "status"), [("web-1", 6), ("..", 2)])
def test_no_file_is_added_for_a_vm_that_would_be_refused(
    standin: Standin, tmp_path: Path, name: str, status: int
) -> None:
    (tmp_path / "own.iso").write_bytes(b"abc")
    assert run(f"kvm-create {name} --iso own.iso", cwd=tmp_path).returncode == status
    assert "own.iso" not in said("kvm-image list --names")


def test_a_dry_run_adds_nothing(standin: Standin, tmp_path: Path) -> None:
    (tmp_path / "own.iso").write_bytes(b"abc")
    done = run("kvm-create x --iso own.iso --dry-run", cwd=tmp_path)
    assert done.returncode == 4
    assert "Plan 1: image.add" in done.stdout
    assert "hint: add it first" in done.stderr
    assert "own.iso" not in said("kvm-image list --names")


def test_a_fifo_is_not_waited_for(standin: Standin, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.iso")
    done = run("kvm-image add pipe.iso", cwd=tmp_path)
    assert done.returncode == 1  # the stand-in cannot read it; the service refuses it


def test_images_are_listed(standin: Standin) -> None:
    assert said("kvm-image list") == (
        "NAME             FORMAT  SIZE  DISK  STORAGE\n"
        "debian-13.iso    iso     700M  700M  vms\n"
        "debian-13.qcow2  qcow2   165M    3G  vms\n"
    )


def test_keys_and_hashes_come_from_files(standin: Standin, tmp_path: Path) -> None:
    (tmp_path / "id.pub").write_text("# mine\nssh-ed25519 AAAA me@home\n")
    (tmp_path / "hash").write_text("$6$salt$hash\n")
    done = run("kvm-create x --image debian-13.qcow2 --ssh-key id.pub --password-hash hash --user me", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    sent = options(standin, "CreateVm")
    assert (sent["ssh-keys"], sent["password-hash"]) == (["ssh-ed25519 AAAA me@home"], "$6$salt$hash")


def test_a_private_key_does_not_leave_the_machine(standin: Standin, tmp_path: Path) -> None:
    (tmp_path / "id").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n")
    done = run("kvm-create x --image debian-13.qcow2 --ssh-key id", cwd=tmp_path)
    assert done.returncode == 2
    assert "give id.pub" in done.stderr
    assert standin.calls == []


# VMs.


def test_a_vm_is_reached(standin: Standin) -> None:
    assert said("kvm-vm vnc web-1") == "127.0.0.1:5900\n"
    assert said("kvm-vm ip web-1") == "192.168.122.7\nfe80::1\n"
    assert said("kvm-vm autostart web-1") == "off\n"
    assert said("kvm-vm autostart web-1 on") == "web-1 starts when the host boots\n"


# On a terminal.


def test_what_destroys_for_good_asks_first(standin: Standin) -> None:
    said("kvm-snap web-1 create @s")
    typed = Typed("kvm-snap web-1 delete @s")
    typed.until("Go on? [y/N]")
    assert b"rpool/vms/web-1.nvram@s" in typed.output
    typed.type("n\n")
    assert typed.end() == 1
    assert said("kvm-snap web-1 list --names") == "s\n"
    typed = Typed("kvm-snap web-1 delete @s")
    typed.until("Go on? [y/N]")
    typed.type("y\n")
    assert typed.end() == 0
    assert said("kvm-snap web-1 list --names") == ""


def test_yes_does_not_ask(standin: Standin) -> None:
    said("kvm-snap web-1 create @s")
    assert Typed("kvm-snap web-1 delete @s --yes").end() == 0


def test_progress_is_shown_when_it_takes_long(standin: Standin) -> None:
    typed = Typed("kvm-snap web-1 create @slow")
    typed.until("%")
    assert typed.end() == 0
    typed = Typed("kvm-snap web-1 create @quick")
    assert typed.end() == 0
    assert b"%" not in typed.output


def test_colour_is_for_terminals_and_not_against_ones_will(standin: Standin) -> None:
    typed = Typed("kvm-snap nope")
    assert typed.end() == 4 and b"\033[1;31m" in typed.output
    typed = Typed("kvm-snap nope", NO_COLOR="1")
    assert typed.end() == 4 and b"\033" not in typed.output


def test_ctrl_c_cancels_the_job_and_waits_for_its_undo(standin: Standin) -> None:
    typed = Typed("kvm-snap web-1 create @slow")
    typed.until("%")
    typed.type("\x03")
    assert typed.end() == 130
    assert b"cancelling" in typed.output and b"cancelled; what had been done was undone" in typed.output
    assert said("kvm-snap web-1 list --names") == ""


def test_ctrl_c_twice_leaves_the_job_to_itself(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        return None

    monkeypatch.setattr(Standin, "do_Cancel", refuse)
    typed = Typed("kvm-snap web-1 create @slow")
    typed.until("%")
    typed.type("\x03")
    typed.until("cancelling")
    typed.type("\x03")
    assert typed.end() == 130
    assert b"see: kvm-job show 1" in typed.output
    assert said("kvm-job wait 1") == "job 1 is done: vm.snapshot\n"


def test_the_console_is_raw_and_ctrl_bracket_leaves(standin: Standin) -> None:
    typed = Typed("kvm-vm console web-1")
    typed.until("login: ")
    assert typed.end() == 0
    assert b"the console was closed" in typed.output


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_polkits_agent_is_started_for_who_is_asked_and_ended(standin: Standin, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    log.chmod(0o666)
    for each in (tmp_path, *tmp_path.parents):
        if each.name.startswith(("pytest-", "popen-", tmp_path.name)):
            each.chmod(0o755)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run(
        [*nobody, *command("kvm-list --help")], env=environment(), capture_output=True, check=False
    ).returncode:
        pytest.skip("another user cannot read this checkout")
    agent = tmp_path / "pkttyagent"
    agent.write_text(
        f'#!/bin/sh\necho "$1 $3 $4" >> {log}\ntrap "echo ended >> {log}; exit" TERM\n'
        'eval "exec $5>&-"\nwhile :; do sleep 0.05; done\n'
    )
    agent.chmod(agent.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    typed = Typed("kvm-vm start locked", *nobody, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert typed.end() == 0, typed.output
    assert typed.output == b"locked started\r\n"
    assert log.read_text() == "--process --fallback --notify-fd\nended\n"


# What changes a VM.


def body(standin: Standin, member: str) -> list[object]:
    """The arguments of the last call of a method, without its options."""
    return next(body for each, body, _ in reversed(standin.calls) if each == member)[:-1]


def test_a_disk_grows_to_a_size_or_by_one(standin: Standin) -> None:
    assert said("kvm-vm resize web-1 60") == (
        "vda of web-1 has 60G now; what is on it is to be grown in the guest (growpart, resize2fs …)\n"
    )
    assert body(standin, "Resize") == ["vda", 60 * GIB]
    said("kvm-vm resize web-1 +10G")
    assert body(standin, "Resize") == ["vda", 50 * GIB]
    assert run("kvm-vm resize web-1 +10G --disk vdq").stderr.startswith("kvm-vm: web-1 has no disk 'vdq'")
    assert run("kvm-vm resize web-1 big").returncode == 2


def test_disks_and_cards_come_and_go(standin: Standin) -> None:
    assert said("kvm-vm attach-disk web-1 100") == "web-1 has a disk vdb at next boot: rpool/vms/web-1.vdb\n"
    assert body(standin, "AttachDisk") == [100 * GIB]
    said("kvm-vm attach-disk web-1 1T --disk vdc --volblocksize 16K --compression zstd")
    assert options(standin, "AttachDisk") == {"target": "vdc", "volblocksize": 16384, "compression": "zstd"}
    assert said("kvm-vm detach-disk web-1 vdb") == "vdb taken from web-1; its volume waits in the trash as 7\n"
    assert said("kvm-vm attach-nic web-1 --network bridge=br0") == (
        "web-1 has a network card 52:54:00:00:00:07 at next boot\n"
    )
    assert options(standin, "AttachNic") == {"network": "bridge=br0"}
    assert said("kvm-vm detach-nic web-1 52:54:00:00:00:07") == (
        "web-1 has no network card 52:54:00:00:00:07 any more\n"
    )


def test_a_vm_gets_another_name(standin: Standin) -> None:
    assert said("kvm-vm rename web-1 shop") == "web-1 is shop now\n"
    assert body(standin, "Rename") == ["shop"]


def test_memory_and_cpus(standin: Standin) -> None:
    assert said("kvm-vm set web-1 --ram 4096 --cpus 4") == (
        "web-1 has 4G of memory at next boot (it is off)\nweb-1 has 4 CPUs at next boot (it is off)\n"
    )
    assert (body(standin, "SetMemory"), body(standin, "SetVcpus")) == ([4 * GIB], [4])
    assert run("kvm-vm set web-1").stderr.startswith("kvm-vm: what shall be set?")
    assert "planned" not in said("kvm-job list")  # what would be refused is found before the first is done


def test_a_fraction_is_rounded_up_to_what_memory_and_disks_can_have(standin: Standin) -> None:
    said("kvm-create x --ram 1.3G --disk 40.1G")
    assert options(standin, "CreateVm") == {"memory": 1332 << 20, "disk": 41063 << 20}


def test_a_plan_is_not_waited_for_and_can_be_given_up(standin: Standin) -> None:
    said("kvm-vm rename web-1 shop --dry-run --quiet")
    (plan,) = [each["job"] for each in json.loads(said("kvm-job list --json")) if each["state"] == "planned"]
    done = run(f"kvm-job wait {plan}")
    assert f"hint: carry it out: kvm-job apply {plan}" in done.stderr
    assert said(f"kvm-job cancel {plan}") == f"the plan {plan} was given up\n"


def test_how_zfs_keeps_the_disks(standin: Standin) -> None:
    assert said("kvm-vm set web-1 --compression zstd --primarycache all --refreservation off") == (
        "web-1 has compression zstd, primarycache all, refreservation off now\n"
    )
    assert options(standin, "SetStorageOptions") == {
        "compression": "zstd", "primarycache": "all", "refreservation": "off",
    }  # fmt: skip
    assert run("kvm-vm set web-1 --primarycache everything").returncode == 2


# Metrics.


def test_metrics_are_printed_or_written_as_a_whole(standin: Standin, tmp_path: Path) -> None:
    text = said("kvm-metrics")
    assert "\nkldload_kvm_up 1.0\n" in text
    assert "\nkldload_kvm_problems 0.0\n" in text
    assert text.endswith("# EOF\n")
    file = tmp_path / "kvm.prom"
    assert said(f"kvm-metrics -o {file}") == ""
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (text, 0o644)
    tables = json.loads(said("kvm-metrics --json"))
    assert tables["service"] == [{"problems": 0, "up": True}]
    said(f"kvm-metrics --json -o {file}")
    assert json.loads(file.read_text()) == tables


def test_metrics_that_cannot_be_written_say_why(standin: Standin, tmp_path: Path) -> None:
    done = run(f"kvm-metrics -o {tmp_path}/no/where")
    assert done.returncode == 2
    assert "cannot be written\n  why:  No such file or directory\n" in done.stderr
    assert run("kvm-metrics -o /dev/null").returncode == 2


def test_without_the_service_the_file_says_that_it_is_down(tmp_path: Path) -> None:
    file = tmp_path / "kvm.prom"
    file.write_text("old numbers")
    done = run(f"kvm-metrics -o {file}")
    assert done.returncode == 8
    assert "kvm-metrics: kldload-kvmd cannot be reached" in done.stderr
    assert [line for line in file.read_text().splitlines() if line[0] != "#"] == ["kldload_kvm_up 0.0"]
    assert run(f"kvm-metrics -o {tmp_path}/no/where").returncode == 2
    assert (run("kvm-metrics").returncode, run("kvm-metrics").stdout) == (8, "")


# Exports.


def test_a_disk_is_exported_into_a_new_file(standin: Standin, tmp_path: Path) -> None:
    done = run("kvm-export web-1 -o web-1.qcow2", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "vda of web-1@clone-20260401_153022 written to web-1.qcow2 (8B, of a disk of 40G)\n"
    assert (tmp_path / "web-1.qcow2").read_bytes() == b"the disk"
    assert stat.S_IMODE((tmp_path / "web-1.qcow2").stat().st_mode) == 0o600
    run("kvm-export web-1 @stable -o second --format raw --disk vdb", cwd=tmp_path)
    assert options(standin, "Export") == {"snapshot": "stable", "format": "raw", "target": "vdb"}


def test_a_file_that_is_there_is_not_overwritten(standin: Standin, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    done = run("kvm-export web-1 -o precious", cwd=tmp_path)
    assert done.returncode
    assert done.stderr.startswith("kvm-export: 'precious' is there already")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert run("kvm-export web-1 -o no/such/place", cwd=tmp_path).stderr.startswith("kvm-export: 'no/such/place'")


def test_an_export_to_standard_output_has_nothing_else_in_it(standin: Standin) -> None:
    done = run("kvm-export web-1 --json -o -")
    assert (done.returncode, done.stdout, done.stderr) == (0, "the disk", "")


def test_of_an_export_that_fails_or_is_only_planned_no_file_is_left(standin: Standin, tmp_path: Path) -> None:
    standin.add_vm("denied")
    assert run("kvm-export denied -o file", cwd=tmp_path).returncode
    assert run("kvm-export web-1 -o file --dry-run", cwd=tmp_path).returncode == 0
    assert list(tmp_path.iterdir()) == []


# The host.


def test_a_host_on_which_nothing_is_found(standin: Standin) -> None:
    assert said("kvm-host check") == "nothing was found\n"
    assert json.loads(said("kvm-host check --json")) == []


def test_what_is_found_is_told_with_what_to_do(standin: Standin) -> None:
    standin.findings = [standin.finding("pool-full", "error", "97 % of it are in use")]
    done = run("kvm-host check")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        "SEVERITY  ID         OBJECT  FOUND",
        "error     pool-full  rpool   97 % of it are in use",
        "",
        "pool-full: mend pool-full",
        "",
        "kvm-host explain ID tells why each matters.",
    ]
    assert json.loads(run("kvm-host check --json").stdout)[0]["todo"] == "mend pool-full"
    assert run("kvm-host check --quiet").returncode == 1


def test_a_notice_is_no_failure(standin: Standin) -> None:
    standin.findings = [standin.finding("pool-autotrim", "notice", "off")]
    assert run("kvm-host check").returncode == 0
    assert options(standin, "Check") == {}
    run("kvm-host check --severity warning")
    assert options(standin, "Check") == {"severity": "warning"}


@pytest.mark.parametrize(
    ("asked", "said_"),
    [
        ("kvm-host explain arc-unlimited", "OpenZFS 2.3 raised the default limit"),
        ("kvm-explain HasClones", "Clones share their origin's blocks"),
        ("kvm-explain org.kldload.Kvm1.Error.HasClones", "Clones share their origin's blocks"),
        ("kvm-explain 88b376a4585b4f81aff2795640322fa9", "A job on virtual machines has failed"),
        ("kvm-explain 88B376A4-585B-4F81-AFF2-795640322FA9", "A job on virtual machines has failed"),
    ],
)
def test_explaining_needs_no_service(asked: str, said_: str) -> None:
    assert said_ in " ".join(said(asked).split())


def test_what_is_not_known_cannot_be_explained() -> None:
    done = run("kvm-explain arc-unlimitd")
    assert done.returncode == 4
    assert "did you mean arc-unlimited?" in done.stderr


def test_why_a_vm_does_not_start(standin: Standin) -> None:
    standin.causes = [standin.finding("guest-file-missing", "error", "there is no /isos/a.iso")]
    assert said("kvm-vm why web-1") == (
        "error: there is no /isos/a.iso (guest-file-missing)\n  why:  It matters.\n  hint: mend guest-file-missing\n"
    )
    assert json.loads(said("kvm-vm why web-1 --json"))[0]["id"] == "guest-file-missing"


def test_a_bridge_is_confirmed_from_elsewhere(standin: Standin) -> None:
    making = subprocess.Popen(
        command("kvm-host bridge br7 --port eth7 --within 90"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment(),
    )  # fmt: skip
    assert making.stderr
    assert making.stderr.readline() == ("kvm-host: br7 is being tried; to keep it: kvm-host bridge br7 --confirm\n")
    assert said("kvm-host bridge br7 --confirm") == "br7 is kept\n"
    assert making.communicate(timeout=30) == (
        "br7 is kept, on eth7; VMs get it by --network bridge=br7, or all new ones by kvm.conf\n", ""
    )  # fmt: skip
    assert options(standin, "CreateBridge") == {"confirm-within": 90}


def test_a_bridge_is_confirmed_by_enter_where_it_was_asked_for(standin: Standin) -> None:
    typed = Typed("kvm-host bridge br0 --port eth7")
    typed.type("\n")  # before it is asked for: no answer
    typed.until("Press Enter within 60 s to keep it")
    time.sleep(1.2)
    assert standin.confirmed == set()
    typed.type("\n")
    assert typed.end() == 0
    assert standin.confirmed == {"br0"}
    assert b"br0 is kept, on eth7; new VMs get it" in typed.output


def test_with_yes_nobody_is_asked_and_ctrl_c_takes_it_back(standin: Standin) -> None:
    typed = Typed("kvm-host bridge br0 --port eth7 --yes")
    typed.until("kvm-host bridge br0 --confirm")
    typed.type("\n")
    time.sleep(1.2)
    typed.type("\x03")
    typed.until("cancelled; what had been done was undone")
    assert typed.end() == 130
    assert standin.confirmed == set()


def test_a_bridge_needs_a_card(standin: Standin) -> None:
    done = run("kvm-host bridge br0")
    assert done.returncode == 2
    assert "write: kvm-host bridge br0 --port CARD" in done.stderr
    assert json.loads(said("kvm-host bridge br0 --port eth7 --no-wait --json"))["job"]
    assert "await br9" in said("kvm-host bridge br9 --port eth7 --dry-run --quiet")
