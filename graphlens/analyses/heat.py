"""Numbers, one for each node, by which a picture can be shaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from graphlens.errors import DrawError, MeasureError
from graphlens.graph import GradGraph


@dataclass(frozen=True, eq=False)
class NodeColumn:
    """A number for each node that was measured.

    A box of a picture states, in percent, the sum of the magnitudes of its nodes as a share of that
    of all nodes drawn. Magnitudes, so that contributions which cancel are not hidden, and shares
    add up to 100 % however much is folded.

    Attributes:
        title: what is shaded by, as it ends "the share of all …": "forward time, measured once".
        unit: "nodes", "bytes" and "ns" are written as such; any other is written behind the number.
        values: node → number, of either sign; a node that is not in it was not measured.
        total: what the numbers explain, if their signs matter: a box then states the plain sum of its
            numbers as a share of this, and is shaded by the magnitude of that sum.
    """

    title: str
    unit: str
    values: Mapping[int, float]
    total: float | None = None

    def check(self, graph: GradGraph) -> NodeColumn:
        """Verify that these can be numbers of the graph's nodes; return the column itself.

        Raises:
            DrawError: naming the first one that cannot.
        """
        for node, value in self.values.items():
            if not 0 <= node < len(graph):
                raise DrawError(f"{self.title} is given for node {node}, and the graph has none of that number")
            if not math.isfinite(value):
                raise DrawError(f"{self.title} of node {node} is {value}; leave out what was not measured")
        return self


def _counts(graph: GradGraph) -> NodeColumn:
    return NodeColumn("nodes", "nodes", dict.fromkeys(range(len(graph)), 1))


def _bytes(graph: GradGraph) -> NodeColumn:
    saved = enumerate(graph.saved_by_node())
    return NodeColumn("saved bytes (storage)", "bytes", {number: row.storage_bytes for number, row in saved})


def _times(graph: GradGraph) -> NodeColumn:
    """Of both passes, where each node's backward pass was timed too; else of the forward pass alone."""
    both = any(node.backward_ns is not None for node in graph.nodes)
    times: dict[int, float] = {}
    for number, node in enumerate(graph.nodes):
        known = [ns for ns in (node.forward_ns, node.backward_ns if both else None) if ns is not None]
        if known:
            times[number] = sum(known)
    if not times:
        raise MeasureError(
            "shading by time needs the times of the forward ops, and this graph tells none; name the target that it "
            "was captured from, or use graphlens.trace(model, inputs, times=True)"
        )
    return NodeColumn("time of both passes" if both else "forward time, measured once", "ns", times)


_MADE: Mapping[str, Callable[[GradGraph], NodeColumn]] = {"count": _counts, "bytes": _bytes, "time": _times}

HEATS = tuple(_MADE)  # what any captured graph can be shaded by


def heat_of(graph: GradGraph, heat: str | NodeColumn | None) -> NodeColumn | None:
    """The column of that name, or the given one once it is checked.

    Raises:
        DrawError: there is no such column, or it does not fit the graph.
        MeasureError: the graph does not tell what it needs.
    """
    if heat is None:
        return None
    if isinstance(heat, NodeColumn):
        return heat.check(graph)
    if heat not in _MADE:
        known = ", ".join(map(repr, (None, *HEATS)))
        raise DrawError(f"heat must be one of {known}, or a NodeColumn, got {heat!r}")
    return _MADE[heat](graph)
