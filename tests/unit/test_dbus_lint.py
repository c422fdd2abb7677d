"""What dbus/lint.py refuses: one fault at a time, put into a contract that is otherwise right."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

METHOD = """
    <!-- Start the VM. -->
    <method name="Start">
      <annotation name="org.kldload.Kvm1.Action" value="org.kldload.kvm.power"/>
      <annotation name="org.kldload.Kvm1.Operation" value="vm.start"/>
      <annotation name="org.kldload.Kvm1.Option.grace" value="u Seconds to wait."/>
      <!-- The options. -->
      <arg name="options" type="a{sv}" direction="in"/>
      <!-- The job. -->
      <arg name="job" type="o" direction="out"/>
    </method>
"""

XML = f"""<?xml version="1.0" encoding="UTF-8"?>
<node>
  <!-- One VM. -->
  <interface name="org.kldload.Kvm1.Vm">
    <!-- The name. -->
    <property name="Name" type="s" access="read"/>
    <!-- It went off. -->
    <signal name="Stopped">
      <!-- Why. -->
      <arg name="reason" type="s"/>
    </signal>
    <!-- Read it anew. -->
    <method name="Refresh">
      <annotation name="org.kldload.Kvm1.Action" value="org.kldload.kvm.read"/>
    </method>
{METHOD}
  </interface>
</node>
"""

POLICY = """<policyconfig>
  <action id="org.kldload.kvm.read"><description>See</description><message>See</message>
    <defaults><allow_any>yes</allow_any><allow_inactive>yes</allow_inactive><allow_active>yes</allow_active></defaults></action>
  <action id="org.kldload.kvm.power"><description>Start</description><message>Start $(vm)</message>
    <defaults><allow_any>auth_admin</allow_any><allow_inactive>auth_admin</allow_inactive>
    <allow_active>auth_admin_keep</allow_active></defaults></action>
</policyconfig>
"""

BUS = """<busconfig>
  <policy context="default">
    <allow send_destination="org.kldload.Kvm1" send_interface="org.kldload.Kvm1.Vm"/>
    <allow send_destination="org.kldload.Kvm1" send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.kldload.Kvm1" send_interface="org.freedesktop.DBus.ObjectManager"/>
    <allow send_destination="org.kldload.Kvm1" send_interface="org.freedesktop.DBus.Peer"/>
    <allow send_destination="org.kldload.Kvm1" send_interface="org.freedesktop.DBus.Properties"/>
  </policy>
  <policy user="root"><allow own="org.kldload.Kvm1"/></policy>
</busconfig>
"""


class Contract:
    """A contract in a folder of its own, with the linter beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.xml = root / "dbus" / "org.kldload.Kvm1.Vm.xml"
        self.policy = root / "polkit" / "org.kldload.kvm.policy"
        self.bus = root / "dbus" / "org.kldload.Kvm1.conf"
        self.lock = root / "dbus" / "api.lock"
        for folder in ("dbus", "polkit"):
            (root / folder).mkdir()
        shutil.copy(CHECKOUT / "dbus" / "lint.py", root / "dbus")
        shutil.copytree(CHECKOUT / "dbus" / "linter", root / "dbus" / "linter")
        (root / "service").symlink_to(CHECKOUT / "service")
        self.xml.write_text(XML)
        self.policy.write_text(POLICY)
        self.bus.write_text(BUS)

    def lint(self, *options: str) -> tuple[int, str]:
        """The exit status, and the faults."""
        command = (sys.executable, str(self.root / "dbus" / "lint.py"), *options)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    """A contract without a fault, its API accepted."""
    made = Contract(tmp_path)
    assert made.lint("--accept") == (0, "")
    return made


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_ours_has_no_fault() -> None:
    done = subprocess.run(
        (sys.executable, str(CHECKOUT / "dbus" / "lint.py")), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_contract_without_fault_is_let_through(contract: Contract) -> None:
    assert contract.lint() == (0, "")


POWER = '<annotation name="org.kldload.Kvm1.Action" value="org.kldload.kvm.power"/>'
READ = '<annotation name="org.kldload.Kvm1.Action" value="org.kldload.kvm.read"/>'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (POWER, "", "Vm.Start: has no Action annotation"),
        (
            POWER,
            POWER.replace("power", "sesame"),
            "Vm.Start: its action org.kldload.kvm.sesame is not in the polkit policy",
        ),
        (POWER, READ, "Vm.Start: starts an operation, so the right to read is not enough"),
        ('value="vm.start"', 'value="Start"', "Vm.Start: the operation Start is not named like vm.create"),
        ("<!-- Start the VM. -->", "", "Vm.Start: has no doc comment"),
        ("<!-- One VM. -->", "", "org.kldload.Kvm1.Vm: has no doc comment"),
        ("<!-- The job. -->", "", "Vm.Start: argument job has no doc comment"),
        ("<!-- The name. -->", "", "Vm.Name: has no doc comment"),
        ("<!-- Why. -->", "", "Vm.Stopped: argument reason has no doc comment"),
        ('<arg name="reason" type="s"/>', '<arg type="s"/>', "Vm.Stopped: argument 1 has no name"),
        ('<arg name="job"', '<arg name="Job"', "argument Job is not named like snapshot_name"),
        (
            'type="o" direction',
            'type="oo" direction',
            "argument job: its type 'oo' is not valid: it is not exactly one",
        ),
        ('type="o" direction', 'type="s" direction', "Vm.Start: starts an operation, so it returns job, of type o"),
        ('direction="out"', 'direction="sideways"', "an argument's direction is in or out, not sideways"),
        ('access="read"', 'access="readwrite"', "Vm.Name: can be written"),
        ('"Name" type="s"', '"Name" type="v"', "Vm.Name: is a variant within a variant"),
        ('"Name" type="s"', '"Name" type="a{vs}"', "a dictionary's key must be of a basic type"),
        ('value="u Seconds', 'value="uu Seconds', "Vm.Start: option grace: its type 'uu' is not valid"),
        ('value="u Seconds', 'value="Seconds', "Vm.Start: option grace: its type 'Seconds' is not valid"),
        ('value="u Seconds', 'value="av Seconds', "Vm.Start: option grace: is a variant within a variant"),
        ('value="u Seconds to wait."', 'value="u"', "Vm.Start: option grace: has no text"),
        ("Option.grace", "Option.wait", "Vm.Start: option wait is there twice, or a standard one"),
        ("Option.grace", "Option.Grace", "option Grace: is not named like require-consistency"),
        ("Option.grace", "Optional.grace", "the annotation org.kldload.Kvm1.Optional.grace is not known"),
        ('<arg name="options" type="a{sv}"', '<arg name="options" type="as"', "its last argument must be options"),
        ('name="Refresh"', 'name="refresh"', "Vm.refresh: is not named like CreateVm"),
        ("</signal>", "</signal><typo/>", "<typo> is not known"),
        (METHOD, METHOD + METHOD, "method Start is there 2 times"),
        (METHOD, METHOD + METHOD.replace('"Start"', '"Begin"'), "the operation vm.start belongs to 2 methods"),
    ],
)
def test_a_fault_in_the_xml_is_named(contract: Contract, old: str, new: str, said: str) -> None:
    edit(contract.xml, old, new)
    status, faults = contract.lint("--accept-breaks")
    assert status == 1
    assert said in faults


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("auth_admin_keep", "yes", "org.kldload.kvm.power: its defaults are auth_admin, auth_admin, yes"),
        ("<allow_any>yes", "<allow_any>no", "org.kldload.kvm.read: its defaults are no, yes, yes"),
        ("<message>See</message>", "", "org.kldload.kvm.read: has no description or no message"),
        ('id="org.kldload.kvm.power"', 'id="org.kldload.kvm.fly"', "org.kldload.kvm.fly: no method asks for it"),
    ],
)
def test_a_fault_in_the_polkit_actions_is_named(contract: Contract, old: str, new: str, said: str) -> None:
    edit(contract.policy, old, new)
    status, faults = contract.lint()
    assert status == 1
    assert said in faults


