"""The objects on the bus: what there is, what each says, and that introspection is the XML it was made from."""

from __future__ import annotations

import asyncio
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kldload_kvm import contract_files
from kldload_kvm.bus.service import _storage_name
from kldload_kvm.bus.values import (
    HOOK_PATH,
    HOST_PATH,
    ObjectPath,
    UInt32,
    dictionary,
    plain,
    storage_path,
    variant,
    vm_path,
)
from kldload_kvm.model import contract, properties
from kldload_kvm.model.constants import PREFIX, ROOT
from kldload_kvm.model.inventory import IO_ERROR, NO_SPACE
from loops import in_loop
from served import BusError, Client, answer, path_of, serving
from world import domain, id_of, uuid_of

STANDARD = {
    "org.freedesktop.DBus.Peer",
    "org.freedesktop.DBus.Introspectable",
    "org.freedesktop.DBus.Properties",
    "org.freedesktop.DBus.ObjectManager",
}


async def walked(client: Client, path: str = "/") -> dict[str, ET.Element]:
    """Every node from `path` down, as a browser of the bus would find them."""
    node = ET.fromstring(await client.introspect(path))
    found = {path: node}
    for child in node.findall("node"):
        found |= await walked(client, f"{path.rstrip('/')}/{child.get('name')}")
    return found


class TestIntrospection:
    @in_loop
    async def test_every_node_is_found_from_the_top_down(self) -> None:
        async with serving() as served:
            await served.vm("web")
            await served.vm("db")
            job = await served.client.ask(path_of("web"), "Vm", "Snapshot", {"plan-only": True})
            found = await walked(served.client)
            assert set(found) == {
                "/", "/org", "/org/kldload", ROOT, f"{ROOT}/vm", f"{ROOT}/storage", f"{ROOT}/job",
                path_of("web"), path_of("db"), f"{ROOT}/storage/rpool", f"{ROOT}/storage/fast", job, HOOK_PATH,
                HOST_PATH,
            }  # fmt: skip

    @in_loop
    async def test_an_object_s_interface_is_that_of_the_file_word_for_word(self) -> None:
        async with serving() as served:
            await served.vm("web")
            await served.client.ask(path_of("web"), "Vm", "Snapshot", {"plan-only": True})
            seen = set()
            for node in (await walked(served.client)).values():
                for interface in node.findall("interface"):
                    name = interface.get("name", "")
                    if name not in STANDARD:
                        seen.add(name)
                        (given,) = contract.parse(f"<node>{ET.tostring(interface, encoding='unicode')}</node>")
                        ours = contract_files.interfaces()[name]
                        assert ET.canonicalize(given.xml, strip_text=True) == ET.canonicalize(ours.xml, strip_text=True)
            assert seen == contract_files.interfaces().keys()

    @in_loop
    async def test_the_texts_travel_along(self) -> None:
        async with serving() as served:
            text = await served.client.introspect(ROOT)
            assert "<!-- Find a VM by its name, its id or its libvirt UUID. -->" in text
            assert 'name="org.kldload.Kvm1.Action"' in text

    @in_loop
    async def test_only_the_root_manages_objects_and_a_mere_node_has_no_properties(self) -> None:
        async with serving() as served:
            found = await walked(served.client)
            managers = [p for p, n in found.items() if any("ObjectManager" in i.get("name", "") for i in n)]
            assert managers == [ROOT]
            names = {i.get("name") for i in found["/org"].findall("interface")}
            assert names == {"org.freedesktop.DBus.Peer", "org.freedesktop.DBus.Introspectable"}

    @in_loop
    async def test_what_the_standard_interfaces_say_of_themselves_is_so(self) -> None:
        async with serving() as served:
            for interface in ET.fromstring(await served.client.introspect(ROOT)).findall("interface"):
                name = interface.get("name", "")
                for method in interface.findall("method") if name in STANDARD else []:
                    takes = "".join(a.get("type", "") for a in method.findall("arg") if a.get("direction") == "in")
                    body: list[Any] = {"": [], "s": [f"{PREFIX}.Manager"], "ss": [f"{PREFIX}.Manager", "Version"]}.get(
                        takes, []
                    )
                    if takes != "ssv":
                        answer(await served.client.send(ROOT, name, method.get("name", ""), takes, body))

    @in_loop
    async def test_it_is_valid_by_d_bus_s_own_tools(self, bus: str, tmp_path: Path) -> None:
        async with serving() as served:
            await served.vm("web")
            command = ["gdbus", "introspect", "--system", "-r", "-d", PREFIX, "-o", "/"]
            process = await asyncio.create_subprocess_exec(
                *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env={"DBUS_SYSTEM_BUS_ADDRESS": bus, "PATH": "/usr/bin:/bin"},
            )  # fmt: skip
            out, err = await process.communicate()
            assert (process.returncode, err) == (0, b"")
            assert out.decode().count("interface org.kldload.Kvm1.Vm {") == 1
            assert path_of("web") in out.decode()


