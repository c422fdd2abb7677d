"""The demonstration: what a new user would type, shown with what comes of it. Any surprise ends it with an error."""

from __future__ import annotations

import sys
import time

sys.path.insert(0, "/opt/kldload-kvm/tests")
from host import GUEST, SETUP, agent_is_up, in_guest, nothing_on_the_bus, remove_everything, run, wait_until

CLONES = [f"web-{number}" for number in range(1, 11)]
BOOT_SECONDS = 900
BEGAN = time.monotonic()


def say(text: str) -> None:
    print(f"\n\033[1m# {text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)


def typed(line: str) -> str:
    """Type a command, and show it and what it answers."""
    print(f"$ {line}", flush=True)
    began = time.monotonic()
    out = run(*line.split()).stdout
    print(f"{out}({time.monotonic() - began:.1f} s)", flush=True)
    return out


def wait_for_guest(name: str) -> None:
    began = time.monotonic()
    wait_until(lambda: agent_is_up(name), BOOT_SECONDS, f"the guest agent of {name} answers")
    print(f"{name} has booted: its agent answers after {time.monotonic() - began:.0f} s", flush=True)


def digest(name: str) -> str:
    return in_guest(name, "sha256sum < /data/letter").split()[0]


def main() -> None:
    run("sh", "-c", SETUP)
    remove_everything()
    wait_until(nothing_on_the_bus, 60, "the service sees that there are no virtual machines")
    say("A virtual machine from an image, booted until its agent answers")
    if GUEST.name not in run("kvm-image", "list").stdout:
        typed(f"kvm-image add {GUEST}")
    typed(f"kvm-create template --image {GUEST.name} --ram 384 --cpus 1 --disk 1")
    wait_for_guest("template")

    say("A file in it, a snapshot, and the file ruined")
    in_guest("template", "head -c 1000000 /dev/urandom > /data/letter && sync")
    good = digest("template")
    print(f"sha256 of the file: {good}")
    typed("kvm-snap template create @stable")
    assert "app" in run("kvm-snap", "template", "list").stdout, "the guest was not frozen by its agent"
    in_guest("template", "echo ruined > /data/letter && sync")
    print(f"sha256 of the file: {digest('template')}")

    say("Rolled back, and booted again")
    typed("kvm-snap template rollback @stable --force")
    typed("kvm-vm start template")
    wait_for_guest("template")
    assert digest("template") == good, "the file is not what it was"
    print(f"sha256 of the file: {good}, as before")
    typed("kvm-vm shutdown template")

    say("Ten clones in one call, two of them booted, each with its own name")
    typed(f"kvm-clone template {' '.join(CLONES)}")
    for name in CLONES[:2]:
        typed(f"kvm-vm start {name}")
    for name in CLONES[:2]:
        wait_for_guest(name)
        hostname = in_guest(name, "hostname")
        assert hostname == name, f"the host name of {name} is {hostname}"
        print(f"hostname in {name}: {hostname}")

    say("What there is now")
    typed("kvm-list")
    print(f"\nThe whole of it took {time.monotonic() - BEGAN:.0f} s.")


main()
