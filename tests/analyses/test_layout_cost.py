"""The size of a layout problem, by hand."""

from __future__ import annotations

import pytest

from graphlens.analyses.layout_cost import MOST_NODES, MOST_VIRTUAL_NODES, LayoutCost, graph_cost
from graphlens.graph import Edge, GradGraph, Node, Output
from tests.builders import captured, lesson_loss, small_graph


def chain(length: int, *, hub: bool) -> GradGraph:
    """Nodes in a row; with `hub` all of them read one leaf more, as the products of a chain read A."""
    leaves = 2 if hub else 1
    nodes = [Node("AccumulateGrad", "leaf")] * leaves + [Node("MulBackward0", seq=k) for k in range(length)]
    edges = []
    for k in range(length):
        sources = {leaves + k - 1 if k else 0} | ({1} if hub else set())
        edges += [Edge(leaves + k, target, (slot,), (0,)) for slot, target in enumerate(sorted(sources))]
    return GradGraph(nodes, edges, outputs=[Output("y", len(nodes) - 1, 0, (), "float64")]).check()


def test_a_row_crosses_no_rank() -> None:
    assert graph_cost(chain(10, hub=False)) == LayoutCost(11, 10, 0)


def test_a_hub_is_drawn_before_its_first_use_and_crosses_the_ranks_to_the_others() -> None:
    # 10 arrows leave the hub; the k-th of them crosses k ranks.
    assert graph_cost(chain(10, hub=True)) == LayoutCost(12, 20, sum(range(10)))


def test_a_leaf_that_is_used_late_crosses_nothing() -> None:
    nodes = [Node("AccumulateGrad", "leaf")] * 2 + [Node("SinBackward0", seq=k) for k in range(5)]
    edges = [Edge(2, 0, (0,), (0,)), *(Edge(k, k - 1, (0,), (0,)) for k in range(3, 7))]
    late = GradGraph(nodes, sorted([*edges, Edge(6, 1, (1,), (0,))]), outputs=[Output("y", 6, 0, (), "float64")])

    assert graph_cost(late.check()).virtual_nodes == 0


def test_a_hand_built_graph() -> None:
    # w and x before Mv, then Own, then CopySlices: only the arrow from w to CopySlices crosses, by 2 ranks.
    assert graph_cost(small_graph()) == LayoutCost(5, 5, 2)


@pytest.mark.parametrize(
    ("cost", "feasible"),
    [
        (LayoutCost(MOST_NODES, 1, MOST_VIRTUAL_NODES), True),
        (LayoutCost(MOST_NODES + 1, 1, 0), False),
        (LayoutCost(2, 1, MOST_VIRTUAL_NODES + 1), False),
    ],
)
def test_what_is_feasible(cost: LayoutCost, feasible: bool) -> None:
    assert cost.is_feasible is feasible


@pytest.mark.parametrize(("n", "feasible"), [(20, True), (1000, False)])
def test_the_wasteful_chain(n: int, feasible: bool) -> None:
    assert graph_cost(captured(lambda: lesson_loss("wasteful", n=n))).is_feasible is feasible
