"""The bus contract as data: what is read from introspection XML, and that each method of ours names its action."""

from __future__ import annotations

import pytest

from kldload_kvm import contract_files
from kldload_kvm.model import contract, errors
from kldload_kvm.model.constants import HOOK, PREFIX, READ_ACTION, ROOT_ACTION
from kldload_kvm.model.contract import STANDARD_OPTIONS, Interface, Method, parse
from kldload_kvm.ops.registry import REQUESTS

XML = """<?xml version="1.0"?>
<node>
  <!-- A thing
       over two lines. -->
  <interface name="org.kldload.Kvm1.Thing">
    <!-- Its name. -->
    <property name="Name" type="s" access="read"/>
    <!-- It broke. -->
    <signal name="Broke"><!-- How. --><arg name="how" type="s"/><!-- When. --><arg name="when" type="t"/></signal>
    <!-- Mend it. -->
    <method name="Mend">
      <annotation name="org.kldload.Kvm1.Action" value="org.kldload.kvm.mend"/>
      <annotation name="org.kldload.Kvm1.Operation" value="thing.mend"/>
      <annotation name="org.kldload.Kvm1.Option.glue" value="s The glue, such as UHU."/>
      <!-- How often. -->
      <arg name="times" type="u" direction="in"/>
      <!-- Options. -->
      <arg name="options" type="a{sv}" direction="in"/>
      <!-- The job. -->
      <arg name="job" type="o" direction="out"/>
    </method>
    <method name="Bare"/>
    <method name="Owned"><annotation name="org.kldload.Kvm1.OwnerMay" value="true"/></method>
  </interface>
</node>
"""


@pytest.fixture(scope="module")
def thing() -> Interface:
    (found,) = parse(XML)
    return found


class TestParse:
    def test_names_and_texts(self, thing: Interface) -> None:
        assert (thing.name, thing.short, thing.doc) == ("org.kldload.Kvm1.Thing", "Thing", "A thing over two lines.")
        assert thing.properties["Name"] == contract.Property("Name", "s", "Its name.", "read")
        signal = thing.signals["Broke"]
        assert (signal.signature, [arg.doc for arg in signal.args]) == ("st", ["How.", "When."])

    def test_a_method_with_its_annotations(self, thing: Interface) -> None:
        method = thing.methods["Mend"]
        assert (method.doc, method.action, method.operation) == ("Mend it.", "org.kldload.kvm.mend", "thing.mend")
        assert (method.in_signature, method.out_signature) == ("ua{sv}", "o")
        assert method.options == (contract.Arg("glue", "s", "The glue, such as UHU."), *STANDARD_OPTIONS)
        assert method.option_types == {
            "glue": "s", "wait": "b", "plan-only": "b", "request-id": "s", "auth.no_user_interaction": "b",
        }  # fmt: skip

    def test_a_method_without_any_has_no_action_which_means_denied(self, thing: Interface) -> None:
        bare = thing.methods["Bare"]
        assert (bare.action, bare.operation, bare.options, bare.owner_may) == ("", "", (), False)
        assert thing.methods["Owned"].owner_may

    def test_its_xml_is_the_element_as_it_stands(self, thing: Interface) -> None:
        (again,) = parse(f"<node>{thing.xml}</node>")
        assert again.methods == thing.methods
        assert "<!-- Mend it. -->" in thing.xml


METHODS = [(i, m) for i in contract_files.interfaces().values() for m in i.methods.values()]
IDS = [f"{i.short}.{m.name}" for i, m in METHODS]


class TestOurs:
    def test_the_interfaces(self) -> None:
        assert {i.short for i in contract_files.interfaces().values()} >= {"Manager", "Vm", "Storage", "Job"}
        assert all(name == i.name == f"{PREFIX}.{i.short}" for name, i in contract_files.interfaces().items())

    @pytest.mark.parametrize(("interface", "method"), METHODS, ids=IDS)
    def test_every_method_names_its_action(self, interface: Interface, method: Method) -> None:
        if interface.name == HOOK:
            assert method.action == ROOT_ACTION
        else:
            assert method.action.startswith("org.kldload.kvm.") or (interface.short, method.name) == ("Job", "Apply")

    @pytest.mark.parametrize(("interface", "method"), METHODS, ids=IDS)
    def test_every_operation_is_one_that_there_is_and_needs_more_than_reading(
        self, interface: Interface, method: Method
    ) -> None:
        if method.operation:
            assert method.operation in REQUESTS
            assert method.action != READ_ACTION
            assert method.out_signature == "o"
            assert method.in_signature.endswith("a{sv}")

    def test_every_operation_but_the_service_s_own_has_a_method(self) -> None:
        bound = {method.operation for _, method in METHODS} - {""}
        assert REQUESTS.keys() - bound == {"vm.renew-identity"}

    def test_all_properties_are_read_only(self) -> None:
        for interface in contract_files.interfaces().values():
            assert all(each.access == "read" for each in interface.properties.values())


KINDS = sorted(errors.KvmError.__subclasses__(), key=lambda kind: kind.__name__)


class TestErrors:
    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
    def test_each_comes_back_from_the_bus_as_it_went(self, kind: type[errors.KvmError]) -> None:
        for lines in (("what", "why", "hint"), ("what", "", "hint"), ("what", "why", ""), ("what", "", "")):
            error = kind(*lines)
            found = errors.by_dbus_name(error.dbus_name, str(error))
            assert type(found) is kind
            assert (found.what, found.why, found.hint) == lines

    @pytest.mark.parametrize("name", ["org.freedesktop.DBus.Error.NoReply", f"{PREFIX}.Error.Unheard", "x", ""])
    def test_another_s_is_failed(self, name: str) -> None:
        found = errors.by_dbus_name(name, "one line")
        assert (type(found), found.what) == (errors.Failed, "one line")

    def test_every_class_says_what_it_is(self) -> None:
        assert all(kind.__doc__ for kind in KINDS)
