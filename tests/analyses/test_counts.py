"""Counts against hand calculation."""

from __future__ import annotations

import networkx as nx
import pytest
import torch

from graphlens.analyses.counts import SORTS, GradGraph, Leaf, Row, depth, stats
from graphlens.capture.build import capture
from graphlens.graph import Edge, Node, Output
from tests.builders import MODELS, captured, lesson_loss, small_graph


def linear_graph() -> GradGraph:
    """y = W x + b for W (3, 4) and x (4,) in float64: what autograd keeps can be counted by hand."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3).double()
    x = torch.ones(2, 4, dtype=torch.float64, requires_grad=True)
    return capture(model(x).tanh().sum(), {"x": x, **dict(model.named_parameters())})


def test_a_small_model_by_hand() -> None:
    table = stats(linear_graph())

    # Leaves b, x, W; then T, Addmm, Tanh, Sum.
    assert (table.nodes, table.edges, table.depth) == (7, 6, 4)
    # Addmm keeps x (2 × 4 × 8 bytes) and Wᵀ (4 × 3 × 8), Tanh its result (2 × 3 × 8).
    assert table.rows[0] == Row("AddmmBackward0", 1, 2, 64 + 96, 2, 64 + 96, 0, False, untimed=1)
    assert table.rows[1] == Row("TanhBackward0", 1, 1, 48, 1, 48, 0, False, untimed=1)
    assert table.total == Row("total", 7, 3, 208, 3, 208, 0, False, untimed=4)


def test_a_hand_built_graph() -> None:
    table = stats(small_graph())

    assert (table.nodes, table.edges, table.depth) == (5, 5, 3)
    assert {row.key: row for row in table.rows} == {
        # A view of 24 bytes pins a storage of 4,096.
        "MvBackward0": Row("MvBackward0", 1, 2, 48 + 24, 2, 48 + 4096, 0, False, untimed=1),
        # Its first tensor shares that storage, which is counted already; the other one is packed.
        "OwnBackward": Row("OwnBackward", 1, 2, 24, 0, 0, 1, False, untimed=1),
        "CopySlices": Row("CopySlices", 1, 0, 0, 0, 0, 1, False, 1, untimed=1),
        "AccumulateGrad": Row("AccumulateGrad", 2, 0, 0, 0, 0, 0, False),
    }
    assert table.total == Row("total", 5, 4, 96, 2, 4144, 2, False, 1, untimed=3)
    assert table.leaves == (
        Leaf(0, "w", "parameter", (2, 3), "float64", 2),
        Leaf(1, "x", "input", (3,), "float64", 1),
    )
    assert table.unreached == ()


@pytest.mark.parametrize("make", [small_graph, linear_graph, lambda: captured(MODELS["gpt2"])])
@pytest.mark.parametrize("sort", SORTS)
def test_rows_sum_to_the_totals(make, sort: str) -> None:
    table = stats(make(), sort=sort)

    for name in ("nodes", "saved_tensors", "saved_bytes", "storages", "storage_bytes", "unknown"):
        assert sum(getattr(row, name) for row in table.rows) == getattr(table.total, name)


@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("storage", lambda row: (-row.storage_bytes, -row.nodes, row.key)),
        ("nodes", lambda row: (-row.nodes, row.key)),
        ("saved", lambda row: (-row.saved_bytes, row.key)),
        ("key", lambda row: row.key),
    ],
)
def test_order_of_the_rows(sort: str, key) -> None:
    rows = list(stats(captured(MODELS["gpt2"]), sort=sort).rows)

    assert len(rows) > 5
    assert rows == sorted(rows, key=key)


@pytest.mark.parametrize("options", [{"by": "size"}, {"sort": "size"}])
def test_unknown_rows_and_orders(options: dict[str, str]) -> None:
    known = r"by is one of op, module, source, sort one of storage, nodes, saved, time, key; got .*'size'"
    with pytest.raises(ValueError, match=known):
        stats(small_graph(), **options)


@pytest.mark.parametrize("name", [*MODELS, "wasteful"])
def test_depth_is_the_longest_path(name: str) -> None:
    graph = captured(MODELS[name] if name in MODELS else lambda: lesson_loss("wasteful", n=30))

    assert depth(graph) == nx.dag_longest_path_length(graph.nx)


def test_depth_of_one_node_and_of_a_long_chain() -> None:
    length = 50_000
    nodes = [Node("AccumulateGrad", "leaf"), *(Node("SinBackward0", seq=k) for k in range(length))]
    chain = GradGraph(
        nodes, [Edge(k + 1, k, (0,), (0,)) for k in range(length)], outputs=[Output("y", length, 0, (), "float64")]
    )

    assert depth(chain.check()) == length
    assert depth(GradGraph(nodes[:1], [], outputs=[Output("y", 0, 0, (), "float64")])) == 0


def test_a_freed_graph_says_so() -> None:
    x = torch.ones(3, requires_grad=True)
    y = x.exp().sum()
    y.backward()
    table = stats(capture(y))

    assert table.total.freed
    assert {row.key: row.freed for row in table.rows} == {
        "AccumulateGrad": False,
        "ExpBackward0": True,
        "SumBackward0": False,
    }


def test_a_leaf_counts_an_edge_once_and_knows_what_is_unreached() -> None:
    x, unused = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    frozen = torch.ones(3)
    table = stats(capture((x * x + x * frozen).sum(), {"x": x, "unused": unused, "frozen": frozen}))

    assert [(leaf.name, leaf.uses) for leaf in table.leaves] == [("x", 2)]
    assert table.unreached == ("unused",)
