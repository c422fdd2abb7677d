"""The project inside the bench: its package, built from the checkout, its configuration there, and its tests."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from . import places, recipe, shell
from .node import Node
from .say import LabError, note, step

TESTS = places.CHECKOUT / "tests"
INSIDE = "/opt/kldload-kvm"
TESTS_INSIDE = f"{INSIDE}/tests"


class TestFailed(LabError):
    """A script of the tests ended with an error; why: its last lines."""


def build() -> Path:
    """Build the package from the checkout by `make deb`; give the newest one."""
    if not (places.CHECKOUT / "Makefile").exists():
        raise LabError(
            "there is no Makefile in this checkout", hint="`lab/lab up --no-deb` starts the bench without the package"
        )
    with step("make deb"):
        made = subprocess.run(
            ["make", "-s", "deb"],
            cwd=places.CHECKOUT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    if made.returncode != 0:
        tail = "\n       ".join((made.stdout + made.stderr).strip().splitlines()[-15:])
        raise LabError("`make deb` failed", tail, "`lab/lab up --no-deb` starts the bench without the package")
    packages = sorted((places.CHECKOUT / "build").glob("kldload-kvm_*_all.deb"), key=lambda path: path.stat().st_mtime)
    if not packages:
        raise LabError("`make deb` left no build/kldload-kvm_*_all.deb")
    return packages[-1]


def install(node: Node, package: Path) -> Node:
    """Install the package inside, unless that very file is there already."""
    content = package.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if node.deb == digest:
        return node
    with step(f"installing {package.name} in {node.label}"):
        put(node, package, f"/var/tmp/{package.name}")
        try:
            shell.output(node, INSTALL.format(deb=f"/var/tmp/{package.name}"), why=f"installing {package.name}")
        except LabError as error:
            if "dependency problems" in error.why:
                error.hint = "the image lacks a dependency of the package: add it to lab/packages.txt"
            raise
    return node.saved(deb=digest)


# By dpkg, so nothing can be downloaded: what the package needs is part of the image.
INSTALL = """
set -eu
export DEBIAN_FRONTEND=noninteractive
dpkg --path-include="/usr/share/doc/kldload-kvm/*" --force-confdef --force-confnew -i {deb}
rm -f {deb}
"""


def configure(node: Node) -> None:
    """Install lab/kvm.conf as a drop-in, with what only holds where the bench itself is emulated left out elsewhere."""
    text = (places.LAB / "kvm.conf").read_text()
    if node.accelerated and shell.output(node, "test -w /dev/kvm && echo yes || true").strip() == "yes":
        text = text.replace("accelerator = qemu\n", "")
    target = "/etc/kldload-kvm/kvm.conf.d/lab.conf"
    script = f"install -d {target.rpartition('/')[0]} && cat > {target}"
    _feed(node, script, text.encode())


def copy_tests(node: Node) -> Node:
    """Copy the checkout's tests in, if they have changed since."""
    if not TESTS.is_dir():
        return node
    digest = recipe.key_of(TESTS)
    if node.tests == digest:
        return node
    packed = subprocess.run(
        ["tar", "-C", places.CHECKOUT, "--exclude=__pycache__", "--owner=0", "--group=0", "-cf", "-", "tests"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    ).stdout
    _feed(node, f"rm -rf {INSIDE}/tests && mkdir -p {INSIDE} && tar -C {INSIDE} -xf -", packed)
    note(f"tests/ copied into {node.label} as {INSIDE}/tests")
    return node.saved(tests=digest)


def put(node: Node, source: Path, target: str) -> None:
    """Copy one file in."""
    _feed(node, f"cat > {target}", source.read_bytes())


def ask(node: Node, script: str, *words: str, stdin: str = "") -> Any:
    """What one of the tests' scripts answers inside, in JSON on its stdout."""
    shell.keep_connection(node)
    done = subprocess.run(
        [*shell.ssh(node), " ".join(("python3", "-B", f"{TESTS_INSIDE}/{script}", *words))],
        input=stdin, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return json.loads(done.stdout)
    failed = LabError if done.returncode == shell.SSH_FAILED else TestFailed
    said = "\n".join(done.stderr.strip().splitlines()[-6:])
    raise failed(f"{script} {words[0]} failed (exit {done.returncode})", said)


def _feed(node: Node, script: str, content: bytes) -> None:
    shell.keep_connection(node)
    done = subprocess.run([*shell.ssh(node), script], input=content, capture_output=True, check=False)
    if done.returncode != 0:
        raise LabError(f"copying into {node.label} failed", done.stderr.decode(errors="replace").strip())
