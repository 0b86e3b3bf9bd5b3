"""GL207: a graph whose time goes into its number of nodes, not into their work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from graphlens.analyses.findings import Finding, Place
from graphlens.analyses.overhead_fit import OverheadFit, calls_of, fit_overhead
from graphlens.graph import GradGraph
from graphlens.records import Machine
from graphlens.units import nodes_text, percent_text, seconds_text, significant

_FEWEST = 100  # nodes: below it there is nothing to win
_MUCH = 0.5  # share of the time that is worth a finding


@dataclass(frozen=True)
class Overhead:
    """The time of nodes that is there whatever they do. Nanoseconds; both passes of a node together.

    `total` is the time of all `nodes`, the function nodes that were timed in both passes.
    """

    nodes: int
    total: int
    fit: OverheadFit

    @property
    def share(self) -> float:
        """At most 1: the fit is over calls of which some are left out."""
        return min(1.0, self.nodes * self.fit.a_node / self.total)

    @property
    def least(self) -> float:
        """The share by the least time a node that the fit leaves open."""
        return min(1.0, self.nodes * self.fit.low / self.total)

    @property
    def most(self) -> float:
        """The share by the longest time a node that the fit leaves open."""
        return min(1.0, self.nodes * self.fit.high / self.total)


def overhead_of(graph: GradGraph, machine: Machine) -> Overhead | None:
    """Fitted on a graph whose nodes know their costs; None where they do not."""
    calls = calls_of(graph, machine)
    fit = fit_overhead(calls, machine)
    return None if fit is None else Overhead(sum(call.nodes for call in calls), sum(call.spent for call in calls), fit)


def overhead_findings(found: Overhead | None) -> Iterator[Finding]:
    """GL207, where at least half of the time of at least 100 nodes is overhead by a fit that carries it."""
    if found is None or found.nodes < _FEWEST or found.fit.fault is not None or found.least < _MUCH:
        return
    yield Finding(
        "GL207",
        "info",
        overhead_text(found),
        Place(),
        overhead_numbers(found),
        "fewer and larger ops: work on whole tensors in place of loops over their parts, or torch.compile",
    )


def overhead_numbers(found: Overhead) -> dict[str, Any]:
    """What was fitted, in nanoseconds; shares of the time of all nodes."""
    fit = found.fit
    return {
        "nodes": found.nodes,
        "total_ns": found.total,
        "share": found.share,
        "share_range": [found.least, found.most],
        "ns_a_node": fit.a_node,
        "ns_a_node_error": fit.a_node_error,
        "ns_a_node_range": [fit.low, fit.high],
        "work_factor": fit.factor,
        "work_factor_error": fit.factor_error,
        "fitted_nodes": fit.nodes,
        "fitted_calls": fit.calls,
        "left_out_share": fit.left_out,
        "deviation": fit.deviation,
        "fault": fit.fault,
    }


def overhead_text(found: Overhead) -> str:
    """What is there whatever the nodes do, and how well that is known; or why it is not."""
    fit = found.fit
    if fit.fault is not None:
        return (
            "How much of the time is there whatever the nodes do is not known: the fit of time over nodes and their "
            f"work does not hold ({fit.fault})."
        )
    share = f"About {percent_text(found.share, 1)}"
    if fit.is_vague:
        share = f"Between {percent_text(found.least, 1)} and {percent_text(found.most, 1)}"
    return (
        f"{share} of the nodes' time in both passes is there whatever they do: {_node_text(fit)} a node, "
        f"{nodes_text(found.nodes)}, {seconds_text(found.total / 1e9)} in all. {_fit_text(fit)}"
    )


def _node_text(fit: OverheadFit) -> str:
    """ "8.8 µs (8.5 to 8.9)", "0 s to 7.1 µs"."""
    if fit.is_vague:
        return f"{seconds_text(fit.low / 1e9)} to {seconds_text(fit.high / 1e9)}"
    text = seconds_text(fit.a_node / 1e9)
    unit = {"ns": 1.0, "µs": 1e3, "ms": 1e6, "s": 1e9}[text.split()[-1]]
    return f"{text} ({significant(fit.low / unit, 3)} to {significant(fit.high / unit, 3)})"


def _fit_text(fit: OverheadFit) -> str:
    """What was fitted, on how many nodes, and how good it is."""
    left_out = ""
    if fit.left_out:
        share = percent_text(fit.left_out, 1)
        left_out = f"; calls with {share} of the time, off by more than a factor of 4, are left out"
    if fit.factor_error is None:
        work = (
            "What their work takes besides is too little to be told: anything from 0.25 to 16 times what it needs at "
            "this machine's peak fits."
        )
    else:
        times = f"{significant(fit.factor, 2)} (± {significant(2 * fit.factor_error, 1)})"
        work = f"Their work takes {times} times what it needs at this machine's peak."
    return (
        f"The fit is over {nodes_text(fit.nodes)}: a call differs from it by {percent_text(fit.deviation, 1)} as a "
        f"rule{left_out}. {work}"
    )
