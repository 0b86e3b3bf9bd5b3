"""How hard a picture is to lay out, told before a layout program is called."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from graphlens.analyses.scene import Key, Scene
from graphlens.graph import GradGraph

# dot orders the nodes of each rank, with a virtual node wherever an edge crosses a rank. Its time
# grows with about the fourth power of their number: on one 2-core machine 2,000 of them took
# 0.4 s, 3,400 3 s and 5,200 19 s, while graphs without long edges took 0.2 s per 1,000 nodes.
# Frames cost no more: a T5 with 478 boxes and 860 virtual nodes took 4.5 s, unrolled to 918 boxes
# and 3,300 virtual nodes 3 s.
MOST_VIRTUAL_NODES = 5_000
MOST_NODES = 5_000

# Arrows that would cross the page start at a small copy of their box instead: those of a leaf that
# has more arrows than this, or uses that are more ranks apart than this, and arrows back to the
# next iteration across so many ranks.
MOST_ARROWS_OF_A_LEAF = 3
MOST_RANKS = 12

_Node = TypeVar("_Node", bound=Hashable)


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


def graph_cost(graph: GradGraph) -> LayoutCost:
    """The layout of the raw graph, one box per node."""
    return _cost(range(len(graph.nodes)), [(edge.target, edge.source) for edge in graph.edges])


def scene_cost(scene: Scene) -> LayoutCost:
    """The layout of a scene; arrows to the next iteration do not take part in the ranking."""
    long = long_arrows(scene)
    repeated = {earlier for earlier, _, _ in long} & _leaves(scene)
    nodes: list[Hashable] = [box.key for box in scene.boxes if box.key not in repeated]
    arrows: list[tuple[Hashable, Hashable]] = []
    for arrow in scene.arrows:
        if arrow.ends in long:
            nodes.append(arrow.ends)  # the copy
            arrows.append((arrow.ends, arrow.later))
        elif not arrow.carried:
            arrows.append((arrow.earlier, arrow.later))
    return _cost(nodes, arrows)


def long_arrows(scene: Scene) -> frozenset[tuple[Key, Key, bool]]:
    """The arrows, given by their ends, that start at a copy of their box, right beside where they lead."""
    ranking = [(arrow.earlier, arrow.later) for arrow in scene.arrows if not arrow.carried]
    ranks = _ranks([box.key for box in scene.boxes], ranking)
    uses: dict[Key, list[int]] = {leaf: [] for leaf in _leaves(scene)}
    for arrow in scene.arrows:
        if arrow.earlier in uses:
            uses[arrow.earlier].append(ranks[arrow.later])
    repeated = {
        leaf
        for leaf, places in uses.items()
        if len(places) > MOST_ARROWS_OF_A_LEAF or max(places, default=0) - min(places, default=0) > MOST_RANKS
    }
    return frozenset(
        arrow.ends
        for arrow in scene.arrows
        if arrow.earlier in repeated or (arrow.carried and abs(ranks[arrow.earlier] - ranks[arrow.later]) > MOST_RANKS)
    )


def _leaves(scene: Scene) -> set[Key]:
    return {box.key for box in scene.boxes if box.kind == "leaf"}


def _cost(nodes: Sequence[Hashable], arrows: Sequence[tuple[Hashable, Hashable]]) -> LayoutCost:
    ranks = _ranks(nodes, arrows)
    crossed = sum(max(ranks[later] - ranks[earlier] - 1, 0) for earlier, later in arrows)
    return LayoutCost(len(nodes), len(arrows), crossed)


def _ranks(nodes: Sequence[_Node], arrows: Sequence[tuple[_Node, _Node]]) -> dict[_Node, int]:
    """The rank of each node; `arrows` lead from an earlier node to a later one."""
    reading: dict[_Node, list[_Node]] = {node: [] for node in nodes}
    following: dict[_Node, list[_Node]] = {node: [] for node in nodes}
    for earlier, later in arrows:
        reading[later].append(earlier)
        following[earlier].append(later)
    waiting = {node: len(earlier) for node, earlier in reading.items()}
    order = [node for node, count in waiting.items() if count == 0]
    ranks = dict.fromkeys(nodes, 0)
    for node in order:  # it grows
        for later in following[node]:
            ranks[later] = max(ranks[later], ranks[node] + 1)
            waiting[later] -= 1
            if waiting[later] == 0:
                order.append(later)
    # A leaf, and what reads nothing but it, is drawn right before its first use, wherever that is.
    alone: set[_Node] = set()
    for node in order:
        if not reading[node] or (len(reading[node]) == 1 and reading[node][0] in alone):
            alone.add(node)
    for node in reversed(order):
        if node in alone:
            ranks[node] = min((ranks[later] for later in following[node]), default=ranks[node] + 1) - 1
    return ranks
