"""Finish a layout program's SVG so that it can stand in a page: described, and with ids of its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree

from graphlens.views.palette import DARK, LIGHT, MIDDLE_GREY

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_FONTS = {"Arial": "Arial, Helvetica, sans-serif", "Courier": "Courier, monospace"}


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
    alone, fits the colours to the page around it. `tips` maps the names of boxes to what a browser
    shows where the mouse points at one; names without a tip are taken out.
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
    root.set("style", "max-width: 100%; height: auto")  # no wider than the page that it is pasted into
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}-title {prefix}-desc")
    heads = [("title", title), ("desc", description)]
    if adapts:
        heads.append(("style", "\n".join(_adapting_rules(prefix))))
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


def _adapting_rules(prefix: str) -> Iterator[str]:
    """CSS by which a picture suits the page around it; it overrides the colours that were written.

    `light-dark()` follows the `color-scheme` of the page, which is not the reader's system where
    a page is always dark or always light. What stands on the page's own ground, heading and arrows,
    takes the page's own colour: it can be read also on a dark page that declares nothing.
    """
    yield f"#{prefix} text {{ fill: currentColor; }}"
    yield f"#{prefix} .gl-arrow path {{ stroke: currentColor; stroke-opacity: 0.75; }}"
    yield f"#{prefix} .gl-arrow polygon {{ stroke: none; fill: currentColor; fill-opacity: 0.75; }}"
    # In <img> the picture is a document of its own. It then follows the reader's system even where
    # the page is always light: halos and a middle grey can be read on either ground.
    yield f"#{prefix}:root {{ color-scheme: light dark; }}"
    yield f"#{prefix}:root text {{ paint-order: stroke; stroke: Canvas; stroke-width: 3px; stroke-linejoin: round; }}"
    yield f"#{prefix}:root .gl-arrow path {{ stroke: {MIDDLE_GREY}; stroke-opacity: 1; }}"
    yield f"#{prefix}:root .gl-arrow polygon {{ fill: {MIDDLE_GREY}; fill-opacity: 1; }}"
    carried = _either(LIGHT.carried, DARK.carried)
    yield f"#{prefix} .gl-carried path {{ stroke: {carried}; }}"
    yield f"#{prefix} .gl-carried polygon {{ stroke: {carried}; fill: {carried}; }}"
    yield f"#{prefix} .gl-frame > path {{ fill: {LIGHT.frame[1]}; fill-opacity: 0.08; }}"
    boxes = ", ".join(f".gl-{kind}" for kind in (*LIGHT.boxes, "stack"))
    yield f"#{prefix} :is({boxes}) text {{ fill: {_either(LIGHT.text, DARK.text)}; stroke: none; }}"
    filled = ':is(path, ellipse, polygon):not([fill="none"])'  # the outer one of two lines is not
    for kind, (fill, line) in LIGHT.boxes.items():
        dark_fill, dark_line = DARK.boxes[kind]
        yield f"#{prefix} .gl-{kind} {filled} {{ fill: {_either(fill, dark_fill)}; }}"
        yield f"#{prefix} .gl-{kind} :is(path, ellipse, polygon) {{ stroke: {_either(line, dark_line)}; }}"
    for step, fill in enumerate(LIGHT.heat):
        yield f"#{prefix} .gl-heat{step} {filled} {{ fill: {_either(fill, DARK.heat[step])}; }}"
    # The cells of a stack have no classes of their own.
    stacked = ("function", "custom", "leaf")
    fills = {LIGHT.boxes[kind][0]: DARK.boxes[kind][0] for kind in stacked}
    for fill, dark in {**fills, **dict(zip(LIGHT.heat, DARK.heat, strict=True))}.items():
        yield f'#{prefix} .gl-stack polygon[fill="{fill.lower()}"] {{ fill: {_either(fill, dark)}; }}'
    lines = {LIGHT.boxes[kind][1]: DARK.boxes[kind][1] for kind in stacked}
    for line, dark in {**lines, LIGHT.carried: DARK.carried}.items():
        yield f'#{prefix} .gl-stack polygon[stroke="{line.lower()}"] {{ stroke: {_either(line, dark)}; }}'


def _either(light: str, dark: str) -> str:
    return f"light-dark({light}, {dark})"
