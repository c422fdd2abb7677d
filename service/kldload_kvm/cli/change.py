"""What kvm-vm changes of a VM: the size and number of its disks, its network cards, memory and CPUs,
and its name."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ..model.errors import InvalidArgument, NotFound
from ..model.sizes import GIB, MIB, format_size
from .options import add_common, add_vm, count, size

if TYPE_CHECKING:
    import argparse

    from ..client.api import Vm
    from .common import Command, Start

EXAMPLES = """\
  kvm-vm resize web-1 60                       its first disk to 60 GiB; the guest sees it at once
  kvm-vm resize web-1 +10G --disk vdb
  kvm-vm attach-disk web-1 100G
  kvm-vm detach-disk web-1 vdb                 its volume goes to the trash
  kvm-vm attach-nic web-1 --network bridge=br0
  kvm-vm set web-1 --ram 8G --cpus 4           now if its guest takes it, else at its next boot
  kvm-vm set db-1 --primarycache all --compression zstd
  kvm-vm rename web-1 shop                     a VM that is off, with its volumes"""

RESIZE = """\
Grow a disk, at once if the VM runs: its guest sees the new size, and has to grow partitions and file systems itself.
A disk cannot be made smaller."""
ATTACH_DISK = "Add a blank disk, at once if the VM runs."
DETACH_DISK = """\
Take a disk from a VM; its volume goes to the trash. A running guest is asked to let go of it first, and must know
hot-plug. The first disk cannot be taken."""
ATTACH_NIC = "Add a network card, at once if the VM runs."
SET = """\
Change a VM's memory and CPUs, and how ZFS keeps its disks from now on. A running guest gets memory and CPUs at once if
it has room for them and goes along, and at its next boot if not; it is told which, and why."""
RENAME = """\
Give a VM that is off another name: its volumes, with their snapshots, and its libvirt domain. What is in its guest,
such as its host name, stays."""
DETACH_NIC = "Remove a network card. A running guest is asked to let go of it first, and must know hot-plug."

GROW_INSIDE = "what is on it is to be grown in the guest (growpart, resize2fs …)"


def add_actions(actions: argparse._SubParsersAction[Any]) -> None:
    """Add the actions to kvm-vm's."""
    resize = actions.add_parser("resize", help="grow a disk", description=RESIZE)
    add_vm(resize, text="the VM")
    resize.add_argument("size", type=new_size, metavar="SIZE", help="its new size, or +SIZE more; bare is in GiB")
    resize.add_argument("--disk", default="vda", metavar="DISK", help="which one, such as vdb (vda)")
    disk = actions.add_parser("attach-disk", help="add a blank disk", description=ATTACH_DISK)
    add_vm(disk, text="the VM")
    disk.add_argument("size", type=size(GIB), metavar="SIZE", help="its size; a bare number is in GiB")
    disk.add_argument("--disk", metavar="DISK", help="what the guest has it as, vdb to vdz (the next that is free)")
    disk.add_argument("--volblocksize", type=size(1), metavar="SIZE", help="block size, 4K to 128K")
    disk.add_argument("--compression", metavar="ALGORITHM", help="ZFS compression")
    gone = actions.add_parser("detach-disk", help="take a disk from a VM, into the trash", description=DETACH_DISK)
    add_vm(gone, text="the VM")
    gone.add_argument("disk", metavar="DISK", help="which one, such as vdb")
    nic = actions.add_parser("attach-nic", help="add a network card", description=ATTACH_NIC)
    add_vm(nic, text="the VM")
    nic.add_argument("--network", metavar="NET", help="bridge=NAME or network=NAME")
    card = actions.add_parser("detach-nic", help="remove a network card", description=DETACH_NIC)
    add_vm(card, text="the VM")
    card.add_argument("mac", metavar="MAC", help="its MAC address")
    settings = actions.add_parser("set", help="change memory, CPUs and how ZFS keeps the disks", description=SET)
    add_vm(settings, text="the VM")
    settings.add_argument("--ram", type=size(MIB), metavar="SIZE", help="memory; a bare number is in MiB")
    settings.add_argument("--cpus", type=count, metavar="N", help="virtual CPUs")
    settings.add_argument("--compression", metavar="ALGORITHM", help="ZFS compression, such as lz4, zstd or off")
    settings.add_argument("--primarycache", choices=("all", "metadata", "none"), help="what the host's memory caches")
    settings.add_argument("--refreservation", choices=("on", "off"), help="reserve room for the whole disks, or not")
    settings.add_argument("--disk", metavar="DISK", help="ZFS settings of this one only, such as vdb (all disks)")
    rename = actions.add_parser("rename", help="give a VM another name", description=RENAME)
    add_vm(rename, text="the VM")
    rename.add_argument("name", metavar="NAME", help="its new name")
    for each in (resize, disk, gone, nic, card, settings, rename):
        add_common(each, changes=True)


