"""What the bus should say of a host, told by plain zfs and virsh, and what it does say.

No line of the service is used here: what a VM, an orphan, a snapshot of a VM and a trash entry are is decided once
more, from docs/libvirt.md and docs/reference.md. What is sampled (Used, UsedAt) is left out.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from typing import Any

from host import ROOT, call, data, foreign, managed, run, wait_until, zfs

STORAGES = {"rpool": "rpool/vms", "vmpool": "vmpool/vms"}
OURS = "org.kldload.kvm:"
VOLUME = ("name", "type", "guid", "createtxg", "volsize", "origin", *(OURS + word for word in (
    "vm", "uuid", "role", "target", "template", "identity", "reason", "name"
)))  # fmt: skip
SNAPSHOT = ("name", "guid", "createtxg", "userrefs", OURS + "snapshot")
STATES = {"shut off": "shutoff", "in shutdown": "shutdown", "pmsuspended": "suspended", "idle": "running"}
DEVICE = "/dev/zvol/"
Row = dict[str, str]
Said = dict[str, dict[str, Any]]
"""Of each thing, by what it is and its name, such as "vm web-1": what is said of it."""


def wait_until_the_bus_is_right(timeout: float, what: str) -> None:
    """Until the bus says of the host what it is; a failure shows all that is wrong with it.

    Nothing is asked to be read again: what the service was not told of, it does not know.
    """
    wrong: list[str] = []

    def right() -> bool:
        wrong[:] = differences(host_says(), bus_says())
        return not wrong

    try:
        wait_until(right, timeout, "")
    except AssertionError:
        told = "\n".join(wrong)
        raise AssertionError(f"{what}, and {timeout:.0f} s later the bus says otherwise:\n{told}") from None


def differences(host: Said, bus: Said) -> list[str]:
    """Where what the bus says is not so, one line each."""
    wrong = [f"{each} is not on the bus" for each in sorted(host.keys() - bus.keys())]
    wrong += [f"{each} is on the bus, and not there" for each in sorted(bus.keys() - host.keys())]
    for each in sorted(host.keys() & bus.keys()):
        for key in sorted(host[each].keys() | bus[each].keys()):
            if (is_so := host[each].get(key)) != (said := bus[each].get(key)):
                wrong.append(f"{key} of {each} is {is_so!r}, and the bus says {said!r}")
    return wrong


# -- what is so --------------------------------------------------------------------------------------------------------


def host_says() -> Said:
    volumes = rows(VOLUME, "filesystem,volume")
    snapshots = rows(SNAPSHOT, "snapshot")
    domains = all_domains()
    vms = _vms(volumes, domains)
    owner_of = {each["name"]: vm for vm in vms for each in vm["parts"]}
    said: Said = {}
    for vm in vms:
        said[f"vm {vm['id']}"] = _vm(vm, volumes, snapshots, owner_of)
    of_a_vm = {vm["domain"]["uuid"] for vm in vms if vm["domain"]}
    for domain in domains:
        if domain["uuid"] not in of_a_vm:
            said[f"domain {domain['name']}"] = _foreign(domain, volumes, owner_of)
    for vm in vms:
        if not vm["domain"]:
            parts = sorted(each["name"] for each in vm["parts"])
            said[f"orphan {vm['name']}"] = {"kind": "orphan", "state": "orphan", "volumes": parts}
    for row in volumes.values():
        if row["type"] == "filesystem" and row[OURS + "reason"] and not row["name"].endswith("/.spare"):
            said[f"trash {row['name']}"] = {
                "vm": row[OURS + "name"],
                "vm-id": row[OURS + "vm"],
                "reason": row[OURS + "reason"],
                "volumes": sorted(name for name in volumes if name.startswith(f"{row['name']}/")),
            }
    return said


def rows(columns: tuple[str, ...], kinds: str) -> dict[str, Row]:
    """What zfs lists below the storages, by name."""
    lines = zfs("list", "-Hp", "-r", "-t", kinds, "-o", ",".join(columns), *STORAGES.values())
    found = [dict(zip(columns, line.split("\t"), strict=True)) for line in lines]
    return {each["name"]: {key: "" if value == "-" else value for key, value in each.items()} for each in found}


def all_domains() -> list[dict[str, Any]]:
    """libvirt's domains, with all that virsh says of each, by one virsh."""
    uuids = run("virsh", "-q", "list", "--all", "--uuid").stdout.split()
    asked = "; ".join(f"echo @domain; dominfo {u}; echo @xml; dumpxml --inactive {u}" for u in uuids)
    found = []
    for text in run("virsh", "-q", asked, check=False).stdout.split("@domain")[1:] if uuids else []:
        info, _, xml = text.partition("@xml")
        facts = dict(re.findall(r"^(\w[^:\n]*):\s+(.*?)\s*$", info, re.M))
        if "State" in facts and "<domain" in xml:  # else it went away meanwhile
            found.append(_domain(facts, ET.fromstring(xml[xml.index("<domain") :])))
    return found


