"""A picture with as much detail as can be read on a slide."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from graphlens.analyses.compose import MOST_BOXES, Wish, compose
from graphlens.analyses.fold import FoldedGraph, fold
from graphlens.analyses.heat import NodeColumn
from graphlens.analyses.module_frames import module_frames
from graphlens.analyses.scene import Key, Scene
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

    One that shows what repeats comes before one in which it is hidden in a closed module. Tried are all depths,
    repeats with and without the calls of modules, and one to four columns, of which fewer are better. A depth
    that is asked for is kept; and where the wish limits the boxes, as many as it allows are drawn, however
    small their text.

    Raises:
        DrawError: the wish names what is not there, or no folding makes the picture small enough.
        MeasureError: modules are asked for of a graph that was not recorded.
    """
    look = replace(look, least=TYPE)
    told = wish.max_boxes != MOST_BOXES
    scenes = _scenes(graph, wish, heat)
    if told:
        scenes.sort(key=lambda scene: (len(scene.boxes), repeats_shown(scene)), reverse=True)
        scenes = scenes[:1]
    else:
        small = [scene for scene in scenes if len(scene.boxes) <= _MOST_BOXES]
        scenes = small or [min(scenes, key=lambda scene: len(scene.boxes))]
        scenes.sort(key=lambda scene: (repeats_shown(scene), len(scene.boxes)), reverse=True)
    best: Fit | None = None
    for scene in scenes:
        for columns in range(1, _MOST_COLUMNS + 1):
            laid = _laid_out(replace(scene, dense=True, columns=columns), look)
            if laid is not None and (best is None or laid.points > best.points):
                best = laid
            if best is not None and best.points >= LEAST:
                return best
    assert best is not None
    return best


def _laid_out(scene: Scene, look: Look) -> Fit | None:
    """A scene with the size of its text; None if its columns do not stand from left to right."""
    svg = layout.lay_out(scene_dot(scene, look), "svg")
    if scene.columns > 1 and not left_to_right(svg, box_columns(scene)):
        return None
    return Fit(scene, look, text_points(svg))


def repeats_shown(scene: Scene) -> int:
    """How many of the outermost repeats have a frame or a closed box of their own."""
    counts = {frame.frames: frame.count for frame in scene.frames}
    shown: set[int] = set()
    for box in scene.boxes:
        around = (box.key.frames[:depth] for depth in range(1, len(box.key.frames) + 1))
        outermost = next((frames[-1].group for frames in around if counts[frames] > 1), None)
        if outermost is None and box.count > 1:
            outermost = box.key.number
        if outermost is not None:
            shown.add(outermost)
    return len(shown)


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


def _scenes(graph: GradGraph | FoldedGraph, wish: Wish, heat: NodeColumn | None) -> list[Scene]:
    """What may be drawn, each once; those that name modules come first."""
    whole = graph.graph if isinstance(graph, FoldedGraph) else graph
    if wish.focus is None and wish.path is None and not isinstance(graph, FoldedGraph):
        graph = fold(graph)  # once for all depths
    knows_modules = any(node.call is not None for node in whole.nodes) and wish.expand != "raw"
    groups = ["module", "outline", "repeats"] if knows_modules and wish.group == "repeats" else [wish.group]
    known = module_frames(graph) if isinstance(graph, FoldedGraph) and len(groups) > 1 else None
    found: dict[tuple[Key, ...], Scene] = {}
    refused: DrawError | None = None
    for group in groups:
        before: tuple[Key, ...] = ()
        for depth in range(_DEEPEST) if wish.depth is None else [wish.depth]:
            try:
                scene = compose(graph, replace(wish, group=group, depth=depth), heat, known)
            except DrawError as error:  # with modules closed too it may be small enough
                refused = error
                continue
            boxes = tuple(box.key for box in scene.boxes)
            if boxes == before:
                break  # no frames lie deeper, or none of them may be opened
            found.setdefault(boxes, scene)
            before = boxes
    if not found and refused is not None:
        raise refused
    return [*found.values()]
