"""Cost tables and bounds by hand."""

from __future__ import annotations

import pytest

from graphlens.analyses.cost import bound_of, cost_table
from graphlens.graph import Edge, GradGraph, Node, Output
from graphlens.records import Machine

MACHINE = Machine(flops=1e9, bandwidth=2e9, call=1e-6, threads=1)  # a FLOP or two bytes a nanosecond


def graph_of(*nodes: Node) -> GradGraph:
    whole = [Node("AccumulateGrad", "leaf", name="x", backward_ns=5, backward_flops=0, backward_moved=0)]
    whole += [node._replace(seq=k) for k, node in enumerate(nodes)]
    edges = [Edge(k + 1, k, (0,), (0,)) for k in range(len(nodes))]
    return GradGraph(whole, edges, outputs=[Output("y", len(nodes), 0, (), "float32")]).check()


def node(op: str, ns: tuple[int | None, int | None], flops: tuple[int | None, int | None],
         moved: tuple[int | None, int | None]) -> Node:  # fmt: skip
    return Node(op, forward_ns=ns[0], backward_ns=ns[1], forward_flops=flops[0], backward_flops=flops[1],
                forward_moved=moved[0], backward_moved=moved[1])  # fmt: skip


GRAPH = graph_of(
    node("Mm", (1000, 2000), (900, 1800), (200, 400)),  # as fast as the machine computes
    node("Exp", (500, 600), (10, 20), (1000, 1200)),  # as fast as it copies
    node("Mul", (4000, 5000), (4, 4), (32, 32)),  # neither
    node("Svd", (700, 100), (None, 50), (80, None)),  # a pass without a formula, and one without sizes
)


def test_rows_by_op() -> None:
    table = cost_table(GRAPH, [item.op for item in GRAPH.nodes], machine=MACHINE)
    rows = {row.key: row for row in table.rows}

    assert [row.key for row in table.rows] == ["Mul", "Mm", "Exp", "Svd", "AccumulateGrad"]
    assert [rows[op].bound for op in ("Mul", "Mm", "Exp", "Svd")] == ["overhead", "compute", "memory", "unknown"]
    assert (rows["Mm"].forward_ns, rows["Mm"].backward_ns, rows["Mm"].spent_ns) == (1000, 2000, 3000)
    assert (rows["Mm"].flops, rows["Mm"].moved, rows["Mm"].uncounted, rows["Mm"].unsized) == (2700, 600, 0, 0)
    assert rows["Mm"].intensity == 2700 / 600
    assert rows["Mm"].flops_a_second == pytest.approx(2700 / 3000e-9)
    assert rows["Mm"].bytes_a_second == pytest.approx(600 / 3000e-9)
    assert (rows["Svd"].flops, rows["Svd"].uncounted, rows["Svd"].moved, rows["Svd"].unsized) == (50, 1, 80, 1)
    assert (rows["AccumulateGrad"].forward_ns, rows["AccumulateGrad"].spent_ns) == (None, 5)
    assert table.total.nodes == len(GRAPH)
    for name in ("spent_ns", "backward_ns", "flops", "moved", "uncounted", "unsized", "nodes"):
        assert getattr(table.total, name) == sum(getattr(row, name) or 0 for row in table.rows)


def test_a_group_is_bounded_by_what_takes_most_of_its_time() -> None:
    table = cost_table(GRAPH, ["leaf", "all", "all", "all", "all"], machine=MACHINE)

    # 9,000 ns of overhead, 3,000 of arithmetic, 1,100 of memory, 800 unknown
    assert {row.key: row.bound for row in table.rows}["all"] == "overhead"
    assert table.total.bound == "overhead"


def test_without_a_machine_nothing_is_bounded() -> None:
    table = cost_table(GRAPH, [item.op for item in GRAPH.nodes])

    assert {row.bound for row in table.rows} == {"unknown"}
    assert table.machine is None


def test_a_graph_that_was_not_measured_says_nothing() -> None:
    graph = graph_of(Node("Mm"), Node("Exp"))
    plain = GradGraph([item._replace(backward_ns=None, backward_flops=None, backward_moved=None)
                       for item in graph.nodes], graph.edges, outputs=graph.outputs)  # fmt: skip
    row = cost_table(plain, ["all"] * 3, machine=MACHINE).total

    assert (row.forward_ns, row.backward_ns, row.spent_ns, row.flops, row.moved) == (None,) * 5
    assert (row.intensity, row.flops_a_second, row.bytes_a_second, row.bound) == (None, None, None, "unknown")


@pytest.mark.parametrize(
    ("ns", "flops", "moved", "bound"),
    [
        (1000, 900, 200, "compute"),
        (1000, 100, 1800, "memory"),
        (1000, 251, 0, "compute"),  # a little more than a quarter of the time is arithmetic
        (1000, 249, 0, "overhead"),
        (1000, 0, 502, "memory"),
        (1000, 0, 498, "overhead"),
        (1000, 0, 0, "overhead"),
        (0, 10, 10, "compute"),
        (None, 1, 1, "unknown"),
        (1000, None, 1, "unknown"),
        (1000, 1, None, "unknown"),
    ],
)
def test_bounds_by_hand(ns: int | None, flops: int | None, moved: int | None, bound: str) -> None:
    assert bound_of(ns, flops, moved, MACHINE) == bound
    assert bound_of(ns, flops, moved, None) == "unknown"
