"""Names and formats of images in a store, made valid at the door.

What stands in a store under a name is told by its contents, except raw: nothing in a raw disk says that it is one, so
somebody must, by a name that ends in .raw or by format=raw when the image is added.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from .errors import InvalidArgument
from .names import shown

Format = Literal["iso", "qcow2", "raw"]
FORMATS: tuple[Format, ...] = get_args(Format)
FORMAT_NAMES: dict[Format, str] = {"iso": "an ISO 9660 image", "qcow2": "a qcow2 image", "raw": "a raw disk"}
IMAGE_NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9._+-]{0,127}")
_RULE = "use letters, digits, '.', '_', '+' and '-', beginning with none of '.' and '-', at most 128 characters"


def image_name(text: str) -> str:
    """An image's name in a store. Raises InvalidArgument."""
    if IMAGE_NAME.fullmatch(text):
        return text
    what = f"{shown(text)} cannot be the name of an image"
    if not text:
        raise InvalidArgument(what, "it is empty", _RULE)
    if len(text) > 128:
        raise InvalidArgument(what, f"it has {len(text)} characters, and 128 is the most", _RULE)
    if text[0] in ".-":
        raise InvalidArgument(what, f"it begins with '{text[0]}'", _RULE)
    bad = next(c for c in text if not re.fullmatch(r"[A-Za-z0-9._+-]", c))
    raise InvalidArgument(what, "it has a space in it" if bad == " " else f"it has {shown(bad)} in it", _RULE)


def image_format(text: str) -> Format | None:
    """An image's format as asked for; None for the empty string. Raises InvalidArgument."""
    if not text:
        return None
    for each in FORMATS:
        if text == each:
            return each
    raise InvalidArgument(f"{shown(text)} is no format of images here", "", f"use one of {', '.join(FORMATS)}")


def named_format(name: str) -> Format | None:
    """The format that a name's ending claims, if any.

    >>> named_format("debian.QCOW2"), named_format("disk.img")
    ('qcow2', None)
    """
    ending = name.rpartition(".")[2].lower()
    return next((each for each in FORMATS if ending == each), None)


def new_image_name(text: str, format_: Format | None) -> str:
    """A name that an image of that format (None: told from its contents) may have. Raises InvalidArgument."""
    name = image_name(text)
    named = named_format(name)
    if named and format_ and named != format_:
        why = f"its name ends in .{named}, and it was said to be {FORMAT_NAMES[format_]}"
        raise InvalidArgument(f"{shown(name)} was not added", why, "name it by what it is")
    return name
