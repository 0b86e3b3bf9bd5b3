"""Times of single nodes: a planted slow one, the order of the pass, and torch's own profiler."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import graphlens
from graphlens.capture.backward import NodeTimes, hook_cost, time_nodes
from graphlens.capture.program import cleared_gradients, run_backward, subject_program
from graphlens.errors import MeasureError
from graphlens.graph import GradGraph
from graphlens.subject import Subject

SLOW = 0.1  # seconds: what other programs hardly make of a node's microseconds, twice in three runs


class Sleeps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 1

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        time.sleep(SLOW)
        return grad


class SleepsForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        time.sleep(SLOW)
        return x * 1

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return grad


def timed(subject: Subject, repeats: int = 2) -> tuple[GradGraph, NodeTimes]:
    graph = graphlens.trace(subject).graph
    assert graph is not None
    return graph, time_nodes(subject_program(subject), graph, repeats)


def line_of(graph: GradGraph, number: int) -> str:
    source = graph.nodes[number].source
    assert source is not None
    return graph.sources[source].text


def chain(x: torch.Tensor) -> torch.Tensor:
    for _ in range(50):
        x = x.sin()
    x = Sleeps.apply(x)
    for _ in range(50):
        x = x.cos()
    return SleepsForward.apply(x).sum()


def test_planted_slow_nodes_are_the_slowest_of_their_passes() -> None:
    graph, times = timed(Subject(chain, (torch.ones(3, requires_grad=True),)), 3)
    numbers = range(len(graph))
    slowest = max(numbers, key=lambda number: times.backward[number] or 0)
    slowest_forward = max(numbers, key=lambda number: times.forward[number] or 0)

    assert graph.nodes[slowest].op == "SleepsBackward"
    assert (times.backward[slowest] or 0) >= SLOW * 1e9
    assert line_of(graph, slowest) == "x = Sleeps.apply(x)"
    assert graph.nodes[slowest_forward].op == "SleepsForwardBackward"
    assert (times.forward[slowest_forward] or 0) >= SLOW * 1e9
    assert line_of(graph, slowest_forward) == "return SleepsForward.apply(x).sum()"
    assert times.plain.median >= SLOW


def test_the_last_node_does_not_pay_for_what_the_engine_does_after_it() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        for _ in range(20_000):
            x = x.neg()
        return x.sum()

    _, times = timed(Subject(forward, (torch.ones(2, requires_grad=True),)), 3)
    last = times.backward[times.order[-1]]

    assert len(times.order) == 20_002
    assert last is not None
    assert last < times.after  # the engine clears its tables of 20,002 nodes away


def test_every_node_runs_once_and_after_those_that_it_waits_for() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    graph, times = timed(Subject(model, (torch.ones(2, 3, requires_grad=True),)))
    place = {number: k for k, number in enumerate(times.order)}

    assert sorted(times.order) == list(range(len(graph)))
    assert list(times.starts) == sorted(times.starts)
    assert times.end >= times.starts[-1] >= times.starts[0] > 0
    assert all(place[edge.source] < place[edge.target] for edge in graph.edges)
    assert None not in times.backward
    assert [number for number, ns in enumerate(times.forward) if ns is None] == [
        number for number, node in enumerate(graph.nodes) if node.kind == "leaf"
    ]
    assert (times.plain.repeats, times.hooked.repeats) == (2, 2)
    assert times.coverage > 0
    assert min(times.before, times.after) > 0


def test_gradients_are_as_they_were() -> None:
    x = torch.ones(3, requires_grad=True)
    x.grad = torch.full((3,), 7.0)
    timed(Subject(lambda x: x.exp().sum(), (x,)))

    assert x.grad.tolist() == [7.0, 7.0, 7.0]


def test_the_ops_are_ranked_as_by_the_profiler() -> None:
    A = torch.randn(600, 600, requires_grad=True)
    x = torch.randn(600, 600, requires_grad=True)

    def forward(A: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            x = (A @ x).div(25)  # 2 products of 600³ each, backward
        x = torch.atan(x)[:200]  # some passes over 360,000 entries
        for _ in range(3):
            x = x[:2].neg()  # next to nothing
        return x.sum()

    subject = Subject(forward, (A, x))
    graph, times = timed(subject, 3)
    ours: Counter[str] = Counter()
    for node, ns in zip(graph.nodes, times.backward, strict=True):
        ours[node.op] += ns or 0
    program = subject_program(subject)
    made = program.forward()
    with cleared_gradients(program.leaves.values()), profile(activities=[ProfilerActivity.CPU]) as profiler:
        run_backward(made.roots, program.leaves)
    prefix = "autograd::engine::evaluate_function: "
    theirs = Counter(
        {
            event.key.removeprefix(prefix): event.cpu_time_total
            for event in profiler.key_averages()
            if event.key.startswith(prefix)
        }
    )
    clear = ["MmBackward0", "AtanBackward0", "NegBackward0"]

    assert [op for op, _ in theirs.most_common() if op in clear] == clear  # the model is what it should be
    assert [op for op, _ in ours.most_common() if op in clear] == clear
    assert ours.most_common(1)[0][0] == theirs.most_common(1)[0][0] == "MmBackward0"


def test_the_cost_of_a_hook() -> None:
    assert 0 <= hook_cost() < 100_000  # nanoseconds


def test_a_graph_of_another_length_every_time() -> None:
    lengths = iter(range(3, 100))

    def forward(x: torch.Tensor) -> torch.Tensor:
        for _ in range(next(lengths)):
            x = x.sin()
        return x.sum()

    with pytest.raises(MeasureError, match=r"^changing makes another graph every time \(5 nodes, then 6\)"):
        timed(Subject(forward, (torch.ones(2, requires_grad=True),), name="changing"))


def test_a_graph_of_other_ops_every_time() -> None:
    turns = iter([torch.sin, torch.cos] * 50)

    def forward(x: torch.Tensor) -> torch.Tensor:
        return next(turns)(x).sum()

    with pytest.raises(MeasureError, match=r"another graph every time \(node 1 is SinBackward0, then CosBackward0\)"):
        timed(Subject(forward, (torch.ones(2, requires_grad=True),), name="changing"))


def test_only_the_cpu_runs_one_node_after_the_other() -> None:
    x = torch.ones(2, device="meta", requires_grad=True)

    with pytest.raises(MeasureError, match=r"^elsewhere runs on meta; the time of single nodes is measured on"):
        timed(Subject(lambda x: x.exp().sum(), (x,), name="elsewhere"))
