"""The documents of a seed, what may stand in them, and the disk image they come on."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kldload_kvm.images.seed import ALIGNMENT, build_seed, read_seed
from kldload_kvm.model import cloud_init, ssh_key
from kldload_kvm.model.errors import BadImage, InvalidArgument

YESCRYPT = "$y$j9T$abcdefghijklmnop$xxI14acrF4kcY59GsyqJ1DqdhVdc9N0f1.omTKnq.61"
SHA512 = "$6$saltsaltsalt$aGG2fEUe3rpHavE2WyvcJbwCx4IsWPyqj7WbbuzGp8bP40d3GekpoqY3KRusnF2yFZXr3nz7dqHvCdi2xtTq21"


def key(type_: str, *parts: bytes, inside: str = "", comment: str = " ann@host") -> str:
    blob = b"".join(struct.pack(">I", len(part)) + part for part in ((inside or type_).encode(), *parts))
    return f"{type_} {base64.b64encode(blob).decode()}{comment}"


ED25519 = key("ssh-ed25519", bytes(32))


class TestDocuments:
    def test_meta_data_are_plain_lines(self) -> None:
        lines = cloud_init.meta_data("0b6c3b1e-5a0e-4d5c-9c07-3b0f4a7a1c55", "web-1").splitlines()
        assert lines == ["instance-id: 0b6c3b1e-5a0e-4d5c-9c07-3b0f4a7a1c55", "local-hostname: web-1"]

    def test_user_data_are_cloud_config_with_each_key_on_a_line(self) -> None:
        text = cloud_init.user_data("ann", [ED25519, f"  {ED25519}2\n"], SHA512)
        first, _, rest = text.partition("\n")
        assert first == "#cloud-config"
        config = json.loads(rest)
        assert config["users"] == [
            {
                "name": "ann",
                "shell": "/bin/bash",
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "lock_passwd": False,
                "ssh_authorized_keys": [ED25519, ED25519 + "2"],
                "hashed_passwd": SHA512,
            }
        ]
        assert config["ssh_pwauth"] is False
        assert sum(line.strip().startswith('"ssh-ed25519') for line in rest.splitlines()) == 2

    def test_a_login_without_password_is_locked(self) -> None:
        config = json.loads(cloud_init.user_data("ann", [ED25519]).partition("\n")[2])
        assert config["users"][0]["lock_passwd"] is True
        assert "hashed_passwd" not in config["users"][0]

    def test_keys_without_a_user_are_for_the_image_s_own(self) -> None:
        config = json.loads(cloud_init.user_data("", [ED25519]).partition("\n")[2])
        assert config["ssh_authorized_keys"] == [ED25519]
        assert "users" not in config

    def test_a_password_needs_a_user(self) -> None:
        with pytest.raises(InvalidArgument, match="needs a user"):
            cloud_init.user_data("", [], SHA512)

    def test_too_many_keys(self) -> None:
        with pytest.raises(InvalidArgument, match="65 SSH keys"):
            cloud_init.user_data("ann", [ED25519] * 65)

    def test_keys_that_no_seed_could_hold(self) -> None:
        long = key("ssh-ed25519", bytes(32), comment=" " + "x" * 15_000)
        with pytest.raises(InvalidArgument, match="256 KiB is the most"):
            cloud_init.user_data("ann", [long] * 64)

    @pytest.mark.parametrize("instance", ["", "a b", "a\nlocal-hostname: b", "x" * 129])
    def test_an_instance_id_cannot_bring_a_line_of_its_own(self, instance: str) -> None:
        with pytest.raises(InvalidArgument):
            cloud_init.meta_data(instance, "web")

    def test_the_machine_id_script_is_a_valid_one(self) -> None:
        config = json.loads(cloud_init.user_data().partition("\n")[2])
        (command,) = config["bootcmd"]
        assert command[:3] == ["cloud-init-per", "instance", "kldload-kvm-machine-id"]
        subprocess.run(["sh", "-n", "-c", command[-1]], check=True)


class TestNames:
    @pytest.mark.parametrize("name", ["web-1", "WEB", "1", "web.example.com", "a" * 63, "3com.example"])
    def test_host_names(self, name: str) -> None:
        assert cloud_init.check_hostname(name) == name

    @pytest.mark.parametrize(
        "name", ["", "-a", "a-", "a_b", "a..b", "a.", "a b", "a" * 64, "10.0.0.1", "ü", "a\n", ".".join(["a" * 60] * 5)]
    )
    def test_no_host_names(self, name: str) -> None:
        with pytest.raises(InvalidArgument, match="is no host name"):
            cloud_init.check_hostname(name)

    @pytest.mark.parametrize(
        ("vm", "host"),
        [
            ("web-1", "web-1"),
            ("build_box", "build-box"),
            ("_", "vm"),
            ("a.-b", "a-b"),
            ("x_" + "y" * 80, "x-" + "y" * 61),
        ],
    )
    def test_a_host_name_from_a_vm_s(self, vm: str, host: str) -> None:
        assert cloud_init.hostname_from(vm) == host

    @given(st.text(alphabet="aB1_.-", min_size=1, max_size=63))
    def test_every_vm_name_gives_a_host_name(self, vm: str) -> None:
        assert cloud_init.check_hostname(cloud_init.hostname_from(vm))

    @pytest.mark.parametrize("login", ["ann", "_apt", "a-b_c1", "a" * 32])
    def test_logins(self, login: str) -> None:
        assert cloud_init.check_login(login) == login

    @pytest.mark.parametrize("login", ["", "Ann", "1a", "-a", "a b", "a" * 33, "a:b", "root", "ann\n", "ünal"])
    def test_no_logins(self, login: str) -> None:
        with pytest.raises(InvalidArgument):
            cloud_init.check_login(login)


class TestPasswordHashes:
    @pytest.mark.parametrize(
        "text",
        [
            YESCRYPT,
            SHA512,
            "$gy$j9T$abcdefghijklmnop$iAhyhrFG8gN3RUpwkuadelXVBU0Zpz893kYISCCQqMA",
            "$7$CU..../....abcdefgh$19TzpFZ5AwP26vdEMbfvWacoVUfd2MfVusFAVFilh.C",
            "$6$rounds=5000$salt$wZU8LXJfJJqoagopbB7RuK6JEotEMZ0CQDy0phpPAuLMYQFcmf6L6BdAbs/Q7w7o1qsZ9pFqFVY4yuUSWgaYt1",
            "$5$salt$eC8iHMk0B/acxRGi4idWiCK/.xXHLUsxovn4V591t3.",
            "$2b$05$abcdefghijklmnopqrstuuhKF09ZYWwH2zP/0fwE1X8e/Q1YNx/hO",
        ],
    )
    def test_safe_kinds(self, text: str) -> None:
        assert cloud_init.check_password_hash(text) == text

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("swordfish", "a password itself is not taken"),
            ("", "no hash"),
            ("abiQ6Ep3EYTHc", "no hash"),
            ("$1$salt$9GHNWvCB1UrDZjPi7uags0", "no longer safe"),
            ("$y$j9T$swordfish$short", "not whole"),
            (YESCRYPT + "\n", "not whole"),
            (SHA512 + "\nx", "not whole"),
            ("$6$rounds=5000:$swordfish", "not whole"),
            ("!" + SHA512, "no hash"),
        ],
    )
    def test_what_is_refused_is_not_repeated(self, text: str, said: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            cloud_init.check_password_hash(text)
        assert said in caught.value.why
        assert "swordfish" not in str(caught.value)
        assert "mkpasswd" in caught.value.hint


class TestSshKeys:
    @pytest.mark.parametrize(
        "line",
        [
            ED25519,
            key("ssh-ed25519", bytes(32), comment=""),
            key("ssh-rsa", b"\1\0\1", b"\0" + b"\xff" * 256),
            key("ecdsa-sha2-nistp256", b"nistp256", bytes(65)),
            key("ecdsa-sha2-nistp384", b"nistp384", bytes(97)),
            key("ecdsa-sha2-nistp521", b"nistp521", bytes(133)),
            key("sk-ssh-ed25519@openssh.com", bytes(32), b"ssh:"),
            key("sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", bytes(65), b"ssh:"),
            key("ssh-ed25519", bytes(32), comment=" Ann's laptop, schön"),
        ],
    )
    def test_good(self, line: str) -> None:
        assert ssh_key.check(f" {line}\n") == line

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("", "empty"),
            ("hello", "does not begin with the type"),
            ("ssh-ed25519", "not whole"),
            ("ssh-ed25519 ####", "not base64"),
            (key("ssh-ed25519", bytes(31)), "not whole"),
            (key("ssh-ed25519", bytes(32), b"more"), "not whole"),
            (key("ssh-ed25519", bytes(32), inside="ssh-rsa"), "another type inside"),
            (key("ssh-ed25519", bytes(32)).replace(" ann", "AAAA ann"), "not whole"),
            (key("ssh-rsa", b"\1\0\1", b"\0" + b"\xff" * 128), "2048 bits"),
            (key("ssh-dss", b"a", b"b", b"c", b"d"), "ssh-dss are not taken"),
            (key("ssh-ed25519-cert-v01@openssh.com", bytes(32)), "are not taken"),
            (f'command="rm -rf /" {ED25519}', "options"),
            (f"restrict {ED25519}", "options"),
            (f"{ED25519}\n{ED25519}", "more than one line"),
            (f"{ED25519}\x1b[2J", "control characters"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE", "private key"),
            ("ssh-ed25519 " + "A" * 20_000, "longer"),
        ],
    )
    def test_bad_are_called_by_their_number(self, line: str, said: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            cloud_init.user_data("ann", [ED25519, line])
        assert caught.value.what == "SSH key 2 cannot be used"
        assert said in caught.value.why
        assert "b3Blb" not in str(caught.value)

    @given(st.text(max_size=200) | st.binary(max_size=90).map(lambda b: "ssh-rsa " + base64.b64encode(b).decode()))
    def test_any_text(self, line: str) -> None:
        with contextlib.suppress(InvalidArgument):
            assert ssh_key.check(line)


class TestSeed:
    META = cloud_init.meta_data("i-1", "web-1")
    USER = cloud_init.user_data("ann", [ED25519], YESCRYPT)

    @pytest.mark.skipif(not shutil.which("isoinfo"), reason="isoinfo (genisoimage) is not installed")
    def test_is_found_by_cloud_init_s_names(self, tmp_path: Path) -> None:
        image = tmp_path / "seed.iso"
        image.write_bytes(build_seed(self.META, self.USER))
        for names in ("-J", "-R"):
            listed = subprocess.run(
                ["isoinfo", names, "-f", "-i", str(image)], check=True, capture_output=True, text=True
            ).stdout.split()
            assert sorted(listed) == ["/meta-data", "/user-data"]
        blkid = ["/usr/sbin/blkid", "-p", "-o", "value", "-s", "LABEL", str(image)]
        assert subprocess.run(blkid, check=True, capture_output=True, text=True).stdout.strip() == "cidata"

    def test_fills_whole_blocks_of_a_volume(self) -> None:
        assert len(build_seed(self.META, self.USER)) % ALIGNMENT == 0

    def test_can_be_read_back_for_a_clone(self) -> None:
        assert read_seed(build_seed(self.META, self.USER)) == (self.META, self.USER)
        assert read_seed(build_seed(self.META, self.USER, "version: 2\n")) == (self.META, self.USER)
        assert read_seed(build_seed("", "ü" * 5000)) == ("", "ü" * 5000)

    @pytest.mark.parametrize("contents", [b"", bytes(1 << 20), b"\xff" * 40_000])
    def test_a_volume_that_is_no_seed(self, contents: bytes) -> None:
        with pytest.raises(BadImage):
            read_seed(contents)

    @given(data=st.data())
    def test_a_seed_that_was_tampered_with(self, data: st.DataObject, built: bytes) -> None:
        contents = bytearray(built)
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0x8000, len(contents) - 1) | st.integers(0x8000, 0x8000 + 200))
            contents[at] = data.draw(st.integers(0, 255))
        del contents[data.draw(st.integers(0, len(contents))) :]
        try:
            meta, user = read_seed(bytes(contents))
        except BadImage:
            return
        assert len(meta) + len(user) < 1 << 20


@pytest.fixture(scope="module")
def built() -> bytes:
    return build_seed(TestSeed.META, TestSeed.USER)
