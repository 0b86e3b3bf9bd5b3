"""Builds a scene from a folded graph."""

from __future__ import annotations

from collections.abc import Sequence

from graphlens.analyses.fold import FoldedGraph
from graphlens.analyses.heat import NodeColumn
from graphlens.analyses.module_frames import ModuleFrames
from graphlens.analyses.scene.boxes import boxes_of, frames_of
from graphlens.analyses.scene.names import Names
from graphlens.analyses.scene.places import cross, is_carried, key_of, levels, paths_of
from graphlens.analyses.scene.records import Expansion, Extract, Key, Path, Scene, SceneArrow, SceneBox

FOLDED = Expansion()


def build_scene(
    folded: FoldedGraph,
    expansion: Expansion = FOLDED,
    extract: Extract | None = None,
    modules: ModuleFrames | None = None,
    heat: NodeColumn | None = None,
) -> Scene:
    """Which boxes a picture shows, in which frames, with which arrows between them; with `modules` in their frames.

    `heat` goes by the numbers of the whole graph.
    """
    graph = folded.graph
    paths = paths_of(folded, modules)
    keys = [key_of(folded, expansion, path, number) for number, path in enumerate(paths)]
    names = Names(folded, modules, keys, paths)
    boxes = boxes_of(folded, keys, names, _heats(len(graph), heat, extract))
    arrows = _arrows(folded, expansion, paths, keys)
    for place, end in enumerate(graph.outputs if extract is None else graph.outputs[: extract.outputs]):
        key = Key((), "output", place)
        boxes[key] = SceneBox(key, "output", end.name, end.shape, end.node)
        arrows[keys[end.node], key, False] = SceneArrow(keys[end.node], key, False, end.shape, 1)
    focus = None if extract is None or extract.focus is None else keys[extract.focus]
    frames = frames_of(folded, boxes.values(), names)
    return Scene(graph, tuple(boxes.values()), frames, tuple(arrows.values()), extract, focus, heat)


def _arrows(
    folded: FoldedGraph, expansion: Expansion, paths: Sequence[Path], keys: Sequence[Key]
) -> dict[tuple[Key, Key, bool], SceneArrow]:
    """The arrows between the boxes by what tells them apart; edges inside a closed box have none."""
    graph = folded.graph
    arrows: dict[tuple[Key, Key, bool], SceneArrow] = {}
    for source, target, _, ports in graph.edges:
        earlier, later = keys[target], keys[source]
        drawn = min(levels(earlier), levels(later))
        carried = is_carried(paths[target][:drawn], paths[source][:drawn], expansion)
        if earlier == later and not carried:
            continue  # inside a closed box
        arrow = arrows.get((earlier, later, carried))
        if arrow is None:
            arrow = SceneArrow(earlier, later, carried, graph.nodes[target].shape)
            arrows[earlier, later, carried] = arrow
        arrow.edges += 1
        if not carried:
            cross(arrow, folded, paths[target], paths[source])
            output = (target, ports[0])
            arrow.one_each |= output != arrow.read.setdefault(paths[target][: len(arrow.around)], output)
    return arrows


def _heats(size: int, heat: NodeColumn | None, extract: Extract | None) -> Sequence[float | None]:
    """The column's value of each node of the part that is shown."""
    if heat is None:
        return [None] * size
    return [heat.values.get(number) for number in (range(size) if extract is None else extract.nodes)]
