"""From a graph and a wish to a scene that can be laid out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from graphlens.analyses.fold import FoldedGraph, fold
from graphlens.analyses.heat import NodeColumn
from graphlens.analyses.layout_cost import scene_cost
from graphlens.analyses.module_frames import ModuleFrames, module_frames
from graphlens.analyses.places import require_recording
from graphlens.analyses.scene import Deeper, Expansion, Extract, Scene, build_scene, group_names, without_frames
from graphlens.analyses.select import between, neighbourhood, part_of
from graphlens.errors import DrawError
from graphlens.graph import GradGraph

MOST_BOXES = 400


@dataclass(frozen=True)
class Wish:
    """What a picture should show.

    Attributes:
        expand: "none"; "all" (every iteration of every group, in its frame); "raw" (the same without
            frames: the graph node by node); "first,last" (iterations of every group); or
            the name of one group, as its frame states it, or its number, from 1.
        depth: frames that may stand inside one another.
        max_boxes: the most boxes that may be drawn; groups are closed until that holds.
        focus, radius: show only what is at most `radius` edges away from this node.
        path: show only what lies between this leaf and the outputs.
        group: "repeats"; or "module", for a frame around the calls of each module too; or "outline", for
            those around which nothing repeats.
    """

    expand: str = "none"
    depth: int | None = None
    max_boxes: int = MOST_BOXES
    focus: int | None = None
    radius: int = 2
    path: str | None = None
    group: str = "repeats"


def compose(
    graph: GradGraph | FoldedGraph, wish: Wish, heat: NodeColumn | None = None, known: ModuleFrames | None = None
) -> Scene:
    """The scene that the wish asks for; deep groups are closed where it could not be laid out.

    `heat` gives numbers of the nodes of the graph, by which the boxes are to be shaded; `known` are
    the frames of modules in a folded graph, where they were found already.

    Raises:
        DrawError: the wish names what is not there, or no folding makes the picture small enough.
        MeasureError: modules are asked for of a graph that was not recorded.
    """
    if wish.group != "repeats":
        _require_modules(graph.graph if isinstance(graph, FoldedGraph) else graph, wish)
    extract = None
    if wish.focus is not None or wish.path is not None:
        graph, extract = _extract(graph.graph if isinstance(graph, FoldedGraph) else graph, wish)
    folded = graph if isinstance(graph, FoldedGraph) else fold(graph)
    expansion = _expansion(folded, wish)
    _refuse_unrolling(folded, expansion, wish)
    modules = None if wish.group == "repeats" else known or module_frames(folded)
    if modules is not None and wish.group == "outline":
        modules = modules.outline()
    deepest = max((depth for depth, _ in folded.walk()), default=0) if modules is None else modules.depth
    most = deepest if wish.depth is None else min(wish.depth, deepest)
    least = min(most, max((_level(folded, group, modules) for group in expansion.unrolled), default=0))
    scene, deeper = None, None
    for depth in range(most, least - 1, -1):
        scene = build_scene(folded, replace(expansion, depth=depth), extract, modules, heat)
        feasible = scene_cost(scene).is_feasible
        if len(scene.boxes) <= wish.max_boxes and feasible:
            return without_frames(scene) if wish.expand == "raw" else replace(scene, deeper=deeper)
        deeper = Deeper(len(scene.boxes), feasible)
    assert scene is not None
    if expansion.unrolled:
        raise DrawError(
            f"unrolled it takes {len(scene.boxes):,} boxes, too many or too entangled to lay out; "
            "use --expand first,last, or show a part (--focus NODE)"
        )
    raise DrawError(
        f"even with every repeat closed {len(folded.graph):,} nodes need {len(scene.boxes):,} boxes, too many or too "
        "entangled to lay out; show a part (--focus NODE, --path INPUT) or raise --max-nodes"
    )


def _extract(whole: GradGraph, wish: Wish) -> tuple[GradGraph, Extract]:
    kept, what = None, []
    if wish.focus is not None:
        what.append(f"at most {wish.radius} edge{'' if wish.radius == 1 else 's'} from node {wish.focus}")
    if wish.path is not None:
        kept = between(whole, wish.path)
        what.append(f"on the paths from {wish.path}")
    if wish.focus is not None:
        kept = neighbourhood(whole, wish.focus, wish.radius, kept)
    part = part_of(whole, kept or ())
    focus = None if wish.focus is None else part.nodes.index(wish.focus)
    return part.graph, Extract(", ".join(what), len(whole), part.nodes, part.outputs, focus, wish.path)


def _expansion(folded: FoldedGraph, wish: Wish) -> Expansion:
    every = frozenset(group.number for group in folded.groups)
    if wish.expand == "none":
        return Expansion()
    if wish.expand in ("all", "raw"):
        return Expansion(unrolled=every)
    if wish.expand == "first,last":
        return Expansion(ends=every)
    names = group_names(folded)
    if wish.expand not in names:
        have = ", ".join(f"{group.number + 1} ({group.label})" for group in folded.groups[:8])
        raise DrawError(f"there is no group {wish.expand!r} to expand; there is {have or 'none at all'}")
    return Expansion(unrolled=names[wish.expand])


def _level(folded: FoldedGraph, group: int, modules: ModuleFrames | None) -> int:
    """In how many frames the boxes of a group stand, its own included."""
    drawn = folded.groups[group]
    node = folded.order[drawn.starts[drawn.drawn]]
    path = folded.path(node) if modules is None else modules.paths[node]
    return 1 + [step for step, _ in path].index(group)


def _require_modules(graph: GradGraph, wish: Wish) -> None:
    require_recording(graph, "grouping by module")
    if wish.expand == "raw":
        raise DrawError("a raw picture has no frames, and so none of modules; leave out one of the two")
    if not any(node.call is not None for node in graph.nodes):
        raise DrawError("no module was called in the forward pass, so that there are none to group by")


def _refuse_unrolling(folded: FoldedGraph, expansion: Expansion, wish: Wish) -> None:
    """Closing groups cannot make up for unrolled ones: those were asked for."""
    boxes = sum(folded.groups[number].count * max(len(folded.groups[number].body), 1) for number in expansion.unrolled)
    if boxes > wish.max_boxes:
        raise DrawError(
            f"unrolled it would take about {boxes:,} boxes or more, and --max-nodes allows {wish.max_boxes:,}; "
            "use --expand first,last, or raise --max-nodes"
        )
