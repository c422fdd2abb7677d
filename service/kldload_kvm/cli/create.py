"""kvm-create: a VM with its disk, from nothing, an ISO or an image."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..model.errors import AlreadyExists, InvalidArgument, NotFound
from ..model.names import vm_name
from ..model.sizes import GIB, MIB
from .common import Command, run
from .image import in_store
from .options import Parser, add_common, completed, count, size
from .password import ask_hash, read_hash

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
  kvm-create myvm                              2G memory, 2 CPUs, a blank disk of 20G
  kvm-create webserver --ram 4096 --cpus 4 --disk 40
  kvm-create testbox --iso /var/lib/libvirt/isos/debian-13.iso --os debian13
  kvm-create web-1 --image debian-13.qcow2 --disk 40G --ssh-key ~/.ssh/id_ed25519.pub
  kvm-create base --image debian-13.qcow2 --template
  kvm-create db-1 --storage vmpool --volblocksize 16K --dry-run"""

DESCRIPTION = """\
Create a VM: its disk, its UEFI variables and its libvirt domain.

With --iso or --image it is started, as there is something to boot; with a blank disk it is not. An ISO or an image is
named as in the store, or by its path; a file that is not in the store yet is added to it first."""


def parser() -> argparse.ArgumentParser:
    made = Parser("kvm-create", description=DESCRIPTION, examples=EXAMPLES)
    made.add_argument("name", metavar="NAME", help="its name")
    machine = made.add_argument_group("the machine")
    machine.add_argument(
        "--ram", type=size(MIB), metavar="SIZE", help="memory, as 8G or 512M; a bare number is in MiB (2G)"
    )
    machine.add_argument("--cpus", type=count, metavar="N", help="virtual CPUs (2)")
    machine.add_argument("--os", metavar="ID", help="operating system, as a short id of osinfo-db: debian13, win11")
    machine.add_argument("--network", metavar="NET", help="bridge=NAME, network=NAME or none")
    machine.add_argument("--autostart", action="store_true", default=None, help="start it when the host boots")
    machine.add_argument(
        "--template", action="store_true", default=None, help="make it a template, to be cloned and never started"
    )
    start = machine.add_mutually_exclusive_group()
    start.add_argument("--start", action="store_true", default=None, help="start it, even with a blank disk")
    start.add_argument("--no-start", action="store_false", dest="start", help="do not start it")
    disk = made.add_argument_group("the disk")
    disk.add_argument(
        "--disk", type=size(GIB), metavar="SIZE", help="its size; a bare number is in GiB (20G, or the image's)"
    )
    medium = disk.add_mutually_exclusive_group()
    completed(
        "image-or-file",
        medium.add_argument("--iso", metavar="ISO", help="install from this ISO: a name in the store, or a path"),
    )
    completed(
        "image-or-file",
        medium.add_argument("--image", metavar="IMAGE", help="fill the disk with this image: a name or a path"),
    )
    disk.add_argument("--storage", help="the storage for it")
    disk.add_argument("--volblocksize", type=size(1), metavar="SIZE", help="block size, 4K to 128K (as suits the pool)")
    disk.add_argument("--compression", metavar="ALGORITHM", help="ZFS compression (lz4)")
    guest = made.add_argument_group("the guest of an image")
    guest.add_argument("--hostname", help="its host name (NAME)")
    guest.add_argument("--user", help="a login to create")
    keys = guest.add_argument(
        "--ssh-key", action="append", default=[], metavar="KEY", dest="ssh_keys",
        help="public key that may log in, or a file of such; may be given several times",
    )  # fmt: skip
    completed("file", keys)
    secret = guest.add_mutually_exclusive_group()
    secret.add_argument("--password", action="store_true", help="ask for the user's password on the terminal")
    hashes = secret.add_argument(
        "--password-hash", metavar="FILE", help="file with the password's crypt(5) hash; - is standard input"
    )
    completed("file", hashes)
    add_common(made, changes=True)
    return made


def main() -> int:
    return run(parser(), create)


def create(command: Command) -> int:
    args = command.args
    keys = [key for given in args.ssh_keys for key in public_keys(given)]
    password = ask_hash() if args.password else read_hash(args.password_hash) if args.password_hash else None
    if args.iso or args.image:
        check_name(command)
    boots = bool(args.iso or args.image) and not args.template
    start = partial(
        command.manager.create_vm,
        args.name,
        memory=args.ram,
        vcpus=args.cpus,
        disk=args.disk,
        storage=args.storage,
        iso=in_store(command, args.iso, args.storage) if args.iso else None,
        image=in_store(command, args.image, args.storage) if args.image else None,
        os=args.os,
        network=args.network,
        volblocksize=args.volblocksize,
        compression=args.compression,
        hostname=args.hostname,
        user=args.user,
        ssh_keys=keys or None,
        password_hash=password,
        start=(boots if args.start is None else args.start) or None,
        autostart=args.autostart,
        template=args.template,
    )
    return command.operate(start, partial(created, args))


def check_name(command: Command) -> None:
    """Before a file of gigabytes is copied for a VM that would be refused. Raises InvalidArgument, AlreadyExists."""
    name = vm_name(command.args.name)
    with suppress(NotFound):
        command.manager.find_vm(name)
        raise AlreadyExists(f"{name} was not created", "there is a VM of that name", "choose another name")


def created(args: argparse.Namespace, result: dict[str, Any]) -> str:
    name = result["name"]
    if args.template:
        return f"the template {name} created\nClone it: kvm-clone {name} NAME"
    if args.start or (args.start is None and (args.iso or args.image)):
        reach = f"its screen is at: kvm-vm vnc {name}" if args.iso else f"its console is at: kvm-vm console {name}"
        return f"{name} created and started; {reach}"
    why = "" if args.start is False else ", as its disk is blank"
    return f"{name} created, and not started{why}\nStart it: kvm-vm start {name}"


def public_keys(given: str) -> list[str]:
    """The SSH public keys in a file, or the one given itself; the service checks them. Raises InvalidArgument."""
    if _is_key(given):
        return [given]
    try:
        with Path(given).expanduser().open(encoding="utf-8") as file:
            text = file.read(1 << 20)
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it cannot be read"
        raise InvalidArgument("--ssh-key is neither a public key nor a file with one", why) from error
    if "PRIVATE KEY" in text:
        raise InvalidArgument(f"{given} is a private key", "it must not leave this machine", f"give {given}.pub")
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise InvalidArgument(f"there is no public key in {given}", hint="see: ssh-keygen(1)")
    return keys


def _is_key(text: str) -> bool:
    return text.startswith(("ssh-", "ecdsa-", "sk-")) and " " in text
