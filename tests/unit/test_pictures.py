"""What the kill matrix and the power cuts see, and what they would not overlook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pictures import BLOCK, Picture, letter_or_hash, not_as_after, not_as_before
from scenarios import FILLED, IMAGE, SCENES

A, C = "A", "C"
BEFORE = Picture(
    datasets={
        "rpool/vms": "1",
        "rpool/vms/bystander": "2",
        "rpool/vms/bystander@kept": "3",
        "rpool/vms/web-1": "4",
        "rpool/vms/web-1.nvram": "5",
        "rpool/vms/web-1@stable": "6",
        "rpool/vms/web-1.nvram@stable": "7",
        "rpool/vms/web-1@later": "8",
        "rpool/vms/web-1.nvram@later": "9",
    },
    definitions={"web-1": "<domain/>", "bystander": "<domain/>"},
    autostarts=[],
    properties=["rpool/vms/web-1\tcompression\tlz4\tlocal"],
    contents={"web-1": "B", "bystander": C},
    images={IMAGE: "sha256:1"},
)


def blocks(filled: int, letter: bytes = b"A", size: int = 64 << 20) -> Iterator[bytes]:
    for start in range(0, size, BLOCK):
        yield (letter if start < filled else b"\0") * BLOCK


class TestContents:
    def test_a_disk_of_the_scenes_is_its_letter(self) -> None:
        assert letter_or_hash(blocks(FILLED)) == "A"

    @pytest.mark.parametrize("filled", [0, FILLED - BLOCK, FILLED + BLOCK])
    def test_less_or_more_than_that_is_not(self, filled: int) -> None:
        assert letter_or_hash(blocks(filled)).startswith("sha256:")

    def test_one_lost_sector_is_seen(self) -> None:
        first, *others = blocks(FILLED)
        assert letter_or_hash([first[:-512] + bytes(512), *others]).startswith("sha256:")

    def test_a_larger_disk_made_from_an_image_holds_the_same(self) -> None:
        image = [bytes(range(256)) * (BLOCK // 256)]
        assert letter_or_hash(image) == letter_or_hash([*image, bytes(BLOCK)]) != letter_or_hash([bytes(BLOCK), *image])


class TestAsBefore:
    def test_nothing_is_different(self) -> None:
        assert not_as_before(BEFORE, BEFORE) == []

    def test_tags_the_mark_and_the_container_of_the_trash_do_not_count(self) -> None:
        ours = [
            "rpool/vms\torg.kldload.kvm:journal\tx 2\tlocal",
            "rpool/vms/web-1\torg.kldload.kvm:job\ty\tlocal",
            "rpool/vms/.trash\tcanmount\toff\tlocal",
        ]
        now = replace(
            BEFORE, datasets={**BEFORE.datasets, "rpool/vms/.trash": "9"}, properties=[*BEFORE.properties, *ours]
        )
        assert not_as_before(BEFORE, now) == []

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"datasets": {**BEFORE.datasets, "rpool/vms/web-2": "8"}}, "a dataset rpool/vms/web-2: not there -> 8"),
            ({"datasets": {**BEFORE.datasets, "rpool/vms/web-1": "8"}}, "a dataset rpool/vms/web-1: 4 -> 8"),
            ({"definitions": {"bystander": "<domain/>"}}, "a definition web-1: <domain/> -> not there"),
            ({"autostarts": ["web-1"]}, "autostart of web-1: not there -> there"),
            ({"properties": []}, f"a property {BEFORE.properties[0]}: there -> not there"),
            ({"contents": {"web-1": "A", "bystander": C}}, "the contents of web-1: B -> A"),
            ({"images": {}}, f"an image {IMAGE}: sha256:1 -> not there"),
        ],
    )
    def test_each_difference_is_said(self, changed: dict, said: str) -> None:
        assert not_as_before(BEFORE, replace(BEFORE, **changed)) == [said]


class TestAsAfter:
    SCENE = SCENES["vm.delete-snapshot"]
    DONE = replace(BEFORE, datasets={n: g for n, g in BEFORE.datasets.items() if not n.endswith("@stable")})

    def test_exactly_what_the_scene_says(self) -> None:
        assert not_as_after(BEFORE, self.DONE, self.SCENE) == []

    def test_an_operation_that_did_nothing_is_seen(self) -> None:
        assert len(not_as_after(BEFORE, BEFORE, self.SCENE)) == 2

    def test_a_volume_that_is_another_than_before_is_seen(self) -> None:
        other = replace(self.DONE, datasets={**self.DONE.datasets, "rpool/vms/web-1": "99"})
        assert not_as_after(BEFORE, other, self.SCENE) == ["the guid of rpool/vms/web-1: 4 -> 99"]

    @pytest.mark.parametrize(("disk", "held"), [("bystander", C), ("web-1", "B")])
    def test_lost_contents_are_seen(self, disk: str, held: str) -> None:
        lost = replace(self.DONE, contents={**self.DONE.contents, disk: "sha256:2"})
        assert not_as_after(BEFORE, lost, self.SCENE) == [f"the contents of {disk}: {held} -> sha256:2"]

    def test_a_disk_made_from_an_image_must_hold_it(self) -> None:
        scene = SCENES["vm.create"]
        volumes = {f"rpool/vms{name}": "10" for name in scene.adds}
        now = replace(
            BEFORE,
            datasets={**BEFORE.datasets, **volumes},
            definitions={"web-2": "<domain/>", "bystander": "<domain/>"},
            contents={**BEFORE.contents, "web-2": "sha256:0"},
        )
        assert not_as_after(BEFORE, now, scene) == ["the contents of web-2: sha256:1 -> sha256:0"]
        assert not_as_after(BEFORE, replace(now, contents={**now.contents, "web-2": "sha256:1"}), scene) == []

    def test_an_image_that_came_back_is_seen(self) -> None:
        before = replace(BEFORE, definitions={"bystander": "<domain/>"})
        assert not_as_after(before, before, SCENES["image.remove"]) == [f"an image {IMAGE}: not there -> sha256:1"]

    def test_a_domain_that_does_not_start_with_the_host_is_seen(self) -> None:
        scene = SCENES["vm.autostart"]
        before = replace(BEFORE, contents={**BEFORE.contents, "web-1": A})
        assert not_as_after(before, before, scene) == ["autostart of web-1: there -> not there"]
        assert not_as_after(before, replace(before, autostarts=["web-1"]), scene) == []
