"""What others do to the VM web-1 and its volumes: virsh, virt-install, virt-clone, virt-xml, zfs, sanoid and
syncoid, as an administrator would call them. Each is a row of tests/lab/matrix_table.md, under the same name.
"""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from host import DEVICE, run, wait_until, zfs

Done = subprocess.CompletedProcess[str]
FILE = Path("/var/tmp/life.xml")
OVERLAY = Path("/var/lib/libvirt/images/life-overlay.qcow2")
SANOID, SENT = Path("/run/life-sanoid"), "vmpool/vms/web-1"
COPIES = "vmpool/copies"
DISK = "rpool/vms/web-1"
SIZE = "64M"
GIVEN_UP = 180


@dataclass(frozen=True)
class Action:
    """do: the command whose outcome counts, or several, of which the first that fails does; prepare: what is there
    before, by others too."""

    do: Callable[[], Done]
    prepare: Callable[[], object] = lambda: None


def tried(*command: str, stdin: str = "") -> Done:
    return run(*command, check=False, timeout=GIVEN_UP, stdin=stdin)


def one(*command: str) -> Callable[[], Done]:
    return lambda: tried(*command)


def in_turn(*several: Callable[[], Done]) -> Callable[[], Done]:
    def do() -> Done:
        for each in several:
            if (done := each()).returncode:
                break
        return done

    return do


# -- definitions -------------------------------------------------------------------------------------------------------


def definition() -> ET.Element:
    return ET.fromstring(run("virsh", "dumpxml", "--inactive", "--security-info", "web-1").stdout)


def given(verb: str, domain: ET.Element) -> Done:
    """virsh define or create of that."""
    FILE.write_text(ET.tostring(domain, encoding="unicode"))
    return tried("virsh", verb, str(FILE))


def with_more_vcpus() -> ET.Element:
    domain = definition()
    vcpu = domain.find("vcpu")
    assert vcpu is not None
    vcpu.set("current", "2")
    return domain


def another() -> ET.Element:
    """A domain of another name on the same volumes."""
    domain = definition()
    for each in domain.findall("uuid"):
        domain.remove(each)
    name = domain.find("name")
    assert name is not None
    name.text = "web-2"
    for mac in domain.iter("interface"):
        for each in mac.findall("mac"):
            mac.remove(each)
    return domain


def is_running() -> bool:
    return run("virsh", "domstate", "web-1").stdout.strip() in ("running", "paused")


def save_if_it_runs() -> None:
    if is_running():
        run("virsh", "managedsave", "web-1")


def snapshot_metadata() -> Done:
    """A snapshot that libvirt is only told of: of whatever domain was defined under that name."""
    whole = ET.tostring(definition(), encoding="unicode")
    FILE.write_text(
        "<domainsnapshot><name>told</name><state>shutoff</state><creationTime>1700000000</creationTime>"
        f"<memory snapshot='no'/>{whole}</domainsnapshot>"
    )
    return tried("virsh", "snapshot-create", "web-1", str(FILE), "--redefine")


def undefined_and_defined() -> Done:
    whole = definition()
    return in_turn(one("virsh", "undefine", "web-1", "--keep-nvram"), lambda: given("define", whole))()


def undefine(*flags: str) -> Callable[[], Done]:
    return one("virsh", "undefine", "web-1", *flags)


# -- zfs ---------------------------------------------------------------------------------------------------------------


def create_volume() -> Done:
    done = tried("zfs", "create", "-s", "-V", SIZE, "rpool/vms/web-2")
    wait_until(Path(f"{DEVICE}web-2").exists, 30, "the device appears")
    return done


def sanoid_configured() -> None:
    """It remembers for 20 minutes what snapshots there are, those of the cell before too."""
    for file in Path("/var/cache/sanoid").glob("*"):
        file.unlink()
    SANOID.mkdir(exist_ok=True)
    (SANOID / "sanoid.defaults.conf").write_bytes(Path("/usr/share/sanoid/sanoid.defaults.conf").read_bytes())
    keep = "\n".join(f"{unit} = 0" for unit in ("frequently", "daily", "weekly", "monthly", "yearly"))
    (SANOID / "sanoid.conf").write_text(
        "[rpool/vms]\nuse_template = all\nrecursive = yes\nprocess_children_only = yes\n\n"
        f"[template_all]\nhourly = 2\n{keep}\nautosnap = yes\nautoprune = yes\n"
    )


def copies_are_there() -> None:
    if f"{COPIES}" not in zfs("list", "-H", "-o", "name"):
        run("zfs", "create", "-o", "mountpoint=none", "-o", "volmode=dev", COPIES)


def syncoid(target: str, *options: str) -> Callable[[], Done]:
    return one("syncoid", "--no-privilege-elevation", *options, DISK, target)


# -- virt-install ------------------------------------------------------------------------------------------------------


def virt_install(volume: str, *more: str) -> Callable[[], Done]:
    return one(
        "virt-install", "--name", "web-2", "--virt-type", "qemu", "--memory", "128", "--vcpus", "1", "--osinfo",
        "generic", "--import", "--disk", f"path={DEVICE}{volume}", "--network", "none", "--graphics", "none",
        "--noautoconsole", *more,
    )  # fmt: skip


