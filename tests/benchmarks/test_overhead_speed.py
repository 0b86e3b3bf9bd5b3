"""What a node costs for being one, measured on programs that are nothing else and on ones that are not.

Nothing here gates the tests: other programs in the way change what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import graphlens
from graphlens.analyses.overhead import Overhead, overhead_findings, overhead_of
from graphlens.capture.costing import measure_costs
from graphlens.capture.machine import calibrate
from graphlens.capture.program import subject_program
from graphlens.subject import Subject


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Two threads wait for each other where other programs run, for longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def overhead(subject: Subject) -> Overhead:
    plain = graphlens.trace(subject).graph
    assert plain is not None
    for _ in range(5):  # until no other program is in the way
        graph = measure_costs(subject_program(subject), plain, 3)[0]
        found = overhead_of(graph, calibrate(str(plain.meta["dtype"]), torch.get_num_threads()))
        assert found is not None
        if found.fit.fault is None:
            break
    return found


@pytest.mark.usefixtures("one_thread")
def test_the_overhead_of_a_node_does_not_depend_on_how_many_there_are(benchmark: Any) -> None:
    def both() -> tuple[Overhead, Overhead]:
        return tuple(overhead(graphlens.lesson("wasteful", n=n)) for n in (300, 3000))  # type: ignore[return-value]

    short, long = benchmark.pedantic(both, rounds=1)

    assert min(short.least, long.least) > 0.5  # 5 × 5 matrices: nothing is computed that takes time
    assert 1 / 1.6 < long.fit.a_node / short.fit.a_node < 1.6


@pytest.mark.usefixtures("one_thread")
def test_a_loop_of_tiny_ops_is_overhead_and_large_products_are_not(benchmark: Any) -> None:
    def loop(x: torch.Tensor) -> torch.Tensor:
        for _ in range(200):
            x = (x * 1.01).tanh()
        return x.sum()

    layers = [layer for _ in range(40) for layer in (torch.nn.Linear(512, 512), torch.nn.ReLU())]
    large_ones = Subject(torch.nn.Sequential(*layers), (torch.ones(256, 512),))
    tiny = benchmark.pedantic(lambda: overhead(Subject(loop, (torch.ones(4, requires_grad=True),))), rounds=1)
    large = overhead(large_ones)

    assert [finding.code for finding in overhead_findings(tiny)] == ["GL207"]
    assert large.nodes > 100
    assert list(overhead_findings(large)) == []
    assert large.fit.fault is not None or large.share < 0.25
