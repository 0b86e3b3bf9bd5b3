"""Gradients that a leaf receives in several parts: what the parts are, and what their sum leaves of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graphlens.accuracy import TermSum
from graphlens.analyses.fold.labels import short_op
from graphlens.capture.tape import Tape
from graphlens.graph import GradGraph
from graphlens.numerics.arguments import op_name
from graphlens.numerics.shadow import is_float

Doubles = npt.NDArray[np.float64]

_HANDED_ON = ("detach", "alias", "clone")  # what the engine does to a gradient on its way into `.grad`


class Parts(NamedTuple):
    """The parts of one leaf's gradient.

    Attributes:
        values: the parts, in the order in which they were added.
        calls: positions of the calls that add them up.
        senders: per part the node that sent it; None where that is not known.
    """

    values: Sequence[int]
    calls: Sequence[int]
    senders: Sequence[int | None]


def parts_of(tape: Tape, gradient: int, made_by: Sequence[int | None]) -> Parts:
    """Walk back from a gradient through the additions of the engine to what was added."""
    values: list[int] = []
    senders: list[int | None] = []
    adding: list[int] = []
    # A stack, as the sum of 20,000 parts is a chain of as many additions.
    stack = [gradient]
    while stack:
        value = stack.pop()
        place = made_by[value]
        call = None if place is None else tape.calls[place]
        if call is not None and not adding and not call.accumulates and op_name(call) in _HANDED_ON:
            stack.extend(call.inputs)
            continue
        if place is None or call is None or not call.accumulates or op_name(call) != "add":
            values.append(value)
            senders.append(None if call is None else call.node)
            continue
        adding.append(place)
        stack.extend(reversed(list(call.inputs)))
    return Parts(values, adding, senders)


def term_sums(tape: Tape, graph: GradGraph) -> list[TermSum]:
    """The gradients of leaves that are sums of at least two parts, in the order of the leaves."""
    made_by = tape.made_by()
    found = []
    for leaf, gradient in tape.gradients.items():
        if not is_float(tape.tensors[gradient]):
            continue
        parts = parts_of(tape, gradient, made_by)
        if len(parts.values) > 1:
            found.append(_term_sum(tape, graph, leaf, gradient, parts))
    return found


def _term_sum(tape: Tape, graph: GradGraph, leaf: str, gradient: int, parts: Parts) -> TermSum:
    total = tape.tensors[gradient].detach().double().numpy()
    magnitude = np.zeros(total.shape)
    sums: dict[str, Doubles] = {}
    norms: dict[str, float] = {}
    counts: dict[str, int] = {}
    for value, node in zip(parts.values, parts.senders, strict=True):
        part = tape.tensors[value].detach().double().numpy()
        op = "…" if node is None else short_op(graph.nodes[node].op)
        magnitude += np.abs(part)
        sums[op] = sums.get(op, np.zeros(total.shape)) + part
        norms[op] = norms.get(op, 0.0) + float(np.linalg.norm(part))
        counts[op] = counts.get(op, 0) + 1
    order = sorted(sums, key=lambda op: (-norms[op], op))
    largest = int(np.abs(total if total.any() else magnitude).argmax()) if total.size else 0
    with np.errstate(invalid="ignore"):  # of infinite parts nothing can be told
        left = np.divide(np.abs(total), magnitude, out=np.zeros(total.shape), where=magnitude > 0)
    return TermSum(
        leaf,
        len(parts.values),
        float(magnitude.flat[largest]) if total.size else 0.0,
        float(left.max(initial=0.0)) if magnitude.any() else 1.0,
        [(op, counts[op], float(np.linalg.norm(sums[op])), norms[op]) for op in order],
        _cosine(sums[order[0]], sums[order[1]]) if len(order) > 1 else None,
        float(left.flat[largest]) if magnitude.any() else 1.0,
    )


def _cosine(one: Doubles, other: Doubles) -> float | None:
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / length if length else None