def act(command: Command, vm: Vm) -> int:
    """Do what the action says."""
    args, name = command.args, vm.name
    match args.action:
        case "resize":
            wanted = total(vm, args.disk, args.size)
            return command.operate(partial(vm.resize, args.disk, wanted), partial(resized, name, args.disk))
        case "attach-disk":
            settings = {"volblocksize": args.volblocksize, "compression": args.compression}
            attach = partial(vm.attach_disk, args.size, target=args.disk, **settings)
            return command.operate(attach, lambda r: f"{name} has a disk {r['target']} {r['applied']}: {r['dataset']}")
        case "detach-disk":
            return command.operate(partial(vm.detach_disk, args.disk), partial(detached, name))
        case "attach-nic":
            start = partial(vm.attach_nic, network=args.network)
            return command.operate(start, lambda r: f"{name} has a network card {r['mac']} {r['applied']}")
        case "detach-nic":
            told = f"{name} has no network card {args.mac} any more"
            return command.operate(partial(vm.detach_nic, args.mac), lambda _: told)
        case "set":
            return set_all(command, vm)
    return command.operate(partial(vm.rename, args.name), lambda r: f"{name} is {r['name']} now")


def set_all(command: Command, vm: Vm) -> int:
    """Change what was named, one after the other. Raises InvalidArgument if nothing was."""
    args = command.args
    wanted: list[tuple[Start, str]] = []
    if args.ram:
        wanted.append((partial(vm.set_memory, args.ram), f"{format_size(args.ram)} of memory"))
    if args.cpus:
        wanted.append((partial(vm.set_vcpus, args.cpus), f"{args.cpus} CPU{'s' if args.cpus > 1 else ''}"))
    options = {name: getattr(args, name) for name in ("compression", "primarycache", "refreservation")}
    if named := ", ".join(f"{name} {value}" for name, value in options.items() if value):
        wanted.append((partial(vm.set_storage_options, target=args.disk, **options), named))
    if not wanted:
        raise InvalidArgument("what shall be set?", hint="see: kvm-vm set --help")
    if args.disk and not named:
        raise InvalidArgument(f"what shall be set of {args.disk}?", hint="--disk goes with a setting of ZFS")
    if len(wanted) > 1 and args.no_wait:
        hint = "leave out --no-wait, or set one at a time"
        raise InvalidArgument("nothing was set", f"these are {len(wanted)} jobs, one after the other", hint)
    for start, _ in wanted[1:] * (not args.dry_run):  # what would be refused is, before the first is done
        start(plan_only=True).cancel()
    for start, words in wanted:
        if status := command.operate(start, partial(changed, f"{vm.name} has {words}")):
            return status
    return 0


def changed(what: str, result: dict[str, Any]) -> str:
    """Whether it is so now, or when it will be and why not at once."""
    why = f" ({result['reason']})" if result.get("reason") else ""
    return f"{what} {result.get('applied', 'now')}{why}"


def new_size(text: str) -> tuple[bool, int]:
    """A type for a size, or for how much more, beginning with '+': whether it is more, and bytes."""
    more = text.startswith("+")
    return more, size(GIB)(text[1:] if more else text)


def total(vm: Vm, disk: str, wanted: tuple[bool, int]) -> int:
    """The size that a disk is to have. Raises NotFound."""
    more, given = wanted
    if not more:
        return given
    sizes = {each["target"]: int(each["size"]) for each in vm.volumes if each["role"] == "disk"}
    if disk not in sizes:
        raise NotFound(f"{vm.name} has no disk {disk!r}", f"its disks: {', '.join(sizes) or 'none'}")
    return sizes[disk] + given


def resized(name: str, disk: str, result: dict[str, Any]) -> str:
    when = "its guest sees it; " if result["applied"] == "now" else ""
    return f"{disk} of {name} has {format_size(result['size'])} now; {when}{GROW_INSIDE}"


def detached(name: str, result: dict[str, Any]) -> str:
    return f"{result['target']} taken from {name}; its volume waits in the trash as {result['trash']}"
