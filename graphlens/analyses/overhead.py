"""GL207: a graph whose time goes into its number of nodes, not into their work."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from graphlens.analyses.findings import Finding, Place
from graphlens.graph import GradGraph
from graphlens.records import Machine
from graphlens.units import percent_text, seconds_text

_TINY = 0.1  # a node is tiny if its work needs at best this share of its time
_FEWEST = 100  # nodes: below it there is nothing to win
_MUCH = 0.5  # share of the time that is worth a finding


@dataclass(frozen=True)
class Overhead:
    """The time of nodes that is there whatever they do. Nanoseconds; both passes of a node together.

    `a_node` is the median over the `tiny` nodes, those whose arithmetic and memory traffic need at
    best a tenth of the time that they take; `share` is that times all function nodes, as a share
    of the time of all.
    """

    nodes: int
    tiny: int
    a_node: float
    total: int

    @property
    def share(self) -> float:
        """At most 1: nodes that are quicker than the median tiny one exist."""
        return min(1.0, self.nodes * self.a_node / self.total)


def overhead_of(graph: GradGraph, machine: Machine) -> Overhead | None:
    """Measured on a graph whose nodes know their costs; None where they do not, or none is tiny."""
    spent, tiny = [], []
    for node in graph.nodes:
        if node.kind == "leaf" or node.forward_ns is None or node.backward_ns is None:
            continue
        spent.append(node.forward_ns + node.backward_ns)
        counted = (node.forward_flops, node.backward_flops, node.forward_moved, node.backward_moved)
        if None in counted:
            continue
        flops = (node.forward_flops or 0) + (node.backward_flops or 0)
        moved = (node.forward_moved or 0) + (node.backward_moved or 0)
        if max(flops / machine.flops, moved / machine.bandwidth) * 1e9 < _TINY * spent[-1]:
            tiny.append(spent[-1])
    if not tiny or not sum(spent):
        return None
    return Overhead(len(spent), len(tiny), statistics.median(tiny), sum(spent))


def overhead_findings(graph: GradGraph, machine: Machine) -> Iterator[Finding]:
    """GL207, where at least half of the time of at least 100 nodes is overhead."""
    found = overhead_of(graph, machine)
    if found is None or found.nodes < _FEWEST or found.share < _MUCH:
        return
    yield Finding(
        "GL207",
        "info",
        f"About {percent_text(found.share, 1)} of the time of both passes is there whatever the nodes do: "
        f"{seconds_text(found.a_node / 1e9)} a node, {found.nodes:,} nodes, "
        f"{seconds_text(found.total / 1e9)} in all.",
        Place(),
        {
            "nodes": found.nodes,
            "tiny_nodes": found.tiny,
            "ns_a_node": found.a_node,
            "total_ns": found.total,
            "share": found.share,
        },
        "fewer and larger ops: work on whole tensors in place of loops over their parts, or torch.compile",
    )
