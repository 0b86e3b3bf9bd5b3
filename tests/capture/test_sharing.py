"""A call that made several nodes shares its time among them by what their ops take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import graphlens
from graphlens.analyses.cost import cost_table
from graphlens.analyses.counts import row_keys
from graphlens.capture.backward import NodeTimes, time_nodes
from graphlens.capture.costing import measure_costs, measure_times
from graphlens.capture.program import Program, subject_program
from graphlens.capture.sharing import forward_ops, shared_out
from graphlens.graph import GradGraph
from graphlens.subject import Subject
from graphlens.views.cost_report import cost_report


def looked(function: Callable[..., Any], *args: torch.Tensor) -> tuple[Program, GradGraph]:
    subject = Subject(function, args, name="subject")
    graph = graphlens.trace(subject).graph
    assert graph is not None
    return subject_program(subject), graph


def of(graph: GradGraph, op: str) -> list[int]:
    return [number for number, node in enumerate(graph.nodes) if node.op == op]


def test_shares_by_hand() -> None:
    times = shared_out((None, 30, 30, 30, 7, 5, 5), [(1, 2, 3), (5, 6)], {1: 80, 2: 10})

    assert times == (None, 80, 10, 0, 7, 5, 5)  # of the last two nothing is known


def test_a_time_that_is_not_known_is_not_shared() -> None:
    assert shared_out((None, 30), [(0, 1)], {0: 1, 1: 1}) == (None, 30)


def test_a_view_of_the_weights_gets_next_to_nothing_of_a_product() -> None:
    layer = torch.nn.Linear(800, 800)
    program, graph = looked(lambda x: layer(x).sum(), torch.randn(200, 800, requires_grad=True))
    (view,), (product,) = of(graph, "TBackward0"), of(graph, "AddmmBackward0")
    even = time_nodes(program, graph, 3)
    found, _ = measure_times(program, graph, 3)
    ops = forward_ops(program, graph)

    assert even.together == ((view, product),)
    assert even.forward[view] == even.forward[product]
    assert ops[view] < ops[product] / 20
    assert (found.nodes[view].forward_ns or 0) < (found.nodes[product].forward_ns or 0) / 20


def test_the_shares_of_a_call_add_up_to_its_time() -> None:
    program, graph = looked(torch.nn.GRUCell(5, 6), torch.randn(3, 5), torch.randn(3, 6, requires_grad=True))
    times = time_nodes(program, graph, 2)
    (together,) = times.together
    ops = forward_ops(program, graph)
    shared = shared_out(times.forward, times.together, ops)

    assert len(together) > 10
    # Each has an op, those in place too, which take a number more for the copy that they keep.
    assert all(ops[node] > 0 for node in together)
    assert abs(sum_of(shared, together) - sum_of(times.forward, together)) <= len(together)
    assert [shared[node] for node in range(len(graph)) if node not in together] == [
        times.forward[node] for node in range(len(graph)) if node not in together
    ]


def sum_of(times: tuple[int | None, ...], nodes: tuple[int, ...]) -> int:
    return sum(times[node] or 0 for node in nodes)


def test_the_report_says_so() -> None:
    layer = torch.nn.Linear(3, 4)
    program, graph = looked(lambda x: layer(x).tanh().sum(), torch.randn(2, 3, requires_grad=True))
    graph, run, times = measure_costs(program, graph, 1)
    report = cost_report("subject", graph, cost_table(graph, row_keys(graph, "op", None)), run)

    assert isinstance(times, NodeTimes)
    assert run.shared == 2
    assert "The forward times of 2 nodes are shares" in " ".join(report.split())
    program, graph = looked(lambda x: x.tanh().sum(), torch.randn(2, 3, requires_grad=True))
    graph, run, _ = measure_costs(program, graph, 1)
    assert run.shared == 0
    assert "shares" not in cost_report("subject", graph, cost_table(graph, row_keys(graph, "op", None)), run)
