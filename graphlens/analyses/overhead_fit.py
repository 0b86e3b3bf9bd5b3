"""What a node takes whatever it does, told from its work by a fit over the nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from graphlens.graph import GradGraph, Node
from graphlens.records import Machine
from graphlens.units import percent_text, seconds_text

Array = np.ndarray[Any, np.dtype[np.float64]]

# Work takes from a quarter (it stays in the caches) to 16 times what it needs at the measured peak (other
# programs run meanwhile, and not all kernels are good).
SLOWEST, FASTEST = 16.0, 0.25
_STARTS = tuple(2.0 ** (k / 2) for k in range(-4, 9))
_FACTOR = 4.0  # calls that are off by more than that are left out of the fit
_STEPS = 50
_FEWEST_CALLS = 30
_MANY_LEFT_OUT = 0.1  # of the calls
_MUCH_LEFT_OUT = 0.25  # of their time
_DEVIATION = 0.75  # of a call from the fit, as a share of it
_VAGUE = 0.2  # of the time a node
_TOO_LONG = 200  # calls of a tiny op: what engine, dispatcher and Python do for a node is less


class Call(NamedTuple):
    """The nodes that one call of the forward pass made. Nanoseconds, both passes.

    Their forward time is known of all together alone. `work` is what their arithmetic and their
    bytes need at the machine's peak, whichever is longer in each pass; None if something is not counted.
    """

    nodes: int
    spent: int
    work: float | None


@dataclass(frozen=True)
class OverheadFit:
    """time of a call = `a_node` · its nodes + `factor` · its work: what was fitted, and how well.

    Attributes:
        a_node, a_node_error: nanoseconds a node (the slope of time over nodes whose work is the same), and its
            standard error.
        factor, factor_error: how many times as long as at the machine's peak the work takes; no error where the
            times do not tell it (all calls work the same, or take what no work takes), and then the nearest of
            FASTEST and SLOWEST.
        low, high: nanoseconds a node within 95 %; without an error of the factor also all that FASTEST and
            SLOWEST would leave to the nodes.
        nodes, calls: those that the fit was made over; `others` are the calls that are off by more than a factor
            of 4, and `left_out` is their share of the time.
        call: nanoseconds that the machine takes for a tiny op, to compare with.
        deviation: the root mean square of (measured − fitted) ÷ fitted over the calls that took part.
    """

    a_node: float
    a_node_error: float
    factor: float
    factor_error: float | None
    low: float
    high: float
    nodes: int
    calls: int
    others: int
    left_out: float
    deviation: float
    call: float

    @property
    def fault(self) -> str | None:
        """Why the fit does not carry a claim; None if it does."""
        if self.calls < _FEWEST_CALLS:
            return f"only {self.calls:,} calls fit, fewer than {_FEWEST_CALLS}"
        if self.left_out > _MUCH_LEFT_OUT or self.others > _MANY_LEFT_OUT * (self.calls + self.others):
            return (
                f"{self.others:,} of {self.calls + self.others:,} calls, with {percent_text(self.left_out, 1)} of the "
                f"time, are off by more than a factor of {_FACTOR:.0f}"
            )
        if self.deviation > _DEVIATION:
            return f"a call is off by {percent_text(self.deviation, 1)} as a rule"
        if self.low > _TOO_LONG * self.call:
            return (
                f"it gives {seconds_text(self.a_node / 1e9)} a node, where a tiny op takes "
                f"{seconds_text(self.call / 1e9)}; other programs may be in the way"
            )
        return None

    @property
    def is_vague(self) -> bool:
        """Whether the time a node is not known to a fifth of it."""
        return max(self.high - self.a_node, self.a_node - self.low) > _VAGUE * self.a_node


def calls_of(graph: GradGraph, machine: Machine) -> list[Call]:
    """The measured function nodes, those that one call made together."""
    calls: list[Call] = []
    previous: Node | None = None
    for node in graph.nodes:
        if node.kind == "leaf" or node.forward_ns is None or node.backward_ns is None:
            previous = None
            continue
        call = Call(1, node.forward_ns + node.backward_ns, _work(node, machine))
        if previous is not None and _is_same_call(previous, node):
            last = calls.pop()
            work = None if last.work is None or call.work is None else last.work + call.work
            call = Call(last.nodes + 1, last.spent + call.spent, work)
        calls.append(call)
        previous = node
    return calls


def _is_same_call(earlier: Node, later: Node) -> bool:
    """The time of a call is shared evenly among its nodes. Where two calls on a line took the same, no harm is done."""
    return earlier.source is not None and (earlier.source, earlier.call, earlier.forward_ns) == (
        later.source, later.call, later.forward_ns,
    )  # fmt: skip


def _work(node: Node, machine: Machine) -> float | None:
    if None in (node.forward_flops, node.backward_flops, node.forward_moved, node.backward_moved):
        return None
    return 1e9 * sum(
        max((flops or 0) / machine.flops, (moved or 0) / machine.bandwidth)
        for flops, moved in ((node.forward_flops, node.forward_moved), (node.backward_flops, node.backward_moved))
    )


def fit_overhead(calls: list[Call], machine: Machine) -> OverheadFit | None:
    """Fit over the calls whose work is known; None where there is none.

    Each call counts by its relative error, as times scatter in proportion to what they are: the
    weights are 1 ÷ fitted², again and again until nothing changes (a gamma regression with the
    identity as its link; McCullagh and Nelder 1989, chapter 8). It begins at the line with the
    smallest mean |log(measured ÷ fitted)|, which half of the calls cannot pull away, and calls off
    by more than a factor of 4 have no weight. Standard errors are those that also hold where the
    scatter is not in proportion (White 1980).
    """
    known = [call for call in calls if call.work is not None and call.spent > 0]
    if not known:
        return None
    nodes, spent, work = (np.array(column, dtype=float) for column in zip(*known, strict=True))
    fit = _Fit(nodes, spent, work)
    a_node, factor = fit.begin()
    is_free = False
    for _ in range(_STEPS):
        before = a_node, factor
        weights = fit.weights(a_node, factor)
        a_node, factor = fit.line(weights)
        is_free = FASTEST <= factor <= SLOWEST
        if not is_free:
            factor = 1.0 if math.isnan(factor) else min(max(factor, FASTEST), SLOWEST)
            a_node = fit.nodes_alone(weights, factor)
        if np.allclose(before, (a_node, factor), rtol=1e-6):
            break
    weights = fit.weights(a_node, factor)
    a_error, factor_error = fit.errors(weights, a_node, factor, is_free)
    low, high = a_node - 2 * a_error, a_node + 2 * a_error
    if not is_free:
        low = min(low, fit.nodes_alone(weights, SLOWEST))
        high = max(high, fit.nodes_alone(weights, FASTEST))
    on = weights > 0
    residuals = (spent / fit.times(a_node, factor) - 1)[on]
    return OverheadFit(
        a_node, a_error, factor, factor_error if is_free else None, max(0.0, low), high,
        int(nodes[on].sum()), int(on.sum()), int((~on).sum()), float(spent[~on].sum() / spent.sum()),
        math.sqrt(float(np.mean(residuals**2))) if residuals.size else 0.0, machine.call * 1e9,
    )  # fmt: skip


@dataclass(frozen=True)
class _Fit:
    nodes: Array
    spent: Array
    work: Array

    def times(self, a_node: float, factor: float) -> Array:
        return np.maximum(a_node * self.nodes + factor * self.work, 1.0)

    def begin(self) -> tuple[float, float]:
        """Of some lines through medians that which most calls are near to."""
        found = []
        for factor in _STARTS:
            a_node = float(np.median(np.maximum(self.spent - factor * self.work, 0) / self.nodes))
            distance = float(np.mean(np.abs(np.log(self.spent / self.times(a_node, factor)))))
            found.append((distance, a_node, factor))
        return min(found)[1:]

    def weights(self, a_node: float, factor: float) -> Array:
        fitted = self.times(a_node, factor)
        on = (self.spent <= _FACTOR * fitted) & (self.spent >= fitted / _FACTOR)
        weights: Array = np.where(on, 1 / fitted**2, 0.0)
        return weights

    def line(self, weights: Array) -> tuple[float, float]:
        """Weighted least squares with no negative time a node; a factor that is NaN where two unknowns are too many."""
        normal = self._normal(weights)
        right = np.stack([self.nodes, self.work]) @ (weights * self.spent)
        scale = normal[0, 0] * normal[1, 1]
        if not scale or np.linalg.det(normal) < 1e-9 * scale:
            return math.nan, math.nan
        a_node, factor = np.linalg.solve(normal, right)
        return (float(a_node), float(factor)) if a_node >= 0 else (0.0, float(right[1] / normal[1, 1]))

    def nodes_alone(self, weights: Array, factor: float) -> float:
        """Nanoseconds a node at a given factor; not below 0."""
        total = float(np.sum(weights * self.nodes**2))
        return (
            max(0.0, float(np.sum(weights * self.nodes * (self.spent - factor * self.work))) / total) if total else 0.0
        )

    def errors(self, weights: Array, a_node: float, factor: float, is_free: bool) -> tuple[float, float]:
        """Standard errors of both unknowns, or of the first alone."""
        left = weights * (self.spent - self.times(a_node, factor))
        if not is_free:
            total = float(np.sum(weights * self.nodes**2))
            return (math.sqrt(float(np.sum((left * self.nodes) ** 2))) / total if total else 0.0), 0.0
        inverse = np.linalg.inv(self._normal(weights))
        columns = np.stack([left * self.nodes, left * self.work])
        covariance = inverse @ (columns @ columns.T) @ inverse
        return math.sqrt(covariance[0, 0]), math.sqrt(covariance[1, 1])

    def _normal(self, weights: Array) -> Array:
        columns = np.stack([self.nodes, self.work])
        normal: Array = (columns * weights) @ columns.T
        return normal
