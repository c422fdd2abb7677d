"""Every operation has its place in the kill matrix, or a reason why it has none."""

from __future__ import annotations

from kldload_kvm import contract_files
from kldload_kvm.ops.registry import REQUESTS
from scenarios import LEFT_OUT, SCENES, operation_of


def test_each_operation_has_a_scene_or_a_reason() -> None:
    staged = set(map(operation_of, SCENES))
    assert staged | LEFT_OUT.keys() == REQUESTS.keys()
    assert not staged & LEFT_OUT.keys()
    assert all(LEFT_OUT.values())


def test_each_scene_calls_the_method_of_its_operation() -> None:
    methods = {
        method.operation: (interface.short, name)
        for interface in contract_files.interfaces().values()
        for name, method in interface.methods.items()
    }
    for name, scene in SCENES.items():
        assert methods[operation_of(name)] == (scene.interface, scene.method)
