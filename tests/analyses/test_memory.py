"""The curve of what is kept, and the order of the backward pass, by hand."""

from __future__ import annotations

import pytest

from graphlens.analyses.memory import Alive, backward_order, memory_of
from graphlens.graph import Edge, GradGraph, Node, Output, SavedTensor


def saved(node: int, slot: str, storage: int | None, size: int, role: str = "intermediate") -> SavedTensor:
    return SavedTensor(node, slot, (size,), "uint8", "cpu", size, storage, size if storage is not None else None, role)


def graph_of(dtype: str = "float32", ledger: str = "read") -> GradGraph:
    """w and x are leaves; Mul(w, x) → Exp → Own → Sum; Own reads Mul too.

    Mul keeps w and x. Exp keeps its result, which Own keeps too, with an attribute of its ctx. Sum
    keeps a buffer.
    """
    nodes = [
        Node("AccumulateGrad", "leaf", None, "w", (10,), dtype),
        Node("AccumulateGrad", "leaf", None, "x", (5,), dtype),
        Node("Mul", "function", 0),
        Node("Exp", "function", 1, ledger=ledger),
        Node("Own", "custom", 2),
        Node("Sum", "function", 3),
    ]
    edges = [
        Edge(2, 0, (0,), (0,)), Edge(2, 1, (1,), (0,)), Edge(3, 2, (0,), (0,)), Edge(4, 2, (1,), (0,)),
        Edge(4, 3, (0,), (0,)), Edge(5, 4, (0,), (0,)),
    ]  # fmt: skip
    ledger_rows = [
        saved(2, "self", 0, 40, "parameter"),
        saved(2, "other", 1, 20, "input"),
        saved(2, "mask", 2, 7, "constant"),
        saved(3, "result", 3, 100),
        saved(4, "ctx.kept", 4, 1000),
        saved(4, "saved_tensors[0]", 3, 100),
        saved(5, "scale", 5, 30, "constant"),
    ]
    return GradGraph(nodes, edges, ledger_rows, outputs=[Output("y", 5, 0, (), "float32")]).check()


KEYS = ["leaf", "leaf", "a", "b", "b", "c"]


def test_by_hand() -> None:
    memory = memory_of(graph_of(), KEYS, "module", persistent={5})

    assert backward_order(graph_of()) == [5, 4, 3, 2, 0, 1]
    assert (memory.views, memory.storages, memory.storage_count) == (40 + 20 + 7 + 100 + 1000 + 100 + 30, 1197, 6)
    assert (memory.anyway, memory.kept, memory.unknown) == (40 + 20 + 30, 1107, 0)
    assert memory.forward == (7, 107, 1107, 1107)
    # Sum frees nothing of its own; Own leaves its attribute, and the result that Exp keeps too; Exp frees the result.
    assert memory.backward == (1107, 1107, 1107, 1007, 1000, 1000, 1000)
    assert memory.gradients == (0, 0, 0, 0, 0, 40, 60)
    assert memory.total == (1107, 1107, 1107, 1007, 1000, 1040, 1060)
    assert (memory.peak, memory.peak_step) == (1107, 0)
    assert memory.rows == (Alive("b", 2, 1100), Alive("a", 1, 7))
    assert memory.by == "module"


def test_gradients_can_make_the_peak() -> None:
    nodes = [Node("AccumulateGrad", "leaf", None, "w", (100,), "float64"), Node("Exp", "function", 0)]
    graph = GradGraph(
        nodes, [Edge(1, 0, (0,), (0,))], [saved(1, "result", 0, 50)], outputs=[Output("y", 1, 0, (), "float64")]
    )
    memory = memory_of(graph, ["leaf", "exp"])

    assert memory.backward == (50, 0, 0)
    assert memory.total == (50, 0, 800)
    assert (memory.peak, memory.peak_step) == (800, 2)
    assert memory.rows == (Alive("exp", 1, 50),)


def test_another_order_may_be_told() -> None:
    memory = memory_of(graph_of(), KEYS, persistent={5}, order=[5, 4, 3, 2, 1, 0])

    assert memory.gradients == (0, 0, 0, 0, 0, 20, 60)


def test_nodes_that_do_not_run_free_nothing() -> None:
    memory = memory_of(graph_of(), KEYS, persistent={5}, order=[5, 4])

    assert memory.backward == (1107, 1107, 1107)


def test_unknown_sizes_are_told() -> None:
    assert memory_of(graph_of(ledger="hidden"), KEYS).unknown == 1
    assert memory_of(graph_of(dtype="float8_odd"), KEYS).gradients is None


def test_a_graph_that_keeps_nothing() -> None:
    nodes = [Node("AccumulateGrad", "leaf", None, "x", (), "float32"), Node("Neg", "function", 0)]
    memory = memory_of(
        GradGraph(nodes, [Edge(1, 0, (0,), (0,))], outputs=[Output("y", 1, 0, (), "float32")]), ["leaf", "neg"]
    )

    assert (memory.kept, memory.forward, memory.backward, memory.rows) == (0, (0,), (0, 0, 0), ())


@pytest.mark.parametrize("count", [100_000])
def test_long_chains_take_time_in_proportion_and_no_recursion(count: int) -> None:
    nodes = [Node("AccumulateGrad", "leaf", None, "x", (1,), "float32")]
    nodes += [Node("Sin", "function", k) for k in range(count)]
    edges = [Edge(k + 1, k, (0,), (0,)) for k in range(count)]
    rows = [saved(k + 1, "self", k, 4) for k in range(count)]
    graph = GradGraph(nodes, edges, rows, outputs=[Output("y", count, 0, (), "float32")])
    memory = memory_of(graph, ["sin"] * (count + 1))

    assert memory.kept == 4 * count
    assert memory.backward[:3] == (4 * count, 4 * count - 4, 4 * count - 8)