ACTIONS: Mapping[str, Action] = {
    "virsh define": Action(lambda: given("define", with_more_vcpus())),
    "virsh define under another name": Action(lambda: given("define", another())),
    "virsh edit": Action(
        one("env", "EDITOR=sed -i \"s|current='1'|current='2'|\"", "virsh", "edit", "web-1"),
    ),
    "virsh setvcpus --config": Action(one("virsh", "setvcpus", "web-1", "2", "--config")),
    "virsh autostart": Action(one("virsh", "autostart", "web-1")),
    "virsh domrename": Action(one("virsh", "domrename", "web-1", "shop")),
    "virsh undefine": Action(undefine()),
    "virsh undefine --keep-nvram": Action(undefine("--keep-nvram")),
    "virsh undefine --nvram": Action(undefine("--nvram")),
    "virsh undefine --managed-save": Action(undefine("--managed-save", "--keep-nvram"), save_if_it_runs),
    "virsh undefine --snapshots-metadata": Action(
        undefine("--snapshots-metadata", "--checkpoints-metadata", "--keep-nvram"), snapshot_metadata,
    ),
    "virsh undefine --remove-all-storage": Action(undefine("--remove-all-storage", "--nvram")),
    "virsh undefine, then destroy": Action(in_turn(undefine("--keep-nvram"), one("virsh", "destroy", "web-1"))),
    "virsh undefine, define at once": Action(undefined_and_defined),
    "virsh undefine of one that borrowed its volumes": Action(
        one("virsh", "undefine", "web-2", "--keep-nvram"), lambda: given("define", another()),
    ),
    "virsh start": Action(one("virsh", "start", "web-1")),
    "virsh start of another on its volumes": Action(
        one("virsh", "start", "web-2"), lambda: given("define", another()),
    ),
    "virsh create": Action(lambda: given("create", definition())),
    "virsh create under another name": Action(lambda: given("create", another())),
    "virsh destroy": Action(one("virsh", "destroy", "web-1")),
    "virsh managedsave": Action(one("virsh", "managedsave", "web-1")),
    "virsh managedsave, then start": Action(
        in_turn(one("virsh", "managedsave", "web-1"), one("virsh", "start", "web-1")),
    ),
    "virsh snapshot-create-as": Action(one("virsh", "snapshot-create-as", "web-1", "told")),
    "virsh snapshot-create-as --disk-only": Action(
        one("virsh", "snapshot-create-as", "web-1", "told", "--disk-only", "--diskspec", f"vda,file={OVERLAY}"),
    ),
    "virsh snapshot-create --redefine": Action(snapshot_metadata),
    "virt-install on a volume of its own": Action(virt_install("web-2"), create_volume),
    "virt-install on its disk": Action(virt_install("web-1")),
    "virt-install on its disk, unchecked": Action(virt_install("web-1", "--check", "path_in_use=off")),
    "virt-clone": Action(
        one("virt-clone", "--original", "web-1", "--name", "web-2", "--file", f"{DEVICE}web-2", "--check",
            "path_exists=off"), create_volume,
    ),
    "virt-xml --edit": Action(one("virt-xml", "web-1", "--edit", "--vcpus", "2,maxvcpus=4")),
    "virt-xml --remove-device": Action(one("virt-xml", "web-1", "--remove-device", "--disk", "target=vda")),
    "zfs create": Action(create_volume),
    "zfs snapshot": Action(one("zfs", "snapshot", f"{DISK}@by-hand")),
    "zfs destroy of a snapshot": Action(one("zfs", "destroy", f"{DISK}@stable")),
    "zfs destroy": Action(one("zfs", "destroy", DISK)),
    "zfs destroy -r": Action(one("zfs", "destroy", "-r", DISK)),
    "zfs rename": Action(one("zfs", "rename", DISK, "rpool/vms/moved")),
    "zfs rename out of the storage": Action(one("zfs", "rename", DISK, "rpool/moved")),
    "zfs rollback": Action(one("zfs", "rollback", f"{DISK}@stable")),
    "zfs set volsize": Action(one("zfs", "set", "volsize=128M", DISK)),
    "zfs set compression": Action(one("zfs", "set", "compression=zstd", DISK)),
    "zfs clone": Action(one("zfs", "clone", f"{DISK}@stable", "rpool/vms/web-2")),
    "zfs send -p, received beside it": Action(
        one("sh", "-c", f"zfs send -p {DISK}@stable | zfs receive rpool/vms/web-2"),
    ),
    "sanoid": Action(one("sanoid", "--configdir", str(SANOID), "--cron", "--verbose"), sanoid_configured),
    "syncoid": Action(syncoid(f"{COPIES}/web-1"), copies_are_there),
    "syncoid with properties into a storage": Action(syncoid(SENT, "--sendoptions=p")),
}  # fmt: skip


def left_by_others() -> None:
    """Take away what these actions leave outside the VM."""
    for name in ("rpool/moved", COPIES, SENT):
        if name in zfs("list", "-H", "-o", "name"):
            run("zfs", "destroy", "-r", name)
    OVERLAY.unlink(missing_ok=True)