def _domain(facts: Row, xml: ET.Element) -> dict[str, Any]:
    disks = {}
    for disk in xml.findall("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        path = "" if source is None else source.get("dev") or source.get("file") or ""
        if disk.get("device") != "cdrom" and path and target is not None:
            disks[target.get("dev", "")] = path
    variables = xml.find("os/nvram")
    if variables is not None:
        source = variables.find("source")
        path = variables.text if source is None else source.get("dev") or source.get("file")
        if path and path.strip():
            disks["nvram"] = path.strip()
    memory, vcpu = xml.find("currentMemory"), xml.find("vcpu")
    assert memory is not None and vcpu is not None, ET.tostring(xml)
    persistent = facts["Persistent"] == "yes"
    return {
        "uuid": facts["UUID"],
        "name": facts["Name"],
        "state": STATES.get(facts["State"], facts["State"]),
        "autostart": persistent and facts.get("Autostart") == "enable",
        "memory": int(memory.text or 0) * 1024,
        "vcpus": int(vcpu.get("current") or vcpu.text or 0),
        "disks": disks,
    }


def _vms(volumes: dict[str, Row], domains: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The VMs: their volumes, the first disk first, and the domain of each."""
    claims: dict[str, list[Row]] = {}
    for row in volumes.values():
        if row["type"] == "volume" and row[OURS + "vm"] and _parent(row["name"]) in STORAGES.values():
            claims.setdefault(row[OURS + "vm"], []).append(row)
    found = []
    for id_, rows_ in claims.items():
        parts = _own(rows_, domains)
        first = parts[0]["name"].rpartition("/")[2]
        name = first if parts[0][OURS + "role"] == "disk" else first.rpartition(".")[0] or first
        recorded = next((each[OURS + "uuid"] for each in parts if each[OURS + "uuid"]), "")
        users = sorted(d["uuid"] for d in domains if DEVICE + parts[0]["name"] in d["disks"].values())
        by_uuid = {each["uuid"]: each for each in domains}
        domain = by_uuid.get(recorded) or (by_uuid[users[0]] if users else None)
        found.append({"id": id_, "name": name, "parts": parts, "domain": domain})
    return found


def _own(claims: list[Row], domains: list[dict[str, Any]]) -> list[Row]:
    """Of several volumes that claim to be the same disk of a VM, as a copy made with `zfs send -p` does, one is: that
    which a domain has, or else the one that was there first. The others are nobody's."""
    used = {path for domain in domains for path in domain["disks"].values()}

    def rank(row: Row) -> tuple[Any, ...]:
        storage = list(STORAGES.values()).index(_parent(row["name"]))
        return DEVICE + row["name"] not in used, storage, int(row["createtxg"]), row["name"]

    by_place: dict[tuple[str, str], Row] = {}
    for row in sorted(claims, key=rank):
        by_place.setdefault((row[OURS + "role"], row[OURS + "target"]), row)
    order = {"disk": 0, "nvram": 1}
    return sorted(
        by_place.values(),
        key=lambda r: (order.get(r[OURS + "role"], 2), len(r[OURS + "target"]), r[OURS + "target"]),
    )


def _vm(
    vm: dict[str, Any], volumes: dict[str, Row], snapshots: dict[str, Row], owner_of: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    parts, domain = vm["parts"], vm["domain"]
    names = {each["name"] for each in parts}
    first = parts[0]
    theirs = [row for name, row in snapshots.items() if name.partition("@")[0] in names]
    clones = [r for r in volumes.values() if r["origin"].partition("@")[0] in names and r["name"] not in names]
    gone = [path for path in (domain["disks"].values() if domain else ()) if _is_missing(path, volumes)]
    return {
        "name": vm["name"],
        "uuid": domain["uuid"] if domain else "",
        "state": domain["state"] if domain else "orphan",
        "has a problem": not domain or bool(gone),
        "storage": next(name for name, parent in STORAGES.items() if parent == _parent(first["name"])),
        "memory": domain["memory"] if domain else 0,
        "vcpus": domain["vcpus"] if domain else 0,
        "autostart": bool(domain and domain["autostart"]),
        "volumes": {each["name"]: _part(each) for each in parts},
        "size": sum(int(each["volsize"]) for each in parts if each[OURS + "role"] == "disk"),
        "origin": first["origin"],
        "clones": sorted({_called(r["name"], owner_of) for r in clones if "/.trash/" not in r["name"]}),
        "template": first[OURS + "template"] == "yes",
        "identity": first[OURS + "identity"],
        "held by a job": False,
        "snapshots": _sets(theirs, volumes, owner_of),
    }


def _part(row: Row) -> tuple[Any, ...]:
    return row["guid"], row[OURS + "role"], row[OURS + "target"], int(row["volsize"]), row["origin"]


def _sets(found: Iterable[Row], volumes: dict[str, Row], owner_of: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """By name: kind, consistency, how many volumes have it, whether it is held, and whose clones hang on it."""
    by_name: dict[str, list[Row]] = {}
    for row in found:
        by_name.setdefault(row["name"].partition("@")[2], []).append(row)
    sets = {}
    for name, parts in by_name.items():
        newest = max(parts, key=lambda row: int(row["createtxg"]))
        kind, _, rest = newest[OURS + "snapshot"].partition(":")
        origins = {row["name"] for row in parts}
        clones = {_entry_or_vm(r["name"], owner_of) for r in volumes.values() if r["origin"] in origins}
        held = any(int(row["userrefs"] or 0) for row in parts)
        sets[name] = (kind or "foreign", rest.partition(":")[0], len(parts), held, sorted(clones))
    return sets


def _foreign(domain: dict[str, Any], volumes: dict[str, Row], owner_of: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A domain that is no VM's."""
    there = sorted({path.removeprefix(DEVICE) for path in domain["disks"].values()} & volumes.keys())
    there = [name for name in there if _parent(name) in STORAGES.values()]
    inside = {path for path in domain["disks"].values() if _parent(path.removeprefix(DEVICE)) in STORAGES.values()}
    outside = [path for target, path in domain["disks"].items() if target != "nvram" and path not in inside]
    if any(_is_missing(path, volumes) for path in domain["disks"].values()):
        kind = "missing"
    elif not there or outside:
        kind = "files"
    elif any(name in owner_of for name in there):
        kind = "shared"
    else:
        kind = "adoptable"
    return {"kind": kind, "state": domain["state"], "volumes": there}


def _is_missing(path: str, volumes: dict[str, Row]) -> bool:
    name = path.removeprefix(DEVICE)
    return name != path and _parent(name) in STORAGES.values() and name not in volumes


def _called(dataset: str, owner_of: dict[str, dict[str, Any]]) -> str:
    return owner_of[dataset]["name"] if dataset in owner_of else dataset


def _entry_or_vm(dataset: str, owner_of: dict[str, dict[str, Any]]) -> str:
    entry = dataset.partition("/.trash/")[2].partition("/")[0]
    return f"trash entry {entry}" if entry else _called(dataset, owner_of)


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


# -- what is said ------------------------------------------------------------------------------------------------------


def bus_says() -> Said:
    said: Said = {}
    for path, interfaces in managed().items():
        if vm := interfaces.get("org.kldload.Kvm1.Vm"):
            values = {key: value["data"] for key, value in vm.items()}
            said[f"vm {values['Id']}"] = _as_said(values, path)
    for row in foreign():
        entry = {key: value["data"] for key, value in row.items()}
        what = "orphan" if entry["kind"] == "orphan" else "domain"
        said[f"{what} {entry['name']}"] = {
            "kind": entry["kind"],
            "state": entry["state"],
            "volumes": sorted(entry["volumes"]),
        }
    for row in data(call(ROOT, "Manager", "ListTrash"))[0]:
        entry = {key: value["data"] for key, value in row.items()}
        said[f"trash {entry['dataset']}"] = {
            **{key: entry[key] for key in ("vm", "vm-id", "reason")},
            "volumes": sorted(entry["volumes"]),
        }
    return said


def _as_said(values: dict[str, Any], path: str) -> dict[str, Any]:
    parts = [{key: value["data"] for key, value in each.items()} for each in values["Volumes"]]
    listed = snapshots_of(path)
    said = {
        "name": values["Name"],
        "uuid": values["Uuid"],
        "state": values["State"],
        "has a problem": bool(values["Problem"]),
        "storage": values["Storage"],
        "memory": values["Memory"],
        "vcpus": values["Vcpus"],
        "autostart": values["Autostart"],
        "volumes": {
            each["dataset"]: (each["guid"], each["role"], each["target"], each["size"], each["origin"])
            for each in parts
        },
        "size": values["Size"],
        "origin": values["Origin"],
        "clones": sorted(values["Clones"]),
        "template": values["Template"],
        "identity": values["Identity"],
        "held by a job": values["Job"] != "/",
        "snapshots": listed,
    }
    if values["SnapshotCount"] != len(listed):
        said["number of snapshots"] = values["SnapshotCount"]
    return said


def snapshots_of(path: str) -> dict[str, Any]:
    """What ListSnapshots says of a VM; nothing if the VM has gone meanwhile."""
    done = call(path, "Vm", "ListSnapshots", "a{sv}", "1", "limit", "u", "10000", check=False)
    listed = {}
    for row in data(done)[0] if done.returncode == 0 else []:
        each = {key: value["data"] for key, value in row.items()}
        listed[each["name"]] = (
            each["kind"], each["consistency"], each["volumes"], each["held"], sorted(each["clones"]),
        )  # fmt: skip
    return listed
