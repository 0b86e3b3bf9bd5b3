"""The raw graph as torchviz draws it, made deterministic."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

import torch

from graphlens.analyses.counts import depth
from graphlens.analyses.layout_cost import graph_cost
from graphlens.errors import DrawError
from graphlens.graph import GradGraph, printable

_STATEMENT = re.compile(r"^\t(\d+)(?: -> (\d+))?", re.MULTILINE)
# torchviz recurses once a node along a path; the rest of the stack is left to everything else.
_SPARE_FRAMES = 150


def deepest_drawable() -> int:
    """The longest path, in edges, that torchviz can follow before Python's recursion limit."""
    frame, used = sys._getframe(), 0
    while frame is not None:
        frame, used = frame.f_back, used + 1  # type: ignore[assignment]
    return sys.getrecursionlimit() - used - _SPARE_FRAMES


def check_drawable(target: str, graph: GradGraph, *, lays_out: bool, saving: str = "graphlens save") -> None:
    """Refuse at once what torchviz or the layout program could not finish.

    Args:
        saving: the command that saves the graph for other programs.

    Raises:
        DrawError: the graph is too deep to recurse along, or too large to lay out.
    """
    cost = graph_cost(graph)
    size = f"{target} has {cost.nodes:,} nodes and {cost.edges:,} edges"
    way_out = f"make it smaller (--set n=20), or `{saving}` for other tools"
    deepest = deepest_drawable()
    if depth(graph) > deepest:
        raise DrawError(f"{size} on paths of {depth(graph):,}; torchviz follows {deepest:,} at most: {way_out}")
    if lays_out and not cost.is_feasible:
        raise DrawError(
            f"{size}, whose arrows cross {cost.virtual_nodes:,} ranks; a layout would take minutes or hours: {way_out}"
        )


def torchviz_dot(
    roots: Mapping[str, torch.Tensor], names: Mapping[str, torch.Tensor], *, show_saved: bool = False
) -> str:
    """DOT text of torchviz's picture, with its nodes numbered in the order in which they appear.

    Args:
        roots: the tensors to draw, by name.
        names: names of inputs and parameters.
        show_saved: whether to draw the saved tensors too.

    Raises:
        DrawError: torchviz cannot draw this graph.
    """
    # torchviz imports distutils, which only setuptools provides from Python 3.12 on.
    try:
        import torchviz
    except ImportError as error:
        raise DrawError(f"torchviz cannot be imported: {error}; install setuptools beside it") from error

    params = {printable(str(name)): tensor for name, tensor in {**names, **roots}.items()}
    try:
        drawn = torchviz.make_dot(tuple(roots.values()), params=params, show_saved=show_saved)
    except RecursionError as error:
        raise DrawError("the graph is too deep for torchviz, which recurses along it; draw a smaller one") from error
    except RuntimeError as error:
        raise DrawError(f"torchviz cannot read the saved tensors: {str(error).splitlines()[0]}") from error
    # Layout programs know the widths of Courier; "monospace" they guess.
    drawn.node_attr["fontname"] = "Courier"
    return _renumbered(drawn.source)


def _renumbered(source: str) -> str:
    """torchviz names nodes by `id()`; number them instead, so that equal graphs give equal text."""
    numbers: dict[str, str] = {}

    def rename(match: re.Match[str]) -> str:
        ends = [numbers.setdefault(end, f"n{len(numbers)}") for end in match.groups() if end is not None]
        return "\t" + " -> ".join(ends)

    return _STATEMENT.sub(rename, source)
