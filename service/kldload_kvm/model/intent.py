"""What a domain's own <metadata> asks of us: volumes to be made when it is defined, and what becomes of them with it.

    <metadata>
      <kldload:volumes xmlns:kldload="https://kldload.org/xmlns/kvm/1.0">
        <kldload:volume target="vda" size="20G"/>
        <kldload:volume target="vdb" clone-of="base@golden" undefine="keep"/>
        <kldload:volume target="vdc" image="debian-13.qcow2" undefine="destroy" ephemeral="destroy"/>
      </kldload:volumes>
    </metadata>

It states an intention and no fact: a redefinition may drop it without a word. Which volume is meant is said by the
source of the disk with that target.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

from . import names
from .constants import DOCS
from .domain_devices import TARGETS
from .domain_xml import OURS
from .errors import InvalidArgument
from .sizes import GIB, parse_size

TRASH, KEEP, DESTROY = "trash", "keep", "destroy"
FATES = (TRASH, KEEP, DESTROY)
"""What can become of a volume when its domain is undefined."""

ENDS = (TRASH, DESTROY)
"""What can become of one that was made for a transient domain, when that has ended."""

ATTRIBUTES = frozenset({"target", "size", "clone-of", "image", "undefine", "ephemeral"})


@dataclass(frozen=True)
class Wanted:
    """A volume that is asked for. size: in bytes, 0 for the origin's or the image's; origin: VM or VM@SNAPSHOT; fate:
    one of FATES, or empty for what is configured; end: one of ENDS, or empty for one that stays when a transient domain
    has ended."""

    target: str
    size: int = 0
    origin: str = ""
    image: str = ""
    fate: str = ""
    end: str = ""

    @property
    def can_be_made(self) -> bool:
        """Whether it says what the volume is to be; else it only says what becomes of it."""
        return bool(self.size or self.origin or self.image)


def wanted(xml: str) -> dict[str, Wanted]:
    """By target. Raises InvalidArgument for what cannot be followed, naming it."""
    domain = ET.fromstring(xml)
    found: dict[str, Wanted] = {}
    for element in domain.findall(f"metadata/{{{OURS}}}volumes/{{{OURS}}}volume"):
        each = _wanted(element, f"no volume was made for {domain.findtext('name', '')}")
        found[each.target] = each
    return found


def _wanted(element: ET.Element, what: str) -> Wanted:
    given = dict(element.attrib)
    hint = f"{DOCS}/libvirt.md tells what <volume> takes"
    target = given.get("target", "")
    if target not in TARGETS:
        raise InvalidArgument(what, f"<volume> has the target {names.shown(target)}", f"vda to vdz are; {hint}")
    if unknown := sorted(given.keys() - ATTRIBUTES):
        raise InvalidArgument(what, f"<volume> of {target} has {names.shown(unknown[0])}, which is not known", hint)
    sources = [key for key in ("clone-of", "image") if key in given]
    if len(sources) > 1 or ("clone-of" in given and "size" in given):
        why = f"<volume> of {target} asks for {' and '.join(sorted(given.keys() & {'size', 'clone-of', 'image'}))}"
        raise InvalidArgument(what, why, "one says what it is; only an image can have a size besides")
    fate = given.get("undefine", "")
    if fate and fate not in FATES:
        why = f"<volume> of {target} has undefine={names.shown(fate)}"
        raise InvalidArgument(what, why, f"{', '.join(FATES)} are what there is")
    end = given.get("ephemeral", "")
    if end and end not in ENDS:
        why = f"<volume> of {target} has ephemeral={names.shown(end)}"
        raise InvalidArgument(what, why, f"{', '.join(ENDS)} are what there is")
    size = parse_size(given["size"], GIB) if "size" in given else 0
    return Wanted(target, size, given.get("clone-of", ""), given.get("image", ""), fate, end)
