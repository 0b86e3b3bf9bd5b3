"""Who made the error of a result: the contributions of ops, summed over those that belong together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from graphlens.accuracy import Accuracy, Attribution, Op
from graphlens.analyses.fold.labels import short_op
from graphlens.analyses.heat import NodeColumn
from graphlens.analyses.places import short_lines
from graphlens.errors import MeasureError
from graphlens.graph import GradGraph

FORWARD, BACKWARD, SUMS = "forward", "backward", "sums of gradients"


@dataclass(frozen=True)
class Share:
    """The contributions of ops of one kind.

    Attributes:
        op: the op of the graph's node ("Mv"), or that of the call where there is no node.
        during: "forward", "backward", or "sums of gradients": where gradients of several paths meet.
        line: the line of code of the node; "" where it is not known.
        ops: those that contribute.
        net: the sum of their contributions; `magnitude`: the sum of the contributions' magnitudes.
        share: net ÷ the error's functional; None where that is 0, not known, or nothing that the terms sum to.
        nodes: those of the graph.
    """

    op: str
    during: str
    line: str
    ops: int
    net: float
    magnitude: float
    share: float | None
    nodes: tuple[int, ...]


def shares(accuracy: Accuracy, attribution: Attribution) -> tuple[Share, ...]:
    """By op, pass and line of code, the largest magnitude first; over all, they sum to `attribution.net`."""
    terms = attribution.contributions
    key_of = _keys(accuracy.graph, accuracy.ops)
    places = np.flatnonzero(np.nan_to_num(terms))
    groups: dict[tuple[str, str, str], list[int]] = {}
    for place in places.tolist():
        groups.setdefault(key_of(place), []).append(place)
    total = attribution.total if attribution.holds else None
    rows = []
    for (op, during, line), members in groups.items():
        own = terms[members]
        net = math.fsum(own)
        nodes = {accuracy.ops[place].node for place in members}
        rows.append(
            Share(
                op, during, line, len(members), net, math.fsum(abs(own)), net / total if total else None,
                tuple(sorted(node for node in nodes if node is not None)),
            )
        )  # fmt: skip
    return tuple(sorted(rows, key=lambda row: (-row.magnitude, row.op, row.during, row.line)))


def node_errors(graph: GradGraph, attribution: Attribution, ops: Sequence[Op]) -> dict[int, float]:
    """Per node the sum of the contributions of its forward op and of its backward; with their signs."""
    found: dict[int, float] = {}
    for op, term in zip(ops, attribution.contributions.tolist(), strict=True):
        if op.node is not None and not math.isnan(term):
            found[op.node] = found.get(op.node, 0.0) + term
    return found


def error_column(accuracy: Accuracy) -> NodeColumn:
    """What each node contributes to the error of the first result that has one, to shade a picture by.

    Raises:
        MeasureError: no error was measured, there is none, or first order does not tell who made it.
    """
    made = [item for item in accuracy.quantities if item.attribution is not None and item.attribution.magnitude > 0]
    for item in made:
        if item.attribution is not None and item.attribution.holds:
            name = f"the gradient of {item.name}" if item.kind == "gradient" else item.name
            values = node_errors(accuracy.graph, item.attribution, accuracy.ops)
            return NodeColumn(f"contributions to the rounding error of {name}", "", values, item.attribution.total)
    if made:
        raise MeasureError(
            "the errors are too large for first order to tell which ops made them; graphlens explain --only rounding "
            "says what is known"
        )
    raise MeasureError(
        "no op was found to contribute to an error: nothing was rounded, or what was rounded could not be measured; "
        "graphlens explain --only rounding says which"
    )


def _keys(graph: GradGraph, ops: Sequence[Op]) -> Callable[[int], tuple[str, str, str]]:
    lines = short_lines(graph)
    known = [lines[str(source)] for source in graph.sources]

    def key(place: int) -> tuple[str, str, str]:
        op = ops[place]
        during = SUMS if op.accumulates else BACKWARD if op.backward else FORWARD
        if op.node is None:
            return op.name, during, ""
        node = graph.nodes[op.node]
        return short_op(node.op), during, "" if node.source is None else known[node.source]

    return key