VM_RULE = 'send_interface="org.kldload.Kvm1.Vm"'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (VM_RULE, 'send_interface="org.kldload.Kvm1.Hook"', "org.kldload.Kvm1.Hook is open to everybody"),
        (VM_RULE, 'send_interface="org.kldload.Kvm1.Hook"', "nobody but root can reach org.kldload.Kvm1.Vm"),
        (VM_RULE, 'send_interface="*"', "a rule for everybody must name our destination and one interface"),
        (VM_RULE, "", "a rule for everybody must name our destination and one interface"),
        ('send_destination="org.kldload.Kvm1" ' + VM_RULE, 'send_destination="org.x" ' + VM_RULE, "not ours to open"),
        ('user="root"', 'user="daemon"', "root, and nobody else, must be able to own the name"),
    ],
)
def test_a_fault_in_the_bus_policy_is_named(contract: Contract, old: str, new: str, said: str) -> None:
    edit(contract.bus, old, new)
    status, faults = contract.lint()
    assert status == 1
    assert said in faults


def test_an_addition_to_the_api_must_be_accepted(contract: Contract) -> None:
    edit(contract.xml, METHOD, METHOD + METHOD.replace('"Start"', '"Halt"').replace("vm.start", "vm.halt"))
    status, faults = contract.lint()
    assert status == 1
    assert "new in the API: org.kldload.Kvm1.Vm.Halt(a{sv} options) -> (o job)" in faults
    assert contract.lint("--accept") == (0, "")
    assert contract.lint() == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "gone"),
    [
        (METHOD, "", "org.kldload.Kvm1.Vm.Start: option grace u"),
        ('"Name" type="s"', '"Name" type="o"', "org.kldload.Kvm1.Vm.Name: property s read"),
        ('type="s"/>\n    </signal>', 'type="u"/>\n    </signal>', "org.kldload.Kvm1.Vm.Stopped: signal (s reason)"),
    ],
)
def test_a_break_of_the_api_is_refused_even_with_accept(contract: Contract, old: str, new: str, gone: str) -> None:
    policy = contract.policy.read_text()
    if new == "":  # or its action would have no method
        contract.policy.write_text(policy[: policy.index('  <action id="org.kldload.kvm.power"')] + "</policyconfig>")
    locked = contract.lock.read_text()
    edit(contract.xml, old, new)
    status, faults = contract.lint("--accept")
    assert status == 1
    assert f"no longer in the API: {gone}" in faults
    assert contract.lock.read_text() == locked
    assert contract.lint("--accept-breaks") == (0, "")
    assert contract.lint() == (0, "")


def test_a_right_that_is_lowered_counts_as_a_break(contract: Contract) -> None:
    edit(contract.xml, f"{POWER}\n", f'{POWER}\n<annotation name="org.kldload.Kvm1.OwnerMay" value="true"/>\n')
    status, faults = contract.lint("--accept")
    assert status == 1
    assert "no longer in the API: org.kldload.Kvm1.Vm.Start: action org.kldload.kvm.power" in faults
