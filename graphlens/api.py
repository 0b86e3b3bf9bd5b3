"""Public calls that only join other parts."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING

from graphlens import storage
from graphlens.analyses import counts
from graphlens.analyses import fold as folding
from graphlens.analyses.comparison import Comparison, compare_records
from graphlens.analyses.compose import MOST_BOXES, Wish
from graphlens.analyses.counts import Stats
from graphlens.analyses.fold import FoldedGraph
from graphlens.analyses.heat import NodeColumn
from graphlens.errors import DrawError, NoGraphError, TargetError
from graphlens.graph import GradGraph
from graphlens.records import RunRecord
from graphlens.targets import LESSONS
from graphlens.views.picture import Picture, draw
from graphlens.views.scene_dot import Look

if TYPE_CHECKING:
    from graphlens.capture.trace import Trace
    from graphlens.subject import Subject


def graph_of(subject: Trace | GradGraph) -> GradGraph:
    """The graph of a trace, or the graph itself.

    Raises:
        NoGraphError: the trace has none, or this is neither.
    """
    if isinstance(subject, GradGraph):
        return subject
    graph = getattr(subject, "graph", None)
    if not isinstance(graph, GradGraph):
        what = getattr(subject, "name", "") or type(subject).__name__
        raise NoGraphError(f"{what} has no backward graph; pass a trace of something that has one, or a GradGraph")
    return graph


def stats(
    graph: Trace | GradGraph,
    by: str = "op",
    sort: str = "storage",
    *,
    depth: int | None = None,
    tensors: bool = False,
) -> Stats:
    """Count the nodes of a graph and what they keep for backward, per op, module or line of code.

    See `graphlens.analyses.counts.stats`.
    """
    return counts.stats(graph_of(graph), by, sort, depth=depth, tensors=tensors)


def fold(graph: Trace | GradGraph) -> FoldedGraph:
    """Fold what repeats in a graph; see `graphlens.analyses.fold.fold`."""
    return folding.fold(graph_of(graph))


def save(graph: Trace | GradGraph, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write a graph as .json, .graphml, .gexf or .dot; see `graphlens.storage.save`."""
    return storage.save(graph_of(graph), path, force=force)


def compare(a: Trace | GradGraph, b: Trace | GradGraph, *, names: tuple[str, str] | None = None) -> Comparison:
    """Compare two traces, or two graphs (then without values and times).

    Args:
        names: how to call the two sides; by default their own names.

    Raises:
        TargetError: one of them is neither.
    """
    for side in (a, b):
        if not isinstance(side, GradGraph) and not hasattr(side, "record"):
            raise TargetError(f"{side!r:.60} is no trace and no graph; compare takes what trace, capture or load give")
    left, right = names or (_name(a, "a"), _name(b, "b"))
    return compare_records(_record(a, left), _record(b, right))


def render(
    graph: Trace | GradGraph | FoldedGraph,
    path: str | os.PathLike[str] | None = None,
    *,
    expand: str = "none",
    depth: int | None = None,
    max_boxes: int = MOST_BOXES,
    focus: int | None = None,
    radius: int = 2,
    through: str | None = None,
    heat: str | NodeColumn | None = None,
    group: str = "repeats",
    lines: bool = False,
    slide: bool = False,
    direction: str = "forward",
    theme: str = "auto",
    title: str = "",
    caption: str = "",
    dpi: int | None = None,
    force: bool = False,
) -> Picture:
    """Draw a backward graph, with what repeats drawn once; write it to `path` if one is given.

    Args:
        expand: "none", "all", "raw" (all, without frames), "first,last", or the name or number of one
            group to unroll.
        depth: frames that may stand inside one another; what lies deeper is one closed box.
        max_boxes: the most boxes to draw; groups are closed until that holds.
        focus, radius: show only what is at most `radius` edges away from this node.
        through: show only what lies between this leaf and the outputs.
        heat: shade the boxes by "count", saved "bytes" or "time", which is that of both passes where the
            graph tells it, else of the forward ops, measured once; or by numbers of your own, one for
            each node, given as a `NodeColumn`.
        group: what gets a frame: what "repeats"; with "module", the calls of modules too.
        lines: whether each box names its line of code.
        slide: whether to show only as much as can be read on a slide of 16:9, in columns side by side.
        direction: "forward" or "backward": the way the arrows point.
        theme: "light", "dark", or "auto" for what the reader's system asks for.
        dpi: resolution of a .png.
        force: replace an existing file.

    Raises:
        DrawError: it cannot be drawn so; OutputError: the path cannot be written.
        MeasureError: times, modules or lines are asked for, and the graph does not tell them.
    """
    if not isinstance(graph, FoldedGraph):
        graph = graph_of(graph)
    _check_numbers(depth=(depth, 0), radius=(radius, 0), max_boxes=(max_boxes, 1), dpi=(dpi, 1))
    if focus is not None and type(focus) is not int:
        raise DrawError(f"focus must be the number of a node, got {focus!r}")
    choices = (("direction", direction, ("forward", "backward")), ("theme", theme, ("auto", "light", "dark")))
    for name, value, known in (*choices, ("group", group, ("repeats", "module"))):
        if value not in known:
            raise DrawError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
    wish = Wish(expand, depth, max_boxes, focus, radius, through, group)
    picture = draw(graph, wish, Look(title, caption, direction, theme, lines), heat=heat, slide=slide)
    if path is not None:
        picture.save(path, force=force, dpi=dpi)
    return picture


def _check_numbers(**numbers: tuple[object, int]) -> None:
    """Refuse what is neither None nor a whole number of at least so much."""
    for name, (number, least) in numbers.items():
        if number is not None and (type(number) is not int or number < least):
            raise DrawError(f"{name} must be a whole number ≥ {least}, got {number!r}")


def lesson(name: str, **options: object) -> Subject:
    """A built-in lesson as a subject, e.g. `lesson("wasteful", n=100)`.

    Raises:
        TargetError: there is no lesson of that name, or it has no such option.
        TypeError, ValueError: an option is of the wrong type or out of range.
    """
    if name not in LESSONS:
        raise TargetError(f"there is no lesson {name!r}; there are {', '.join(LESSONS)}")
    from graphlens.lessons import FACTORIES

    known = inspect.signature(FACTORIES[name]).parameters
    for option in options:
        if option not in known:
            raise TargetError(f"{name} has no option {option!r}; it has {', '.join(known)}")
    return FACTORIES[name](**options)


def _record(side: Trace | GradGraph, name: str) -> RunRecord:
    return RunRecord(name, side) if isinstance(side, GradGraph) else side.record(name)


def _name(side: Trace | GradGraph, fallback: str) -> str:
    name = side.meta.get("target") if isinstance(side, GradGraph) else side.name
    return str(name or fallback)
