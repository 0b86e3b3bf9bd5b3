"""How hard a graph is to lay out, told before a layout program is called."""

from __future__ import annotations

from dataclasses import dataclass

from graphlens.graph import GradGraph

# dot orders the nodes of each rank, with a virtual node wherever an edge crosses a rank. Its time
# grows with about the fourth power of their number: on one 2-core machine 2,000 of them took
# 0.4 s, 3,400 3 s and 5,200 19 s, while graphs without long edges took 0.2 s per 1,000 nodes.
MOST_VIRTUAL_NODES = 5_000
MOST_NODES = 5_000


@dataclass(frozen=True)
class LayoutCost:
    """Size of the layout problem; `virtual_nodes` counts the ranks that edges cross."""

    nodes: int
    edges: int
    virtual_nodes: int

    @property
    def is_feasible(self) -> bool:
        """Whether dot can be expected to finish in well under a minute."""
        return self.nodes <= MOST_NODES and self.virtual_nodes <= MOST_VIRTUAL_NODES


def layout_cost(graph: GradGraph) -> LayoutCost:
    """Estimate the layout of the raw graph, one box per node."""
    ranks = [0] * len(graph.nodes)
    for source, target, _, _ in graph.edges:
        ranks[source] = max(ranks[source], ranks[target] + 1)
    # A leaf is drawn right before its first use, wherever that is.
    first_use: dict[int, int] = {}
    for source, target, _, _ in graph.edges:
        if graph.nodes[target].kind == "leaf":
            first_use[target] = min(first_use.get(target, ranks[source]), ranks[source])
    for leaf, rank in first_use.items():
        ranks[leaf] = rank - 1
    crossed = sum(ranks[source] - ranks[target] - 1 for source, target, _, _ in graph.edges)
    return LayoutCost(len(graph.nodes), len(graph.edges), crossed)
