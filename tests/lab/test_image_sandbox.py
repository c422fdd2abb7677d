"""What the image helper's units hold, told by other programs in the helper's place, and what is believed of those."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import image_files as files
from host import changed, run, settled, wait_until

RUNS = Path("/run/kldload-kvm/image")
VOLUMES = ("rpool/vms/lab-own", "rpool/vms/lab-other")
pytestmark = pytest.mark.slow

PROBE = """
import ctypes, errno, json, mmap, os, socket, stat, sys

def tried(act):
    try:
        act()
    except OSError as fault:
        return errno.errorcode[fault.errno]
    return "done"

status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
node = "/dev/" + sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)

def unshared():
    if libc.unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "")

json.dump({
    "disks": [name for name in os.listdir("/dev") if stat.S_ISBLK(os.lstat("/dev/" + name).st_mode)],
    "processes": [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()],
    "uid": os.getuid(),
    "capabilities": [int(status[each], 16) for each in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd")],
    "no-new-privileges": status["NoNewPrivs"].strip(),
    "seccomp": status["Seccomp"].strip(),
    "read its image": tried(lambda: os.close(os.open("/proc/self/fd/0", os.O_RDONLY))),
    "open its volume": tried(lambda: os.close(os.open(node, os.O_RDWR))),
    "open its image for writing": tried(lambda: os.open("/proc/self/fd/0", os.O_RDWR)),
    "write to its image": tried(lambda: os.write(0, b"x")),
    "make the node of another volume": tried(lambda: os.mknod("/tmp/x", 0o600 | stat.S_IFBLK, int(sys.argv[2]))),
    "reach the network": tried(lambda: socket.socket(socket.AF_INET)),
    "reach a local service": tried(lambda: socket.socket(socket.AF_UNIX)),
    "see the bus": tried(lambda: os.stat("/run/dbus/system_bus_socket")),
    "write to /usr": tried(lambda: open("/usr/x", "w")),
    "read /etc/passwd": tried(lambda: open("/etc/passwd")),
    "see images": tried(lambda: os.listdir("/var/lib/libvirt")),
    "make a namespace": tried(unshared),
    "become root": tried(lambda: os.setuid(0)),
    "signal the first process": tried(lambda: os.kill(1, 0)),
    "run what it wrote": tried(lambda: mmap.mmap(-1, 4096, prot=7)),
}, sys.stdout)
"""
FORBIDDEN = [
    "open its image for writing",
    "write to its image",
    "make the node of another volume",
    "reach the network",
    "reach a local service",
    "see the bus",
    "write to /usr",
    "read /etc/passwd",
    "see images",
    "make a namespace",
    "become root",
    "signal the first process",
    "run what it wrote",
]


@contextmanager
def in_its_place(unit: str, program: str) -> Iterator[None]:
    """Another program in the helper's place, in the same sandbox."""
    path = Path(f"/run/systemd/system/{unit}.d/lab.conf")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[Service]\nExecStart=\nExecStart={program}\n")
    run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        path.unlink()
        run("systemctl", "daemon-reload")


def coded(text: str) -> str:
    """A text that systemd's command lines leave as it is."""
    return base64.b64encode(text.encode()).decode()


@pytest.fixture(scope="module")
def seen() -> dict[str, object]:
    """What a program sees and can do where the helper converts."""
    for volume in VOLUMES:
        run("zfs", "create", "-s", "-V", "64M", "-o", "volmode=dev", volume)
    run("udevadm", "settle")
    own, other = (Path(f"/dev/zvol/{volume}") for volume in VOLUMES)
    instance, source = own.resolve().name, files.create(Path("/var/tmp/lab-probe.qcow2"))
    (RUNS / f"{instance}.json").write_text("{}")
    (RUNS / f"{instance}.source").symlink_to(source)
    program = f"import base64; exec(base64.b64decode('{coded(PROBE)}'))"
    try:
        with in_its_place(
            "kldload-kvm-convert@.service", f'/usr/bin/python3 -I -c "{program}" {instance} {other.stat().st_rdev}'
        ):
            run("systemctl", "start", f"kldload-kvm-convert@{instance}.service")
        return dict(json.loads((RUNS / f"{instance}.status").read_text()))
    finally:
        for path in RUNS.glob(f"{instance}.*"):
            path.unlink()
        source.unlink()
        for volume in VOLUMES:
            wait_until(lambda v=volume: not run("zfs", "destroy", v, check=False).returncode, 30, f"{volume} is gone")


def test_the_helper_is_nobody(seen: dict[str, object]) -> None:
    assert seen["uid"] != 0
    assert seen["capabilities"] == [0, 0, 0, 0, 0]
    assert (seen["no-new-privileges"], seen["seccomp"]) == ("1", "2")


def test_the_helper_has_its_image_and_its_volume(seen: dict[str, object]) -> None:
    assert (seen["read its image"], seen["open its volume"]) == ("done", "done")


def test_the_helper_sees_no_other_disk_or_process(seen: dict[str, object]) -> None:
    assert len(list(seen["disks"])) == 1  # type: ignore[call-overload]
    assert seen["processes"] == []


@pytest.mark.parametrize("act", FORBIDDEN)
def test_the_helper_cannot(seen: dict[str, object], act: str) -> None:
    assert seen[act] != "done"


@pytest.fixture(scope="module")
def other() -> Iterator[Path]:
    """The script that runs in the place of the helper that reads an image, where its sandbox lets it be read."""
    script = Path("/usr/local/lib/kldload-lab-helper")
    try:
        with in_its_place("kldload-kvm-inspect@.service", f"/usr/bin/sh {script}"):
            yield script
    finally:
        script.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("echo garbage", "what it never says"),
        ("yes", "what it never says"),
        ("kill -9 $$", "ended without an answer"),
        ('echo \'{"result": {"format": "qcow2", "virtual_size": 99999999999999999}}\'', "what it never says"),
        ('echo \'{"error": {"name": "NotAuthorized", "what": "", "why": "", "hint": ""}}\'', "what it never says"),
    ],
)
def test_a_helper_taken_over_is_not_believed(other: Path, tmp_path: Path, does: str, said: str) -> None:
    other.write_text(does)
    before = settled()
    done = run("kvm-image", "add", str(files.create(tmp_path / "lab-web.qcow2")), check=False)
    assert said in done.stderr
    wait_until(lambda: changed(before) <= {"files", "mark"}, 60, "all is as it was, but for the journal")
    assert list(RUNS.iterdir()) == []
