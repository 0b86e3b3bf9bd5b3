"""Finish a layout program's SVG so that it can stand in a page: described, and with ids of its own."""

from __future__ import annotations

import re
from xml.etree import ElementTree

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"


def finish_svg(svg: bytes, *, title: str, description: str, prefix: str) -> bytes:
    """Add role, title and description, and put `prefix` before every id.

    Layout programs call the elements of every picture node1, node2, …: without a prefix two
    pictures on one page would share ids.
    """
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        if "id" in element.attrib:
            element.set("id", f"{prefix}-{element.attrib['id']}")
        for name, value in element.attrib.items():
            if name == f"{{{_XLINK}}}href" and value.startswith("#"):
                element.set(name, f"#{prefix}-{value[1:]}")
            elif "url(#" in value:
                element.set(name, re.sub(r"url\(#", f"url(#{prefix}-", value))
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}-title {prefix}-desc")
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{prefix}-{tag}"})
        element.text = text
        element.tail = "\n"
        root.insert(place, element)
    finished: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return finished + b"\n"


def id_prefix(name: str) -> str:
    """A target's name as the beginning of an XML id."""
    return "graphlens-" + re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()
