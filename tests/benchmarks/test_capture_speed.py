"""What a capture costs, against the pass that it describes and against a bare walk.

The ratios stand in the benchmarks' `extra_info`; none of them decides whether the tests pass.
"""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import torch

from graphlens.capture.build import capture
from graphlens.lessons import FACTORIES


def passes(n: int) -> tuple[Callable[[], torch.Tensor], Callable[[], object]]:
    """The forward pass of `wasteful`, and its forward and backward pass."""
    subject = FACTORIES["wasteful"](n=n)

    def forward() -> torch.Tensor:
        return subject.loss(subject.module(*subject.args))

    def both() -> object:
        return torch.autograd.grad(forward(), (*subject.args, subject.module.M))

    return forward, both


def bare_walk(root: Any) -> int:
    seen, stack = {root}, [root]
    while stack:
        for node, _ in stack.pop().next_functions:
            if node is not None and node not in seen:
                seen.add(node)
                stack.append(node)
    return len(seen)


def median_seconds(
    function: Callable[..., object], make: Callable[[], object] | None = None, repeats: int = 5
) -> float:
    """Median over several calls; each is given what `make` has just made."""
    times = []
    for _ in range(repeats):
        arguments = () if make is None else (make(),)
        gc.collect()
        gc.disable()
        start = time.perf_counter()
        result = function(*arguments)
        times.append(time.perf_counter() - start)
        gc.enable()
        del result
    return statistics.median(times)


def test_capture_against_the_passes_and_a_bare_walk(benchmark: Any) -> None:
    # Each time a fresh graph: the first walk makes Python's wrappers of its nodes, and users pay for it.
    forward, both = passes(10_000)
    graph = benchmark.pedantic(capture, setup=lambda: ((forward(),), {}), rounds=5)
    seconds = median_seconds(capture, forward)
    benchmark.extra_info["µs a node"] = round(seconds / len(graph) * 1e6, 2)
    benchmark.extra_info["× forward and backward"] = round(seconds / median_seconds(both), 2)
    walked = median_seconds(lambda loss: bare_walk(loss.grad_fn), forward)
    benchmark.extra_info["× bare walk"] = round(seconds / walked, 1)


@pytest.mark.parametrize("n", [1_000, 100_000])
def test_cost_of_a_node(benchmark: Any, n: int) -> None:
    loss = passes(n)[0]()
    graph = benchmark.pedantic(capture, (loss,), rounds=3)
    benchmark.extra_info["µs a node"] = round(median_seconds(lambda: capture(loss), repeats=3) / len(graph) * 1e6, 2)


def test_memory_of_a_node(benchmark: Any) -> None:
    loss = passes(10_000)[0]()
    capture(loss)
    tracemalloc.start()
    graph = capture(loss)
    benchmark.extra_info["bytes a node"] = round(tracemalloc.get_traced_memory()[0] / len(graph))
    assert len(graph.nx) == len(graph)
    benchmark.extra_info["bytes a node with .nx"] = round(tracemalloc.get_traced_memory()[0] / len(graph))
    tracemalloc.stop()
    benchmark.pedantic(capture, (loss,), rounds=1)
