"""Where the lines of a layout run: through which boxes that are not their ends, and through which words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from tests.drawing import SVG

Point = tuple[float, float]
_STEPS = 24  # points of each piece of a curve that are looked at
_RIM = 1.5  # points: so near to its edge nothing is inside a box


class Area(NamedTuple):
    """A box, a cell of boxes that touch, or words; in points."""

    name: str
    left: float
    top: float
    right: float
    bottom: float
    is_round: bool = False

    def holds(self, point: Point, rim: float = _RIM) -> bool:
        x, y = point
        if self.is_round:
            wide, high = (self.right - self.left) / 2, (self.bottom - self.top) / 2
            far = ((x - self.left - wide) / (wide - rim)) ** 2 + ((y - self.top - high) / (high - rim)) ** 2
            return far < 1
        return self.left + rim < x < self.right - rim and self.top + rim < y < self.bottom - rim


class Line(NamedTuple):
    """An arrow's line: from which node of the DOT text to which, and points along it."""

    tail: str
    head: str
    points: list[Point]


def areas(svg: bytes | str) -> list[Area]:
    """Every box and every cell; of what has two outlines the outer one. Headings and remarks are words."""
    found = []
    for node in _groups(svg, "node"):
        name = node.findtext(f"{SVG}title") or ""
        if name[0] not in "b":
            continue
        shapes = [_bounds(shape) for shape in node.iter() if shape.tag in _SHAPES and shape.get("stroke") != "none"]
        if "gl-stack" not in (node.get("class") or ""):
            shapes = [_around(shapes)]
        is_round = next(node.iter(f"{SVG}ellipse"), None) is not None
        found += [Area(name, *shape, is_round) for shape in shapes]
    return found


def words(svg: bytes | str) -> list[Area]:
    """What stands by itself: remarks on arrows, headings of frames, labels of loops; about as wide as it is."""
    found = []
    for kind in ("node", "edge"):
        for group in _groups(svg, kind):
            name = group.findtext(f"{SVG}title") or ""
            if kind == "node" and name[0] not in "rt":
                continue
            for text in group.iter(f"{SVG}text"):
                size = float(text.get("font-size", "9"))
                wide = 0.42 * size * len((text.text or "").strip())
                x, y = float(text.get("x", "nan")), float(text.get("y", "nan"))
                left = x - wide / 2 if text.get("text-anchor") == "middle" else x
                found.append(Area(name, left, y - 0.7 * size, left + wide, y + 0.1 * size))
    return found


def lines(svg: bytes | str) -> list[Line]:
    """Every arrow that is drawn."""
    found = []
    for edge in _groups(svg, "edge"):
        tail, _, head = (edge.findtext(f"{SVG}title") or "").partition("->")
        for path in edge.iter(f"{SVG}path"):
            found.append(Line(tail.split(":")[0], head.split(":")[0], [*_curve(path.get("d", ""))]))
    return found


def crossings(svg: bytes | str) -> list[tuple[Line, Area]]:
    """The arrows that run through a box or along its edge, each with that box; their own ends they may touch."""
    boxes = areas(svg)
    return [
        (line, box)
        for line in lines(svg)
        for box in boxes
        if any(box.holds(point, _RIM if box.name in (line.tail, line.head) else -_RIM) for point in line.points)
    ]


def leaving(svg: bytes | str) -> list[tuple[Line, Area]]:
    """The arrows between two boxes of a frame that run outside it, each with that frame."""
    frames = [
        Area(group.findtext(f"{SVG}title") or "", *_bounds(next(s for s in group.iter() if s.tag in _SHAPES)))
        for group in _groups(svg, "cluster")
    ]
    places: dict[str, Point] = {}
    for node in _groups(svg, "node"):
        left, top, right, bottom = _around([_bounds(shape) for shape in node.iter() if shape.tag in _SHAPES] or [
            (float(text.get("x", "nan")), float(text.get("y", "nan"))) * 2 for text in node.iter(f"{SVG}text")
        ])
        places[node.findtext(f"{SVG}title") or ""] = ((left + right) / 2, (top + bottom) / 2)
    return [
        (line, frame)
        for line in lines(svg)
        for frame in frames
        if frame.holds(places[line.tail])
        and frame.holds(places[line.head])
        and not all(frame.holds(point, 0) for point in line.points)
    ]


def struck(svg: bytes | str) -> list[tuple[Line, Area]]:
    """The arrows that run through words, each with those."""
    said = words(svg)
    return [
        (line, area)
        for line in lines(svg)
        for area in said
        if area.name not in (line.tail, line.head) and any(area.holds(point, 0.5) for point in line.points)
    ]


_SHAPES = {f"{SVG}{kind}" for kind in ("path", "polygon", "ellipse", "polyline")}


def _groups(svg: bytes | str, kind: str) -> Iterator[ElementTree.Element]:
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        if kind in (group.get("class") or "").split():
            yield group


def _around(areas: Sequence[tuple[float, float, float, float]]) -> tuple[float, float, float, float]:
    lefts, tops, rights, bottoms = zip(*areas, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _bounds(shape: ElementTree.Element) -> tuple[float, float, float, float]:
    if shape.tag == f"{SVG}ellipse":
        x, y, rx, ry = (float(shape.get(key, "nan")) for key in ("cx", "cy", "rx", "ry"))
        return x - rx, y - ry, x + rx, y + ry
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", shape.get("points") or shape.get("d") or "")]
    return min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])


def _curve(path: str) -> Iterator[Point]:
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", path)]
    corners = [*zip(numbers[::2], numbers[1::2], strict=True)]
    assert len(corners) % 3 == 1
    for start in range(0, len(corners) - 1, 3):
        a, b, c, d = corners[start : start + 4]
        for step in range(_STEPS):
            t = step / _STEPS
            u = 1 - t
            parts = (u**3, 3 * u * u * t, 3 * u * t * t, t**3)
            yield (
                sum(part * corner[0] for part, corner in zip(parts, (a, b, c, d), strict=True)),
                sum(part * corner[1] for part, corner in zip(parts, (a, b, c, d), strict=True)),
            )
    yield corners[-1]
