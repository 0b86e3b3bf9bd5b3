"""Finish a layout program's SVG so that it can stand in a page: described, and with ids of its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree

from graphlens.views.palette import DARK

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_FONTS = {"Helvetica": "Helvetica, Arial, sans-serif", "Courier": "Courier, monospace"}


def finish_svg(
    svg: bytes,
    *,
    title: str,
    description: str,
    prefix: str,
    adapts: bool = False,
    tips: Mapping[str, str] | None = None,
) -> bytes:
    """Add role, title and description, and put `prefix` before every id.

    Layout programs call the elements of every picture node1, node2, …: without a prefix two
    pictures on one page would share ids. With `adapts` a style sheet, which holds for this picture
    alone, turns the colours dark where the reader's system asks for it. `tips` maps the names of
    boxes to what a browser shows where the mouse points at one; names without a tip are taken out.
    """
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(svg)
    _replace_titles(root, tips or {})
    for element in root.iter():
        if "id" in element.attrib:
            element.set("id", f"{prefix}-{element.attrib['id']}")
        for name, value in element.attrib.items():
            if name == f"{{{_XLINK}}}href" and value.startswith("#"):
                element.set(name, f"#{prefix}-{value[1:]}")
            elif "url(#" in value:
                element.set(name, re.sub(r"url\(#", f"url(#{prefix}-", value))
            elif name == "font-family":
                element.set(name, _FONTS.get(value.split(",")[0], value))
    root.set("id", prefix)
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}-title {prefix}-desc")
    heads = [("title", title), ("desc", description)]
    if adapts:
        heads.append(("style", "\n".join(_dark_rules(prefix))))
    for place, (tag, text) in enumerate(heads):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", {} if tag == "style" else {"id": f"{prefix}-{tag}"})
        element.text = text
        element.tail = "\n"
        root.insert(place, element)
    finished: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return finished + b"\n"


def id_prefix(name: str, content: str = "") -> str:
    """The beginning of a picture's ids: a target's name, and what tells apart two pictures of one target."""
    prefix = "graphlens-" + re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()
    return f"{prefix}-{hashlib.sha256(content.encode()).hexdigest()[:8]}" if content else prefix


def _replace_titles(root: ElementTree.Element, tips: Mapping[str, str]) -> None:
    """Layout programs title each element with its name in the DOT text, which means nothing to a reader."""
    for parent in root.iter():
        for title in parent.findall(f"{{{_SVG}}}title"):
            if (tip := tips.get(title.text or "")) is not None:
                title.text = tip
            else:
                parent.remove(title)


def _dark_rules(prefix: str) -> Iterator[str]:
    """CSS for dark surroundings; it overrides the colours that the layout program wrote."""
    yield "@media (prefers-color-scheme: dark) {"
    yield f"#{prefix} text {{ fill: {DARK.text}; }}"
    yield f"#{prefix} .gl-arrow path {{ stroke: {DARK.arrow}; }}"
    yield f"#{prefix} .gl-arrow polygon {{ stroke: {DARK.arrow}; fill: {DARK.arrow}; }}"
    yield f"#{prefix} .gl-carried path {{ stroke: {DARK.carried}; }}"
    yield f"#{prefix} .gl-carried polygon {{ stroke: {DARK.carried}; fill: {DARK.carried}; }}"
    yield f"#{prefix} .gl-carried text {{ fill: {DARK.carried}; }}"
    fill, line = DARK.frame
    yield f"#{prefix} .gl-frame > path {{ fill: {fill}; stroke: {line}; }}"
    for kind, (fill, line) in DARK.boxes.items():
        yield f"#{prefix} .gl-{kind} :is(path, ellipse, polygon) {{ fill: {fill}; stroke: {line}; }}"
    for step, fill in enumerate(DARK.heat):
        yield f"#{prefix} .gl-heat{step} :is(path, ellipse, polygon) {{ fill: {fill}; }}"
    yield "}"
