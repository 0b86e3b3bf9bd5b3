"""A graph whose nodes know what they cost: what was measured, and what was not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import graphlens
from graphlens.capture.costing import measure_costs
from graphlens.capture.program import subject_program
from graphlens.errors import MeasureError
from graphlens.graph import COSTS, GradGraph
from graphlens.records import CostRun
from graphlens.subject import Subject


def measured(function: Callable[..., Any], *args: torch.Tensor, repeats: int = 1) -> tuple[GradGraph, CostRun]:
    subject = Subject(function, args, name="subject")
    graph = graphlens.trace(subject).graph
    assert graph is not None
    return measure_costs(subject_program(subject), graph, repeats)[:2]


def test_only_the_costs_are_new() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh())
    x = torch.ones(2, 3, requires_grad=True)
    graph, run = measured(model, x, repeats=3)
    plain = graphlens.trace(model, x).graph
    assert plain is not None

    assert graph.check() is graph
    assert [node._replace(**dict.fromkeys(COSTS)) for node in graph.nodes] == list(plain.nodes)
    assert (graph.edges, graph.saved, graph.sources, graph.calls) == (
        plain.edges, plain.saved, plain.sources, plain.calls,
    )  # fmt: skip
    for node in graph.nodes:
        assert node.backward_ns is not None
        assert node.backward_flops is not None
        assert node.backward_moved is not None
        assert (node.forward_ns is None) == (node.forward_flops is None) == (node.kind == "leaf")
    assert (run.repeats, run.plain.repeats, run.uncounted) == (3, 3, {})
    assert min(run.before_ns, run.after_ns) > 0


def test_a_graph_with_costs_can_be_saved(tmp_path: Any) -> None:
    graph, _ = measured(lambda x: x.exp().sum(), torch.ones(3, requires_grad=True))

    assert graphlens.load(graphlens.save(graph, tmp_path / "graph.json")) == graph


def test_an_op_without_a_formula_is_not_counted_rather_than_0() -> None:
    graph, run = measured(lambda A: torch.linalg.svdvals(A).sum(), torch.randn(3, 3).requires_grad_())
    (node,) = [node for node in graph.nodes if node.op == "LinalgSvdBackward0"]

    assert node.forward_flops is None
    assert node.forward_moved is not None
    assert "_linalg_svd" in run.uncounted


def test_tensors_without_visible_bytes_are_not_counted_rather_than_0() -> None:
    sparse = torch.eye(4).to_sparse()
    graph, run = measured(lambda x: torch.sparse.mm(sparse, x).sum(), torch.ones(4, 2, requires_grad=True))
    products = [node for node in graph.nodes if node.forward_moved is None and node.kind != "leaf"]

    assert products
    assert all(node.forward_flops is None for node in products)
    assert run.uncounted


def test_a_custom_function_is_counted_backward_only() -> None:
    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.exp()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return grad * 2

    graph, run = measured(lambda x: Own.apply(x).sum(), torch.ones(10, requires_grad=True))
    (own,) = [node for node in graph.nodes if node.kind == "custom"]

    assert (own.forward_flops, own.forward_moved, own.backward_flops) == (None, None, 10)
    assert (run.other_ops, run.other_flops) >= (1, 10)


def test_a_recomputed_forward_pass_belongs_to_the_backward_node_that_asks_for_it() -> None:
    from torch.utils.checkpoint import checkpoint

    x = torch.ones(10, requires_grad=True)
    plain, _ = measured(lambda x: x.sin().exp().sum(), x)
    again, _ = measured(lambda x: checkpoint(lambda x: x.sin().exp(), x, use_reentrant=False).sum(), x)

    def whole(graph: GradGraph) -> int:
        return sum(node.backward_flops or 0 for node in graph.nodes)

    assert whole(again) == whole(plain) + 20


def test_a_program_that_makes_another_graph_every_time() -> None:
    lengths = iter(range(3, 100))

    def forward(x: torch.Tensor) -> torch.Tensor:
        for _ in range(next(lengths)):
            x = x.sin()
        return x.sum()

    with pytest.raises(MeasureError, match="subject makes another graph every time"):
        measured(forward, torch.ones(2, requires_grad=True))