class TestObjectManager:
    @in_loop
    async def test_gives_all_objects_with_all_their_properties(self) -> None:
        async with serving() as served:
            await served.vm("web")
            job = await served.client.ask(path_of("web"), "Vm", "Snapshot", {"plan-only": True})
            found = await served.client.managed()
            assert {path: list(each) for path, each in found.items()} == {
                path_of("web"): [f"{PREFIX}.Vm"],
                f"{ROOT}/storage/rpool": [f"{PREFIX}.Storage"],
                f"{ROOT}/storage/fast": [f"{PREFIX}.Storage"],
                job: [f"{PREFIX}.Job"],
                HOOK_PATH: [f"{PREFIX}.Hook"],
                HOST_PATH: [f"{PREFIX}.Host"],
            }
            for each in found.values():
                for name, values in each.items():
                    assert values.keys() == contract_files.interfaces()[name].properties.keys()

    @in_loop
    async def test_only_at_the_root(self) -> None:
        async with serving() as served:
            await served.vm("web")
            for path in ("/", "/org", f"{ROOT}/vm", path_of("web"), f"{ROOT}/storage/rpool"):
                with pytest.raises(BusError):
                    answer(await served.client.send(path, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"))

    @in_loop
    async def test_values_have_the_types_of_the_contract(self) -> None:
        async with serving() as served:
            await served.vm("web")
            await served.client.ask(path_of("web"), "Vm", "Snapshot", {"plan-only": True})
            reply = await served.client.send(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
            for each in reply.body[0].values():
                for name, values in each.items():
                    for key, value in values.items():
                        assert value.signature == contract_files.interfaces()[name].properties[key].type


class TestVm:
    @in_loop
    async def test_all_that_it_says(self) -> None:
        async with serving() as served:
            await served.vm("web", "running", snapshots=("s1", "s2"))
            values = (await served.client.managed())[path_of("web")][f"{PREFIX}.Vm"]
            volumes, used_at = values.pop("Volumes"), values.pop("UsedAt")
            assert values == {
                "Id": id_of("web"), "Name": "web", "Uuid": uuid_of("web"), "State": "running", "Problem": "",
                "Storage": "rpool", "Memory": 2 << 30, "Vcpus": 2, "Autostart": False, "Os": "", "Size": 20 << 30,
                "Used": 8192, "Origin": "", "Clones": [], "SnapshotCount": 2, "Identity": "", "Job": "/",
                "Template": False,
            }  # fmt: skip
            assert used_at >= 0
            assert [(each["dataset"], each["role"], each["target"], each["device"]) for each in volumes] == [
                ("rpool/vms/web", "disk", "vda", "/dev/zvol/rpool/vms/web"),
                ("rpool/vms/web.nvram", "nvram", "", "/dev/zvol/rpool/vms/web.nvram"),
            ]
            assert all(isinstance(each["guid"], str) and int(each["guid"]) > 2**53 for each in volumes)

    @in_loop
    async def test_an_orphan_says_what_is_wrong_and_what_can_be_done(self) -> None:
        async with serving() as served:
            await served.vm("web")
            served.host.inventory.remove_domain(uuid_of("web"))
            served.publisher.flush()
            assert await served.client.get(path_of("web"), "Vm", "State") == "orphan"
            assert "kvm-delete web" in await served.client.get(path_of("web"), "Vm", "Problem")
            served.facts = replace(served.facts, libvirt=False)
            served.publisher.flush()
            assert await served.client.get(path_of("web"), "Vm", "Problem") == ""
            served.facts = replace(served.facts, libvirt=True)
            served.publisher.flush()
            assert await served.client.get(path_of("web"), "Vm", "Problem") != ""

    @in_loop
    async def test_one_that_libvirt_calls_otherwise_is_a_problem_where_volumes_are_to_follow(self) -> None:
        async with serving() as served:
            await served.vm("web")
            domain = served.host.inventory.domains[uuid_of("web")]
            served.host.inventory.put_domain(replace(domain, name="shop"))
            served.publisher.flush()
            assert await served.client.get(path_of("web"), "Vm", "Problem") == ""
            served.publisher.moves = True
            served.host.inventory.put_domain(replace(domain, name="store"))
            served.publisher.flush()
            assert "kvm-vm rename web store" in await served.client.get(path_of("web"), "Vm", "Problem")

    @in_loop
    async def test_a_clone_names_its_origin_and_the_origin_its_clones(self) -> None:
        async with serving() as served:
            await served.vm("web", snapshots=("s1",))
            job = await served.client.ask(path_of("web"), "Vm", "Clone", ["copy"], {"snapshot": "s1", "wait": True})
            (copy,) = (await served.client.ask(job, "Job", "Wait"))["vms"]
            assert await served.client.get(copy, "Vm", "Origin") == "rpool/vms/web@s1"
            assert await served.client.get(copy, "Vm", "Identity") == "pending"
            assert await served.client.get(path_of("web"), "Vm", "Clones") == ["copy"]

    @in_loop
    async def test_its_operating_system_is_the_short_id(self) -> None:
        async with serving() as served:
            await served.vm("web")
            for url, short in (("http://debian.org/debian/13", "debian13"), ("http://example.org/x", "")):
                served.host.inventory.put_domain(domain("web", os=url))
                served.publisher.flush()
                assert await served.client.get(path_of("web"), "Vm", "Os") == short

    @in_loop
    async def test_what_another_changed_is_told_by_value_and_alone(self) -> None:
        async with serving() as served:
            await served.vm("web")
            await served.client.listen()
            served.host.inventory.put_domain(domain("web", "running"))
            served.publisher.flush()
            served.publisher.flush()
            await served.client.quiet()
            assert served.client.signals == [
                (path_of("web"), "PropertiesChanged", [f"{PREFIX}.Vm", {"State": "running"}, []])
            ]

    @pytest.mark.parametrize(
        ("fault", "told"),
        [
            (NO_SPACE, "it is paused: the pool was full when it wrote; it goes on by itself once "),
            (IO_ERROR, "it is paused: a disk gave an input/output error; see zpool status, then kvm-vm resume web"),
        ],
    )
    @in_loop
    async def test_why_qemu_itself_paused_it(self, fault: str, told: str) -> None:
        async with serving() as served:
            await served.vm("web")
            served.host.inventory.put_domain(domain("web", "paused", fault=fault))
            served.publisher.flush()
            assert (await served.client.get(path_of("web"), "Vm", "Problem")).startswith(told)
            served.host.inventory.put_domain(domain("web", "running"))
            served.publisher.flush()
            assert await served.client.get(path_of("web"), "Vm", "Problem") == ""

    @in_loop
    async def test_snapshots_of_one_transaction_are_one_signal(self) -> None:
        async with serving() as served:
            await served.vm("web", snapshots=("old",))
            await served.client.listen()
            names = [f"auto-{number}" for number in range(100)]
            await served.host.zfs.snapshot([f"rpool/vms/web@{name}" for name in names], {})
            await served.host.zfs.destroy_snapshots("rpool/vms/web", ["old"])
            await served.host.zfs.destroy_snapshots("rpool/vms/web.nvram", ["old"])
            await served.host.known()
            served.publisher.flush()
            await served.client.quiet()
            changed = [body for _, member, body in served.client.signals if member == "SnapshotsChanged"]
            assert changed == [[sorted(names), ["old"]]]

    @in_loop
    async def test_its_path_is_its_id_s_and_outlives_a_rename(self) -> None:
        async with serving() as served:
            await served.vm("web")
            dataset = served.host.inventory.datasets["rpool/vms/web"]
            served.host.inventory.remove_dataset("rpool/vms/web")
            served.host.inventory.put_dataset(replace(dataset, name="rpool/vms/www"))
            served.publisher.flush()
            assert await served.client.get(path_of("web"), "Vm", "Name") == "www"


class TestStorage:
    @in_loop
    async def test_all_that_it_says(self) -> None:
        async with serving() as served:
            await served.vm("web")
            values = (await served.client.managed())[f"{ROOT}/storage/rpool"][f"{PREFIX}.Storage"]
            images = values.pop("Images")
            assert values.pop("SampledAt") >= 0
            capacity = 80_000_000_000 + 4096
            assert values == {
                "Name": "rpool", "Dataset": "rpool/vms", "Default": True, "Capacity": capacity, "Free": 80_000_000_000,
                "Floor": int(capacity * 0.05), "Provisioned": (20 << 30) + (528 << 10), "Problem": "",
                "ImageDirectory": "/isos", "Overcommit": 0.268,
            }  # fmt: skip
            assert [(each["name"], each["format"], each["path"]) for each in images] == [
                ("debian.qcow2", "qcow2", "/isos/debian.qcow2"), ("netinst.iso", "iso", "/isos/netinst.iso"),
            ]  # fmt: skip

    @in_loop
    async def test_one_whose_dataset_is_missing_says_how_to_make_it(self) -> None:
        async with serving() as served:
            served.host.inventory.remove_dataset("vmpool/vms")
            served.publisher.flush()
            problem = await served.client.get(f"{ROOT}/storage/fast", "Storage", "Problem")
            assert problem.startswith("there is no dataset vmpool/vms; is its pool imported?")
            assert await served.client.get(f"{ROOT}/storage/fast", "Storage", "ImageDirectory") == ""

    @pytest.mark.parametrize(
        ("name", "path"), [("rpool", "rpool"), ("fast-1", "fast_2d1"), ("a_b", "a_5fb"), ("x.y:z", "x_2ey_3az")]
    )
    def test_any_name_has_a_path_and_comes_back_from_it(self, name: str, path: str) -> None:
        assert storage_path(name) == f"{ROOT}/storage/{path}"
        assert _storage_name(path) == name


class TestManager:
    @in_loop
    async def test_what_it_says_changes_with_the_host(self) -> None:
        async with serving() as served:
            await served.client.listen()
            assert await served.client.get(ROOT, "Manager", "Storages") == ["rpool", "fast"]
            served.publisher.update_manager(Problems=("no UEFI firmware",), LibvirtVersion="11.3.0")
            await served.client.quiet()
            assert served.client.signals == [
                (ROOT, "PropertiesChanged", [
                    f"{PREFIX}.Manager", {"LibvirtVersion": "11.3.0", "Problems": ["no UEFI firmware"]}, [],
                ])
            ]  # fmt: skip


class TestValues:
    def test_plain_values_have_the_type_of_their_own(self) -> None:
        given = {
            "s": "a",
            "b": True,
            "t": 1,
            "u": UInt32(1),
            "d": 0.5,
            "o": ObjectPath("/a"),
            "as": ["x"],
            "ao": [ObjectPath("/a")],
        }
        wrapped = dictionary(given)
        assert {key: each.signature for key, each in wrapped.items()} == {key: key for key in given}
        assert plain(wrapped) == given
        assert variant(()).signature == "as"

    def test_what_has_no_type_on_the_bus_is_a_fault(self) -> None:
        with pytest.raises(TypeError):
            variant(None)

    def test_a_vm_s_path_is_its_id(self) -> None:
        assert vm_path("a-b") == f"{ROOT}/vm/a_b"
        assert properties.VM == "org.kldload.kvm:vm"
