"""Clones: by one call of busctl, by the command, and ten in one call."""

from __future__ import annotations

import re
import time
from pathlib import Path

from pairs import Samples, pairs, settled, show

from host import call, find, run, undefine, wait_until

SOURCE, PAGE = "bench", "page"
NVRAM = "/var/lib/libvirt/qemu/nvram"


def make_source() -> None:
    run("kvm-create", SOURCE, "--disk", "1G", "--ram", "256", "--cpus", "1")


def one_call(count: int) -> Samples:
    path = find(SOURCE)
    for number in range(count):
        write_definition(f"f{number}")
    samples = pairs(
        count,
        lambda n: clone(path, f"o{n}"),
        lambda n: plain_clone(f"f{n}"),
        lambda n: forget(f"o{n}", f"f{n}"),
    )
    show("clone by busctl", samples, "zfs snapshot, zfs clone of each volume, virsh define", 1.25)
    return samples


def command(count: int) -> Samples:
    make_page()
    samples = pairs(
        count,
        lambda n: run("kvm-clone", SOURCE, f"o{n}"),
        lambda n: seed_page_clone(f"p{n}"),
        lambda n: forget(f"o{n}", f"p{n}"),
    )
    show("kvm-clone", samples, "zfs snapshot, zfs clone, virt-clone --preserve-data", 0.4)
    run("virsh", "pool-destroy", "nvram", check=False)  # virt-clone makes it, and would meet it on the next run
    return samples


def ten(count: int) -> Samples:
    path = find(SOURCE)
    names = [[f"t{number}x{each}" for each in range(10)] for number in range(count)]
    for name in (each for batch in names for each in batch):
        write_definition(f"{name}f")
    samples = pairs(
        count,
        lambda n: clone(path, *names[n]),
        lambda n: [plain_clone(f"{name}f") for name in names[n]],
        lambda n: forget(*names[n], *(f"{name}f" for name in names[n])),
    )
    show("ten clones in one call", samples, "ten times the floor of one", 1.0)
    return samples


def clone(path: str, *names: str) -> None:
    call(path, "Vm", "Clone", "asa{sv}", str(len(names)), *names, "1", "wait", "b", "true")


def plain_clone(name: str) -> None:
    """What a clone cannot do without: one snapshot of all volumes, one clone of each, and the domain's definition."""
    stamp = f"floor-{name}"
    disk, nvram = f"rpool/vms/{SOURCE}", f"rpool/vms/{SOURCE}.nvram"
    run("zfs", "snapshot", f"{disk}@{stamp}", f"{nvram}@{stamp}")
    run("zfs", "clone", f"{disk}@{stamp}", f"rpool/vms/{name}")
    run("zfs", "clone", f"{nvram}@{stamp}", f"rpool/vms/{name}.nvram")
    run("virsh", "define", f"/var/tmp/{name}.xml")


def definition(name: str) -> str:
    """The source's domain, as another's of that name."""
    xml = run("virsh", "dumpxml", "--inactive", SOURCE).stdout
    xml = re.sub(r"<uuid>.*</uuid>|<mac address=.*/>", "", xml)
    return xml.replace(f"rpool/vms/{SOURCE}", f"rpool/vms/{name}").replace(f"<name>{SOURCE}<", f"<name>{name}<")


def write_definition(name: str) -> None:
    """Prepares the floor's XML, outside of the time that is measured."""
    Path(f"/var/tmp/{name}.xml").write_text(definition(name))


def make_page() -> None:
    """A VM as the founding page has them: its disk a zvol, its UEFI variables a file. virt-clone cannot copy a source's
    variables that are a block device."""
    run("zfs", "create", "-s", "-V", "1G", f"rpool/vms/{PAGE}")
    nvram = f"{NVRAM}/{PAGE}_VARS.fd"
    run("install", "-o", "libvirt-qemu", "-m", "600", "/usr/share/OVMF/OVMF_VARS_4M.fd", nvram)
    xml = re.sub(r"<nvram.*?</nvram>", f"<nvram>{nvram}</nvram>", definition(PAGE), flags=re.DOTALL)
    run("virsh", "define", "/dev/stdin", stdin=xml)


def seed_page_clone(name: str) -> None:
    """The founding page's recipe, with the option without which virt-clone copies every byte."""
    disk = f"rpool/vms/{PAGE}"
    run("zfs", "snapshot", f"{disk}@page-{name}")
    run("zfs", "clone", f"{disk}@page-{name}", f"rpool/vms/{name}")
    wait_until(lambda: Path(f"/dev/zvol/rpool/vms/{name}").exists(), 60, "the device appears")
    run("virt-clone", "--original", PAGE, "--name", name, "--file", f"/dev/zvol/rpool/vms/{name}", "--preserve-data")


def forget(*names: str) -> None:
    """Take clones away again, by plain commands, and let the service see it."""
    for name in names:
        for volume in (f"rpool/vms/{name}", f"rpool/vms/{name}.nvram"):
            for _ in range(40):
                done = run("zfs", "destroy", volume, check=False)
                if not done.returncode or "does not exist" in done.stderr:
                    break
                time.sleep(0.25)
        undefine(name)
        Path(f"{NVRAM}/{name}_VARS.fd").unlink(missing_ok=True)
    settled()
