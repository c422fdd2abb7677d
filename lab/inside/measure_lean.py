"""How long the lean guest takes, in the bench (lab/README.md tells how to run it).

Makes a virtual machine by hand on plain zvols (no part of the project is used), starts it, and takes it away again.
Arguments: the CPU element's inside (default: qemu64 as a custom model), how many rounds, the memory in MiB.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

IMAGE = "/var/lib/kldload-lab/guests/lean.qcow2"
PARENT = "vmpool/measure"
NAME = "measure-lean"
CPU = sys.argv[1] if len(sys.argv) > 1 else "<cpu mode='custom' match='exact'><model>qemu64</model></cpu>"
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 1
MEMORY = int(sys.argv[3]) if len(sys.argv) > 3 else 256

XML = f"""
<domain type='qemu'>
  <name>{NAME}</name><memory unit='MiB'>{MEMORY}</memory><vcpu>1</vcpu>
  <os firmware=''><type arch='x86_64' machine='q35'>hvm</type>
    <loader readonly='yes' type='pflash' format='raw'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>
    <nvram type='block' format='raw'><source dev='/dev/zvol/{PARENT}/vm.nvram'/></nvram>
  </os>
  <features><acpi/><apic/><smm state='off'/></features>
  {CPU}
  <clock offset='utc'/>
  <devices>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw' cache='none' discard='unmap'/>
      <source dev='/dev/zvol/{PARENT}/vm'/><target dev='vda' bus='virtio'/><boot order='1'/></disk>
    <serial type='file'><source path='/var/log/libvirt/qemu/{NAME}-console.log'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <interface type='user'><model type='virtio'/></interface>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <memballoon model='virtio'/>
    <controller type='usb' model='none'/>
    <video><model type='none'/></video>
  </devices>
</domain>""".replace(" firmware=''", "")


def run(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    if check and done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip() if done.returncode == 0 else ""


def agent(command: str, **arguments: object) -> str:
    asked = {"execute": command} | ({"arguments": arguments} if arguments else {})
    return run("virsh", "-q", "qemu-agent-command", NAME, json.dumps(asked), "--timeout", "5", check=False)


def until(what: str, done, limit: float = 400) -> float:
    start = time.monotonic()
    while not done():
        if time.monotonic() - start > limit:
            sys.exit(f"{what}: not within {limit:.0f} s")
        time.sleep(0.2)
    return report(what, start)


def report(what: str, start: float) -> float:
    took = time.monotonic() - start
    print(f"{what:44} {took:6.2f} s", flush=True)
    return took


def timed(what: str, *words: str) -> str:
    start = time.monotonic()
    said = run(*words)
    report(what, start)
    return said


def off() -> bool:
    return run("virsh", "domstate", NAME) == "shut off"


def clean() -> None:
    run("virsh", "destroy", NAME, check=False)
    run("virsh", "undefine", NAME, "--keep-nvram", check=False)
    subprocess.run(["zfs", "destroy", "-r", PARENT], capture_output=True)


def prepare() -> None:
    clean()
    run("zfs", "create", "-o", "canmount=off", PARENT)
    run("zfs", "create", "-s", "-V", "1G", "-o", "volmode=dev", "-o", "volblocksize=64K", f"{PARENT}/vm")
    run("zfs", "create", "-s", "-V", "528K", "-o", "volmode=dev", "-o", "volblocksize=16K", f"{PARENT}/vm.nvram")
    run("udevadm", "settle")
    timed("qemu-img convert into a zvol", "qemu-img", "convert", "-n", "-O", "raw", IMAGE, f"/dev/zvol/{PARENT}/vm")
    run("dd", "if=/usr/share/OVMF/OVMF_VARS_4M.fd", f"of=/dev/zvol/{PARENT}/vm.nvram", "conv=fsync")
    Path(f"/tmp/{NAME}.xml").write_text(XML)
    run("virsh", "define", f"/tmp/{NAME}.xml")


def start(label: str) -> None:
    began = time.monotonic()
    timed("virsh start", "virsh", "start", NAME)
    until("  then the agent answers after", lambda: agent("guest-ping"))
    report(f"{label}: virsh start to agent", began)


prepare()
for number in range(ROUNDS):
    start(f"boot {number + 1}")
    timed("domfsfreeze", "virsh", "domfsfreeze", NAME)
    timed("domfsthaw", "virsh", "domfsthaw", NAME)
    timed(
        "guest-exec",
        "virsh",
        "-q",
        "qemu-agent-command",
        NAME,
        json.dumps({"execute": "guest-exec", "arguments": {"path": "/bin/hostname", "capture-output": True}}),
    )
    run("virsh", "shutdown", NAME, "--mode", "acpi" if number % 2 else "agent")
    until(f"shutdown by {'acpi' if number % 2 else 'agent'}", off)
if "keep" not in sys.argv:
    clean()
