"""A picture with as much detail as can be read on a slide."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from graphlens.analyses.compose import Wish, compose
from graphlens.analyses.fold import FoldedGraph, fold
from graphlens.analyses.heat import NodeColumn
from graphlens.analyses.scene import Scene
from graphlens.errors import DrawError
from graphlens.graph import GradGraph
from graphlens.views import layout
from graphlens.views.look import Look
from graphlens.views.scene_dot import box_columns, scene_dot

# The page of the usual programs: 16:9, 13⅓ inches wide, so that 1920 pixels are 144 to the inch.
WIDTH, HEIGHT = 960.0, 540.0  # points
LEAST = 10.0  # points; what a lecture hall can read
TYPE = 11  # every text of such a picture, but for its title, which is larger
_MOST_COLUMNS = 4
_MOST_BOXES = 60  # more never fit, and would be laid out in vain
_DEEPEST = 8


class Fit(NamedTuple):
    """A scene for a slide, and how large its smallest text is there, in points."""

    scene: Scene
    look: Look
    points: float


def fit_slide(graph: GradGraph | FoldedGraph, wish: Wish, look: Look, heat: NodeColumn | None = None) -> Fit:
    """The scene with the most boxes whose text is still large enough; else the one with the largest text.

    Tried are all depths, repeats with and without the calls of modules, and one to four columns, of
    which fewer are better. A depth that is asked for is kept.

    Raises:
        DrawError: the wish names what is not there, or no folding makes the picture small enough.
        MeasureError: modules are asked for of a graph that was not recorded.
    """
    look = replace(look, least=TYPE)
    found = _scenes(graph, wish, heat)
    best: Fit | None = None
    for boxes in sorted([count for count in found if count <= _MOST_BOXES] or [min(found)], reverse=True):
        for columns in range(1, _MOST_COLUMNS + 1):
            scene = replace(found[boxes], dense=True, columns=columns)
            svg = layout.lay_out(scene_dot(scene, look), "svg")
            points = text_points(svg)
            if columns > 1 and not left_to_right(svg, box_columns(scene)):
                continue
            if best is None or points > best.points:
                best = Fit(scene, look, points)
            if best.points >= LEAST:
                return best
    assert best is not None
    return best


def text_points(svg: bytes) -> float:
    """How large the smallest text of a picture is, in points, once the picture fills a slide."""
    size = re.search(rb'width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    if size is None:
        raise DrawError("the layout program states no size of the picture; use Graphviz's `dot`")
    return TYPE * min(WIDTH / float(size[1]), HEIGHT / float(size[2]))


def left_to_right(svg: bytes, place: Mapping[str, int]) -> bool:
    """Whether the boxes of a column stand, on average, to the right of those of the column before.

    One can only ask a layout program for that order: where frames reach over columns it may have its own.
    """
    middle: dict[int, list[float]] = {}
    for name, x in re.findall(rb'<title>(b\d+)</title>.*?<text[^>]*? x="([-\d.]+)"', svg, re.DOTALL):
        middle.setdefault(place[name.decode()], []).append(float(x))
    means = [statistics.mean(middle[number]) for number in sorted(middle)]
    return means == sorted(means)


def slide_dpi(points: float) -> int:
    """The resolution at which a picture with text of that size on a slide fills 1920 × 1080 pixels."""
    return int(2 * 72 * points / TYPE)


def _scenes(graph: GradGraph | FoldedGraph, wish: Wish, heat: NodeColumn | None) -> dict[int, Scene]:
    """What may be drawn, by the number of boxes; of two with the same number the one that names modules."""
    whole = graph.graph if isinstance(graph, FoldedGraph) else graph
    if wish.focus is None and wish.path is None and not isinstance(graph, FoldedGraph):
        graph = fold(graph)  # once for all depths
    knows_modules = any(node.call is not None for node in whole.nodes) and wish.expand != "raw"
    groups = ["module", "repeats"] if knows_modules and wish.group == "repeats" else [wish.group]
    found: dict[int, Scene] = {}
    for group in groups:
        for depth in range(_DEEPEST) if wish.depth is None else [wish.depth]:
            scene = compose(graph, replace(wish, group=group, depth=depth), heat)
            found.setdefault(len(scene.boxes), scene)
    return found
