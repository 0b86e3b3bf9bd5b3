from __future__ import annotations

import gc
import threading
import weakref

import pytest
import torch

from graphlens.capture.build import capture
from graphlens.capture.walk import walk
from graphlens.collector import paused_collector
from graphlens.graph import Edge
from tests.builders import captured, count_by_sets, lesson_loss, ops

CHAINS = ("wasteful", "hoisted", "efficient", "severed")


def column(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("n", [0, 1, 7])
def test_counts_of_the_chains_agree_with_an_independent_walk(name: str, n: int) -> None:
    loss = lesson_loss(name, n=n)
    graph = capture(loss)
    assert (len(graph.nodes), len(graph.edges)) == count_by_sets(loss)


@pytest.mark.parametrize("y", [5.0, -5.0])
@pytest.mark.parametrize("form", ["branching", "vectorised"])
def test_counts_of_soft_thresholding_agree_with_an_independent_walk(y: float, form: str) -> None:
    value = lesson_loss("soft-threshold", y=y, form=form)
    graph = capture(value)
    assert (len(graph.nodes), len(graph.edges)) == count_by_sets(value) == (2, 1)


def test_counts_of_the_full_exercise() -> None:
    loss = lesson_loss("wasteful")
    graph = capture(loss)
    assert (len(graph.nodes), len(graph.edges)) == count_by_sets(loss) == (30_015, 50_018)


def test_two_slots_of_one_edge() -> None:
    graph = captured(lambda: (lambda x: x * x)(column(3)))
    assert graph.edges == (Edge(1, 0, (0, 1), (0, 0)),)


def test_more_slots_than_are_interned() -> None:
    def program() -> torch.Tensor:
        x = column(70)
        return torch.stack([*x.unbind(), x[0]])

    graph = captured(program)
    unbind, select, stack = 1, 2, 3
    assert ops(graph) == ["AccumulateGrad", "UnbindBackward0", "SelectBackward0", "StackBackward0"]
    assert graph.edges[-2:] == (
        Edge(stack, unbind, tuple(range(70)), tuple(range(70))),
        Edge(stack, select, (70,), (0,)),
    )


def test_port_is_the_number_of_the_output_that_was_used() -> None:
    graph = captured(lambda: column(2, 3).unbind()[1].exp())
    assert graph.nodes[1].outputs == 2
    assert graph.edges[-1] == Edge(2, 1, (0,), (1,))


def test_slots_without_gradient_are_no_edges() -> None:
    graph = captured(lambda: torch.ones(3, dtype=torch.float64) * column(3))
    assert graph.edges == (Edge(1, 0, (1,), (0,)),)


def test_functions_stand_in_the_order_of_the_forward_pass() -> None:
    def program() -> torch.Tensor:
        x = column(3)
        first = x.exp()
        second = x.sin()
        third = first.cos()
        return second + third

    assert ops(captured(program))[1:] == ["ExpBackward0", "SinBackward0", "CosBackward0", "AddBackward0"]


def test_leaves_stand_in_the_order_of_their_first_use() -> None:
    late, early = column(1), column(2)
    graph = capture((early.sum() + late.sum()).exp(), {"late": late, "early": early})
    assert [node.name for node in graph.nodes[:2]] == ["early", "late"]


def test_order_where_sequence_numbers_run_against_edges() -> None:
    def program() -> torch.Tensor:
        x = column(5, 6)
        y = x * 2
        row = y[1]
        y.mul_(3)
        return row.sum() + y.sum()  # row's grad_fn is made anew, after that of row.sum()

    torch.manual_seed(0)
    out = program()
    found = walk([out.grad_fn])
    assert found.seqs != sorted(found.seqs)
    graph = capture(out)
    assert (len(graph.nodes), len(graph.edges)) == count_by_sets(out)
    assert ops(graph) == [
        "AccumulateGrad", "MulBackward0", "MulBackward0", "AsStridedBackward0", "SumBackward0", "SumBackward0",
        "AddBackward0",
    ]  # fmt: skip


def test_each_thread_counts_for_itself() -> None:
    made = []

    def program() -> torch.Tensor:
        a = column(3).exp()
        thread = threading.Thread(target=lambda: made.append(a.sin()))
        thread.start()
        thread.join()
        return made[0].cos()

    column(3).exp().sin().cos()  # this thread is ahead of the other
    assert ops(captured(program)) == ["AccumulateGrad", "ExpBackward0", "SinBackward0", "CosBackward0"]


def test_several_outputs_share_one_graph() -> None:
    def program() -> dict[str, torch.Tensor]:
        x = column(3)
        y = x.exp()
        return {"late": y.sin(), "early": y, "again": y}

    torch.manual_seed(0)
    outputs = program()
    graph = capture(outputs)
    assert [(output.name, output.node) for output in graph.outputs] == [("late", 2), ("early", 1), ("again", 1)]
    assert (len(graph.nodes), len(graph.edges)) == count_by_sets(*outputs.values())


def test_gradients_of_gradients_have_a_graph_too() -> None:
    x = column(3)
    (gradient,) = torch.autograd.grad((x * x).exp().sum(), x, create_graph=True)
    graph = capture(gradient)
    assert (len(graph.nodes), len(graph.edges)) == count_by_sets(gradient)


def test_chain_deeper_than_any_recursion_limit() -> None:
    x = torch.ones((), requires_grad=True)
    y = x
    for _ in range(200_000):
        y = -y
    graph = capture(y)
    assert (len(graph.nodes), len(graph.edges)) == (200_001, 200_000)
    assert graph.outputs[0].node == 200_000


def test_collector_is_paused_and_restored() -> None:
    assert gc.isenabled()
    with paused_collector():
        assert not gc.isenabled()
        with paused_collector():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), paused_collector():
        raise KeyError
    assert gc.isenabled()


def test_lasting_objects_are_not_looked_at_again() -> None:
    gc.collect()
    runs = gc.get_stats()
    with paused_collector(lasting=True):
        kept = [[k] for k in range(100_000)]
    assert [row["collections"] for row in gc.get_stats()[1:]] == [row["collections"] for row in runs[1:]]
    assert gc.get_freeze_count() == 0
    assert len(gc.get_objects(0)) < len(kept)
    assert len(gc.get_objects(2)) > len(kept)


def test_what_somebody_else_has_frozen_stays_so() -> None:
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with paused_collector(lasting=True):
            pass
        assert frozen > 0
        assert gc.get_freeze_count() == pytest.approx(frozen, rel=0.01)
    finally:
        gc.unfreeze()


def test_cycles_of_the_block_are_still_found_later() -> None:
    class Loop:
        pass

    with paused_collector(lasting=True):
        made = Loop()
        made.self = made  # type: ignore[attr-defined]
        gone = weakref.ref(made)
        del made
    gc.collect()
    assert gone() is None
